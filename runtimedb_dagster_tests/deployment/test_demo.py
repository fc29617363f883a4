"""`make demo`, twice: what the README's first screen promises."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import DagsterInstance

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster_tests.support.deployment import ROOT, environment

VENV = Path(sys.executable).parent.parent


def make_demo(directory: Path) -> str:
    """Run it in a copy of the project, with the environment that the tests run in; returns its output."""
    # -o: the environment is there already, and installing would point it at the copy.
    command = ["make", "-o", f"{VENV}/demo.stamp", f"VENV={VENV}", "demo"]
    inherited = environment(directory)
    del inherited["RUNTIMEDB_HOME"], inherited["DAGSTER_HOME"]
    done = subprocess.run(
        command, cwd=directory, env=inherited, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the demo ran twice."""
    directory = tmp_path_factory.mktemp("demo")
    for name in ("Makefile", "dagster.yaml", "workspace.yaml", "examples"):
        source = ROOT / name
        shutil.copytree(source, directory / name) if source.is_dir() else shutil.copy(source, directory)
    # The second one finds the airline's name changed back, and replaces that version too.
    for swept in (1, 2):
        printed = make_demo(directory)
        assert "flights.main.flights" in printed
        assert "336,776" in printed
        assert f"replaced files swept: {swept}; findings of `runtimedb verify`: 0" in printed
        assert "make dev" in printed
    return directory


def test_the_promised_query(demo: Path) -> None:
    with RuntimeDB(Settings(home=demo / ".runtimedb")) as db, db.query() as query:
        top = query.sql(
            "select carrier, count(*) n from flights.main.flights group by 1 order by n desc limit 3"
        ).fetchall()
        assert top == [("UA", 58665), ("B6", 54635), ("EV", 54173)]
        renamed = query.sql("select name from flights.reference.airlines where carrier = 'US'").fetchall()
        assert renamed == [("US Airways (now American)",)]


def test_one_file_per_table_and_no_findings(demo: Path) -> None:
    with RuntimeDB(Settings(home=demo / ".runtimedb")) as db:
        assert db.verify() == []
        tables = db.tables("flights")
    files = [path for path in (demo / ".runtimedb" / "storage").rglob("*.parquet") if path.is_file()]
    assert len(files) == len(tables) == 7


def test_the_runs_are_in_the_projects_instance(demo: Path) -> None:
    with DagsterInstance.from_config(str(demo / ".runtimedb" / "dagster")) as instance:
        runs = instance.get_runs()
    assert len(runs) == 6
    assert all(run.is_success for run in runs)

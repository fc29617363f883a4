"""The example project, loaded and run as its README says, over the demo's source."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import duckdb
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster_tests.dagster.conftest import leases
from runtimedb_dagster_tests.support.deployment import ROOT
from runtimedb_dagster_tests.support.parts import SourceFile

FLIGHTS = dg.AssetKey(["runtimedb", "flights"])
TABLES = ["main.flights", "main.weather", "reference.airlines"]


def demo() -> ModuleType:
    """`examples/demo.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("runtimedb_demo", ROOT / "examples" / "demo.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's source database."""
    path: Path = tmp_path_factory.mktemp("demo") / "flights.duckdb"
    demo().build_source(path)
    return path


@pytest.fixture
def source(pristine: Path, tmp_path: Path) -> SourceFile:
    """A copy of it that a test may change."""
    path = tmp_path / "flights.duckdb"
    path.write_bytes(pristine.read_bytes())
    return SourceFile(path)


@pytest.fixture
def definitions(
    db: RuntimeDB,
    source: SourceFile,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dg.Definitions]:
    """The example's definitions over a connected source, whose tables are Dagster's partitions."""
    db.connect("flights", source.url)
    instance.add_dynamic_partitions("runtimedb/flights", [table.ref.partition_key for table in db.tables()])
    monkeypatch.setenv("FLIGHTS_REPORT_DATABASE", str(tmp_path / "warehouse.duckdb"))
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "downstream"))
    yield importlib.import_module("flights_report.definitions").defs
    for name in [name for name in sys.modules if name.startswith("flights_report")]:
        del sys.modules[name]


def materialize(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *key: str, **options: Any
) -> dg.ExecuteInProcessResult:
    """A run of one of the example's assets."""
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(key)], **options)


@pytest.fixture
def refreshed(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dg.Definitions:
    """The definitions, once its three tables have a version."""
    for table in TABLES:
        assert materialize(definitions, instance, *FLIGHTS.path, partition_key=table).success
    return definitions


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """That of the one materialization of a run."""
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_it_loads(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)
    graph = definitions.resolve_asset_graph()
    ours = {dg.AssetKey(name) for name in ("airline_delays", "delays_in_rain", "warehouse_weather")}
    assert graph.get(FLIGHTS).child_keys == ours
    assert graph.get(FLIGHTS).is_materializable


def test_its_assets_run(
    refreshed: dg.Definitions, instance: dg.DagsterInstance, source: SourceFile, tmp_path: Path, db: RuntimeDB
) -> None:
    delays = materialize(refreshed, instance, "airline_delays").output_for_node("airline_delays")
    assert delays.num_rows == 16
    assert delays["name"][0].as_py() == "Frontier Airlines Inc."
    shown = metadata(materialize(refreshed, instance, "delays_in_rain"))
    assert shown["mean delay, rain (minutes)"] > shown["mean delay, dry (minutes)"] > 0
    assert metadata(materialize(refreshed, instance, "warehouse_weather"))["dagster/row_count"] == 1092
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as warehouse:
        (days,) = warehouse.execute("SELECT count(DISTINCT date) FROM daily_weather").fetchall()
    assert days == source.run("SELECT count(DISTINCT make_date(year, month, day)) FROM weather")[0]
    assert leases(db) == 0


def test_the_condition_fires_on_changed_content_only(
    refreshed: dg.Definitions, instance: dg.DagsterInstance, source: SourceFile
) -> None:
    cursor = None

    def requested() -> int:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(refreshed, instance, cursor=cursor)
        cursor = result.cursor
        return result.total_requested

    def refresh(table: str) -> None:
        assert materialize(refreshed, instance, *FLIGHTS.path, partition_key=table).success

    assert [requested(), requested()] == [0, 0]
    # A refresh that finds what is there already: the data version stays.
    refresh("main.weather")
    assert requested() == 0
    # A table that the asset does not read.
    source.run("UPDATE reference.airlines SET name = 'US Airways (now American)' WHERE carrier = 'US'")
    refresh("reference.airlines")
    assert requested() == 0
    source.run("UPDATE weather SET precip = 0 WHERE month = 1")
    refresh("main.weather")
    assert requested() == 1
    # It was handled: until the next change there is nothing to do.
    assert materialize(refreshed, instance, "delays_in_rain").success
    assert [requested(), requested()] == [0, 0]
    source.run("DELETE FROM flights WHERE month = 12")
    refresh("main.flights")
    assert requested() == 1

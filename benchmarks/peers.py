"""The peers: each in an environment of its own, at its newest version, by a script in peer_scripts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from benchmarks.measure import Side, peers_home

__all__ = [
    "ADBC",
    "CONNECTORX",
    "DLT",
    "DLT_CONNECTORX",
    "DLT_DISCOVERY",
    "DLT_MERGE",
    "DLT_ONCE",
    "DUCKDB",
    "DUCKDB_SAME",
    "INSPECTOR",
    "MYSQLCLIENT",
    "SLING",
    "Peer",
    "sling_says",
]

SCRIPTS = Path(__file__).parent / "peer_scripts"
# With what RuntimeDB's own COPY says, so that only what it does besides is compared.
SAME_COPY = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 122880"
PACKAGES = {
    # duckdb-engine, the one dialect there is for DuckDB files, does not know DuckDB 2.
    "dlt": [
        "dlt[filesystem,parquet]",
        "connectorx",
        "duckdb<2",
        "duckdb-engine",
        "psycopg2-binary",
        "pymysql",
        "sqlalchemy",
    ],
    "connectorx": ["connectorx", "pyarrow"],
    "adbc": ["adbc-driver-postgresql", "adbc-driver-sqlite", "duckdb", "pyarrow"],
    "mysqlclient": ["mysqlclient", "pyarrow"],
    "sling": ["sling"],
}
VERSIONS_OF = {
    "dlt": ("dlt", "connectorx"), "connectorx": ("connectorx",), "adbc": ("adbc-driver-postgresql", "pyarrow"),
    "mysqlclient": ("mysqlclient",), "sling": ("sling",),
}  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """One way to get a table into Parquet.

    Attributes:
        environment: of PACKAGES; None is the project's own.
        at_most: rounds, for the slow ones.
    """

    name: str
    script: str
    environment: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    at_most: int = 2

    def side(self, url: str, out: Path, *tables: str, wrong: str | None = None) -> Side:
        """The peer over tables of a source, or whatever else its script takes; `*` is all of them."""
        folder = out / re.sub(r"\W+", "-", self.name)
        missing = self.environment and _missing(self.environment)
        return Side(
            self.name,
            [str(self.python), "-W", "ignore", str(SCRIPTS / self.script), str(folder), *tables],
            {**self.variables, "BENCH_URL": url, "RUNTIME__DLTHUB_TELEMETRY": "false", "NORMALIZE__WORKERS": "2"},
            self.at_most,
            missing or None,
            wrong,
        )

    @property
    def python(self) -> Path:
        """The interpreter that has it."""
        return _python(self.environment) if self.environment else Path(sys.executable)


DUCKDB_SAME = Peer("DuckDB's bare COPY, our options", "duckdb_alone.py", variables={"BENCH_COPY": SAME_COPY}, at_most=5)
DUCKDB = Peer("DuckDB alone, its defaults", "duckdb_alone.py")
DLT_CONNECTORX = Peer("dlt, connectorx", "dlt_sql.py", "dlt", {"BENCH_BACKEND": "connectorx"}, at_most=3)
DLT = Peer("dlt, pyarrow", "dlt_sql.py", "dlt", {"BENCH_BACKEND": "pyarrow"}, at_most=2)
DLT_ONCE = replace(DLT, at_most=1)
DLT_MERGE = Peer("dlt, incremental, merged by key", "dlt_merge.py", "dlt", at_most=2)
CONNECTORX = Peer("connectorx", "connectorx_arrow.py", "connectorx")
ADBC = Peer("ADBC + pyarrow", "adbc_arrow.py", "adbc")
MYSQLCLIENT = Peer("mysqlclient + Arrow", "mysqlclient_arrow.py", "mysqlclient")
INSPECTOR = Peer("SQLAlchemy's inspector", "discovery.py", "dlt", {"BENCH_WITH": "inspector"})
DLT_DISCOVERY = Peer("dlt, reflecting", "discovery.py", "dlt", {"BENCH_WITH": "dlt"}, at_most=1)
SLING = Peer("sling", "sling_run.py", "sling")


def install() -> list[str]:
    """Make the environments, or bring them up to date; which versions they have, or why one has none."""
    said = []
    for name, packages in PACKAGES.items():
        folder = peers_home() / name
        if not _python(name).exists():
            _call([sys.executable, "-m", "venv", str(folder)])
        failure = _call([str(_python(name)), "-m", "pip", "install", "-q", "--upgrade", *packages])
        (folder / "missing").write_text(f"does not install: {failure}" if failure else "", encoding="utf-8")
        said.append(f"{name}: {failure or _versions(name)}")
    return said


def sling_says() -> str:
    """Whether sling's incremental could be measured here."""
    failure = _call([str(_python("sling")), "-c", "import sling.bin"]) if _python("sling").exists() else "not installed"
    return f"sling, incremental: {f'does not run: {failure}' if failure else 'runs here, and was not measured'}"


def _versions(name: str) -> str:
    program = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    done = subprocess.run(
        [_python(name), "-c", program, *VERSIONS_OF[name]], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


@cache
def _missing(name: str) -> str | None:
    """Why a peer can't be measured."""
    try:
        return (peers_home() / name / "missing").read_text(encoding="utf-8") or None
    except FileNotFoundError:
        return "not installed: run once without --no-install"


def _python(name: str) -> Path:
    return peers_home() / name / "bin" / "python"


def _call(command: Sequence[str]) -> str | None:
    """Why a command failed, None if it did not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.returncode:
        return None
    lines = [line.strip() for line in done.stderr.splitlines()]
    # pip's own words are the least telling ones.
    causes = [line for line in lines if re.match(r"[\w.]*(Exception|Error): ", line)]
    return (causes or lines or ["no reason given"])[0][:200]

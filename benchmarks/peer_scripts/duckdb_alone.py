"""DuckDB's ATTACH and COPY, nothing else; BENCH_COPY are the options of the COPY.

It runs in the project's environment, for the extensions' sake.
"""

import importlib.util
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import duckdb
from peer import URL, run

COPY = os.environ.get("BENCH_COPY", "FORMAT parquet")
EXTENSIONS = {"postgresql": "postgres_scanner", "mysql": "mysql_scanner", "sqlite": "sqlite_scanner"}
TYPES = {"postgresql": "postgres", "mysql": "mysql", "sqlite": "sqlite", "duckdb": "duckdb"}


def attached() -> duckdb.DuckDBPyConnection:
    """A DuckDB over the source, which is its default database; rows may come in any order, as its guide advises."""
    duck = duckdb.connect(config={"preserve_insertion_order": False})
    parts = urlsplit(URL)
    if extension := EXTENSIONS.get(parts.scheme):
        spec = importlib.util.find_spec(f"duckdb_extension_{extension}")
        folder = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}"
        duck.execute(f"LOAD '{folder}/{extension}.duckdb_extension'")
    if not parts.hostname:
        duck.execute(
            f"ATTACH '{URL.partition(':///')[2]}' AS source (TYPE {TYPES[parts.scheme]}, READ_ONLY); USE source"
        )
        return duck
    password = unquote(parts.password or "").replace("'", "''")
    duck.execute(
        f"CREATE TEMPORARY SECRET s (TYPE {TYPES[parts.scheme]}, HOST '{parts.hostname}', PORT {parts.port}, "
        f"USER '{parts.username}', PASSWORD '{password}', DATABASE '{parts.path[1:]}')"
    )
    network = "compression=disabled" if parts.scheme == "mysql" else ""
    duck.execute(f"ATTACH '{network}' AS source (TYPE {TYPES[parts.scheme]}, SECRET s, READ_ONLY); USE source")
    return duck


def read(table: str, target: Path) -> None:
    """One table, or all of them one after the other if it is `*`."""
    names = [table]
    if table == "*":
        names = [row[0] for row in DUCK.execute("SHOW TABLES").fetchall()]
    for name in names:
        DUCK.execute(f"COPY (SELECT * FROM {name}) TO '{target.with_name(name)}.parquet' ({COPY})")


DUCK = attached()
run(read)

"""What runs in a process of its own: `python -m benchmarks.ours COMMAND …` prints the seconds of the work alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import duckdb
from sqlalchemy import insert

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster.catalog import new_id, schema
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.storage import version_path

__all__ = ["connect_to", "opened", "print_seconds"]


@contextmanager
def opened() -> Iterator[RuntimeDB]:
    """A RuntimeDB with an empty home, or that in BENCH_HOME; all settings at their defaults but where things are."""
    kept = os.environ.get("BENCH_HOME")
    with tempfile.TemporaryDirectory(dir=os.environ["BENCH_DIRECTORY"]) as empty:
        where = {"storage_url": storage} if (storage := os.environ.get("BENCH_STORAGE")) else {}
        with RuntimeDB(Settings(home=Path(kept or empty), **where)) as db:
            yield db


def print_seconds(seconds: float) -> None:
    """As the last line, which the parent reads."""
    print(json.dumps({"seconds": seconds}))


def connect_to(db: RuntimeDB, url: str, include: str) -> None:
    password = "BENCH_PASSWORD" if "@" in url else None
    db.connect(
        "source",
        url.replace(f":{os.environ['BENCH_PASSWORD']}@", "@"),
        options={"include": include},
        password_env=password,
    )


def _refresh(db: RuntimeDB) -> None:
    result = db.refresh(RefreshRequest("source", data=True)).to_dict()
    if result["tables_failed"] or not result["tables_refreshed"]:
        raise SystemExit(f"not all tables were refreshed: {result}")


def refresh(url: str, include: str) -> float:
    """From the request to the last swap."""
    with opened() as db:
        connect_to(db, url, include)
        started = perf_counter()
        _refresh(db)
        return perf_counter() - started


def unchanged(url: str, include: str) -> float:
    """The second refresh of a table that did not change."""
    with opened() as db:
        connect_to(db, url, include)
        _refresh(db)
        before = [table.version and table.version.id for table in db.tables()]
        started = perf_counter()
        _refresh(db)
        seconds = perf_counter() - started
        if before != [table.version and table.version.id for table in db.tables()]:
            raise SystemExit("a table was swapped that did not change")
        return seconds


def connect(url: str) -> float:
    """A connection and its first discovery, for what follows."""
    with opened() as db:
        started = perf_counter()
        connect_to(db, url, "*")
        return perf_counter() - started


def discover(modified: str) -> float:
    """A discovery after which so many tables must be told to be modified."""
    with opened() as db:
        started = perf_counter()
        found = db.discover("source")
        seconds = perf_counter() - started
        if found.tables_modified != int(modified):
            raise SystemExit(f"{found.tables_modified} tables are modified, not {modified}")
        return seconds


def modify(url: str, modified: str) -> float:
    """A discovery after columns of so many tables became nullable, or no longer are."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FLIP.format(count=modified))
    return discover(modified)


FLIP = """
    DO $$ DECLARE found record; BEGIN
        FOR found IN SELECT attrelid::regclass AS name, attnotnull FROM pg_attribute JOIN pg_class ON attrelid = oid
            WHERE relname ~ '^t\\d+$' AND attname = 'a' ORDER BY relname LIMIT {count}
        LOOP
            EXECUTE format('ALTER TABLE %s ALTER a %s NOT NULL', found.name,
                CASE WHEN found.attnotnull THEN 'DROP' ELSE 'SET' END);
        END LOOP;
    END $$
"""


def query(statement: str, times: str) -> float:
    """A statement in query blocks of its own, the seconds of each on average."""
    with opened() as db:
        _ask(db, statement)
        started = perf_counter()
        for _ in range(int(times)):
            _ask(db, statement)
        return (perf_counter() - started) / int(times)


def _ask(db: RuntimeDB, statement: str) -> None:
    with db.query() as block:
        block.execute(statement).fetchall()


def query_again(statement: str, times: str) -> float:
    """The same in one query block."""
    with opened() as db, db.query() as block:
        block.execute(statement).fetchall()
        started = perf_counter()
        for _ in range(int(times)):
            block.execute(statement).fetchall()
        return (perf_counter() - started) / int(times)


def query_file(file: str, times: str) -> float:
    """What DuckDB alone takes for a file, opened anew each time as a query block is."""
    started = perf_counter()
    for _ in range(int(times)):
        with duckdb.connect() as duck:
            duck.execute(f"SELECT * FROM read_parquet('{file}')").fetchall()
    return (perf_counter() - started) / int(times)


def sweep(files: str) -> float:
    """A sweep that must delete so many files."""
    with opened() as db:
        paths = _leave_files(db, int(files))
        row = {"delete_after": utc_now(), "reason": "replaced", "table_full_name": "a.b.c", "attempts": 0}
        rows = [row | {"id": new_id(), "path": path} for path in paths]
        with db.engine.catalog._database.write() as tx:
            tx.execute(insert(schema.pending_deletions), rows)
        started = perf_counter()
        swept = db.sweep()
        seconds = perf_counter() - started
        if swept.files_deleted != int(files) or swept.files_failed:
            raise SystemExit(f"{swept.files_deleted} files were deleted, not {files}")
        return seconds


def rm(files: str) -> float:
    """The same files, by rm."""
    with opened() as db:
        _leave_files(db, int(files))
        started = perf_counter()
        subprocess.run(["rm", "-rf", str(db.settings.home / "storage")], check=True)
        return perf_counter() - started


def _leave_files(db: RuntimeDB, count: int) -> list[str]:
    """Files of 100 tables, as their versions lie."""
    paths = [version_path("0" * 32, "main", f"t{number % 100}", new_id()) for number in range(count)]
    for path in paths:
        file = db.settings.home / "storage" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"PAR1" * 1000)
    return paths


def upload(file: str, endpoint: str) -> float:
    """A file into the store, by boto3's own managed upload."""
    from runtimedb_dagster_tests.support.s3 import BUCKET, ObjectStore

    client = ObjectStore(endpoint).client()
    started = perf_counter()
    client.upload_file(file, BUCKET, f"uploaded/{new_id()}.parquet")
    return perf_counter() - started


COMMANDS: dict[str, Callable[..., float]] = {
    "refresh": refresh, "unchanged": unchanged, "connect": connect, "discover": discover, "modify": modify,
    "query": query, "query_again": query_again, "query_file": query_file, "sweep": sweep, "rm": rm, "upload": upload,
}  # fmt: skip

if __name__ == "__main__":
    print_seconds(COMMANDS[sys.argv[1]](*sys.argv[2:]))

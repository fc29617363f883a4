"""What runs in a process of its own: `python -m benchmarks.ours COMMAND …` prints the seconds of the work alone."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings

__all__ = ["opened", "print_seconds"]


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


def _connect(db: RuntimeDB, url: str, include: str) -> None:
    password = "BENCH_PASSWORD" if "@" in url else None
    db.connect("source", url.replace(f":{os.environ['BENCH_PASSWORD']}@", "@"), password_env=password, include=include)


def _refresh(db: RuntimeDB) -> None:
    result = db.refresh(RefreshRequest("source", data=True)).to_dict()
    if result["tables_failed"] or not result["tables_refreshed"]:
        raise SystemExit(f"not all tables were refreshed: {result}")


def refresh(url: str, include: str) -> float:
    """From the request to the last swap."""
    with opened() as db:
        _connect(db, url, include)
        started = perf_counter()
        _refresh(db)
        return perf_counter() - started


def unchanged(url: str, include: str) -> float:
    """The second refresh of a table that did not change."""
    with opened() as db:
        _connect(db, url, include)
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
        _connect(db, url, "*")
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


def sweep(files: str) -> float:
    """A sweep that must delete so many files."""
    with opened() as db:
        started = perf_counter()
        swept = db.sweep()
        seconds = perf_counter() - started
        if swept.files_deleted != int(files) or swept.files_failed:
            raise SystemExit(f"{swept.files_deleted} files were deleted, not {files}")
        return seconds


COMMANDS: dict[str, Callable[..., float]] = {
    "refresh": refresh, "unchanged": unchanged, "connect": connect, "discover": discover, "query": query,
    "sweep": sweep,
}  # fmt: skip

if __name__ == "__main__":
    print_seconds(COMMANDS[sys.argv[1]](*sys.argv[2:]))

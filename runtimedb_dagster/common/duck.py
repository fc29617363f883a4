"""DuckDB as RuntimeDB uses it: it fetches nothing, loads what it is asked to, and spills where nobody else looks."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from runtimedb_dagster.common.scratch import Scratch
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.errors import StorageError

__all__ = ["connect", "first_line", "lock_down", "lock_holder", "private_directory", "transaction"]

LOCKED_DOWN: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}


def connect(config: Mapping[str, Any], spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB of its own, in memory, whose session is in UTC.

    Args:
        config: of DuckDB. Its `temp_directory` is where a private directory is made to spill into; without one,
            what does not fit into memory fails.
        spill: a private directory to spill into, instead of one to be made.

    Raises:
        StorageError: no private directory can be made.
    """
    if spill is None and "temp_directory" in config:
        spill = private_directory(config)
    duck = duckdb.connect(":memory:", config={**LOCKED_DOWN, **config, "temp_directory": str(spill or "")})
    duck.execute("SET GLOBAL TimeZone = 'UTC'")  # for its cursors, too
    duck.execute("SET TimeZone = 'UTC'")
    return duck


def lock_down(duck: duckdb.DuckDBPyConnection, paths: Sequence[str] = ()) -> None:
    """Have a DuckDB read some files and nothing else from now on; that can't be taken back."""
    duck.execute(f"SET allowed_paths = [{', '.join(map(literal, paths))}]")
    duck.execute("SET enable_external_access = false")
    duck.execute("SET lock_configuration = true")


@contextmanager
def transaction(duck: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A cursor in a transaction that changes nothing, and is over before the cursor is closed.

    Where an attached server is gone, to end a transaction fails. As a statement of its own that is an error; within
    the closing of the cursor, DuckDB ends the process.
    """
    with duck.cursor() as aside:
        try:
            aside.execute("BEGIN")
            yield aside
        finally:
            with suppress(duckdb.Error):
                aside.execute("ROLLBACK")


def first_line(error: duckdb.Error | str) -> str:
    """DuckDB's message without the kind of error before it and the pointer into the statement after it."""
    return re.sub(r"^[A-Z][\w ]* Error: ", "", str(error).split("\n", 1)[0].strip())


def private_directory(config: Mapping[str, Any]) -> Path:
    """A path in a private directory, under `temp_directory` or, where nothing may be written, the machine's own.

    Raises:
        StorageError: there is neither.
    """
    root = Path(config["temp_directory"])
    try:
        return _scratch(root).directory()
    except StorageError:
        fallback = Path(tempfile.gettempdir()) / f"runtimedb-spill-{os.getuid()}"
        found = _scratch(fallback).directory()
        if fallback.stat().st_uid != os.getuid():
            raise StorageError(f"{fallback} belongs to somebody else, so nothing is spilled into it") from None
        return found


@cache
def _scratch(root: Path) -> Scratch:
    """The one of this process, which cleans up after dead ones when it is first used."""
    return Scratch(root)


def lock_holder(error: str) -> str | None:
    """Who has a database file open for writing, by DuckDB's message; None if that is not what it says."""
    if "Could not set lock" not in error:
        return None
    holder = re.search(r"PID (\d+)", error)
    return f"process {holder[1]}" if holder else "another process"

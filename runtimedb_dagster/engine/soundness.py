"""Whether the file of a version is still there, and what was written."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import connect, first_line
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.errors import StorageError
from runtimedb_dagster.domain.model import Version
from runtimedb_dagster.engine.fingerprint import content, is_comparable, scan
from runtimedb_dagster.engine.parquet import count_rows
from runtimedb_dagster.storage import Storage

__all__ = ["difference", "problem", "reader"]

logger = logging.getLogger(__name__)


def problem(storage: Storage, version: Version) -> str | None:
    """What is wrong with a version's file by its size and its footer; None if nothing is."""
    try:
        location = storage.location(version.path)
        with storage.open(version.path) as file:
            size = file.seek(0, os.SEEK_END)
            if size != version.bytes:
                return f"{location} is of {size} bytes, the catalog says {version.bytes}"
            rows = count_rows(file, location)
    except StorageError as error:
        return str(error)
    return None if rows == version.rows else f"{location} holds {rows} rows, the catalog says {version.rows}"


def reader(storage: Storage, config: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """A DuckDB that can read the storage.

    Raises:
        StorageError: the storage gives no access.
    """
    duck = connect(config)
    try:
        storage.make_readable(duck)
    except BaseException:
        duck.close()
        raise
    return duck


def difference(duck: duckdb.DuckDBPyConnection, location: str, version: Version) -> str | None:
    """What a version's file, read whole, has that was not written into it; None if nothing, or if nobody can tell."""
    try:
        ((writer,),) = duck.execute(f"SELECT created_by FROM parquet_file_metadata({literal(location)})").fetchall()
        rows, fingerprint = content(scan(duck, location), version.columns)
    except duckdb.Error as error:
        return f"{location} can't be read: {first_line(error)}"
    if rows != version.rows:
        return f"{location} holds {rows} rows, the catalog says {version.rows}"
    if fingerprint == version.fingerprint:
        return None
    other = "an earlier release" if not is_comparable(version.fingerprint) else _other_version(writer)
    if other:
        logger.warning("%s was read whole, but its values can't be compared: %s wrote it", location, other)
        return None
    return f"{location} holds other values or columns than were written"


def _other_version(writer: str) -> str | None:
    """The writer of a file, if it is another version of DuckDB."""
    return writer if writer.startswith("DuckDB version ") and f"v{duckdb.__version__} " not in writer else None

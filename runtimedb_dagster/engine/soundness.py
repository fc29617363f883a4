"""Whether the files of a version are still there, and what was written."""

from __future__ import annotations

import logging

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.errors import StorageError
from runtimedb_dagster.domain.versions import DataFile, Version
from runtimedb_dagster.engine.file_reader import FileReader
from runtimedb_dagster.engine.fingerprint import content, is_comparable, scan
from runtimedb_dagster.storage import Storage

__all__ = ["difference", "problem"]

logger = logging.getLogger(__name__)


def problem(storage: Storage, reader: FileReader, version: Version) -> str | None:
    """What is wrong with a version's files by their sizes and footers; None if nothing is."""
    try:
        with reader.stored() as duck:
            return next(filter(None, (_problem(duck, storage, file) for file in version.files)), None)
    except StorageError as error:
        return str(error)


def difference(storage: Storage, reader: FileReader, version: Version) -> str | None:
    """What a version, read whole, has that was not written; None if nothing, or if that is unknown."""
    (file,) = version.files
    location = storage.location(file.path)
    with reader.stored() as duck:
        try:
            writer, *_ = _footer(duck, location)
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


def _problem(duck: duckdb.DuckDBPyConnection, storage: Storage, file: DataFile) -> str | None:
    location = storage.location(file.path)
    try:
        _, size, rows = _footer(duck, location)
    except duckdb.Error as error:
        return f"{location} is not a readable Parquet file: {first_line(error)}"
    if size != file.bytes:
        return f"{location} is of {size} bytes, the catalog says {file.bytes}"
    return None if rows == file.rows else f"{location} holds {rows} rows, the catalog says {file.rows}"


def _footer(duck: duckdb.DuckDBPyConnection, location: str) -> tuple[str, int, int]:
    """Who wrote a file, its size in bytes, and the rows that its footer promises."""
    asked = f"SELECT created_by, file_size_bytes, num_rows FROM parquet_file_metadata({literal(location)})"
    ((writer, size, rows),) = duck.execute(asked).fetchall()
    return str(writer), int(size), int(rows)


def _other_version(writer: str) -> str | None:
    """The writer of a file, if it is another version of DuckDB."""
    return writer if writer.startswith("DuckDB version ") and f"v{duckdb.__version__} " not in writer else None

"""A reading becomes one Parquet file, durable in content and verified."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.errors import RefreshError, StorageError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.engine.fingerprint import content, scan
from runtimedb_dagster.sources.base import Reading

__all__ = ["WrittenFile", "count_rows", "read_back", "write"]

METADATA_KEY = "runtimedb"


@dataclass(frozen=True)
class WrittenFile:
    """What is in a file that was written and read back.

    Attributes:
        recipe: how it was made of the source's rows.
    """

    rows: int
    bytes: int
    columns: tuple[VersionColumn, ...]
    fingerprint: str
    recipe: str


def write(reading: Reading, path: Path) -> int:
    """Have a reading write itself into the empty file at `path`; returns the number of rows.

    Raises:
        RefreshError: the source failed, a value has no exact form, or the disk is full.
    """
    about = {"table": str(reading.ref), "columns": [column.to_dict() for column in reading.columns]}
    rows = reading.write(path, {METADATA_KEY: json.dumps(about)})
    hit("after_close")
    return rows


def read_back(reading: Reading, rows: int, path: Path, duck: duckdb.DuckDBPyConnection) -> WrittenFile:
    """Look at the footer and the content of the file into which a reading has written so many rows.

    Raises:
        RefreshError: the source has sent other types than it described.
        StorageError: what was read back is not what was written.
    """
    columns = tuple(reading.columns)
    if (found := count_rows(path)) != rows:
        raise StorageError(f"{reading.ref}: {rows} rows were written, but the file's footer says {found}")
    try:
        held = scan(duck, str(path))
        _check_columns(reading.ref, held, columns)
        _, fingerprint = content(held, columns)
    except duckdb.Error as error:
        raise StorageError(f"{reading.ref}: {path}, which was just written, can't be read back: {error}") from error
    return WrittenFile(rows, path.stat().st_size, columns, fingerprint, reading.recipe)


def count_rows(file: Path) -> int:
    """The number of rows that a Parquet file's footer promises, by another reader than its writer's.

    Raises:
        StorageError: it is not a Parquet file.
    """
    try:
        return int(pq.read_metadata(file).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{file} is not a readable Parquet file: {error}") from error


def _check_columns(ref: TableRef, held: duckdb.DuckDBPyRelation, columns: Sequence[VersionColumn]) -> None:
    """Have the file hold what the projection promised: a source may have sent another type than it described."""
    found = zip(columns, held.columns, held.types, strict=True)
    for column, name, type_ in found:
        if name != column.name or _in_file(str(type_)) != _in_file(column.type):
            raise RefreshError(
                f"{ref}: column {identifier(column.name)} was to be {column.type}, but {name} {type_} arrived; "
                "the table may have changed meanwhile: refresh it again"
            )


@cache
def _in_file(duckdb_type: str) -> str:
    """A type as a file holds it: a geometry is bytes, and called a geometry only where a column has one."""
    return str(duckdb.sqltype(re.sub(r"GEOMETRY(\('[^']*'\))?", "BLOB", duckdb_type)))

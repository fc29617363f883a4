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
from runtimedb_dagster.domain.versions import Sums
from runtimedb_dagster.engine.fingerprint import content, fingerprint, scan
from runtimedb_dagster.sources.base import Reading

__all__ = ["WrittenFile", "about", "count_rows", "read_back", "write"]

METADATA_KEY = "runtimedb"


@dataclass(frozen=True)
class WrittenFile:
    """What is in a file that was written and read back.

    Attributes:
        sums: over its rows.
        fingerprint: of a version that is this file.
    """

    rows: int
    bytes: int
    sums: Sums
    fingerprint: str


def about(reading: Reading) -> dict[str, str]:
    """What a file says of itself."""
    described = {"table": str(reading.ref), "columns": [column.to_dict() for column in reading.columns]}
    return {METADATA_KEY: json.dumps(described)}


def write(reading: Reading, path: Path) -> int:
    """Have a reading write itself into the empty file at `path`; returns the number of rows.

    Raises:
        RefreshError: the source failed, a value has no exact form, or the disk is full.
    """
    rows = reading.write(path, about(reading))
    hit("after_close")
    return rows


def read_back(
    ref: TableRef, columns: Sequence[VersionColumn], rows: int, path: Path, duck: duckdb.DuckDBPyConnection
) -> WrittenFile:
    """Look at the footer and the content of a file of this machine into which so many rows were written.

    Raises:
        RefreshError: the source has sent other types than it described.
        StorageError: what was read back is not what was written.
    """
    if (found := count_rows(path)) != rows:
        raise StorageError(f"{ref}: {rows} rows were written, but the file's footer says {found}")
    try:
        held = scan(duck, str(path))
        _check_columns(ref, held, columns)
        _, sums = content(held, columns)
    except duckdb.Error as error:
        raise StorageError(f"{ref}: {path}, which was just written, can't be read back: {error}") from error
    return WrittenFile(rows, path.stat().st_size, sums, fingerprint(held, columns, rows, sums))


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

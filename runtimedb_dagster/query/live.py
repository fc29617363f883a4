"""The live rows of a version, as SQL: those of its data files, without those that its deletes files name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.versions import DataFile, DeletesFile

__all__ = ["POSITION", "live_rows", "scan_of"]

POSITION = "file_row_number"
"""DuckDB's name for the position of a row in its file; a column of that name hides it."""

Locate = Callable[[str], str]
"""What DuckDB reads a file of the storage from, by its path."""


def scan_of(locations: Sequence[str]) -> str:
    """All rows of some Parquet files, for a FROM clause."""
    return f"read_parquet([{', '.join(map(literal, locations))}], hive_partitioning = false)"


def live_rows(files: Sequence[DataFile], locate: Locate) -> list[str]:
    """SELECTs that together yield the live rows of some files, with all their columns and no others.

    Files without deletes are read by one of them; each of the others is joined with its deletes file.
    """
    clean = [locate(file.path) for file in files if not file.deletes]
    parts = [f"SELECT * FROM {scan_of(clean)}"] if clean else []
    return parts + [_without(file, file.deletes, locate) for file in files if file.deletes]


def _without(file: DataFile, deletes: DeletesFile, locate: Locate) -> str:
    rows, gone = scan_of([locate(file.path)]), scan_of([locate(deletes.path)])
    return f"SELECT live.* FROM {rows} live ANTI JOIN {gone} gone ON live.{POSITION} = gone.pos"

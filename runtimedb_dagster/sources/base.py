"""What a source is: a seam, behind which DuckDB attaches a database, or whatever else speaks these protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable

__all__ = ["COMPRESSION_LEVEL", "ROW_GROUP_SIZE", "Reading", "Source", "SourceSnapshot"]

# How a reading writes its file. Row-group size dominates memory; table size does not.
ROW_GROUP_SIZE = 122_880
# Of zstd, 1 instead of 3: 7 % less time for 3 % larger files (6 M rows of TPC-H lineitem). The encodings of version 2
# took another 5 % off, but pyarrow fails on what DuckDB makes of the extremes of 32-bit integers.
COMPRESSION_LEVEL = 1


class Source(Protocol):
    """The open adapter of a connection."""

    def check(self) -> None:
        """Ask the source for something small.

        Raises:
            SourceError: it does not answer.
        """

    def discover(self) -> Sequence[DiscoveredTable]:
        """All tables and views that the source shows and the connection wants.

        Raises:
            SourceError: it can't be asked.
        """

    def snapshot(self) -> AbstractContextManager[SourceSnapshot]:
        """One moment of the source, for as long as the block runs."""

    def cancel(self) -> None:
        """Interrupt all readings, from any thread."""

    def close(self) -> None:
        """Let go of the source."""


class SourceSnapshot(Protocol):
    """One moment of a source, from which tables are read one after the other."""

    def read(self, ref: TableRef) -> AbstractContextManager[Reading]:
        """Open a table for one read.

        Raises:
            RefreshError: it is gone, or has a column without an exact form.
        """


class Reading(Protocol):
    """A table, ready to be read once, which writes itself to a file.

    Attributes:
        ref: which table.
        columns: as the file will have them.
        recipe: how they are made of the source's rows.
    """

    @property
    def ref(self) -> TableRef: ...

    @property
    def columns(self) -> Sequence[VersionColumn]: ...

    @property
    def recipe(self) -> str: ...

    def write(self, path: Path, metadata: Mapping[str, str]) -> int:
        """Write the rows into the empty file at `path`, as Parquet with some metadata; returns their number.

        Raises:
            RefreshError: why the table could not be read, or which value of it has no exact form.
        """

    def progress(self) -> float | None:
        """The fraction that has been read, from 0 to 1; None where that is unknown."""

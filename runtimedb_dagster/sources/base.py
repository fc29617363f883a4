"""What a source is: a seam, behind which DuckDB attaches a database, or whatever else speaks these protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import Position, Sums

__all__ = [
    "COMPRESSION_LEVEL",
    "ROW_GROUP_SIZE",
    "Base",
    "Changed",
    "Delta",
    "Ranges",
    "Reading",
    "Same",
    "Source",
    "SourceSnapshot",
    "State",
    "Unknown",
]

# How a reading writes its file. Row-group size dominates memory; table size does not.
ROW_GROUP_SIZE = 122_880
# Of zstd, 1 instead of 3: 7 % less time for 3 % larger files (6 M rows of TPC-H lineitem). The encodings of version 2
# took another 5 % off, but pyarrow fails on what DuckDB makes of the extremes of 32-bit integers.
COMPRESSION_LEVEL = 1


@dataclass(frozen=True)
class Base:
    """What a source has to know of a version to say what changed since.

    Attributes:
        position: at which the source was last known to hold it.
        rows: how many it has.
        recipe: how they were made of the source's rows.
        columns: as its files have them.
    """

    position: Position
    rows: int
    recipe: str
    columns: tuple[VersionColumn, ...]


@dataclass(frozen=True)
class State:
    """That a base is still what the source holds, by proof or, where the connection trusts them, by a hint.

    Attributes:
        position: at which it is.
        proof: whether that is certain; a hint says that it is probable.
    """

    position: Position
    proof: bool = True


@dataclass(frozen=True)
class Same:
    """The table holds what the base holds.

    Attributes:
        trusts: what is trusted for that; None if the source proved it.
    """

    trusts: str | None = None


@dataclass(frozen=True)
class Changed:
    """Which rows may have changed is known: all that did are among them.

    Attributes:
        candidates: how many may have changed; None if they were not counted.
        count: how many the table has; None if it is not to be looked at.
        key: the columns by which a row is known; empty if there are none.
        range: SQL of DuckDB that is true for those rows of the base that are gone unless they come again; None: for
            none.
        trusts: what is trusted beyond the source's own transactions, if anything.
    """

    candidates: int | None
    count: int | None
    key: tuple[str, ...]
    range: str | None = None
    trusts: str | None = None


@dataclass(frozen=True)
class Ranges:
    """Even ranges of the values of a column of whole numbers.

    Attributes:
        column: as the version calls it.
        lowest: value of number 0.
        width: how many values each has.
    """

    column: str
    lowest: int
    width: int


@dataclass(frozen=True)
class Unknown:
    """What changed is not known: the table has to be read whole.

    Attributes:
        reason: why, in words.
        hint: whether it is probable that nothing did.
    """

    reason: str
    hint: bool = False


Delta = Same | Changed | Unknown
"""What a source knows of a table against a base."""


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

    def states(self, bases: Mapping[TableRef, Base], *, thorough: bool) -> Mapping[TableRef, State]:
        """Which bases the tables still hold, asked of many at once; of a table that is missing nothing is known.

        Args:
            bases: by table.
            thorough: ask even what costs a scan of a large table.
        """

    def read(self, ref: TableRef, base: Base | None = None) -> AbstractContextManager[Reading]:
        """Open a table for one read.

        Args:
            ref: which.
            base: what is there of it already.

        Raises:
            RefreshError: it is gone, or has a column without an exact form.
        """


class Reading(Protocol):
    """A table, ready to be read, which writes itself to a file.

    Attributes:
        ref: which table.
        columns: as the file will have them.
        recipe: how they are made of the source's rows.
        position: of the moment that is read; None if the source could not say later what has changed.
        delta: what is known against the base.
    """

    @property
    def ref(self) -> TableRef: ...

    @property
    def columns(self) -> Sequence[VersionColumn]: ...

    @property
    def recipe(self) -> str: ...

    @property
    def position(self) -> Position | None: ...

    @property
    def delta(self) -> Delta: ...

    def write(self, path: Path, metadata: Mapping[str, str]) -> int:
        """Write all rows into the empty file at `path`, as Parquet with some metadata; returns their number.

        Raises:
            RefreshError: why the table could not be read, or which value of it has no exact form.
        """

    def write_changes(self, path: Path, metadata: Mapping[str, str]) -> int:
        """As `write`, the rows that may have changed."""

    def write_keys(
        self, path: Path, key: Sequence[str], ranges: Ranges | None = None, numbers: Sequence[int] = ()
    ) -> int:
        """As `write`, some columns of all rows, or of those in ranges of some numbers."""

    def count_by(self, ranges: Ranges) -> dict[int | None, int] | None:
        """How many rows each range has, by its number; None if the source is not asked such things.

        Raises:
            RefreshError: as `write`.
        """

    def sums(self, hashes: tuple[str, str]) -> tuple[int, Sums]:
        """How many rows there are, and the sums over two hashes of each, given as SQL of DuckDB; nothing is written.

        Raises:
            RefreshError: as `write`.
        """

    def progress(self) -> float | None:
        """The fraction that has been read, from 0 to 1; None where that is unknown."""

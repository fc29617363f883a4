"""Versions, the files that they are, and the deletions that await files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NewType

from runtimedb_dagster.domain.columns import VersionColumn

__all__ = ["NO_SUMS", "DataFile", "DeletesFile", "PendingDeletion", "Position", "SequenceNumber", "Sums", "Version"]

SequenceNumber = NewType("SequenceNumber", int)
"""A number of the catalog's one clock, which orders reservations, publications, discoveries and snapshots."""

Position = Mapping[str, Any]
"""What a dialect needs to say later what has changed since a read; JSON, and opaque to everyone else."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Two sums over the hashes of rows, from which a fingerprint is made; they can be added and taken apart.

    Hashes are of one version of DuckDB: see `Version.hashed_by`.
    """

    first: int
    second: int

    def __add__(self, other: Sums) -> Sums:
        """Those of both."""
        return Sums(self.first + other.first, self.second + other.second)

    def __sub__(self, other: Sums) -> Sums:
        """Those of what is left."""
        return Sums(self.first - other.first, self.second - other.second)

    def __str__(self) -> str:
        """As the catalog keeps them."""
        return f"{self.first} {self.second}"

    @classmethod
    def parse(cls, kept: str | None) -> Sums | None:
        """From what the catalog keeps."""
        return cls(*map(int, kept.split())) if kept else None


NO_SUMS = Sums(0, 0)


@dataclass(frozen=True, slots=True)
class DeletesFile:
    """An immutable Parquet file with the positions of rows of one data file that are no longer part of a version.

    Attributes:
        path: within the storage.
        rows: how many positions.
        sums: of the rows at these positions; None if they are not known.
    """

    path: str
    rows: int
    bytes: int
    sums: Sums | None = None


@dataclass(frozen=True, slots=True)
class DataFile:
    """An immutable Parquet file of rows; versions may share it.

    Attributes:
        path: within the storage.
        rows: all that are in it.
        sums: of all rows that are in it; None if they are not known, as of a release that kept none.
        deletes: which of them are no longer part of the version.
    """

    path: str
    rows: int
    bytes: int
    sums: Sums | None = None
    deletes: DeletesFile | None = None

    @property
    def live_rows(self) -> int:
        """Those that are part of the version."""
        return self.rows - (self.deletes.rows if self.deletes else 0)

    @property
    def live_sums(self) -> Sums | None:
        """Of the rows that are part of the version; None if they are not known."""
        if self.deletes is None or self.sums is None:
            return self.sums
        return None if self.deletes.sums is None else self.sums - self.deletes.sums


@dataclass(frozen=True, slots=True)
class Version:
    """The immutable content of one table at one moment.

    Attributes:
        files: what it is read from, the oldest first.
        rows: those that are part of it, of all files.
        columns: as the files have them.
        fingerprint: equal for equal content, whatever the order of rows.
        recipe: a hash of all that decided how it was made of the source's rows; None if a release made it that kept
            none.
        created_at: when it was published first.
        duration_ms: from when its refresh began to then.
        position: what the source's dialect needs to say what has changed since the content was last found to be the
            source's; None if it can't say. The only part that moves on.
        hashed_by: the version of DuckDB that made the sums; None if there are none.
        trusts: what its exactness relies on beyond the source's own transactions; None if nothing.
    """

    id: str
    files: tuple[DataFile, ...]
    rows: int
    columns: tuple[VersionColumn, ...]
    fingerprint: str
    recipe: str | None
    created_at: datetime
    duration_ms: int
    position: Position | None = None
    hashed_by: str | None = None
    trusts: str | None = None

    @property
    def deletes(self) -> tuple[DeletesFile, ...]:
        """Its deletes files."""
        return tuple(file.deletes for file in self.files if file.deletes)

    @property
    def all_files(self) -> tuple[DataFile | DeletesFile, ...]:
        """Its data files and its deletes files."""
        return (*self.files, *self.deletes)

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(file.bytes for file in self.all_files)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its files are in the storage."""
        return tuple(file.path for file in self.all_files)

    @property
    def is_plain(self) -> bool:
        """Whether it is one Parquet file, to be read as it is."""
        return len(self.files) == 1 and not self.deletes


@dataclass(frozen=True, slots=True)
class PendingDeletion:
    """A file that the sweep deletes once `delete_after` has passed."""

    id: str
    path: str
    delete_after: datetime
    reason: str
    table: str
    attempts: int = 0
    last_error: str | None = None

"""Versions, the files that they are, and the deletions that await files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from runtimedb_dagster.domain.columns import VersionColumn

__all__ = ["DataFile", "PendingDeletion", "SequenceNumber", "Version"]

SequenceNumber = NewType("SequenceNumber", int)
"""A number of the catalog's one clock, which orders reservations, publications, discoveries and snapshots."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """An immutable Parquet file; versions may share it.

    Attributes:
        path: within the storage.
    """

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Version:
    """The immutable content of one table at one moment.

    Attributes:
        files: what it is read from.
        rows: those of all files.
        columns: as the files have them.
        fingerprint: equal for equal content, whatever the order of rows.
        recipe: a hash of all that decided how it was made of the source's rows; None if a release made it that kept
            none.
        created_at: when it was published first.
        duration_ms: from the reservation of its newest file to then.
    """

    id: str
    files: tuple[DataFile, ...]
    rows: int
    columns: tuple[VersionColumn, ...]
    fingerprint: str
    recipe: str | None
    created_at: datetime
    duration_ms: int

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(file.bytes for file in self.files)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where its files are in the storage."""
        return tuple(file.path for file in self.files)


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

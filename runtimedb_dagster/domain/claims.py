"""What a process holds for a while: a file that it writes, a snapshot that it reads, a place in a queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import SequenceNumber, Version

__all__ = ["Lease", "Publication", "Reservation", "Slot"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """A file about to be written: scheduled for deletion until a publication rescues it.

    Attributes:
        sequence: taken before the source is read, so a refresh that starts later has the greater one.
    """

    table: Table
    version_id: str
    path: str
    sequence: SequenceNumber
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Publication:
    """A version that is to be its table's from now on.

    Attributes:
        reservation: of the file that it adds.
    """

    reservation: Reservation
    version: Version


@dataclass(frozen=True, slots=True)
class Lease:
    """A reader's claim: versions replaced after `sequence` stay until the lease ends.

    Attributes:
        connections: those of the snapshot, by name.
    """

    id: str
    sequence: SequenceNumber
    connections: Sequence[Connection] = ()


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the queue of those who read a connection, by ticket."""

    ticket: SequenceNumber
    connection_id: str

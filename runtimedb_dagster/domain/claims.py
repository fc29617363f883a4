"""What a process holds for a while: a file that it writes, a snapshot that it reads, a place in a queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import SequenceNumber, Version

__all__ = ["Lease", "Publication", "Reservation", "Slot"]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Files about to be written: scheduled for deletion until a publication rescues them.

    Attributes:
        paths: of the data file, if there is one, and of deletes files.
        sequence: taken before the source is read, so a refresh that starts later has the greater one.
        started_at: when they were reserved, or their lease was renewed after the source was read.
    """

    table: Table
    version_id: str
    paths: tuple[str, ...]
    sequence: SequenceNumber
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Publication:
    """A version that is to be its table's from now on.

    Attributes:
        reservation: of the files that it adds.
        base: the version of which it keeps files; it must still be its table's.
        facts: of the refresh that made it.
    """

    reservation: Reservation
    version: Version
    base: Version | None = None
    facts: RefreshFacts | None = None


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

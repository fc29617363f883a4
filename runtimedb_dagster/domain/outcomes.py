"""What a refresh yields while it runs: how far it is, what it waits for, and what became of each table."""

from __future__ import annotations

from dataclasses import dataclass

from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Version

__all__ = ["Event", "Failed", "Outcome", "Progress", "Published", "TableProgress", "Unchanged", "Waiting"]


@dataclass(frozen=True, slots=True)
class Published:
    """A table has a new version.

    Attributes:
        version: what serves from now on.
        replaced: what served until now, if the table had a version.
        schema_changes: what is different in the columns since then, in words.
        location: where the version is: its file, if it is just one, else the folder of the table's files.
        facts: what the refresh did.
    """

    ref: TableRef
    version: Version
    duration_ms: int
    location: str
    facts: RefreshFacts
    replaced: Version | None = None
    schema_changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The source holds what the table's version holds, which goes on serving.

    Attributes:
        location: see `Published`.
        facts: what the refresh did.
    """

    ref: TableRef
    version: Version
    duration_ms: int
    location: str
    facts: RefreshFacts


@dataclass(frozen=True, slots=True)
class Failed:
    """A table has no new version.

    Attributes:
        serving: the version that goes on serving, if the table has one.
    """

    ref: TableRef
    error: Exception
    serving: Version | None
    duration_ms: int


Outcome = Published | Unchanged | Failed
"""What became of one table."""


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How far one table is: rows that were read, of an estimate; None where neither is known."""

    ref: TableRef
    rows: int | None
    of: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a refresh is; comes a few times a second.

    Attributes:
        tables: how many there are; None where that is not known.
        rows: those of finished tables, and those of tables that are being read.
        unchanged: how many of the finished tables did not change.
    """

    tables_done: int
    tables: int | None
    rows: int
    reading: tuple[TableProgress, ...] = ()
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A refresh waits for its turn on a connection."""

    connection: str
    limit: int

    def __str__(self) -> str:
        """In words."""
        return f"waiting for a slot of connection '{self.connection}': {self.limit} of its tables are being read"


Event = Outcome | Progress | Waiting
"""What a refresh yields."""

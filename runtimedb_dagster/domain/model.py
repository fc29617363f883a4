"""The words of the design as values: frozen, without behaviour that needs a database."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from urllib.parse import unquote

__all__ = [
    "Column",
    "Connection",
    "DiscoveredTable",
    "DiscoveryChanges",
    "Kind",
    "Lease",
    "PendingDeletion",
    "Reservation",
    "Slot",
    "Table",
    "TableRef",
    "Version",
]


@dataclass(frozen=True, order=True, slots=True)
class TableRef:
    """A table's address: connection, schema and name, each to the letter."""

    connection: str
    schema_name: str
    table_name: str

    def __str__(self) -> str:
        """The full name as one writes it in SQL; parts that need it are quoted."""
        return ".".join(map(_as_written, (self.connection, self.schema_name, self.table_name)))

    @property
    def partition_key(self) -> str:
        """The key of this table among the connection's partitions.

        `schema.table`, where everything but letters, digits, `_` and `-` is percent-encoded UTF-8.
        Distinct tables have distinct keys, and `from_partition_key` takes it back.
        """
        return f"{_encode(self.schema_name)}.{_encode(self.table_name)}"

    @classmethod
    def from_partition_key(cls, connection: str, key: str) -> TableRef:
        """The table of a partition key.

        Raises:
            ValueError: the key is not of the form that `partition_key` makes.
        """
        schema, separator, table = key.partition(".")
        ref = cls(connection, unquote(schema, errors="strict"), unquote(table, errors="strict"))
        if not separator or ref.partition_key != key:
            raise ValueError(f"'{key}' is no partition key of connection '{connection}'")
        return ref


def _as_written(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part) else '"' + part.replace('"', '""') + '"'


def _encode(part: str) -> str:
    # Of two names that look alike because they are composed differently, only one keeps its looks.
    composed = unicodedata.is_normalized("NFC", part)
    return "".join(char if _is_plain(char, composed=composed) else _percent(char) for char in part)


def _percent(char: str) -> str:
    # Not `quote`, which lets `.` and `~` stand.
    return "".join(f"%{byte:02X}" for byte in char.encode())


def _is_plain(char: str, *, composed: bool) -> bool:
    if char.isascii():
        return char.isalnum() or char in "_-"
    return composed and char.isalnum()


@dataclass(frozen=True)
class Connection:
    """A registered remote database. `url` and `options` never hold a secret."""

    id: str
    name: str
    source_type: str
    url: str
    options: dict[str, str]
    password_env: str | None
    created_at: datetime
    discovered_at: datetime | None = None
    discovery_error: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the source has it or, in a version, as the file has it.

    Attributes:
        name: to the letter.
        type: in the words of the source; in a version, in DuckDB's.
        nullable: False where the source promises NOT NULL.
        comment: the source's own.
        source_type: in a version, the source's type, where it differs from the file's.
        declared: in a version, what is different in the file, if anything.
        base: the built-in type beneath one of the source's own making, such as a domain; for a dialect's own use.
    """

    name: str
    type: str
    nullable: bool = True
    comment: str | None = None
    source_type: str | None = None
    declared: str | None = None
    base: str | None = None

    def to_dict(self) -> dict[str, str | bool | None]:
        """As `dataclasses.asdict`, at a thirtieth of its time; catalogs hold millions of columns."""
        return {
            "name": self.name,
            "type": self.type,
            "nullable": self.nullable,
            "comment": self.comment,
            "source_type": self.source_type,
            "declared": self.declared,
            "base": self.base,
        }


Kind = Literal["table", "view", "materialized view", "partitioned table", "foreign table"]


@dataclass(frozen=True, slots=True)
class DiscoveredTable:
    """A table as a source shows it."""

    schema_name: str
    table_name: str
    kind: Kind = "table"
    columns: tuple[Column, ...] = ()
    primary_key: tuple[str, ...] = ()
    comment: str | None = None
    estimated_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable Parquet file of one table.

    Attributes:
        path: within the storage.
        generation: taken before the source was read; a later start has the greater number.
        fingerprint: equal for equal content, whatever the order of rows.
        checked_at: when a refresh last found the source to hold this content.
        duration_ms: from the reservation to the swap.
        previous_rows: of the version before, if there was one.
    """

    id: str
    path: str
    generation: int
    rows: int
    bytes: int
    columns: tuple[Column, ...]
    fingerprint: str
    created_at: datetime
    checked_at: datetime
    duration_ms: int
    previous_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A catalogued remote table, with its current version if it is cached."""

    id: str
    connection_id: str
    ref: TableRef
    kind: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    comment: str | None
    estimated_rows: int | None
    discovered_at: datetime
    version: Version | None = None

    @property
    def connection(self) -> str:
        """The connection's name."""
        return self.ref.connection

    @property
    def schema_name(self) -> str:
        """The schema, to the letter."""
        return self.ref.schema_name

    @property
    def table_name(self) -> str:
        """The name, to the letter."""
        return self.ref.table_name

    @property
    def cached(self) -> bool:
        """Whether the table has a version."""
        return self.version is not None


@dataclass(frozen=True)
class Reservation:
    """A file about to be written: scheduled for deletion until a swap rescues it."""

    table: Table
    version_id: str
    path: str
    generation: int
    started_at: datetime


@dataclass(frozen=True)
class PendingDeletion:
    """A file that the sweep deletes once `delete_after` has passed."""

    id: str
    path: str
    delete_after: datetime
    reason: str
    table: str
    attempts: int = 0
    last_error: str | None = None


@dataclass(frozen=True)
class Lease:
    """A reader's claim: versions replaced after `sequence` stay until the lease ends.

    Attributes:
        connections: those of the snapshot, by name.
    """

    id: str
    sequence: int
    connections: tuple[Connection, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A place in the queue of those who read a connection, by ticket."""

    ticket: int
    connection_id: str


@dataclass(frozen=True)
class DiscoveryChanges:
    """The difference between what a source shows and what the catalog held."""

    discovered: int = 0
    added: tuple[TableRef, ...] = ()
    removed: tuple[TableRef, ...] = ()
    modified: tuple[TableRef, ...] = field(default=())

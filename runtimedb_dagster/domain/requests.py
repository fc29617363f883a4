"""The request contract: one request with a few optional fields, and the results of what can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from runtimedb_dagster.domain.errors import RequestError
from runtimedb_dagster.domain.facts import Mode
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import Connection

__all__ = [
    "CheckResult",
    "ConfigureResult",
    "ConnectionRefreshResult",
    "DiscoveryResult",
    "PurgeResult",
    "RefreshRequest",
    "RefreshResult",
    "RemoveResult",
    "SweepResult",
    "TableRefreshResult",
]


@dataclass(frozen=True)
class RefreshRequest:
    """What to refresh.

    Attributes:
        connection: a connection's name or id; `connection_id` is accepted as the same field.
        schema_name: with `table_name`, the one table whose data to refresh.
        table_name: see `schema_name`.
        data: False discovers tables and columns, True makes new versions.
        include_uncached: False leaves out tables that have no version yet.
        partition_keys: of a connection's tables, only these, by their partitions' keys; empty: all.
        full: tables are read whole, whatever their source says of what changed; a version that holds the content
            already is kept only if its files, read whole, do too.
    """

    connection: str | None = None
    schema_name: str | None = None
    table_name: str | None = None
    data: bool = False
    include_uncached: bool = True
    connection_id: str | None = None
    partition_keys: Sequence[str] = ()
    full: bool = False

    def __post_init__(self) -> None:
        """Make the two spellings one, and of the keys what can be read twice.

        Raises:
            RequestError: a name is not a text.
        """
        if isinstance(self.partition_keys, str):
            raise RequestError("partition_keys is a list of keys, each schema.table")
        object.__setattr__(self, "partition_keys", tuple(self.partition_keys or ()))
        for value in (
            self.connection, self.connection_id, self.schema_name, self.table_name, *self.partition_keys,
        ):  # fmt: skip
            if not isinstance(value, str | None):
                raise RequestError(f"a name or key is a text, not of type {type(value).__name__}")
        if self.connection and self.connection_id and self.connection != self.connection_id:
            raise RequestError("connection and connection_id are the same field; give one of them")
        object.__setattr__(self, "connection", self.connection or self.connection_id)
        object.__setattr__(self, "connection_id", None)

    def validate(self) -> None:
        """Refuse what the contract refuses, in its words.

        Raises:
            RequestError: the combination of fields has no meaning.
        """
        for refused, message in self._rules():
            if refused:
                raise RequestError(message)

    def _rules(self) -> list[tuple[bool, str]]:
        connection, schema, table = self.connection, self.schema_name, self.table_name
        return [
            (bool(schema) and not connection, "schema_name requires connection_id"),
            (bool(table) and not schema, "table_name requires schema_name"),
            (self.data and not connection, "data refresh requires connection_id"),
            (
                bool(schema) and not table and not self.data,
                "schema-level refresh not supported; omit schema_name to refresh entire connection",
            ),
            (bool(schema) and not table and self.data, "data refresh with schema_name requires table_name"),
            (
                bool(table) and not self.data,
                "schema refresh cannot target specific table; use data: true for table data refresh",
            ),
            (
                bool(self.partition_keys) and not (self.data and not schema),
                "partition_keys requires connection_id and data: true, without schema_name",
            ),
        ]


@dataclass(frozen=True)
class _Result:
    """A result whose attributes are the contract's fields."""

    left_out_while_empty: ClassVar[frozenset[str]] = frozenset({"warnings"})

    def to_dict(self) -> dict[str, Any]:
        """The contract's JSON: fields marked optional there are left out while empty."""
        return {name: value for name, value in asdict(self).items() if value or name not in self.left_out_while_empty}


@dataclass(frozen=True)
class DiscoveryResult(_Result):
    """What discovering one or all connections changed."""

    left_out_while_empty = frozenset({"errors"})

    connections_refreshed: int = 0
    connections_failed: int = 0
    tables_discovered: int = 0
    tables_added: int = 0
    tables_removed: int = 0
    tables_modified: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class TableRefreshResult(_Result):
    """One table, as its source holds it; see `RefreshFacts` for how it was read."""

    left_out_while_empty = frozenset({"warnings", "reason"})

    connection_id: str
    schema_name: str
    table_name: str
    rows_synced: int
    duration_ms: int
    mode: Mode = "full"
    reason: str = ""
    rows_read: int = 0
    rows_inserted: int | None = None
    rows_updated: int | None = None
    rows_deleted: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ConnectionRefreshResult(_Result):
    """A connection's tables, as its source holds them; `errors` names those that have no new version.

    Attributes:
        tables_unchanged: those that hold what they held before, counted among the refreshed.
        rows_read: rows and keys that came from the source.
    """

    connection_id: str
    tables_refreshed: int
    tables_failed: int
    total_rows: int
    duration_ms: int
    tables_unchanged: int = 0
    rows_read: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)


RefreshResult = DiscoveryResult | TableRefreshResult | ConnectionRefreshResult


@dataclass(frozen=True)
class ConfigureResult:
    """What changing a connection's options did.

    Attributes:
        connection: as it is now.
        tables_modified: those whose version is not as it would be made from now on.
    """

    connection: Connection
    tables_modified: tuple[TableRef, ...] = ()


@dataclass(frozen=True)
class CheckResult(_Result):
    """Whether a source answers, and how fast."""

    left_out_while_empty = frozenset({"error"})

    connection_id: str
    healthy: bool
    latency_ms: int
    error: str | None = None


@dataclass(frozen=True)
class PurgeResult(_Result):
    """How many tables lost their version; the files go with the sweep."""

    connection_id: str
    tables_purged: int


@dataclass(frozen=True)
class RemoveResult(_Result):
    """A connection that is forgotten, with its tables; the files go with the sweep."""

    connection_id: str
    tables_removed: int


@dataclass(frozen=True)
class SweepResult(_Result):
    """What a sweep did with the pending deletions that were due."""

    left_out_while_empty = frozenset({"errors"})

    files_deleted: int = 0
    files_failed: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)

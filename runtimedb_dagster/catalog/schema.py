"""The catalog's tables, in the words of SQLAlchemy Core. The migrations make them; nothing else does."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    type_coerce,
)

__all__ = [
    "FARTHEST",
    "MICROSECOND",
    "UtcTime",
    "connections",
    "data_files",
    "lake",
    "leases",
    "metadata",
    "pending_deletions",
    "publications",
    "refresh_slots",
    "set_in_the_future",
    "tables",
    "versions",
]

# How far apart the clocks of machines are taken to be at most. What was begun later than that from now, going by how
# long it was meant to last, was written under a wrong clock, and is over.
FARTHEST = timedelta(hours=6)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, stored as microseconds since 1970 UTC: a form that no driver can misread."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's
        """To microseconds; a time without a zone is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the catalog takes aware times only, not {value!r}")
        return (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's
        """From microseconds, in UTC."""
        return None if value is None else EPOCH + MICROSECOND * int(value)


def set_in_the_future(until: Any, lifetime: Any, now: datetime) -> ColumnElement[bool]:
    """SQL that is true for what was to last for `lifetime` microseconds from a time that is not yet."""
    begun = type_coerce(until, BigInteger) - lifetime
    return and_(lifetime.is_not(None), begun > (now + FARTHEST - EPOCH) // MICROSECOND)


metadata = MetaData()

# Compared and ordered byte by byte on PostgreSQL, as SQLite does; of letters' case it knows ASCII's only.
NAME = Text().with_variant(Text(collation="C"), "postgresql")

# One row: by which the storage knows the catalog, where to it was moved, if it was, and the number of the last
# transition that readers or refreshes must be able to order, which is gone once it was moved.
lake = Table(
    "lake",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("catalog_id", String(32), nullable=False),
    Column("storage_marked", Boolean, nullable=False),
    Column("moved_to", Text),
    Column("moved_from", String(32)),
    Column("sequence", BigInteger),
)

connections = Table(
    "connections",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", NAME, nullable=False, unique=True),
    Column("source_type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("options", JSON, nullable=False),
    Column("password_env", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("discovered_at", UtcTime),
    Column("discovery_error", Text),
    Column("discovery_sequence", BigInteger, nullable=False),
    Column("declared_in", Text),
)

tables = Table(
    "tables",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("connection_id", ForeignKey("connections.id"), nullable=False),
    Column("schema_name", NAME, nullable=False),
    Column("table_name", NAME, nullable=False),
    Column("kind", Text, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("primary_key", JSON, nullable=False),
    Column("comment", Text),
    Column("estimated_rows", BigInteger),
    Column("discovered_at", UtcTime, nullable=False),
    Column("version_id", String(32), unique=True),
    # How a version would be made today.
    Column("recipe", String(32)),
    # When, and by the refresh of which number, the source was last found to hold what the version holds.
    Column("checked_at", UtcTime),
    Column("checked_sequence", BigInteger),
    # What that refresh did.
    Column("refreshed", JSON(none_as_null=True)),
    # When the version was last compared with the whole source, and why it can't be a base any more.
    Column("audited_at", UtcTime),
    Column("distrusted", Text),
    UniqueConstraint("connection_id", "schema_name", "table_name", name="uq_tables_address"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("recipe", String(32)),
    Column("created_at", UtcTime, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    # Until when the source is known to have held the content, in the words of its dialect; it moves on.
    Column("position", JSON(none_as_null=True)),
    Column("hashed_by", Text),
    Column("trusts", Text),
)

# A data file, and which of its rows are no longer part of the version. Either may be of several versions.
data_files = Table(
    "data_files",
    metadata,
    Column("version_id", String(32), primary_key=True),
    Column("path", NAME, primary_key=True, index=True),
    # The oldest has the lowest.
    Column("number", Integer, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sums", Text),
    Column("deletes_path", NAME, index=True),
    Column("deletes_rows", BigInteger),
    Column("deletes_bytes", BigInteger),
    Column("deletes_sums", Text),
)

# From which number to which a version is its table's. Names, not a reference to `tables`: a reader's snapshot outlives
# a table that is dropped meanwhile.
publications = Table(
    "publications",
    metadata,
    Column("version_id", String(32), primary_key=True),
    Column("connection_id", String(32), nullable=False),
    Column("schema_name", NAME, nullable=False),
    Column("table_name", NAME, nullable=False),
    Column("from_sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("until_sequence", BigInteger),
    # Of the version before, to notice a table that collapses.
    Column("previous_rows", BigInteger),
    Index("ix_publications_address", "connection_id", "schema_name", "table_name"),
)

pending_deletions = Table(
    "pending_deletions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("path", NAME, nullable=False, unique=True),
    Column("delete_after", UtcTime, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("table_full_name", Text, nullable=False),
    Column("retired_at_sequence", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text),
    Column("claimed_by", String(32)),
    Column("claimed_until", UtcTime),
    # In microseconds, from when `delete_after` was set.
    Column("lifetime", BigInteger),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
    Column("lifetime", BigInteger),
)

# A row per refresh that reads a connection or waits for its turn; the first ones in the queue read.
refresh_slots = Table(
    "refresh_slots",
    metadata,
    Column("ticket", BigInteger, primary_key=True, autoincrement=False),
    Column("connection_id", String(32), nullable=False, index=True),
    Column("owner", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)

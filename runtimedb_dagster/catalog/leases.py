"""Transitions of leases, and what a reader sees under one."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, new_id, transition
from runtimedb_dagster.catalog.versions import version_of
from runtimedb_dagster.model import Lease, Version
from runtimedb_dagster.sql import fold

__all__ = ["LeaseCatalog"]


class LeaseCatalog:
    """The live readers."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def open(self, now: datetime, lifetime: timedelta) -> Lease:
        """Take a snapshot: from here on the sweep leaves alone whatever is replaced."""
        with self._database.write() as tx:
            # No swap commits between this number and the lease that guards it.
            sequence = tx.execute(select(schema.clock.c.value).with_for_update(read=True)).scalar_one()
            lease = Lease(new_id(), int(sequence))
            tx.execute(insert(schema.leases).values(id=lease.id, sequence=lease.sequence, expires_at=now + lifetime))
            # Leases of readers that died.
            tx.execute(delete(schema.leases).where(schema.leases.c.expires_at < now - lifetime))
        return lease

    @transition
    def renew(self, lease: Lease, now: datetime, lifetime: timedelta) -> bool:
        """Keep a lease alive.

        Returns:
            False if it has expired: its versions may be gone.
        """
        live = and_(schema.leases.c.id == lease.id, schema.leases.c.expires_at > now)
        with self._database.write() as tx:
            renewed = tx.execute(update(schema.leases).where(live).values(expires_at=now + lifetime))
            return renewed.rowcount == 1

    @transition
    def is_live(self, lease: Lease, now: datetime) -> bool:
        """Whether a lease has not expired."""
        live = and_(schema.leases.c.id == lease.id, schema.leases.c.expires_at > now)
        with self._database.read() as tx:
            return tx.execute(select(schema.leases.c.id).where(live)).first() is not None

    @transition
    def close(self, lease: Lease) -> None:
        """End a lease."""
        with self._database.write() as tx:
            tx.execute(delete(schema.leases).where(schema.leases.c.id == lease.id))

    @transition
    def visible(self, lease: Lease, connection_id: str, schema_name: str, table_name: str) -> Version | None:
        """The version of a table, by its address to the letter, in the lease's snapshot."""
        with self._database.read() as tx:
            row = tx.execute(
                select(schema.versions).where(
                    schema.versions.c.connection_id == connection_id,
                    schema.versions.c.schema_name == schema_name,
                    schema.versions.c.table_name == table_name,
                    *_in_snapshot(lease),
                )
            ).first()
        return None if row is None else version_of(row)

    @transition
    def visible_like(
        self, lease: Lease, connection_id: str, schema_name: str, table_name: str
    ) -> list[tuple[str, str]]:
        """Addresses in the snapshot that match in any case of ASCII letters."""
        with self._database.read() as tx:
            rows = tx.execute(
                select(schema.versions.c.schema_name, schema.versions.c.table_name).where(
                    schema.versions.c.connection_id == connection_id,
                    func.lower(schema.versions.c.schema_name) == fold(schema_name),
                    func.lower(schema.versions.c.table_name) == fold(table_name),
                    *_in_snapshot(lease),
                )
            )
            return [(row.schema_name, row.table_name) for row in rows]


def _in_snapshot(lease: Lease) -> list[ColumnElement[bool]]:
    versions = schema.versions.c
    return [
        versions.published_at_sequence <= lease.sequence,
        or_(versions.retired_at_sequence.is_(None), versions.retired_at_sequence > lease.sequence),
    ]

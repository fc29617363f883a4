"""Transitions of leases, and what a reader sees under one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.connections import connection_of
from runtimedb_dagster.catalog.database import Database, new_id, require_here, transition
from runtimedb_dagster.catalog.schema import MICROSECOND
from runtimedb_dagster.catalog.versions import selected_columns, version_of
from runtimedb_dagster.common.heartbeat import renewed, utc_now
from runtimedb_dagster.common.sql import fold
from runtimedb_dagster.domain.claims import Lease
from runtimedb_dagster.domain.errors import CatalogError
from runtimedb_dagster.domain.versions import Version

__all__ = ["LeaseCatalog", "from_the_future"]

logger = logging.getLogger(__name__)


class LeaseCatalog:
    """The live readers."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def open(self, now: datetime, lifetime: timedelta) -> Lease:
        """Take a snapshot: from here on the sweep leaves alone whatever is replaced.

        The lease is committed first, under a number that no later swap has, and guards whatever goes from then on; the
        snapshot is of the number that is the last one afterwards. So nobody waits for anybody.
        """
        lease_id = new_id()
        with self._database.write() as tx:
            guarded = require_here(tx)
            tx.execute(
                insert(schema.leases).values(
                    id=lease_id, sequence=guarded, expires_at=now + lifetime, lifetime=lifetime // MICROSECOND
                )
            )
            # Leases of readers that died.
            dead = or_(schema.leases.c.expires_at < now - lifetime, from_the_future(now))
            tx.execute(delete(schema.leases).where(dead))
        with self._database.read() as tx:
            sequence = require_here(tx)
            rows = tx.execute(select(schema.connections).order_by("name"))
            return Lease(lease_id, sequence, tuple(connection_of(row) for row in rows))

    @contextmanager
    def held(self, lifetime: timedelta) -> Iterator[Lease]:
        """A lease for as long as the block runs."""
        lease = self.open(utc_now(), lifetime)
        try:
            with renewed(lifetime, lambda: self.renew(lease, utc_now(), lifetime)):
                yield lease
        finally:
            try:
                self.close(lease)
            except CatalogError:
                logger.warning("a lease could not be ended, and expires", exc_info=True)

    @transition
    def renew(self, lease: Lease, now: datetime, lifetime: timedelta) -> bool:
        """Keep a lease alive.

        Returns:
            False if it has expired: its versions may be gone.

        Raises:
            CatalogMovedError: the lease that was moved with the catalog ends in its time.
        """
        live = and_(schema.leases.c.id == lease.id, schema.leases.c.expires_at > now)
        until = {"expires_at": now + lifetime, "lifetime": lifetime // MICROSECOND}
        with self._database.write() as tx:
            require_here(tx)
            return tx.execute(update(schema.leases).where(live).values(until)).rowcount == 1

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
        publications, versions, files = schema.publications, schema.versions, schema.data_files
        with self._database.read() as tx:
            rows = tx.execute(
                select(*selected_columns())
                .join_from(publications, versions, versions.c.id == publications.c.version_id)
                .join(files, files.c.version_id == versions.c.id)
                .where(
                    publications.c.connection_id == connection_id,
                    publications.c.schema_name == schema_name,
                    publications.c.table_name == table_name,
                    *_in_snapshot(lease),
                )
                .order_by(files.c.number)
            ).all()
        return version_of(rows) if rows else None

    @transition
    def visible_like(
        self, lease: Lease, connection_id: str, schema_name: str, table_name: str
    ) -> list[tuple[str, str]]:
        """Addresses in the snapshot that match in any case of ASCII letters."""
        publications = schema.publications
        with self._database.read() as tx:
            rows = tx.execute(
                select(publications.c.schema_name, publications.c.table_name).where(
                    publications.c.connection_id == connection_id,
                    func.lower(publications.c.schema_name) == fold(schema_name),
                    func.lower(publications.c.table_name) == fold(table_name),
                    *_in_snapshot(lease),
                )
            )
            return [(row.schema_name, row.table_name) for row in rows]


def from_the_future(now: datetime) -> ColumnElement[bool]:
    """SQL that is true for a lease that was taken, or renewed, under a clock that was wrong."""
    return schema.set_in_the_future(schema.leases.c.expires_at, schema.leases.c.lifetime, now)


def _in_snapshot(lease: Lease) -> list[ColumnElement[bool]]:
    publications = schema.publications.c
    return [
        publications.from_sequence <= lease.sequence,
        or_(publications.until_sequence.is_(None), publications.until_sequence > lease.sequence),
    ]

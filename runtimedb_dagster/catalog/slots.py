"""Transitions of slots: at most so many tables of a connection are read at a time, by whatever process.

A queue, not a set of numbered places: who asks gets a ticket, and the holders of the lowest live tickets may read.
So nobody is passed over, and the limit holds even where processes disagree about it.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, delete, func, insert, or_, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, next_sequence, transition
from runtimedb_dagster.domain.claims import Slot
from runtimedb_dagster.domain.tables import Connection

__all__ = ["SlotCatalog"]


class SlotCatalog:
    """The refreshes that read a connection, and those that wait for it."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def enter(self, connection: Connection, owner: str, expires_at: datetime) -> Slot:
        """Join the end of a connection's queue."""
        with self._database.write() as tx:
            slot = Slot(next_sequence(tx), connection.id)
            tx.execute(
                insert(schema.refresh_slots).values(
                    ticket=slot.ticket, connection_id=connection.id, owner=owner, expires_at=expires_at
                )
            )
        return slot

    @transition
    def is_free(self, slot: Slot, limit: int, now: datetime) -> bool:
        """Whether fewer than `limit` live tickets come before this one."""
        slots = schema.refresh_slots.c
        live = and_(slots.expires_at > now, slots.expires_at < now + schema.FARTHEST)
        before = and_(slots.connection_id == slot.connection_id, slots.ticket < slot.ticket, live)
        with self._database.read() as tx:
            return int(tx.execute(select(func.count()).where(before)).scalar_one()) < limit

    @transition
    def renew(self, slot: Slot, expires_at: datetime) -> None:
        """Stay in the queue."""
        with self._database.write() as tx:
            tx.execute(
                update(schema.refresh_slots)
                .where(schema.refresh_slots.c.ticket == slot.ticket)
                .values(expires_at=expires_at)
            )

    @transition
    def leave(self, slot: Slot, now: datetime) -> None:
        """Give the place up; tickets of processes that died go too."""
        slots = schema.refresh_slots.c
        over = or_(slots.expires_at <= now, slots.expires_at >= now + schema.FARTHEST)
        dead = and_(slots.connection_id == slot.connection_id, over)
        with self._database.write() as tx:
            tx.execute(delete(schema.refresh_slots).where((slots.ticket == slot.ticket) | dead))

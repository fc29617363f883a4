"""Transitions of pending deletions: claimed by a sweep, finished, or put off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, exists, false, func, or_, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, require_here, transition
from runtimedb_dagster.catalog.leases import from_the_future
from runtimedb_dagster.catalog.versions import forget_versions, having_any
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.domain.versions import PendingDeletion

__all__ = ["DeletionCatalog"]

_pending_path = schema.pending_deletions.c.path
FORGET = delete(schema.pending_deletions).where(_pending_path == bindparam("file"))


class DeletionCatalog:
    """The pending deletions."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def list(self) -> list[PendingDeletion]:
        """All pending deletions, soonest first."""
        pending = schema.pending_deletions
        with self._database.read() as tx:
            return [_pending(row) for row in tx.execute(select(pending).order_by(pending.c.delete_after))]

    @transition
    def failing(self, connection: Connection, attempts: int) -> Sequence[PendingDeletion]:
        """Those of a connection's files that were tried in vain more than `attempts` times."""
        pending = schema.pending_deletions
        # The id is hexadecimal, so nothing in it means anything to LIKE.
        mine = and_(pending.c.path.like(f"{connection.id}/%"), pending.c.attempts > attempts)
        with self._database.read() as tx:
            return [_pending(row) for row in tx.execute(select(pending).where(mine).order_by(pending.c.delete_after))]

    @transition
    def count_due(self, now: datetime) -> int:
        """How many a sweep would claim now."""
        query = select(func.count()).select_from(schema.pending_deletions).where(_claimable(now))
        with self._database.read() as tx:
            return int(tx.execute(query).scalar_one())

    @transition
    def claim(
        self, token: str, now: datetime, claimed_until: datetime, limit: int, path: str | None = None
    ) -> Sequence[PendingDeletion]:
        """Claim due rows for the sweep `token`; only `path`'s, if one is named.

        Left out is what another sweep has claimed and what a live lease may be reading.
        """
        pending = schema.pending_deletions
        due = select(pending.c.id).where(_claimable(now)).order_by(pending.c.delete_after).limit(limit)
        if path is not None:
            due = due.where(pending.c.path == path)
        with self._database.write() as tx:
            require_here(tx)
            ids = tx.execute(due.with_for_update(skip_locked=True)).scalars().all()
            claimed = tx.execute(
                update(pending)
                .where(pending.c.id.in_(ids))
                .values(claimed_by=token, claimed_until=claimed_until)
                .returning(pending)
            )
            return [_pending(row) for row in claimed]

    @transition
    def pointed_at(self, paths: Sequence[str]) -> set[str]:
        """Those of `paths` that a current version has; the sweep must refuse them."""
        files = schema.data_files
        mine = schema.tables.c.version_id == files.c.version_id
        current = select(files.c.path, files.c.deletes_path).join(schema.tables, mine)
        with self._database.read() as tx:
            return {path for row in tx.execute(current.where(having_any(paths))) for path in row} & set(paths)

    @transition
    def finish(self, deletions: Sequence[PendingDeletion], token: str) -> None:
        """Forget files that are gone, and the retired versions that they were."""
        pending = schema.pending_deletions
        ids = [deletion.id for deletion in deletions]
        with self._database.write() as tx:
            gone = (
                tx.execute(
                    delete(pending)
                    .where(pending.c.id.in_(ids), pending.c.claimed_by == token)
                    .returning(pending.c.path)
                )
                .scalars()
                .all()
            )
            forget_versions(tx, gone)

    @transition
    def forget(self, path: str) -> None:
        """Forget a file that its own writer has deleted before anybody could see it."""
        with self._database.write() as tx:
            tx.execute(FORGET, {"file": path})

    @transition
    def put_off(self, deletion: PendingDeletion, token: str, error: str, next_attempt: datetime) -> None:
        """Keep a row whose file could not be deleted, for another attempt."""
        pending = schema.pending_deletions
        with self._database.write() as tx:
            tx.execute(
                update(pending)
                .where(pending.c.id == deletion.id, pending.c.claimed_by == token)
                .values(
                    attempts=pending.c.attempts + 1,
                    last_error=error,
                    delete_after=next_attempt,
                    claimed_by=None,
                    claimed_until=None,
                )
            )


def _claimable(now: datetime) -> ColumnElement[bool]:
    pending, leases = schema.pending_deletions.c, schema.leases.c
    live = and_(leases.expires_at > now, ~func.coalesce(from_the_future(now), false()))
    held = exists().where(live, leases.sequence < pending.retired_at_sequence)
    unclaimed = or_(
        pending.claimed_until.is_(None), pending.claimed_until < now, pending.claimed_until > now + schema.FARTHEST
    )
    due = or_(pending.delete_after <= now, schema.set_in_the_future(pending.delete_after, pending.lifetime, now))
    return and_(due, unclaimed, ~held)


def _pending(row: Row[Any]) -> PendingDeletion:
    return PendingDeletion(
        row.id, row.path, row.delete_after, row.reason, row.table_full_name, row.attempts, row.last_error
    )

"""Transitions of versions: reserve, renew, swap, abandon, purge. The one rule lives here.

Every file is born scheduled for deletion; only the swap rescues it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import CursorResult, Row, Select, bindparam, delete, insert, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, new_id, next_sequence, transition
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import RefreshError, ReservationLostError, SupersededError
from runtimedb_dagster.domain.model import Column, Connection, Reservation, Table, TableRef, Version

__all__ = ["VersionCatalog", "lost", "retire", "version_of"]

UNPUBLISHED = "not published"

# The statements of a refresh are built once: building them each time took half of its time in the catalog.
_tables, _versions, _pending = schema.tables.c, schema.versions.c, schema.pending_deletions.c
LOCK: Select[Any] = (
    select(_tables.id, _tables.connection_id, _tables.schema_name, _tables.table_name, _tables.version_id)
    .where(_tables.id == bindparam("row"))
    .with_for_update()
)
POINT = update(schema.tables).where(_tables.id == bindparam("row")).values(version_id=bindparam("version"))
ADD_VERSION = insert(schema.versions)
GENERATION = select(_versions.generation).where(_versions.id == bindparam("version"))
RETIRE = (
    update(schema.versions)
    .where(_versions.id == bindparam("version"))
    .values(retired_at_sequence=bindparam("sequence"))
    .returning(_versions.path)
)
CONFIRM = (
    update(schema.versions)
    .where(_versions.id == bindparam("version"))
    .values(checked_at=bindparam("now"), generation=bindparam("started"))
)
SCHEDULE = insert(schema.pending_deletions)
# A claim that expired counts as well: the sweep that made it may have deleted the file.
_unclaimed = (_pending.path == bindparam("file")) & _pending.claimed_by.is_(None) & (_pending.attempts == 0)
FIND = select(_pending.id).where(_unclaimed)
RENEW = (
    update(schema.pending_deletions)
    .where(_unclaimed)
    .values(delete_after=bindparam("until"), lifetime=bindparam("lasting"))
)
RESCUE = delete(schema.pending_deletions).where(_unclaimed)


class VersionCatalog:
    """The versions of all tables."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def exist(self) -> bool:
        """Whether any table has a version."""
        with self._database.read() as tx:
            return (
                tx.execute(select(schema.tables.c.id).where(schema.tables.c.version_id.is_not(None)).limit(1)).first()
                is not None
            )

    @transition
    def reserve(self, table: Table, version_id: str, path: str, now: datetime, lease: timedelta) -> Reservation:
        """Schedule `path` for deletion, before its first byte is written."""
        with self._database.write() as tx:
            _schedule(tx, path, table.ref, now + lease, UNPUBLISHED)
            return Reservation(table, version_id, path, next_sequence(tx), now)

    @transition
    def mark(self) -> int:
        """A generation that is greater than those before, and less than that of each refresh that starts later."""
        with self._database.write() as tx:
            return next_sequence(tx)

    @transition
    def renew(self, reservation: Reservation, delete_after: datetime) -> None:
        """Push the deletion of a file that is still being written further away.

        Raises:
            ReservationLostError: the sweep has already claimed the file.
        """
        with self._database.write() as tx:
            _require(
                reservation,
                tx.execute(
                    RENEW, {"file": reservation.path, "until": delete_after, "lasting": _lifetime(delete_after)}
                ),
            )

    @transition
    def abandon(self, reservation: Reservation, now: datetime) -> bool:
        """Let the next sweep have a file that will not be published.

        Returns:
            Whether a sweep has it already.
        """
        with self._database.write() as tx:
            kept = tx.execute(FIND, {"file": reservation.path}).first()
            _condemn(tx, reservation, now)
            return kept is None

    @transition
    def swap(self, reservation: Reservation, version: Version, delete_after: datetime) -> None:
        """Publish a version: point its table's row at it, rescue its file, schedule the old one's deletion.

        Raises:
            RefreshError: the table was dropped meanwhile.
            SupersededError: a refresh that started later has already published.
            ReservationLostError: the sweep has already claimed the file.
        """
        described = {field.name: getattr(version, field.name) for field in fields(version)}
        described["columns"] = [column.to_dict() for column in version.columns]
        with self._database.write() as tx:
            row = _locked(tx, reservation)
            _rescue(tx, reservation)
            tx.execute(POINT, {"row": row.id, "version": version.id})
            # From here on other swaps wait, for `retire` takes a number.
            sequence = retire(tx, reservation.table.connection, [row], "replaced", delete_after)
            address = {name: getattr(row, name) for name in ("connection_id", "schema_name", "table_name")}
            tx.execute(ADD_VERSION, {**described, **address, "published_at_sequence": sequence})

    @transition
    def keep(self, reservation: Reservation, current: Version, now: datetime) -> bool:
        """Keep the current version, which the new file merely repeats; the new file is due for deletion.

        Returns:
            False if `current` is no longer the table's version, and so nothing was done.

        Raises:
            RefreshError, SupersededError: as `swap`.
        """
        with self._database.write() as tx:
            if _locked(tx, reservation).version_id != current.id:
                return False
            # The generation too: a refresh that started before this one holds older data.
            tx.execute(CONFIRM, {"version": current.id, "now": now, "started": reservation.generation})
            _condemn(tx, reservation, now)
            return True

    @transition
    def purge(self, connection: Connection, tables: Sequence[Table], delete_after: datetime) -> int:
        """Forget the data of tables and keep their rows; the files get pending deletions.

        Returns:
            The number of tables that had a version.
        """
        with self._database.write() as tx:
            rows = [
                row
                for table in tables
                if (row := tx.execute(LOCK, {"row": table.id}).first()) is not None and row.version_id
            ]
            retire(tx, connection.name, rows, "purged", delete_after)
            for row in rows:
                tx.execute(POINT, {"row": row.id, "version": None})
            return len(rows)


def retire(tx: Transaction, connection_name: str, rows: Sequence[Row[Any]], reason: str, delete_after: datetime) -> int:
    """Schedule the deletion of the versions that rows of `tables` point at.

    Returns:
        The sequence number from which on no new reader sees them.
    """
    sequence = next_sequence(tx)
    for row in rows:
        if row.version_id is None:
            continue
        path = tx.execute(RETIRE, {"version": row.version_id, "sequence": sequence}).scalar_one()
        ref = TableRef(connection_name, row.schema_name, row.table_name)
        _schedule(tx, path, ref, delete_after, reason, sequence)
    return sequence


def version_of(row: Row[Any], prefix: str = "") -> Version:
    """The version in a row of `versions`, whose columns may carry a prefix."""
    values = {name: getattr(row, prefix + name) for name in Version.__dataclass_fields__}
    return Version(**{**values, "columns": tuple(Column(**column) for column in values["columns"])})


def _locked(tx: Transaction, reservation: Reservation) -> Row[Any]:
    table = reservation.table
    row = tx.execute(LOCK, {"row": table.id}).first()
    if row is None:
        raise RefreshError(f"{table.ref} was dropped while it was refreshed; its new file goes to the sweep")
    # Not joined to the row above: PostgreSQL would look for the version that was current before it had the lock.
    current = tx.execute(GENERATION, {"version": row.version_id}).scalar()
    if current is not None and current > reservation.generation:
        raise SupersededError(
            f"{table.ref}: a refresh that started later has already published, so this one's older data was "
            "dropped; nothing needs to be done"
        )
    return row


def _schedule(
    tx: Transaction, path: str, ref: TableRef, delete_after: datetime, reason: str, sequence: int | None = None
) -> None:
    values = {"id": new_id(), "path": path, "delete_after": delete_after, "reason": reason, "attempts": 0}
    values["lifetime"] = _lifetime(delete_after)
    tx.execute(SCHEDULE, {**values, "table_full_name": str(ref), "retired_at_sequence": sequence})


def _lifetime(until: datetime) -> int:
    """For how long something is meant to last from now on, in microseconds."""
    return max(until - utc_now(), timedelta(0)) // schema.MICROSECOND


def _condemn(tx: Transaction, reservation: Reservation, now: datetime) -> None:
    """Have a file be swept that will not be published, even if a sweep has been there.

    A writer that slept for longer than its lease may have made the file only then: so a claim is taken back, and a
    pending deletion that is gone is made again, unless the file did get published and only the answer was lost.
    """
    pending, versions = schema.pending_deletions, schema.versions
    mine = (pending.c.path == reservation.path) & pending.c.retired_at_sequence.is_(None)
    again = tx.execute(update(pending).where(mine).values(delete_after=now, claimed_by=None, claimed_until=None))
    published = select(versions.c.id).where(versions.c.path == reservation.path)
    if again.rowcount == 0 and tx.execute(published).first() is None:
        _schedule(tx, reservation.path, reservation.table.ref, now, UNPUBLISHED)


def _rescue(tx: Transaction, reservation: Reservation) -> None:
    _require(reservation, tx.execute(RESCUE, {"file": reservation.path}))


def _require(reservation: Reservation, changed: CursorResult[Any]) -> None:
    if changed.rowcount != 1:
        raise lost(reservation)


def lost(reservation: Reservation) -> ReservationLostError:
    """What a writer is told whose file the sweep has."""
    return ReservationLostError(
        f"{reservation.table.ref}: the write outlived its write lease and the sweep has claimed the file; refresh it "
        "again, keep the machines' clocks together, and raise RUNTIMEDB_WRITE_LEASE if this one sleeps for longer"
    )

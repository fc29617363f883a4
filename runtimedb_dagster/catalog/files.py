"""The one rule, in its one place: a file has a pending deletion exactly while no current version has it.

Every file is born scheduled for deletion, only a publication rescues it, and the publication that takes its version's
place schedules it again. All of this is called within a transaction that changes what is current.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import CursorResult, bindparam, delete, insert, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import new_id
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.claims import Reservation
from runtimedb_dagster.domain.errors import ReservationLostError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import SequenceNumber

__all__ = ["UNPUBLISHED", "condemn", "is_scheduled", "lost", "postpone", "rescue", "schedule"]

UNPUBLISHED = "not published"

# Built once: building a refresh's statements each time took half of its time in the catalog.
_pending = schema.pending_deletions.c
SCHEDULE = insert(schema.pending_deletions)
# A claim that expired counts as well: the sweep that made it may have deleted the file.
_unclaimed = (_pending.path == bindparam("file")) & _pending.claimed_by.is_(None) & (_pending.attempts == 0)
FIND = select(_pending.id).where(_unclaimed)
POSTPONE = (
    update(schema.pending_deletions)
    .where(_unclaimed)
    .values(delete_after=bindparam("until"), lifetime=bindparam("lasting"))
)
RESCUE = delete(schema.pending_deletions).where(_unclaimed)


def schedule(
    tx: Transaction,
    paths: Iterable[str],
    ref: TableRef,
    delete_after: datetime,
    reason: str,
    sequence: SequenceNumber | None = None,
) -> None:
    """Have files be deleted.

    Args:
        tx: the transaction from which on no current version has them.
        paths: the files.
        ref: whose they are, or were.
        delete_after: until when they stay.
        reason: why they go, in a word or two.
        sequence: from which on no new reader sees them; None if none ever did.
    """
    for path in paths:
        values = {"id": new_id(), "path": path, "delete_after": delete_after, "reason": reason, "attempts": 0}
        values["lifetime"] = _lifetime(delete_after)
        tx.execute(SCHEDULE, {**values, "table_full_name": str(ref), "retired_at_sequence": sequence})


def rescue(tx: Transaction, reservation: Reservation) -> None:
    """Keep the files of a reservation, which a version has from this transaction on.

    Raises:
        ReservationLostError: a sweep has claimed one.
    """
    for path in reservation.paths:
        _require(reservation, tx.execute(RESCUE, {"file": path}))


def postpone(tx: Transaction, reservation: Reservation, delete_after: datetime) -> None:
    """Push the deletion of files that are still being written further away.

    Raises:
        ReservationLostError: a sweep has claimed one.
    """
    for path in reservation.paths:
        values = {"file": path, "until": delete_after, "lasting": _lifetime(delete_after)}
        _require(reservation, tx.execute(POSTPONE, values))


def is_scheduled(tx: Transaction, reservation: Reservation) -> bool:
    """Whether the files of a reservation await a sweep that has not come yet."""
    return all(tx.execute(FIND, {"file": path}).first() is not None for path in reservation.paths)


def condemn(tx: Transaction, reservation: Reservation, now: datetime) -> None:
    """Have files be swept that will not be published, even if a sweep has been there.

    A writer that slept for longer than its lease may have made a file only then: so a claim is taken back, and a
    pending deletion that is gone is made again, unless the file did get published and only the answer was lost.
    """
    pending, files = schema.pending_deletions, schema.data_files
    for path in reservation.paths:
        mine = (pending.c.path == path) & pending.c.retired_at_sequence.is_(None)
        again = tx.execute(update(pending).where(mine).values(delete_after=now, claimed_by=None, claimed_until=None))
        published = select(files.c.path).where((files.c.path == path) | (files.c.deletes_path == path))
        if again.rowcount == 0 and tx.execute(published).first() is None:
            schedule(tx, [path], reservation.table.ref, now, UNPUBLISHED)


def lost(reservation: Reservation) -> ReservationLostError:
    """The error of a writer whose file the sweep has."""
    return ReservationLostError(
        f"{reservation.table.ref}: the write outlived its write lease and the sweep has claimed the file; refresh it "
        "again, keep the machines' clocks together, and raise RUNTIMEDB_WRITE_LEASE if this one sleeps for longer"
    )


def _lifetime(until: datetime) -> int:
    """For how long something is meant to last from now on, in microseconds."""
    return max(until - utc_now(), timedelta(0)) // schema.MICROSECOND


def _require(reservation: Reservation, changed: CursorResult[Any]) -> None:
    if changed.rowcount != 1:
        raise lost(reservation)

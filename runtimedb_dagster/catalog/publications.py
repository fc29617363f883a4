"""Transitions of what is current: reserve, renew, publish, keep, abandon, purge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import Row, Select, bindparam, insert, or_, select, update

from runtimedb_dagster.catalog import files, schema
from runtimedb_dagster.catalog.database import Database, next_sequence, require_here, transition
from runtimedb_dagster.catalog.versions import add_version, get_version, paths_of
from runtimedb_dagster.domain.claims import Publication, Reservation
from runtimedb_dagster.domain.errors import BaseReplacedError, RefreshError, SupersededError
from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.domain.versions import Position, SequenceNumber, Sums, Version

__all__ = ["PublicationCatalog", "retire"]

# The statements of a refresh are built once: building them each time took half of its time in the catalog.
_tables, _publications, _versions = schema.tables.c, schema.publications.c, schema.versions.c
LOCK: Select[Any] = (
    select(
        _tables.id,
        _tables.connection_id,
        _tables.schema_name,
        _tables.table_name,
        _tables.version_id,
        _tables.checked_sequence,
        _tables.distrusted,
    )
    .where(_tables.id == bindparam("row"))
    .with_for_update()
)
POINT = (
    update(schema.tables)
    .where(_tables.id == bindparam("row"))
    .values(
        version_id=bindparam("version"),
        checked_at=bindparam("at"),
        checked_sequence=bindparam("started"),
        refreshed=bindparam("facts"),
        distrusted=None,
    )
)
CHECK = (
    update(schema.tables)
    .where(_tables.id == bindparam("row"))
    .values(checked_at=bindparam("at"), checked_sequence=bindparam("started"), refreshed=bindparam("facts"))
)
# Only of what still is as it was when its source was asked.
CHECK_UNTOUCHED = CHECK.where(
    _tables.version_id == bindparam("version"),
    or_(_tables.checked_sequence.is_(None), _tables.checked_sequence < bindparam("started")),
)
MOVE_ON = update(schema.versions).where(_versions.id == bindparam("version")).values(position=bindparam("new"))
DECLARE = update(schema.versions).where(_versions.id == bindparam("version")).values(trusts=bindparam("what"))
AUDITED = (
    update(schema.tables).where(_tables.id == bindparam("row")).values(audited_at=bindparam("at"), distrusted=None)
)
LEARN = (
    update(schema.versions)
    .where(_versions.id == bindparam("version"), _versions.recipe.is_(None))
    .values(recipe=bindparam("made"))
)
_files = schema.data_files.c
LEARN_SUMS = update(schema.data_files).where(_files.version_id == bindparam("version")).values(sums=bindparam("new"))
LEARN_HASHED_BY = update(schema.versions).where(_versions.id == bindparam("version")).values(hashed_by=bindparam("by"))
BEGIN = insert(schema.publications)
END = (
    update(schema.publications)
    .where(_publications.version_id == bindparam("version"), _publications.until_sequence.is_(None))
    .values(until_sequence=bindparam("until"))
)


class PublicationCatalog:
    """What is current of all tables, and how it becomes something else."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def exist(self) -> bool:
        """Whether any table has a version."""
        with self._database.read() as tx:
            found = tx.execute(select(schema.tables.c.id).where(schema.tables.c.version_id.is_not(None)).limit(1))
            return found.first() is not None

    @transition
    def reserve(
        self,
        table: Table,
        version_id: str,
        paths: Sequence[str],
        now: datetime,
        lease: timedelta,
        sequence: SequenceNumber | None = None,
    ) -> Reservation:
        """Schedule files for deletion, before the first byte of any is written.

        Args:
            table: whose they will be.
            version_id: of the version that will have them.
            paths: the files.
            now: from when on they are being written.
            lease: for how long.
            sequence: of the refresh, if it has read the source already.
        """
        with self._database.write() as tx:
            files.schedule(tx, paths, table.ref, now + lease, files.UNPUBLISHED)
            return Reservation(table, version_id, tuple(paths), sequence or next_sequence(tx), now)

    @transition
    def next_sequence(self) -> SequenceNumber:
        """A number that is greater than those before, and less than that of each refresh that starts later."""
        with self._database.write() as tx:
            return next_sequence(tx)

    @transition
    def renew(self, reservation: Reservation, delete_after: datetime) -> None:
        """Push the deletion of a file that is still being written further away.

        Raises:
            ReservationLostError: the sweep has already claimed the file.
        """
        with self._database.write() as tx:
            files.postpone(tx, reservation, delete_after)

    @transition
    def abandon(self, reservation: Reservation, now: datetime) -> bool:
        """Let the next sweep have a file that will not be published.

        Returns:
            Whether a sweep has it already.
        """
        with self._database.write() as tx:
            scheduled = files.is_scheduled(tx, reservation)
            files.condemn(tx, reservation, now)
            return not scheduled

    @transition
    def publish(self, group: Sequence[Publication], delete_after: datetime) -> dict[str, Version]:
        """Publish versions, all or none: point their tables' rows at them, and end what was current.

        Returns:
            What was replaced, by the ids of the tables that had a version.

        Raises:
            RefreshError: a table was dropped meanwhile.
            SupersededError: a refresh that started later has already published, or the table was purged.
            BaseReplacedError: a table is no longer at the version of which the new one keeps files.
            ReservationLostError: the sweep has already claimed a file.
        """
        # In one order, so that no two groups wait for each other.
        ordered = sorted(group, key=lambda each: each.reservation.table.id)
        with self._database.write() as tx:
            rows = [_locked(tx, each.reservation) for each in ordered]
            for each, row in zip(ordered, rows, strict=True):
                _require_base(each, row)
                files.rescue(tx, each.reservation)
                _point(tx, row, each)
            # From here on other publications wait, for `retire` takes a number.
            kept = {path for each in ordered for path in each.version.paths}
            sequence = retire(tx, ordered[0].reservation.table.connection, rows, "replaced", delete_after, kept)
            replaced = {row.id: _current(tx, each, row) for each, row in zip(ordered, rows, strict=True)}
            for each, row in zip(ordered, rows, strict=True):
                add_version(tx, each.version)
                tx.execute(BEGIN, _published(row, each.version, sequence, replaced[row.id]))
            return {table: version for table, version in replaced.items() if version is not None}

    @transition
    def keep(
        self,
        reservation: Reservation,
        current: Version,
        recipe: str,
        now: datetime,
        position: Position | None = None,
        facts: RefreshFacts | None = None,
        sums: tuple[Sums, str] | None = None,
        trusts: str | None = None,
    ) -> bool:
        """Keep the current version, which new files merely repeat; they are due for deletion.

        Args:
            reservation: of the refresh, with its files, if it has any.
            current: the version.
            recipe: by which the files were made, for a version that knows none.
            now: when that was found.
            position: of the source when it was read.
            facts: of the refresh.
            trusts: what is trusted for that beyond the source's own transactions.
            sums: over its rows, and the version of DuckDB that made them, for a version that knows none.

        Returns:
            False if `current` is no longer the table's version, and so nothing was done.

        Raises:
            RefreshError, SupersededError: as `publish`.
        """
        with self._database.write() as tx:
            require_here(tx)
            row = _locked(tx, reservation)
            if row.version_id != current.id:
                return False
            # The number too: a refresh that started before this one holds older data.
            values = {"row": row.id, "at": now, "started": reservation.sequence}
            tx.execute(CHECK, {**values, "facts": facts and facts.to_dict()})
            tx.execute(MOVE_ON, {"version": current.id, "new": position})
            tx.execute(DECLARE, {"version": current.id, "what": trusts})
            if facts is not None and facts.audited:
                tx.execute(AUDITED, {"row": row.id, "at": now})
            if current.recipe is None:
                tx.execute(LEARN, {"version": current.id, "made": recipe})
            if current.hashed_by is None and sums is not None and current.is_plain:
                tx.execute(LEARN_SUMS, {"version": current.id, "new": str(sums[0])})
                tx.execute(LEARN_HASHED_BY, {"version": current.id, "by": sums[1]})
            files.condemn(tx, reservation, now)
            return True

    @transition
    def mark_checked(
        self,
        tables: Sequence[tuple[Table, Position | None]],
        sequence: SequenceNumber,
        now: datetime,
        facts: RefreshFacts,
    ) -> None:
        """Remember of tables that their source holds what their versions hold, with the positions at which it does.

        What was published, purged or checked meanwhile by a refresh that started later is left as it is.

        Args:
            tables: as they were when their source was asked.
            sequence: taken before that.
            now: when it answered.
            facts: of all of them.
        """
        ordered = sorted(tables, key=lambda each: each[0].id)
        checked = [
            {"row": table.id, "version": table.version.id, "at": now, "started": sequence, "facts": facts.to_dict()}
            for table, _ in ordered
            if table.version
        ]
        moved = [{"version": table.version.id, "new": position} for table, position in ordered if table.version]
        if not checked:
            return
        with self._database.write() as tx:
            require_here(tx)
            tx.execute(CHECK_UNTOUCHED, checked)
            tx.execute(MOVE_ON, moved)

    @transition
    def distrust(self, table: Table, version: Version, reason: str) -> None:
        """Have the next refresh of a table read it whole, if `version` is still what it is at."""
        mine = (_tables.id == table.id) & (_tables.version_id == version.id)
        with self._database.write() as tx:
            require_here(tx)
            tx.execute(update(schema.tables).where(mine).values(distrusted=reason))

    @transition
    def record_audit(self, table: Table, version: Version, now: datetime) -> None:
        """Remember that a version was found to be what the whole source holds, if it still is what a table is at."""
        mine = (_tables.id == table.id) & (_tables.version_id == version.id)
        with self._database.write() as tx:
            require_here(tx)
            tx.execute(update(schema.tables).where(mine).values(audited_at=now))

    @transition
    def purge(self, connection: Connection, tables: Sequence[Table], delete_after: datetime) -> int:
        """Forget the data of tables and keep their rows; the files get pending deletions.

        Returns:
            The number of tables that had a version.
        """
        with self._database.write() as tx:
            locked = [tx.execute(LOCK, {"row": table.id}).first() for table in sorted(tables, key=lambda each: each.id)]
            rows = [row for row in locked if row is not None and row.version_id]
            sequence = retire(tx, connection.name, rows, "purged", delete_after)
            # The number too: what began before was not asked to bring the data back.
            for row in rows:
                tx.execute(POINT, {"row": row.id, "version": None, "at": None, "started": sequence, "facts": None})
            return len(rows)


def retire(
    tx: Transaction,
    connection_name: str,
    rows: Sequence[Row[Any]],
    reason: str,
    delete_after: datetime,
    kept: frozenset[str] | set[str] = frozenset(),
) -> SequenceNumber:
    """End the publications that rows of `tables` point at, and schedule their files, but those that are `kept`.

    Returns:
        The number from which on no new reader sees them.
    """
    sequence = next_sequence(tx)
    for row in rows:
        if row.version_id is not None:
            tx.execute(END, {"version": row.version_id, "until": sequence})
            ref = TableRef(connection_name, row.schema_name, row.table_name)
            gone = [path for path in paths_of(tx, row.version_id) if path not in kept]
            files.schedule(tx, gone, ref, delete_after, reason, sequence)
    return sequence


def _locked(tx: Transaction, reservation: Reservation) -> Row[Any]:
    table = reservation.table
    row = tx.execute(LOCK, {"row": table.id}).first()
    if row is None:
        raise RefreshError(f"{table.ref} was dropped while it was refreshed; its new file goes to the sweep")
    if row.checked_sequence is not None and row.checked_sequence > reservation.sequence:
        later = "a refresh that started later has already published" if row.version_id else "it was purged meanwhile"
        raise SupersededError(f"{table.ref}: {later}, so this one's older data was dropped; nothing needs to be done")
    return row


def _current(tx: Transaction, publication: Publication, row: Row[Any]) -> Version | None:
    """What a row pointed at when it was locked, which may be newer than what its reservation knows."""
    known = publication.reservation.table.version
    if row.version_id is None or (known is not None and known.id == row.version_id):
        return known if row.version_id else None
    return get_version(tx, row.version_id)


def _require_base(publication: Publication, row: Row[Any]) -> None:
    base = publication.base
    if base is not None and (row.version_id != base.id or row.distrusted):
        raise BaseReplacedError(
            f"{publication.reservation.table.ref}: another refresh has replaced the version that this one builds on; "
            "refresh the table again"
        )


def _point(tx: Transaction, row: Row[Any], publication: Publication) -> None:
    version, facts = publication.version, publication.facts
    values = {"row": row.id, "version": version.id, "at": version.created_at}
    started = publication.reservation.sequence
    tx.execute(POINT, {**values, "started": started, "facts": facts and facts.to_dict()})
    if facts is not None and facts.audited:
        tx.execute(AUDITED, {"row": row.id, "at": version.created_at})


def _published(row: Row[Any], version: Version, sequence: SequenceNumber, replaced: Version | None) -> dict[str, Any]:
    address = {name: getattr(row, name) for name in ("connection_id", "schema_name", "table_name")}
    previous_rows = replaced.rows if replaced else None
    return {**address, "version_id": version.id, "from_sequence": sequence, "previous_rows": previous_rows}

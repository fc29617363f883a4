"""Refresh: one table, whole or by what changed; what is written is reserved before and published after."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb

from runtimedb_dagster.catalog import Catalog, new_id
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.claims import Publication, Reservation
from runtimedb_dagster.domain.columns import schema_changes
from runtimedb_dagster.domain.errors import BaseReplacedError, RefreshError, RuntimeDBError
from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.domain.outcomes import Failed, Outcome, Published, TableProgress, Unchanged
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Table
from runtimedb_dagster.domain.versions import DataFile, Position, SequenceNumber, Version
from runtimedb_dagster.engine.by_changes import ByChanges, Refreshed
from runtimedb_dagster.engine.file_reader import FileReader
from runtimedb_dagster.engine.matching import NotMergedError
from runtimedb_dagster.engine.parquet import WrittenFile, read_back, write
from runtimedb_dagster.engine.reserving import Reserver
from runtimedb_dagster.engine.soundness import difference, lost_or_torn, problem
from runtimedb_dagster.engine.strategy import (
    Changes,
    Full,
    Keep,
    audit_due,
    base_of,
    decide,
    may_be_surveyed,
    require_rows,
    why_full,
)
from runtimedb_dagster.engine.sweep import Sweeper
from runtimedb_dagster.sources.base import Base, Reading, Source
from runtimedb_dagster.storage import Storage, version_path

__all__ = ["Refresher"]

logger = logging.getLogger(__name__)

# How often a refresh by changes begins again because another one was faster, before it reads the table whole.
ATTEMPTS = 3


@dataclass
class Refresher:
    """Makes new versions. The order of its steps is what makes it safe; see `one`."""

    catalog: Catalog
    storage: Storage
    settings: Settings
    sweeper: Sweeper
    reader: FileReader
    _readings: dict[str, tuple[Reading, Table]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put its parts together."""
        self._reserver = Reserver(self.catalog, self.storage, self.settings, self.sweeper)
        self.by_changes = ByChanges(self.catalog, self.storage, self.settings, self.reader, self._reserver)

    def outcome(
        self,
        source: Source,
        table: Table,
        *,
        full: bool,
        options: ConnectionOptions | None = None,
        confirm: bool = False,
    ) -> Outcome:
        """Refresh one table, whatever comes of it; see `one`."""
        started = utc_now()
        try:
            return self.one(source, table, full=full, options=options, confirm=confirm)
        except Exception as error:
            if not isinstance(error, RuntimeDBError):
                logger.exception("refreshing %s failed for a reason that RuntimeDB does not know", table.ref)
                error = RefreshError(f"{table.ref}: {type(error).__name__}: {error}")
            return Failed(table.ref, error, table.version, _milliseconds(utc_now() - started))

    def one(
        self,
        source: Source,
        table: Table,
        *,
        full: bool = False,
        options: ConnectionOptions | None = None,
        confirm: bool = False,
    ) -> Published | Unchanged:
        """Refresh one table.

        What has a version whose position the source understands is read by what changed since, or not at all; see
        `strategy`. Everything else is read whole:

        1. Reserve: the new file is scheduled for deletion before its first byte.
        2. Write: stream, verify, make durable.
        3. Publish: one transaction points the table at it and schedules the old file instead.

        A version that already holds the content is kept if its file is sound: by size and footer or, if `full`, read
        whole.

        Raises:
            RefreshError, SourceError, StorageError: the old version, if there is one, keeps serving.
        """
        options = options or ConnectionOptions()
        for _ in range(ATTEMPTS):

            def require(rows: int, table: Table = table) -> None:
                require_rows(table, rows, options, confirm=confirm)

            reason = why_full(table, full=full)
            if reason is not None:
                return self._whole(table, partial(self._opened, source, table), reason, require, full=full)
            try:
                return self._from_base(source, table, options, require)
            except BaseReplacedError as error:
                logger.info("%s", error)
                table = self.catalog.tables.again(table)
        why = "others replaced its version again and again"
        return self._whole(table, partial(self._opened, source, table), why, require)

    def survey(self, source: Source, tables: Sequence[Table], *, thorough: bool) -> list[Unchanged]:
        """Ask of many tables at once whether their versions still are what their source holds.

        Args:
            source: of all of them.
            tables: as they are now.
            thorough: see `SourceSnapshot.states`.

        Returns:
            The outcomes of those for which the source proved it; nothing was reserved for them.
        """
        started = utc_now()
        based = {table.ref: table for table in tables if may_be_surveyed(table)}
        if not based:
            return []
        sequence = self.catalog.publications.next_sequence()
        with source.snapshot() as snapshot:
            bases = {ref: base_of(table.version) for ref, table in based.items() if table.version}
            states = snapshot.states(bases, thorough=thorough)
        same = [(based[ref], state.position) for ref, state in states.items()]
        damaged = lost_or_torn(self.storage, [table.version for table, _ in same if table.version])
        same = [(table, position) for table, position in same if table.version and table.version.id not in damaged]
        self.catalog.publications.mark_checked(same, sequence, utc_now(), RefreshFacts("unchanged"))
        taken = _milliseconds(utc_now() - started) // max(len(same), 1)
        return [self._unchanged(table, table.version, taken) for table, _ in same if table.version]

    def as_it_is(self, table: Table) -> Published | Unchanged:
        """The outcome of a table that was refreshed a moment ago, by a process that could not report it.

        Raises:
            ValueError: it has no version.
        """
        version = table.version
        if version is None:
            raise ValueError(f"{table.ref} has no version")
        kind = Published if version.created_at == table.checked_at else Unchanged
        facts = table.refreshed or RefreshFacts("full", "its version is of an earlier release")
        return kind(table.ref, version, version.duration_ms, self._location(version), facts)

    def readings(self) -> tuple[TableProgress, ...]:
        """How far the tables are that are being read."""
        return tuple(_table_progress(reading, table) for reading, table in list(self._readings.values()))

    @contextmanager
    def _opened(self, source: Source, table: Table, base: Base | None = None) -> Iterator[Reading]:
        """A table in a snapshot of its own, shown among what is being read."""
        with source.snapshot() as snapshot, snapshot.read(table.ref, base) as reading:
            self._readings[table.id] = (reading, table)
            try:
                yield reading
            finally:
                self._readings.pop(table.id, None)

    # By what changed

    def _from_base(
        self, source: Source, table: Table, options: ConnectionOptions, require: Callable[[int], None]
    ) -> Published | Unchanged:
        base, started = table.version, utc_now()
        audit, drift = audit_due(table, options, started), ""
        if base is None:
            raise ValueError(f"{table.ref} has no version")
        # Taken before the source is read, so a refresh that starts later has the greater one.
        sequence = self.catalog.publications.next_sequence()
        with ExitStack() as opened:
            reading = opened.enter_context(self._opened(source, table, base_of(base)))
            match decide(base, reading):
                case Full(reason):
                    pass
                # Before any reading: what only appends never opens the base's files, and would publish them again.
                case Keep(base, _) | Changes(base, _) if lost_or_torn(self.storage, [base]):
                    reason = "a file of its version is lost or torn"
                case Keep(base, trusts):
                    drift = self.by_changes.audit_same(table, base, reading) if audit else ""
                    if not drift:
                        return self._kept(
                            table, base, sequence, reading.position, started, audited=audit, trusts=trusts
                        )
                    reason = f"an audit found that it is not what its version holds: {drift}"
                case Changes(base, changed):
                    try:
                        done = self.by_changes.refresh(
                            table, base, changed, reading, sequence, opened.close, require, audit=audit
                        )
                        return self._told(table, base, done, _milliseconds(utc_now() - started))
                    except NotMergedError as error:
                        reason, drift = str(error), error.drift
            return self._whole(table, lambda: _held(opened, reading), reason, require, sequence, drift=drift)

    def _kept(
        self,
        table: Table,
        base: Version,
        sequence: SequenceNumber,
        position: Position | None,
        started: datetime,
        *,
        audited: bool,
        trusts: str | None,
    ) -> Unchanged:
        facts = RefreshFacts("unchanged", rows_read=base.rows if audited else 0, files=len(base.files), audited=audited)
        nothing = Reservation(table, base.id, (), sequence, started)
        recipe, trusts = base.recipe or "", trusts or base.trusts
        if not self.catalog.publications.keep(nothing, base, recipe, utc_now(), position, facts, trusts=trusts):
            raise BaseReplacedError(f"{table.ref}: another refresh has replaced its version meanwhile")
        return self._unchanged(table, base, _milliseconds(utc_now() - started), facts)

    def _unchanged(
        self, table: Table, version: Version, duration_ms: int, facts: RefreshFacts | None = None
    ) -> Unchanged:
        facts = facts or RefreshFacts("unchanged", files=len(version.files))
        return Unchanged(table.ref, version, duration_ms, self._location(version), facts)

    def _told(self, table: Table, base: Version, done: Refreshed, duration_ms: int) -> Published | Unchanged:
        if done.version is base:
            return self._unchanged(table, base, duration_ms, done.facts)
        return Published(table.ref, done.version, duration_ms, self._location(done.version), done.facts, base)

    # Whole

    def _whole(
        self,
        table: Table,
        open_: Callable[[], AbstractContextManager[Reading]],
        reason: str,
        require: Callable[[int], None],
        sequence: SequenceNumber | None = None,
        *,
        full: bool = False,
        drift: str = "",
    ) -> Published | Unchanged:
        version_id = new_id()
        path = version_path(table.connection_id, table.schema_name, table.table_name, version_id)
        with self._reserver.reserved(table, version_id, [path], sequence) as reservation:
            local: Path = self.storage.prepare(path)
            self._reserver.renew_if_old(reservation)
            with open_() as reading:
                rows = write(reading, local)
            require(rows)
            with self.reader.local() as duck:
                written = read_back(reading.ref, tuple(reading.columns), rows, local, duck)
            self.storage.finalize(path)
            facts = RefreshFacts("full", reason, rows, bytes_written=written.bytes, audited=True, drift=drift)
            return self._publish(reservation, reading, written, facts, full=full)

    def _publish(
        self, reservation: Reservation, reading: Reading, written: WrittenFile, facts: RefreshFacts, *, full: bool
    ) -> Published | Unchanged:
        table, now = reservation.table, utc_now()
        duration_ms = _milliseconds(now - reservation.started_at)
        current = table.version
        if current is not None and self._may_be_kept(current, reading, written, full=full):
            sums = (written.sums, duckdb.__version__)
            kept = self.catalog.publications.keep(
                reservation, current, reading.recipe, now, reading.position, facts, sums
            )
            if kept:
                self._reserver.discard(reservation)
                return self._unchanged(table, current, duration_ms, facts)
        version = _version(reservation, reading, written, now, duration_ms)
        publication = Publication(reservation, version, facts=facts)
        replaced = self.catalog.publications.publish([publication], now + self.settings.grace_period).get(table.id)
        changes = schema_changes(replaced.columns, version.columns) if replaced else ()
        return Published(table.ref, version, duration_ms, self._location(version), facts, replaced, changes)

    def _may_be_kept(self, current: Version, reading: Reading, written: WrittenFile, *, full: bool) -> bool:
        """Whether a version has what was written, and is sound: one that is lost or torn is replaced."""
        same = current.fingerprint == written.fingerprint and current.recipe in (None, reading.recipe)
        if not same:
            return False
        what = problem(self.storage, self.reader, current)
        if what is None and full:
            what = difference(self.storage, self.reader, current)
        if what is not None:
            logger.warning("%s; a new version takes its place", what)
        return what is None

    def _location(self, version: Version) -> str:
        """Where a version is, as DuckDB reads it: its one file, or the folder of its files."""
        path = version.files[0].path
        return self.storage.location(path if version.is_plain else path.rpartition("/")[0])


@contextmanager
def _held(opened: ExitStack, reading: Reading) -> Iterator[Reading]:
    """A reading that is open already."""
    try:
        yield reading
    finally:
        opened.close()


def _version(
    reservation: Reservation, reading: Reading, written: WrittenFile, now: datetime, duration_ms: int
) -> Version:
    (path,) = reservation.paths
    return Version(
        id=reservation.version_id,
        files=(DataFile(path, written.rows, written.bytes, written.sums),),
        rows=written.rows,
        columns=tuple(reading.columns),
        fingerprint=written.fingerprint,
        recipe=reading.recipe,
        created_at=now,
        duration_ms=duration_ms,
        position=reading.position,
        hashed_by=duckdb.__version__,
    )


def _table_progress(reading: Reading, table: Table) -> TableProgress:
    fraction = reading.progress()
    if fraction is None or table.estimated_rows is None:
        return TableProgress(table.ref, None, table.estimated_rows)
    return TableProgress(table.ref, int(fraction * table.estimated_rows), table.estimated_rows)


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)

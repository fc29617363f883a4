"""Refresh: reserve, write, publish, for one table."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from runtimedb_dagster.catalog import Catalog, new_id
from runtimedb_dagster.catalog.files import lost
from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.common.heartbeat import renewed, utc_now
from runtimedb_dagster.domain.claims import Publication, Reservation
from runtimedb_dagster.domain.columns import schema_changes
from runtimedb_dagster.domain.errors import CatalogError, RefreshError, RuntimeDBError, SupersededError
from runtimedb_dagster.domain.outcomes import Failed, Outcome, Published, TableProgress, Unchanged
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Table
from runtimedb_dagster.domain.versions import DataFile, Version
from runtimedb_dagster.engine.file_reader import FileReader
from runtimedb_dagster.engine.parquet import WrittenFile, read_back, write
from runtimedb_dagster.engine.soundness import difference, problem
from runtimedb_dagster.engine.sweep import Sweeper
from runtimedb_dagster.sources.base import Reading, Source
from runtimedb_dagster.storage import Storage, version_path

__all__ = ["Refresher"]

logger = logging.getLogger(__name__)


@dataclass
class Refresher:
    """Makes new versions. The order of its steps is what makes it safe; see `one`."""

    catalog: Catalog
    storage: Storage
    settings: Settings
    sweeper: Sweeper
    reader: FileReader
    _readings: dict[str, tuple[Reading, Table]] = field(default_factory=dict)

    def outcome(self, source: Source, table: Table, *, full: bool) -> Outcome:
        """Refresh one table, whatever comes of it; see `one`."""
        started = utc_now()
        try:
            return self.one(source, table, full=full)
        except Exception as error:
            if not isinstance(error, RuntimeDBError):
                logger.exception("refreshing %s failed for a reason that RuntimeDB does not know", table.ref)
                error = RefreshError(f"{table.ref}: {type(error).__name__}: {error}")
            return Failed(table.ref, error, table.version, _milliseconds(utc_now() - started))

    def one(self, source: Source, table: Table, *, full: bool = False) -> Published | Unchanged:
        """Refresh one table.

        1. Reserve: the new file is scheduled for deletion before its first byte.
        2. Write: stream, verify, make durable.
        3. Publish: one transaction points the table at it and schedules the old file instead.

        A version that already holds the content is kept if its file is sound: by size and footer or, if `full`, read
        whole.

        Raises:
            RefreshError, SourceError, StorageError: the old version, if there is one, keeps serving.
        """
        reservation = self._reserve(table)
        try:
            hit("after_reserve")
            with renewed(self.settings.write_lease, lambda: self._renew(reservation)):
                written = self._write(source, reservation)
            return self._publish(reservation, written, full=full)
        except Exception as error:
            swept = self._give_up(reservation)
            if swept and not isinstance(error, (CatalogError, SupersededError)):
                # The file went while it was written, or the process slept: the error says only what came of that.
                raise lost(reservation) from error
            raise

    def as_it_is(self, table: Table) -> Published | Unchanged:
        """The outcome of a table that was refreshed a moment ago, by a process that could not report it.

        Raises:
            ValueError: it has no version.
        """
        version = table.version
        if version is None:
            raise ValueError(f"{table.ref} has no version")
        kind = Published if version.created_at == table.checked_at else Unchanged
        return kind(table.ref, version, version.duration_ms, self._location(version))

    def readings(self) -> tuple[TableProgress, ...]:
        """How far the tables are that are being read."""
        return tuple(_table_progress(reading, table) for reading, table in list(self._readings.values()))

    def _reserve(self, table: Table) -> Reservation:
        version_id = new_id()
        path = version_path(table.connection_id, table.schema_name, table.table_name, version_id)
        return self.catalog.publications.reserve(table, version_id, path, utc_now(), self.settings.write_lease)

    def _renew(self, reservation: Reservation) -> None:
        self.catalog.publications.renew(reservation, utc_now() + self.settings.write_lease)

    def _write(self, source: Source, reservation: Reservation) -> WrittenFile:
        local: Path = self.storage.prepare(reservation.path)
        if utc_now() - reservation.started_at > self.settings.write_lease / 3:
            # A process that slept may have been swept before it made this file.
            self._renew(reservation)
        with source.snapshot() as snapshot, snapshot.read(reservation.table.ref) as reading:
            self._readings[reservation.path] = (reading, reservation.table)
            try:
                rows = write(reading, local)
            finally:
                del self._readings[reservation.path]
        with self.reader.local() as duck:
            written = read_back(reading, rows, local, duck)
        self.storage.finalize(reservation.path)
        return written

    def _publish(self, reservation: Reservation, written: WrittenFile, *, full: bool) -> Published | Unchanged:
        table, now = reservation.table, utc_now()
        duration_ms = _milliseconds(now - reservation.started_at)
        current = table.version
        if (
            current is not None
            and self._may_be_kept(current, written, full=full)
            and self.catalog.publications.keep(reservation, current, written.recipe, now)
        ):
            self._discard(reservation)
            return Unchanged(table.ref, current, duration_ms, self._location(current))
        version = _version(reservation, written, now, duration_ms)
        publication = Publication(reservation, version)
        replaced = self.catalog.publications.publish([publication], now + self.settings.grace_period).get(table.id)
        changes = schema_changes(replaced.columns, version.columns) if replaced else ()
        return Published(table.ref, version, duration_ms, self._location(version), replaced, changes)

    def _may_be_kept(self, current: Version, written: WrittenFile, *, full: bool) -> bool:
        """Whether a version has what was written, and is sound: one that is lost or torn is replaced."""
        same = current.fingerprint == written.fingerprint and current.recipe in (None, written.recipe)
        if not same:
            return False
        what = problem(self.storage, self.reader, current)
        if what is None and full:
            what = difference(self.storage, self.reader, current)
        if what is not None:
            logger.warning("%s; a new version takes its place", what)
        return what is None

    def _discard(self, reservation: Reservation) -> None:
        """Delete a file that merely repeats the current version; what fails here is left to a later sweep."""
        try:
            self.storage.delete(reservation.path)
            hit("after_delete_file")
            self.catalog.deletions.forget(reservation.path)
        except RuntimeDBError:
            logger.warning("the file of %s is left to a later sweep", reservation.table.ref, exc_info=True)

    def _give_up(self, reservation: Reservation) -> bool:
        """Let go of a file that will not be published, now rather than when its write lease ends.

        Returns:
            Whether a sweep was there before.
        """
        swept = False
        try:
            swept = self.catalog.publications.abandon(reservation, utc_now())
            self.sweeper.sweep(utc_now(), path=reservation.path)
        except RuntimeDBError:
            logger.warning("the file of %s is left to a later sweep", reservation.table.ref, exc_info=True)
        return swept

    def _location(self, version: Version) -> str:
        """Where a version is, as DuckDB reads it: its one file."""
        (path,) = version.paths
        return self.storage.location(path)


def _version(reservation: Reservation, written: WrittenFile, now: datetime, duration_ms: int) -> Version:
    return Version(
        id=reservation.version_id,
        files=(DataFile(reservation.path, written.rows, written.bytes),),
        rows=written.rows,
        columns=written.columns,
        fingerprint=written.fingerprint,
        recipe=written.recipe,
        created_at=now,
        duration_ms=duration_ms,
    )


def _table_progress(reading: Reading, table: Table) -> TableProgress:
    fraction = reading.progress()
    if fraction is None or table.estimated_rows is None:
        return TableProgress(table.ref, None, table.estimated_rows)
    return TableProgress(table.ref, int(fraction * table.estimated_rows), table.estimated_rows)


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)

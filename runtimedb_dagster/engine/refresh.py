"""Refresh: reserve, write, swap, for one table or for many at a time."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue

from runtimedb_dagster.catalog import Catalog, new_id
from runtimedb_dagster.catalog.versions import lost
from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.common.heartbeat import renewed, utc_now
from runtimedb_dagster.domain.errors import CatalogError, RefreshError, RuntimeDBError, SupersededError
from runtimedb_dagster.domain.model import Column, Connection, Reservation, Table, TableRef, Version
from runtimedb_dagster.domain.requests import ConnectionRefreshResult, TableRefreshResult
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine import parquet
from runtimedb_dagster.engine.soundness import difference, problem, reader
from runtimedb_dagster.engine.sweep import Sweeper
from runtimedb_dagster.engine.turns import turn
from runtimedb_dagster.sources.registry import Reading, Source
from runtimedb_dagster.storage import Storage, version_path

__all__ = [
    "Note",
    "Progress",
    "RefreshProgress",
    "Refreshed",
    "Refresher",
    "TableProgress",
    "connection_result",
    "table_result",
]

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_SECONDS = 0.2
CANCEL_INTERVAL_SECONDS = 0.1


@dataclass(frozen=True)
class Refreshed:
    """What became of one table.

    Attributes:
        version: the version that serves now, None if the table failed before it had one.
        changed: False if the source's content was what the current version already holds.
        schema_changes: what is different in the columns since the version before, in words.
        error: why there is no new version, if so; `version` is the old one then.
        location: where the version's file is, as DuckDB reads it.
    """

    ref: TableRef
    version: Version | None
    changed: bool = False
    schema_changes: tuple[str, ...] = ()
    replaced: str | None = None
    error: Exception | None = None
    duration_ms: int = 0
    location: str = ""


@dataclass(frozen=True)
class TableProgress:
    """How far one table is: rows that were read, of an estimate; None where it can't be told."""

    ref: TableRef
    rows: int | None
    of: int | None


@dataclass(frozen=True)
class RefreshProgress:
    """How far a refresh of many tables is; `rows` counts those of finished tables and of those being read."""

    tables_done: int
    tables: int | None
    rows: int
    reading: tuple[TableProgress, ...]


Progress = Callable[[RefreshProgress], None]


Note = Callable[[str], None]
"""Is told what happens besides, in the thread that iterates."""


@dataclass(frozen=True)
class _Work:
    """What the workers of one request share."""

    source: Source
    connection: Connection
    limit: int
    tables: deque[Table]
    full: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: SimpleQueue[Refreshed | str] = field(default_factory=SimpleQueue)

    def next_table(self) -> Table | None:
        """A table that no worker has taken, None when there is none left."""
        try:
            return self.tables.popleft()
        except IndexError:
            return None

    def next_done(self, workers: Sequence[Future[None]]) -> Refreshed | str | None:
        """What came next, None for now; raises what ended a worker."""
        try:
            return self.done.get(timeout=PROGRESS_INTERVAL_SECONDS)
        except Empty:
            for worker in workers:
                if worker.done():
                    worker.result()
            return None


@dataclass
class Refresher:
    """Makes new versions. The order of its steps is what makes it safe; see `one`."""

    catalog: Catalog
    storage: Storage
    settings: Settings
    sweeper: Sweeper
    _readings: dict[str, tuple[Reading, Table]] = field(default_factory=dict)

    def many(
        self,
        source: Source,
        connection: Connection,
        tables: Sequence[Table],
        limit: int,
        progress: Progress | None = None,
        note: Note = logger.info,
        *,
        full: bool = False,
    ) -> Iterator[Refreshed]:
        """Refresh tables and yield each as it is done, failed ones too; see `one` for `full`.

        At most `limit` tables of the connection are read at a time, by all processes together. Ending the iteration
        early interrupts what is still being read.
        """
        work = _Work(source, connection, limit, deque(tables), full)
        workers = min(limit, len(tables))
        with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="runtimedb-refresh") as pool:
            futures = [pool.submit(self._work, work) for _ in range(workers)]
            finished, rows = 0, 0
            try:
                while finished < len(tables):
                    done = work.next_done(futures)
                    if isinstance(done, Refreshed):
                        finished, rows = finished + 1, rows + (0 if done.error else _rows(done))
                        yield done
                    elif done:
                        note(done)
                    if progress:
                        progress(self._progress(finished, len(tables), rows))
            finally:
                work.cancelled.set()
                # Again and again: an interrupt that comes before a statement has begun is lost.
                while wait(futures, timeout=CANCEL_INTERVAL_SECONDS).not_done:
                    source.cancel()

    def _work(self, work: _Work) -> None:
        """One worker: take turns on the connection until no table is left."""
        while work.tables and not work.cancelled.is_set():
            with turn(self.catalog, work.connection, work.limit, work.cancelled, work.done.put) as held:
                while not held.over and not work.cancelled.is_set() and (table := work.next_table()):
                    work.done.put(self._outcome(work.source, table, full=work.full))

    def one(self, source: Source, table: Table, *, full: bool = False) -> Refreshed:
        """Refresh one table.

        1. Reserve: the new file is scheduled for deletion before its first byte.
        2. Write: stream, verify, make durable.
        3. Swap: one transaction points the table at it and schedules the old file instead.

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

    def as_it_is(self, table: Table) -> Refreshed:
        """The outcome of a table that was refreshed a moment ago, by a process that could not tell.

        Raises:
            ValueError: it has no version.
        """
        version = table.version
        if version is None:
            raise ValueError(f"{table.ref} has no version")
        return Refreshed(
            table.ref,
            version,
            changed=version.created_at == version.checked_at,
            duration_ms=version.duration_ms,
            location=self.storage.location(version.path),
        )

    def _outcome(self, source: Source, table: Table, *, full: bool) -> Refreshed:
        started = utc_now()
        try:
            return self.one(source, table, full=full)
        except Exception as error:
            if not isinstance(error, RuntimeDBError):
                logger.exception("refreshing %s failed for a reason that RuntimeDB does not know", table.ref)
                error = RefreshError(f"{table.ref}: {type(error).__name__}: {error}")
            return Refreshed(table.ref, table.version, error=error, duration_ms=_milliseconds(utc_now() - started))

    def _reserve(self, table: Table) -> Reservation:
        version_id = new_id()
        path = version_path(table.connection_id, table.schema_name, table.table_name, version_id)
        return self.catalog.versions.reserve(table, version_id, path, utc_now(), self.settings.write_lease)

    def _renew(self, reservation: Reservation) -> None:
        self.catalog.versions.renew(reservation, utc_now() + self.settings.write_lease)

    def _write(self, source: Source, reservation: Reservation) -> parquet.WrittenFile:
        local: Path = self.storage.prepare(reservation.path)
        if utc_now() - reservation.started_at > self.settings.write_lease / 3:
            # A process that slept may have been swept before it made this file.
            self._renew(reservation)
        with source.read(reservation.table.ref) as reading:
            self._readings[reservation.path] = (reading, reservation.table)
            try:
                written = parquet.write(reading, local)
            finally:
                del self._readings[reservation.path]
        self.storage.finalize(reservation.path)
        return written

    def _publish(self, reservation: Reservation, written: parquet.WrittenFile, *, full: bool) -> Refreshed:
        current = reservation.table.version
        unchanged = current is not None and current.fingerprint == written.fingerprint and self._is_sound(current, full)
        now = utc_now()
        duration_ms = _milliseconds(now - reservation.started_at)
        if current is not None and unchanged and self.catalog.versions.keep(reservation, current, now):
            self._discard(reservation)
            location = self.storage.location(current.path)
            return Refreshed(reservation.table.ref, current, duration_ms=duration_ms, location=location)
        version = _version(reservation, written, now, duration_ms)
        self.catalog.versions.swap(reservation, version, now + self.settings.grace_period)
        return Refreshed(
            reservation.table.ref,
            version,
            changed=True,
            schema_changes=schema_changes(current.columns, version.columns) if current else (),
            replaced=current.id if current else None,
            duration_ms=duration_ms,
            location=self.storage.location(version.path),
        )

    def _is_sound(self, version: Version, whole: bool) -> bool:
        """Whether a version may be kept; one that is lost or torn is replaced."""
        what = problem(self.storage, version)
        if what is None and whole:
            with reader(self.storage, self.settings.duckdb_config) as duck:
                what = difference(duck, self.storage.location(version.path), version)
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
            swept = self.catalog.versions.abandon(reservation, utc_now())
            self._sweep_now(reservation)
        except RuntimeDBError:
            logger.warning("the file of %s is left to a later sweep", reservation.table.ref, exc_info=True)
        return swept

    def _sweep_now(self, reservation: Reservation) -> None:
        self.sweeper.sweep(utc_now(), path=reservation.path)

    def _progress(self, finished: int, tables: int, rows: int) -> RefreshProgress:
        reading = tuple(_table_progress(each, table) for each, table in list(self._readings.values()))
        return RefreshProgress(finished, tables, rows + sum(each.rows or 0 for each in reading), reading)


def connection_result(connection_id: str, outcomes: Sequence[Refreshed], duration_ms: int) -> ConnectionRefreshResult:
    """The contract's result of refreshing a connection."""
    good = [outcome for outcome in outcomes if outcome.error is None]
    return ConnectionRefreshResult(
        connection_id=connection_id,
        tables_refreshed=len(good),
        tables_failed=len(outcomes) - len(good),
        total_rows=sum(map(_rows, good)),
        duration_ms=duration_ms,
        errors=[
            {"schema_name": o.ref.schema_name, "table_name": o.ref.table_name, "error": str(o.error)}
            for o in outcomes
            if o.error is not None
        ],
    )


def table_result(connection_id: str, outcome: Refreshed) -> TableRefreshResult:
    """The contract's result of refreshing one table.

    Raises:
        RuntimeDBError: what it failed with.
    """
    if outcome.error is not None:
        raise outcome.error
    ref = outcome.ref
    return TableRefreshResult(connection_id, ref.schema_name, ref.table_name, _rows(outcome), outcome.duration_ms)


def _rows(outcome: Refreshed) -> int:
    return outcome.version.rows if outcome.version else 0


def schema_changes(before: Sequence[Column], after: Sequence[Column]) -> tuple[str, ...]:
    """What is different between two column lists, in words, by name.

    >>> schema_changes([Column("a", "INTEGER")], [Column("a", "BIGINT"), Column("b", "DATE")])
    ('a: INTEGER is now BIGINT', 'b: new (DATE)')
    """
    old, new = {column.name: column for column in before}, {column.name: column for column in after}
    changes = [f"{name}: gone" for name in old if name not in new]
    for name, column in new.items():
        if name not in old:
            changes.append(f"{name}: new ({_described(column)})")
        elif _described(old[name]) != _described(column):
            changes.append(f"{name}: {_described(old[name])} is now {_described(column)}")
    if not changes and list(old) != list(new):
        changes.append("the order of the columns")
    return tuple(changes)


def _described(column: Column) -> str:
    return (column.source_type or column.type) + ("" if column.nullable else " NOT NULL")


def _version(reservation: Reservation, written: parquet.WrittenFile, now: datetime, duration_ms: int) -> Version:
    return Version(
        id=reservation.version_id,
        path=reservation.path,
        generation=reservation.generation,
        rows=written.rows,
        bytes=written.bytes,
        columns=written.columns,
        fingerprint=written.fingerprint,
        created_at=now,
        checked_at=now,
        duration_ms=duration_ms,
        previous_rows=reservation.table.version.rows if reservation.table.version else None,
    )


def _table_progress(reading: Reading, table: Table) -> TableProgress:
    fraction = reading.progress()
    if fraction is None or table.estimated_rows is None:
        return TableProgress(table.ref, None, table.estimated_rows)
    return TableProgress(table.ref, int(fraction * table.estimated_rows), table.estimated_rows)


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)

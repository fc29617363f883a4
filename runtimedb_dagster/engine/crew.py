"""Many tables at a time: threads that take turns on a connection, and one iterator of events."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.outcomes import Event, Failed, Outcome, Progress, Unchanged, Waiting
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.engine.refresh import Refresher
from runtimedb_dagster.engine.strategy import audit_due, may_be_surveyed
from runtimedb_dagster.engine.turns import turn
from runtimedb_dagster.sources.base import Source

__all__ = ["refresh_many"]

PROGRESS_INTERVAL_SECONDS = 0.2
CANCEL_INTERVAL_SECONDS = 0.1
# A single table asks for itself, in the snapshot in which it is read.
LEAST_SURVEYED = 2


@dataclass
class _Work:
    """What the workers of one request share."""

    refresher: Refresher
    source: Source
    connection: Connection
    limit: int
    tables: deque[Table]
    full: bool
    confirm: bool
    cancelled: threading.Event = field(default_factory=threading.Event)
    events: SimpleQueue[Outcome | Waiting] = field(default_factory=SimpleQueue)
    surveying: threading.Lock = field(default_factory=threading.Lock)
    surveyed: bool = False

    def survey(self) -> None:
        """Have those tables out of the way of which one question to the source tells that they did not change.

        Whichever worker is first does it; the others wait for it.
        """
        with self.surveying:
            if not self.surveyed:
                self.surveyed = True
                self._survey()

    def _survey(self) -> None:
        tables = list(self.tables)
        if self.full or len(tables) < LEAST_SURVEYED or not any(map(may_be_surveyed, tables)):
            return
        # What is to be audited is read by itself.
        asked = [table for table in tables if not audit_due(table, self.connection.options, utc_now())]
        with turn(self.refresher.catalog, self.connection, self.limit, self.cancelled, self.events.put):
            same = self.refresher.survey(self.source, asked, thorough=False)
        done = {outcome.ref for outcome in same}
        self.tables.clear()
        self.tables.extend(table for table in tables if table.ref not in done)
        for outcome in same:
            self.events.put(outcome)

    def work(self) -> None:
        """Be one worker: take turns on the connection until no table is left."""
        self.survey()
        while self.tables and not self.cancelled.is_set():
            with turn(self.refresher.catalog, self.connection, self.limit, self.cancelled, self.events.put) as held:
                while not held.over and not self.cancelled.is_set() and (table := self._next_table()):
                    self.events.put(
                        self.refresher.outcome(
                            self.source, table, full=self.full, options=self.connection.options, confirm=self.confirm
                        )
                    )

    def next_event(self, workers: Sequence[Future[None]]) -> Outcome | Waiting | None:
        """What came next, None for now; raises what ended a worker."""
        try:
            return self.events.get(timeout=PROGRESS_INTERVAL_SECONDS)
        except Empty:
            for worker in workers:
                if worker.done():
                    worker.result()
            return None

    def _next_table(self) -> Table | None:
        """A table that no worker has taken, None when there is none left."""
        try:
            return self.tables.popleft()
        except IndexError:
            return None


def refresh_many(
    refresher: Refresher,
    source: Source,
    connection: Connection,
    tables: Sequence[Table],
    limit: int,
    *,
    full: bool,
    confirm: bool = False,
) -> Generator[Event, None, None]:
    """Refresh tables and yield what happens: an outcome for each, and how far they are a few times a second.

    At most `limit` tables of the connection are read at a time, by all processes together. Ending the iteration
    early interrupts what is still being read.
    """
    work = _Work(refresher, source, connection, limit, deque(tables), full, confirm)
    workers = min(limit, len(tables))
    with ThreadPoolExecutor(max(workers, 1), thread_name_prefix="runtimedb-refresh") as pool:
        futures = [pool.submit(work.work) for _ in range(workers)]
        finished, rows, unchanged = 0, 0, 0
        try:
            while finished < len(tables):
                event = work.next_event(futures)
                if isinstance(event, Outcome):
                    finished, rows = finished + 1, rows + (0 if isinstance(event, Failed) else event.version.rows)
                    unchanged += isinstance(event, Unchanged)
                if event is not None:
                    yield event
                reading = refresher.readings()
                yield Progress(
                    finished, len(tables), rows + sum(each.rows or 0 for each in reading), reading, unchanged
                )
        finally:
            work.cancelled.set()
            # Again and again: an interrupt that comes before a statement has begun is lost.
            while wait(futures, timeout=CANCEL_INTERVAL_SECONDS).not_done:
                source.cancel()

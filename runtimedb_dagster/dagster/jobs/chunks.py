"""Chunks of a refresh: how tables are divided, and the refresh of one chunk in a step of its own."""

# No `from __future__ import annotations`: this is called in ops, whose contexts Dagster checks.

from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import Any

import dagster as dg

from runtimedb_dagster.dagster.checks import unreadable_tables
from runtimedb_dagster.dagster.events import Record
from runtimedb_dagster.dagster.failures import is_transient, retry
from runtimedb_dagster.dagster.names import asset_key
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.outcomes import Event, Failed, Outcome, Progress, Unchanged
from runtimedb_dagster.domain.settings import IN_PROCESS, Settings
from runtimedb_dagster.domain.tables import Table
from runtimedb_dagster.engine.facade import RuntimeDB
from runtimedb_dagster.engine.results import told

__all__ = ["Chunk", "Json", "divide", "leave_if_over"]

Json = dict[str, Any]
ENDED_INTERVAL_SECONDS = 5.0
# More would balance no better, and each step looks through what was handed to all of them.
MOST_CHUNKS = 100


def divide(settings: Settings, tables: Sequence[Table]) -> list[list[str]]:
    """The keys of tables, divided so that each chunk has its share of the large ones, which come first."""
    size = len(tables) if settings.executor == IN_PROCESS else settings.chunk_tables
    count = min(-(-len(tables) // max(size, 1)), MOST_CHUNKS)
    largest_first = sorted(tables, key=lambda table: table.estimated_rows or 0, reverse=True)
    return [[table.ref.partition_key for table in largest_first[start::count]] for start in range(count)]


class Chunk:
    """The refresh of some tables, in a step of its own."""

    def __init__(self, context: dg.OpExecutionContext, settings: Settings, chunk: Json) -> None:
        self.context, self.settings = context, settings
        self.connection, self.since, self.keys = chunk["connection"], chunk["since"], chunk["keys"]
        self.full, self.confirm = chunk["full"], chunk["confirm"]
        self.outcomes: dict[str, Outcome] = {}
        self.checked = monotonic()

    def refresh(self) -> Json:
        """Refresh the tables; says how many were, and what became of the others."""
        leave_if_over(self.context)
        try:
            return self._result(None, self._refresh(runtimedb(self.settings)))
        except RuntimeDBError as error:
            retry(self.context, error, self.settings.retry_delay)
            self.context.log.error("%s", error)  # noqa: TRY400 - it is one line for the user, and reported at the end
            return self._result(error, [])

    def _refresh(self, db: RuntimeDB) -> list[str]:
        connection = db.connection(self.connection)
        tables = db.engine.tables_there(connection, self.keys)
        record = Record(self.context, asset_key(self.settings, connection.name), len(tables))
        events = db.engine.refresh(connection, tables, since=self.since, full=self.full, confirm=self.confirm)
        for outcome in record.follow(self._until_over(events)):
            self.outcomes[outcome.ref.partition_key] = outcome
        errors = [outcome.error if isinstance(outcome, Failed) else None for outcome in self.outcomes.values()]
        if errors and errors[0] and all(map(is_transient, errors)):
            retry(self.context, errors[0], self.settings.retry_delay)
        return unreadable_tables(db, connection, self.keys)

    def _until_over(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events of a refresh, until its run has ended."""
        for event in events:
            yield event
            if isinstance(event, Progress) and monotonic() - self.checked > ENDED_INTERVAL_SECONDS:
                self.checked = monotonic()
                leave_if_over(self.context)

    def _result(self, error: Exception | None, unreadable_files: list[str]) -> Json:
        good = [outcome for outcome in self.outcomes.values() if not isinstance(outcome, Failed)]
        failed = {key: str(each.error) for key, each in self.outcomes.items() if isinstance(each, Failed)}
        missed = {key: str(error or self._gone(key)) for key in self.keys if key not in self.outcomes}
        return {
            "run": self.context.run_id,
            "rows": sum(outcome.version.rows for outcome in good),
            "refreshed": len(good),
            "unchanged": sum(isinstance(outcome, Unchanged) for outcome in good),
            "rows_read": sum(outcome.facts.rows_read for outcome in good),
            # Of the one table, if it is a request for one.
            "told": told(good[-1].facts) if good else None,
            "failed": failed | missed,
            # An error after the last table: nobody could look whether the files are readable.
            "unreadable": [str(error)] if error and not missed else unreadable_files,
        }

    def _gone(self, key: str) -> str:
        connection = runtimedb(self.settings).connection(self.connection).name
        return f"{TableRef.from_partition_key(connection, key)}: the table is no longer in the catalog"


def leave_if_over(context: dg.OpExecutionContext) -> None:
    """Stop for a run that has ended: a worker may get its task late, and its end does not reach every worker.

    Raises:
        dagster.Failure: the run is over.
    """
    run = context.instance.get_run_by_id(context.run_id)
    if run is None or run.is_finished or run.status is dg.DagsterRunStatus.CANCELING:
        status = run.status.value if run else "deleted"
        raise dg.Failure(f"The run is over ({status}), so nothing more is done for it", allow_retries=False)

"""Chunks of a refresh: how tables are dealt out, and the refresh of one chunk in a step of its own."""

# No `from __future__ import annotations`: this is called in ops, whose contexts Dagster checks.

from collections.abc import Sequence
from time import monotonic
from typing import Any

import dagster as dg

from runtimedb_dagster.dagster.checks import unreadable
from runtimedb_dagster.dagster.events import Record
from runtimedb_dagster.dagster.failures import is_passing, try_again
from runtimedb_dagster.dagster.names import asset_key
from runtimedb_dagster.dagster.process import database
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster.domain.model import Table, TableRef
from runtimedb_dagster.domain.settings import IN_PROCESS, Settings
from runtimedb_dagster.engine.facade import RuntimeDB
from runtimedb_dagster.engine.refresh import Refreshed, RefreshProgress

__all__ = ["Chunk", "Json", "deal", "leave_if_over"]

Json = dict[str, Any]
ENDED_INTERVAL_SECONDS = 5.0
# More would balance no better, and each step looks through what was handed to all of them.
MOST_CHUNKS = 100


def deal(settings: Settings, tables: Sequence[Table]) -> list[list[str]]:
    """The keys of tables, dealt out so that each chunk has its share of the large ones, which come first."""
    size = len(tables) if settings.executor == IN_PROCESS else settings.chunk_tables
    count = min(-(-len(tables) // max(size, 1)), MOST_CHUNKS)
    largest_first = sorted(tables, key=lambda table: table.estimated_rows or 0, reverse=True)
    return [[table.ref.partition_key for table in largest_first[start::count]] for start in range(count)]


class Chunk:
    """The refresh of some tables, in a step of its own."""

    def __init__(self, context: dg.OpExecutionContext, settings: Settings, chunk: Json) -> None:
        self.context, self.settings = context, settings
        self.connection, self.since, self.keys = chunk["connection"], chunk["since"], chunk["keys"]
        self.full = chunk["full"]
        self.outcomes: dict[str, Refreshed] = {}
        self.checked = monotonic()

    def refresh(self) -> Json:
        """Refresh the tables; says how many were, and what became of the others."""
        leave_if_over(self.context)
        try:
            return self._result(None, self._refresh(database(self.settings)))
        except RuntimeDBError as error:
            try_again(self.context, error, self.settings.retry_delay)
            self.context.log.error("%s", error)  # noqa: TRY400 - it is one line for the user, and reported at the end
            return self._result(error, [])

    def _refresh(self, db: RuntimeDB) -> list[str]:
        by_key = {table.ref.partition_key: table for table in db.tables(self.connection)}
        tables = [by_key[key] for key in self.keys if key in by_key]
        key = asset_key(self.settings, db.connection(self.connection).name)
        record = Record(self.context, key, len(tables))

        def watch(_progress: RefreshProgress) -> None:
            record.keep_up()
            self._stop_if_over()

        outcomes = db.refresh_tables(
            self.connection, tables, since=self.since, progress=watch, note=self.context.log.info, full=self.full
        )
        for outcome in record.of(outcomes):
            self.outcomes[outcome.ref.partition_key] = outcome
        errors = [outcome.error for outcome in self.outcomes.values()]
        if errors and errors[0] and all(map(is_passing, errors)):
            try_again(self.context, errors[0], self.settings.retry_delay)
        return unreadable(db, self.connection, tables)

    def _result(self, error: Exception | None, unreadable_files: list[str]) -> Json:
        good = [outcome.version for outcome in self.outcomes.values() if outcome.version and not outcome.error]
        failed = {key: str(outcome.error) for key, outcome in self.outcomes.items() if outcome.error}
        missed = {key: str(error or self._gone(key)) for key in self.keys if key not in self.outcomes}
        return {
            "run": self.context.run_id,
            "rows": sum(version.rows for version in good),
            "refreshed": len(good),
            "failed": failed | missed,
            # An error after the last table: nobody could look whether the files are readable.
            "unreadable": [str(error)] if error and not missed else unreadable_files,
        }

    def _gone(self, key: str) -> str:
        connection = database(self.settings).connection(self.connection).name
        return f"{TableRef.from_partition_key(connection, key)}: the table is no longer in the catalog"

    def _stop_if_over(self) -> None:
        if monotonic() - self.checked > ENDED_INTERVAL_SECONDS:
            self.checked = monotonic()
            leave_if_over(self.context)


def leave_if_over(context: dg.OpExecutionContext) -> None:
    """Stop for a run that has ended: a worker may get its task late, and its end does not reach every worker.

    Raises:
        dagster.Failure: the run is over.
    """
    run = context.instance.get_run_by_id(context.run_id)
    if run is None or run.is_finished or run.status is dg.DagsterRunStatus.CANCELING:
        status = run.status.value if run else "deleted"
        raise dg.Failure(f"The run is over ({status}), so nothing more is done for it", allow_retries=False)

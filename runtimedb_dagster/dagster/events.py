"""What Dagster records of tables: planned, materialized, failed.

An asset's own run plans its partitions; a job's op has to do it. The calls for that are not all public, so they are in
this file alone, and `dagster/test_automation.py` is what a Dagster upgrade breaks first.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventBatchMetadata,
)

from runtimedb_dagster.common.words import counted
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.names import RESULT, ROW_COUNT
from runtimedb_dagster.domain.outcomes import Event, Failed, Outcome, Progress, Published, Unchanged, Waiting
from runtimedb_dagster.domain.tables import Table

__all__ = ["Context", "Record", "announce", "report_result", "summary"]

Context = dg.OpExecutionContext | dg.AssetExecutionContext

DATA_VERSION_TAG = "dagster/data_version"
SHOWN_FAILURES = 20
BATCH, BATCH_SECONDS = 100, 1.0
BATCH_VARIABLE = "DAGSTER_EVENT_BATCH_SIZE"
# Each has connections of its own to the storage of Dagster.
PLANNERS = 4


def announce(context: dg.OpExecutionContext, key: dg.AssetKey, tables: Sequence[Table]) -> None:
    """Announce that this run materializes tables, so that those it does not come out failed."""

    def plan(table: Table) -> None:
        planned = AssetMaterializationPlannedData(key, partition=table.ref.partition_key)
        event = DagsterEvent.build_asset_materialization_planned_event(context.job_name, _step(context), planned)
        context.instance.report_dagster_event(event, context.run_id)

    with ThreadPoolExecutor(PLANNERS) as pool:
        for _ in pool.map(plan, tables):
            pass


class Record:
    """What Dagster records of the tables of a refresh.

    In batches: Dagster's storage takes some ten milliseconds for an event, and little more for a hundred at once.
    """

    def __init__(self, context: Context, key: dg.AssetKey, total: int) -> None:
        """Of so many tables."""
        self.context, self.key, self.total = context, key, total
        self.done = 0
        self._held: list[Outcome] = []
        self._since = monotonic()

    def follow(self, events: Iterable[Event]) -> Iterator[Outcome]:
        """Yield the outcomes among the events of a refresh, and pass on to Dagster what they say, soon."""
        try:
            for event in events:
                match event:
                    case Progress():
                        self._keep_up()
                    case Waiting():
                        self.context.log.info(str(event))
                    case _:
                        self._held.append(event)
                        yield event
        finally:
            self._flush()

    def _keep_up(self) -> None:
        """Pass on what has been held for long enough."""
        if self._held and (len(self._held) >= BATCH or monotonic() - self._since > BATCH_SECONDS):
            self._flush()

    def _flush(self) -> None:
        held, self._held = self._held, []
        self.done += len(held)
        failed = [outcome for outcome in held if isinstance(outcome, Failed)]
        good = [outcome for outcome in held if not isinstance(outcome, Failed)]
        with _batches():
            _log(self.context, DagsterEvent.asset_materialization, [_materialization(self.key, each) for each in good])
            _log(self.context, DagsterEvent.asset_observation, [_failure(self.key, each) for each in failed])
        for outcome in failed:
            self.context.log.error("%s", outcome.error)
        if good:
            others = f"{len(good)} tables, the last " if len(good) > 1 else ""
            self.context.log.info("%s%s (%s of %s)", others, _in_a_line(good[-1]), self.done, self.total)
        self._since = monotonic()


def _log(context: Context, event: Callable[..., DagsterEvent], things: Sequence[object]) -> None:
    """As `context.log_event`, which knows no batches."""
    batch, step = uuid4().hex, context.get_step_execution_context()
    op = context if isinstance(context, dg.OpExecutionContext) else context.op_execution_context
    for number, thing in enumerate(things, start=1):
        logged = event(step, thing, DagsterEventBatchMetadata(batch, is_end=number == len(things)))
        op._events.append(logged)  # noqa: SLF001 - from here they come to the result of the run


@contextmanager
def _batches() -> Iterator[None]:
    """Have Dagster store events in batches, which it does not do by itself."""
    given = os.environ.get(BATCH_VARIABLE)
    os.environ.setdefault(BATCH_VARIABLE, str(BATCH))
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(BATCH_VARIABLE, None)


def report_result(context: Context, result: dict[str, Any], *, good: bool) -> None:
    """Put a result on the run, where one GraphQL query finds it, of a failed run too."""
    metadata = {RESULT: dg.MetadataValue.json(result)}
    with warnings.catch_warnings():
        # Deprecated until Dagster 2.0, and the only event with metadata that a failing op may log without an asset.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.log_event(dg.ExpectationResult(success=good, label=RESULT, metadata=metadata))


def summary(connection: str, failures: Sequence[str], total: int) -> str:
    """Which tables have no new version, and why."""
    if total == 1:
        return "\n".join(failures)
    lines = [f"Connection '{connection}': {len(failures)} of {counted(total, 'table')} have no new version:"]
    lines += failures[:SHOWN_FAILURES]
    if len(failures) > SHOWN_FAILURES:
        lines.append(f"… and {len(failures) - SHOWN_FAILURES} more")
    return "\n".join(lines)


def _failure(key: dg.AssetKey, outcome: Failed) -> dg.AssetObservation:
    """Why a table has no new version, on its partition.

    Dagster has an event for just that, which its open-source storage drops; an observation is kept and shown.
    """
    return dg.AssetObservation(
        asset_key=key,
        partition=outcome.ref.partition_key,
        description=f"{outcome.ref} has no new version",
        metadata={
            "table": str(outcome.ref),
            "error": str(outcome.error),
            "duration (s)": outcome.duration_ms / 1000,
            "still serving": outcome.serving.id if outcome.serving else "nothing",
        },
    )


def _step(context: Context) -> str:
    return str(context.get_step_execution_context().step.key)


def _materialization(key: dg.AssetKey, outcome: Published | Unchanged) -> dg.AssetMaterialization:
    """The materialization of one table's partition; an unchanged table keeps its data version."""
    unchanged = ", unchanged" if isinstance(outcome, Unchanged) else ""
    return dg.AssetMaterialization(
        asset_key=key,
        partition=outcome.ref.partition_key,
        description=f"{outcome.ref}: {counted(outcome.version.rows, 'row')}{unchanged}",
        metadata=_metadata(outcome),
        tags={DATA_VERSION_TAG: outcome.version.fingerprint},
    )


def _metadata(outcome: Published | Unchanged) -> dict[str, Any]:
    version, seconds = outcome.version, outcome.duration_ms / 1000
    changes = outcome.schema_changes if isinstance(outcome, Published) else ()
    # In the order in which the UI shows them: what one looks for first, the wide ones last.
    metadata: dict[str, Any] = {
        "table": str(outcome.ref),
        ROW_COUNT: version.rows,
        "changed": isinstance(outcome, Published),
        "schema changes": "; ".join(changes) or "none",
        "bytes": version.bytes,
        "duration (s)": seconds,
        "rows per second": round(outcome.facts.rows_read / max(seconds, 0.001)),
        "version": version.id,
        **_facts(outcome.facts),
        "exactness": version.trusts or "exact",
    }
    if not version.is_plain:
        metadata["paths"] = list(version.paths)
    if isinstance(outcome, Published) and outcome.replaced:
        metadata["replaced version"] = outcome.replaced.id
    if remarks := {column.name: column.remark for column in version.columns if column.remark}:
        metadata["declared"] = remarks
    columns = dg.TableSchema(columns=[_column(column) for column in version.columns])
    return metadata | {"dagster/uri": _uri(outcome.location), "dagster/column_schema": columns}


def _facts(facts: RefreshFacts) -> dict[str, Any]:
    """How the table was read; numbers as numbers, so that the UI plots them."""
    reason = {"reason": facts.reason} if facts.reason else {}
    changed = {"rows inserted": facts.rows_inserted, "rows updated": facts.rows_updated}
    changed |= {"rows deleted": facts.rows_deleted}
    return {
        "mode": facts.mode,
        **reason,
        "rows read": facts.rows_read,
        **{name: count for name, count in changed.items() if count is not None},
        "files": facts.files,
        "bytes written": facts.bytes_written,
        "rows folded": facts.rows_folded,
    }


def _uri(location: str) -> str:
    return location if "://" in location else Path(location).as_uri()


def _column(column: VersionColumn) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=column.source_type or column.type,
        description=column.remark or column.comment,
        constraints=dg.TableColumnConstraints(nullable=column.nullable),
    )


def _in_a_line(outcome: Published | Unchanged) -> str:
    unchanged = ", unchanged," if isinstance(outcome, Unchanged) else ""
    return f"{outcome.ref}: {counted(outcome.version.rows, 'row')}{unchanged} in {outcome.duration_ms:,} ms"

"""What Dagster is told about tables: planned, materialized, failed.

An asset's own run plans its partitions; a job's op has to do it. The calls for that are not all public, so they are in
this file alone, and `test_automation.py` is what a Dagster upgrade breaks first.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent

from runtimedb_dagster.model import Column, Table, Version
from runtimedb_dagster.refresh import Refreshed

__all__ = ["Context", "plan", "record", "summary", "tell"]

Context = dg.OpExecutionContext | dg.AssetExecutionContext

DATA_VERSION_TAG = "dagster/data_version"
RESULT = "result"
SHOWN_FAILURES = 20


def plan(context: dg.OpExecutionContext, key: dg.AssetKey, tables: Sequence[Table]) -> None:
    """Announce that this run materializes tables, so that those it does not come out failed."""
    for table in tables:
        planned = AssetMaterializationPlannedData(key, partition=table.ref.partition_key)
        event = DagsterEvent.build_asset_materialization_planned_event(context.job_name, _step(context), planned)
        context.instance.report_dagster_event(event, context.run_id)


def record(context: Context, key: dg.AssetKey, outcomes: Iterable[Refreshed], total: int) -> Iterator[Refreshed]:
    """Tell Dagster of each table as it is done, and yield it."""
    for done, outcome in enumerate(outcomes, start=1):
        if outcome.error is None:
            context.log_event(_materialization(key, outcome))
            context.log.info("%s (%s of %s)", _told(outcome), done, total)
        else:
            context.log_event(_failure(key, outcome))
            context.log.error("%s (%s of %s)", outcome.error, done, total)
        yield outcome


def tell(context: Context, result: dict[str, Any], *, good: bool) -> None:
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
    lines = [f"Connection '{connection}': {len(failures)} of {total} tables have no new version:"]
    lines += failures[:SHOWN_FAILURES]
    if len(failures) > SHOWN_FAILURES:
        lines.append(f"… and {len(failures) - SHOWN_FAILURES} more")
    return "\n".join(lines)


def _failure(key: dg.AssetKey, outcome: Refreshed) -> dg.AssetObservation:
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
            "still serving": outcome.version.id if outcome.version else "nothing",
        },
    )


def _step(context: Context) -> str:
    return str(context.get_step_execution_context().step.key)


def _materialization(key: dg.AssetKey, outcome: Refreshed) -> dg.AssetMaterialization:
    """The materialization of one table's partition; an unchanged table keeps its data version."""
    version = outcome.version
    if version is None:
        raise ValueError(f"{outcome.ref} has no version to tell of")
    return dg.AssetMaterialization(
        asset_key=key,
        partition=outcome.ref.partition_key,
        description=f"{outcome.ref}: {version.rows:,} rows" + ("" if outcome.changed else ", unchanged"),
        metadata=_metadata(outcome, version),
        tags={DATA_VERSION_TAG: version.fingerprint},
    )


def _metadata(outcome: Refreshed, version: Version) -> dict[str, Any]:
    seconds = outcome.duration_ms / 1000
    # In the order in which the UI shows them: what one looks for first, the wide ones last.
    metadata: dict[str, Any] = {
        "table": str(outcome.ref),
        "dagster/partition_row_count": version.rows,
        "changed": outcome.changed,
        "schema changes": "; ".join(outcome.schema_changes) or "none",
        "bytes": version.bytes,
        "duration (s)": seconds,
        "rows per second": round(version.rows / max(seconds, 0.001)),
        "version": version.id,
    }
    if outcome.replaced:
        metadata["replaced version"] = outcome.replaced
    if declared := {column.name: column.declared for column in version.columns if column.declared}:
        metadata["declared"] = declared
    columns = dg.TableSchema(columns=[_column(column) for column in version.columns])
    return metadata | {"dagster/uri": _uri(outcome.location), "dagster/column_schema": columns}


def _uri(location: str) -> str:
    return location if "://" in location else Path(location).as_uri()


def _column(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=column.source_type or column.type,
        description=column.declared or column.comment,
        constraints=dg.TableColumnConstraints(nullable=column.nullable),
    )


def _told(outcome: Refreshed) -> str:
    rows = outcome.version.rows if outcome.version else 0
    what = "rows" if outcome.changed else "rows, unchanged,"
    return f"{outcome.ref}: {rows:,} {what} in {outcome.duration_ms:,} ms"

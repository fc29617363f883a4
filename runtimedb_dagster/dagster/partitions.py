"""A connection's partitions, kept in step with the catalog."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from runtimedb_dagster.dagster.names import asset_key, partitions_def
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, Table

__all__ = ["sync", "sync_partitions"]

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ACTIVE = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING]
# A tick ends after 60 seconds, and each deletion is a transaction of its own.
DELETIONS_PER_TICK = 1_000
KEYS_PER_STATEMENT = 5_000


def sync(context: dg.OpExecutionContext, settings: Settings, connection: Connection, tables: Sequence[Table]) -> None:
    """Make a connection's partition keys those of its tables, and say so in the run's log."""
    keys = [table.ref.partition_key for table in tables]
    context.log.info("%s: %s", connection.name, sync_partitions(context.instance, settings, connection.name, keys))


def sync_partitions(instance: dg.DagsterInstance, settings: Settings, connection: str, keys: Sequence[str]) -> str:
    """Make a connection's partition keys those of the catalog; says what was done, in words."""
    name = str(partitions_def(settings, connection).name)
    present = set(instance.get_dynamic_partitions(name))
    wanted = set(keys)
    new = [key for key in keys if key not in present]
    for start in range(0, len(new), KEYS_PER_STATEMENT):
        instance.add_dynamic_partitions(name, new[start : start + KEYS_PER_STATEMENT])
    doomed = sorted(present - wanted)
    if not doomed:
        return f"{len(new)} partitions added, none deleted"
    if holder := _holder(instance, asset_key(settings, connection), set(doomed)):
        return f"{len(new)} partitions added, the deletion of {len(doomed)} waits for {holder}"
    now, later = doomed[:DELETIONS_PER_TICK], doomed[DELETIONS_PER_TICK:]
    for key in now:
        instance.delete_dynamic_partition(name, key)
    waiting = f", {len(later)} more with the next tick" if later else ""
    return f"{len(new)} partitions added, {len(now)} deleted{waiting}"


def _holder(instance: dg.DagsterInstance, key: dg.AssetKey, doomed: set[str]) -> str | None:
    """The unfinished run or backfill that may cover a key, if any: it would fail on a key that is gone."""
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED)):
        if _covers(run, key, doomed):
            return f"run {run.run_id}"
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=ACTIVE)):
        if backfill.asset_selection and key in backfill.asset_selection:
            return f"backfill {backfill.backfill_id}"
    return None


def _covers(run: dg.DagsterRun, key: dg.AssetKey, doomed: set[str]) -> bool:
    if run.asset_selection is not None and key not in run.asset_selection:
        return False
    return run.tags.get("dagster/partition") in doomed or "dagster/asset_partition_range_start" in run.tags

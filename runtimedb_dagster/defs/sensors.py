"""A connection's discovery sensor: its tables become partitions, those that vanish stop being one."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

from collections.abc import Sequence

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from runtimedb_dagster.config import Settings, sensor_name
from runtimedb_dagster.defs.database import database
from runtimedb_dagster.defs.names import asset_key, partitions_def
from runtimedb_dagster.errors import ConnectionNotFoundError, RuntimeDBError
from runtimedb_dagster.model import Connection
from runtimedb_dagster.sources import discovery_interval

__all__ = ["build_sensor", "sync_partitions"]

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


def build_sensor(connection: Connection, settings: Settings) -> dg.SensorDefinition:
    """The sensor that discovers a connection, every 5 minutes unless its option says otherwise."""
    interval = discovery_interval(connection.options)

    @dg.sensor(
        name=sensor_name(settings.asset_prefix, connection.name),
        target=dg.AssetSelection.assets(asset_key(settings, connection.name)),
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Discovers the tables of connection '{connection.name}' and keeps its partitions in step.",
    )
    def discover(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        db = database(settings)
        failure: RuntimeDBError | None = None
        try:
            found = db.discover(connection.name)
        except ConnectionNotFoundError:
            return dg.SkipReason(f"Connection '{connection.name}' was removed; reload this code location")
        except RuntimeDBError as error:
            failure = error
        # Catalog with Dagster, not this discovery's changes: that also catches up after a crash, or with a
        # discovery from elsewhere.
        keys = [table.ref.partition_key for table in db.tables(connection.name)]
        synced = sync_partitions(context.instance, settings, connection.name, keys)
        if failure is not None:
            raise failure
        return dg.SkipReason(f"{found.tables_discovered} tables discovered, {found.tables_modified} modified; {synced}")

    return discover


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

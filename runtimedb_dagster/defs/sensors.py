"""A connection's discovery sensor: its tables become partitions, those that vanish stop being one."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import hashlib
import json
from collections.abc import Iterable

import dagster as dg

from runtimedb_dagster.config import Settings, sensor_name
from runtimedb_dagster.defs.database import database
from runtimedb_dagster.defs.jobs import refresh_config
from runtimedb_dagster.defs.partitions import sync_partitions
from runtimedb_dagster.errors import ConnectionNotFoundError, RuntimeDBError
from runtimedb_dagster.model import Connection, Table
from runtimedb_dagster.sources import ConnectionOptions

__all__ = ["build_sensor"]


def build_sensor(connection: Connection, settings: Settings, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that discovers a connection, every 5 minutes unless its option says otherwise.

    With `materialize_new` or `refresh_modified` it also requests a run of `job` for the tables that need one.
    """
    options = ConnectionOptions.of(connection.options)

    @dg.sensor(
        name=sensor_name(settings.asset_prefix, connection.name),
        job=job,
        minimum_interval_seconds=options.discovery_interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Discovers the tables of connection '{connection.name}' and keeps its partitions in step.",
    )
    def discover(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
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
        tables = db.tables(connection.name)
        keys = [table.ref.partition_key for table in tables]
        synced = sync_partitions(context.instance, settings, connection.name, keys)
        if failure is not None:
            raise failure
        said = f"{found.tables_discovered} tables discovered, {found.tables_modified} modified; {synced}"
        return _requested(context, connection, [t for t in tables if _needs_refresh(t, options)], said)

    return discover


def _needs_refresh(table: Table, options: ConnectionOptions) -> bool:
    if table.version is None:
        return options.materialize_new
    return options.refresh_modified and _columns(table) != _columns_of_version(table)


def _columns(table: Table) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in table.columns]


def _columns_of_version(table: Table) -> list[tuple[str, str]]:
    columns = table.version.columns if table.version else ()
    return [(column.name, column.source_type or column.type) for column in columns]


def _requested(
    context: dg.SensorEvaluationContext, connection: Connection, tables: list[Table], said: str
) -> dg.SensorResult | dg.SkipReason:
    """One run for the tables that no tick has asked for yet, as they are now.

    The cursor remembers what was asked for, so that a table that keeps failing is not asked for at every tick. It
    carries the connection's id, since Dagster keeps the cursor of a removed sensor for the next one of its name.
    """
    asked = _read_cursor(context.cursor, connection)
    wanted = {_state(table): table.ref.partition_key for table in tables}
    new = [key for state, key in wanted.items() if state not in asked]
    cursor = json.dumps({"connection_id": connection.id, "asked": sorted(wanted)})
    if not new:
        if context.cursor != cursor:
            context.update_cursor(cursor)
        return dg.SkipReason(said)
    config = refresh_config({"connection": connection.name, "data": True, "partition_keys": new})
    # No run key: a key that came again would drop the run without a word.
    return dg.SensorResult(run_requests=[dg.RunRequest(run_config=config)], cursor=cursor)


def _read_cursor(cursor: str | None, connection: Connection) -> set[str]:
    remembered = json.loads(cursor) if cursor else {}
    asked: Iterable[str] = remembered.get("asked", []) if remembered.get("connection_id") == connection.id else []
    return set(asked)


def _state(table: Table) -> str:
    """What a table is like, in a few characters: its id and its columns."""
    return hashlib.sha256(json.dumps([table.id, _columns(table)]).encode()).hexdigest()[:16]

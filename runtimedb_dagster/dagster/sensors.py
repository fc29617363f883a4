"""A connection's discovery sensor: its tables become partitions, those that vanish stop being one."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import hashlib
import json
from dataclasses import dataclass

import dagster as dg

from runtimedb_dagster.dagster.checks import as_event, max_age_result, stale_tables
from runtimedb_dagster.dagster.jobs.refresh import refresh_config
from runtimedb_dagster.dagster.names import asset_key, source_key
from runtimedb_dagster.dagster.partitions import sync_partitions
from runtimedb_dagster.dagster.process import database
from runtimedb_dagster.domain.errors import ConnectionNotFoundError, RuntimeDBError
from runtimedb_dagster.domain.model import Connection, Table
from runtimedb_dagster.domain.requests import DiscoveryResult
from runtimedb_dagster.domain.settings import Settings, sensor_name
from runtimedb_dagster.sources.registry import ConnectionOptions

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
        memory = _Memory.of(context.cursor, connection)
        wanted = {_state(table): table.ref.partition_key for table in tables if _needs_refresh(table, options)}
        stale = stale_tables(db.connection(connection.name), tables)
        events: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = [
            *_observed(settings, connection, found, first=memory.first),
            *_aged(settings, connection, stale, memory),
        ]
        # No run key: a key that came again would drop the run without a word.
        new = [key for state, key in wanted.items() if state not in memory.asked]
        config = refresh_config({"connection": connection.name, "data": True, "partition_keys": new})
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_config=config)] if new else None,
            skip_reason=None if new else said,
            cursor=_Memory(connection.id, frozenset(wanted), len(stale)).to_cursor(),
            asset_events=events,
        )

    return discover


@dataclass(frozen=True)
class _Memory:
    """What a tick has to know of those before it.

    Attributes:
        connection_id: Dagster keeps the cursor of a removed sensor for the next one of its name.
        asked: the states of the tables that a run was requested for; one that keeps failing is not asked for again.
        stale: how many tables were older than `max_age`.
        first: whether there was no tick before.
    """

    connection_id: str
    asked: frozenset[str] = frozenset()
    stale: int = 0
    first: bool = False

    @classmethod
    def of(cls, cursor: str | None, connection: Connection) -> "_Memory":
        """What a cursor remembers of this connection."""
        kept = json.loads(cursor) if cursor else {}
        if kept.get("connection_id") != connection.id:
            return cls(connection.id, first=True)
        return cls(connection.id, frozenset(kept["asked"]), kept["stale"])

    def to_cursor(self) -> str:
        """As the sensor's cursor."""
        return json.dumps({"connection_id": self.connection_id, "asked": sorted(self.asked), "stale": self.stale})


def _observed(
    settings: Settings, connection: Connection, found: DiscoveryResult, *, first: bool
) -> list[dg.AssetObservation]:
    """What a discovery changed, if anything: an event at every tick would bury it. The first one is always told."""
    changed = {"added": found.tables_added, "removed": found.tables_removed, "modified": found.tables_modified}
    if not first and not any(changed.values()):
        return []
    metadata = {"tables": found.tables_discovered, **changed}
    return [dg.AssetObservation(source_key(settings, connection.name), metadata=metadata)]


def _aged(
    settings: Settings, connection: Connection, stale: list[str], memory: _Memory
) -> list[dg.AssetCheckEvaluation]:
    """The check `max_age`, when its result is another one: tables age while nothing runs."""
    if len(stale) == memory.stale:
        return []
    return [as_event(max_age_result(asset_key(settings, connection.name), stale))]


def _needs_refresh(table: Table, options: ConnectionOptions) -> bool:
    if table.version is None:
        return options.materialize_new
    return options.refresh_modified and _columns(table) != _columns_of_version(table)


def _columns(table: Table) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in table.columns]


def _columns_of_version(table: Table) -> list[tuple[str, str]]:
    columns = table.version.columns if table.version else ()
    return [(column.name, column.source_type or column.type) for column in columns]


def _state(table: Table) -> str:
    """What a table is like, in a few characters: its id and its columns."""
    return hashlib.sha256(json.dumps([table.id, _columns(table)]).encode()).hexdigest()[:16]

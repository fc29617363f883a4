"""A connection's discovery sensor: its tables become partitions, those that vanish stop being one."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.dagster.checks import (
    MAX_AGE,
    SHOWN_COLUMNS,
    as_event,
    exposing_tables,
    result_of,
    stale_tables,
)
from runtimedb_dagster.dagster.jobs.refresh import refresh_config
from runtimedb_dagster.dagster.names import asset_key, source_key
from runtimedb_dagster.dagster.partitions import sync_partitions
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.domain.errors import ConnectionNotFoundError, RuntimeDBError
from runtimedb_dagster.domain.names import sensor_name
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.domain.requests import DiscoveryResult
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.engine.engine import Engine
from runtimedb_dagster.engine.strategy import may_be_surveyed

__all__ = ["build_sensor"]

MODIFIED = "modified"


def build_sensor(connection: Connection, settings: Settings, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor that discovers a connection, every 5 minutes unless its option says otherwise.

    With `materialize_new` or `refresh_modified` it also requests a run of `job` for the tables that need one.
    """
    options = connection.options

    @dg.sensor(
        name=sensor_name(settings.asset_prefix, connection.name),
        job=job,
        minimum_interval_seconds=options.discovery_interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Discovers the tables of connection '{connection.name}' and keeps its partitions in step.",
    )
    def discover(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        db = runtimedb(settings)
        failure: RuntimeDBError | None = None
        try:
            found = db.discover(connection.name)
        except ConnectionNotFoundError:
            return dg.SkipReason(f"Connection '{connection.name}' was removed; reload this code location")
        except RuntimeDBError as error:
            failure = error
        # Catalog with Dagster, not this discovery's changes: also after a crash, or a discovery from elsewhere.
        tables = db.tables(connection.name)
        keys = [table.ref.partition_key for table in tables]
        synced = sync_partitions(context.instance, settings, connection.name, keys)
        if failure is not None:
            raise failure
        summary = f"{found.tables_discovered} tables discovered, {found.tables_modified} modified; {synced}"
        current = db.connection(connection.name)
        memory = _Memory.of(context.cursor, current)
        wanted = {_state(table): table.ref.partition_key for table in tables if _needs_refresh(table, options)}
        if options.refresh_on_change:
            wanted |= _changed(db.engine, current, tables)
        problems = {MAX_AGE: stale_tables(current, tables), SHOWN_COLUMNS: exposing_tables(db, current, tables)}
        counts = {name: len(listed) for name, listed in problems.items()} | {MODIFIED: found.tables_modified}
        events: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = [
            *_observed(settings, connection, found, memory),
            *_changed_checks(settings, connection, problems, memory),
        ]
        # No run key: a key that came again would drop the run without a word.
        new = [key for state, key in wanted.items() if state not in memory.asked]
        config = refresh_config(settings, {"connection": connection.name, "data": True, "partition_keys": new})
        return dg.SensorResult(
            run_requests=[dg.RunRequest(run_config=config)] if new else None,
            skip_reason=None if new else summary,
            cursor=_Memory(current.id, frozenset(wanted), counts).to_cursor(),
            asset_events=events,
        )

    return discover


@dataclass(frozen=True)
class _Memory:
    """What a tick has to know of those before it.

    Attributes:
        connection_id: Dagster keeps the cursor of a removed sensor for the next one of its name.
        asked: the states of the tables that a run was requested for; one that keeps failing is not asked for again.
        counts: how many tables were modified, or the problem of a check.
        first: whether there was no tick before.
    """

    connection_id: str
    asked: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    first: bool = False

    @classmethod
    def of(cls, cursor: str | None, connection: Connection) -> "_Memory":
        """What a cursor remembers of this connection."""
        kept = json.loads(cursor) if cursor else {}
        if kept.get("connection_id") != connection.id:
            return cls(connection.id, first=True)
        # Of a release before, a cursor has `stale` alone.
        return cls(connection.id, frozenset(kept["asked"]), kept.get("counts", {MAX_AGE: kept.get("stale", 0)}))

    def to_cursor(self) -> str:
        """As the sensor's cursor."""
        kept = {"connection_id": self.connection_id, "asked": sorted(self.asked), "counts": dict(self.counts)}
        return json.dumps(kept)


def _observed(
    settings: Settings, connection: Connection, found: DiscoveryResult, memory: _Memory
) -> list[dg.AssetObservation]:
    """What a discovery changed, if anything: an event at every tick would bury it. The first one always has one."""
    changed = {"added": found.tables_added, "removed": found.tables_removed, "modified": found.tables_modified}
    is_news = found.tables_added or found.tables_removed or found.tables_modified != memory.counts.get(MODIFIED, 0)
    if not memory.first and not is_news:
        return []
    metadata = {"tables": found.tables_discovered, **changed}
    return [dg.AssetObservation(source_key(settings, connection.name), metadata=metadata)]


def _changed_checks(
    settings: Settings, connection: Connection, problems: Mapping[str, Sequence[str]], memory: _Memory
) -> list[dg.AssetCheckEvaluation]:
    """Checks whose result is another one: tables age, and options change, while nothing runs."""
    return [
        as_event(result_of(asset_key(settings, connection.name), name, listed))
        for name, listed in problems.items()
        if len(listed) != memory.counts.get(name, 0)
    ]


def _needs_refresh(table: Table, options: ConnectionOptions) -> bool:
    return options.materialize_new if table.version is None else options.refresh_modified and table.modified


def _changed(engine: Engine, connection: Connection, tables: Sequence[Table]) -> dict[str, str]:
    """The keys of cached tables that their source says have changed, by what they are like now."""
    asked = [table for table in tables if may_be_surveyed(table)]
    same = {outcome.ref for outcome in engine.survey(connection, asked)}
    # Once more in an hour, if nothing came of it until then.
    hour = f"{utc_now():%Y%m%d%H}"
    return {
        f"{table.id} {table.checked_sequence} {hour}": table.ref.partition_key
        for table in asked
        if table.ref not in same
    }


def _state(table: Table) -> str:
    """What a table is like, in a few characters: its id, its columns, and how a version of it would be made."""
    columns = [(column.name, column.type) for column in table.columns]
    return hashlib.sha256(json.dumps([table.id, columns, table.recipe]).encode()).hexdigest()[:16]

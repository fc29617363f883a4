"""The operations as jobs, so that all of them can be launched from the UI and through GraphQL."""

# No `from __future__ import annotations`: Dagster reads the annotations of `context` and `config`.

from time import perf_counter
from typing import Any

import dagster as dg
from pydantic import Field

from runtimedb_dagster.config import Settings
from runtimedb_dagster.defs.checks import as_event, check_results
from runtimedb_dagster.defs.database import database
from runtimedb_dagster.defs.events import plan, record, summary, tell
from runtimedb_dagster.defs.failures import as_failures
from runtimedb_dagster.defs.names import asset_key
from runtimedb_dagster.defs.partitions import sync_partitions
from runtimedb_dagster.model import Connection, Table
from runtimedb_dagster.refresh import connection_result, table_result
from runtimedb_dagster.request import DiscoveryResult, RefreshRequest
from runtimedb_dagster.runtimedb import RuntimeDB

__all__ = ["RefreshConfig", "build_jobs", "refresh_config"]


class RefreshConfig(dg.Config):
    """What to refresh."""

    # Empty rather than None: the launchpad's scaffold leaves out fields without a value.
    connection: str = Field(default="", description="A connection's name or id. Empty: every connection.")
    connection_id: str = Field(default="", description="The same as connection.")
    schema_name: str = Field(default="", description="With table_name and data: the one table to refresh.")
    table_name: str = Field(default="", description="With schema_name and data: the one table to refresh.")
    data: bool = Field(default=False, description="False discovers tables and columns; true makes new versions.")
    include_uncached: bool = Field(default=True, description="False leaves out tables that have no version yet.")
    partition_keys: list[str] = Field(
        default=[], description="With connection and data: only these of its tables, by their partitions' keys."
    )
    confirm: bool = Field(default=False, description="Go on although a discovery would remove most tables.")

    def request(self) -> RefreshRequest:
        """The contract's request."""
        return RefreshRequest(
            self.connection or None,
            self.schema_name or None,
            self.table_name or None,
            data=self.data,
            include_uncached=self.include_uncached,
            connection_id=self.connection_id or None,
            partition_keys=self.partition_keys,
        )


class ConnectConfig(dg.Config):
    """A remote database to register."""

    name: str = Field(description="Letters, digits and _; the first part of its tables' full names.")
    url: str = Field(description="Such as duckdb:///path. Never with a password in it.")
    password_env: str | None = Field(default=None, description="The environment variable that holds the password.")
    options: dict[str, str] = Field(default={}, description="Options of the source, such as discovery_interval.")


class PurgeConfig(dg.Config):
    """Whose versions to forget."""

    connection: str = Field(description="A connection's name or id.")
    schema_name: str | None = Field(default=None, description="With table_name: of this one table.")
    table_name: str | None = Field(default=None, description="With schema_name: of this one table.")


class RemoveConfig(dg.Config):
    """Which connection to forget."""

    connection: str = Field(description="A connection's name or id.")


def refresh_config(config: dict[str, Any]) -> dict[str, Any]:
    """The run config of the `refresh` job."""
    return {"ops": {"runtimedb_refresh": {"config": config}}}


def build_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """The jobs `refresh`, `connect`, `purge` and `remove`."""

    @dg.op(name="runtimedb_refresh", out=dg.Out(dg.Nothing), description="Discovers tables, or makes new versions.")
    def refresh(context: dg.OpExecutionContext, config: RefreshConfig) -> None:
        with as_failures(settings.retry_delay):
            _refresh(context, settings, config)

    @dg.op(name="runtimedb_connect", out=dg.Out(dg.Nothing), description="Registers a remote database.")
    def connect(context: dg.OpExecutionContext, config: ConnectConfig) -> None:
        with as_failures():
            db = database(settings)
            connection = db.connect(config.name, config.url, password_env=config.password_env, **config.options)
            tables = db.tables(connection.id)
            _sync(context, settings, connection, tables)
            context.log.info("Connection '%s' shows after this code location reloads", connection.name)
            tell(context, {"connection_id": connection.id, "name": connection.name, "tables": len(tables)}, good=True)

    @dg.op(name="runtimedb_purge", out=dg.Out(dg.Nothing), description="Forgets versions and keeps the tables.")
    def purge(context: dg.OpExecutionContext, config: PurgeConfig) -> None:
        with as_failures():
            result = database(settings).purge(config.connection, config.schema_name, config.table_name)
            tell(context, result.to_dict(), good=True)

    @dg.op(name="runtimedb_remove", out=dg.Out(dg.Nothing), description="Forgets a connection with its versions.")
    def remove(context: dg.OpExecutionContext, config: RemoveConfig) -> None:
        with as_failures():
            tell(context, database(settings).remove(config.connection).to_dict(), good=True)

    return [_job("refresh", refresh), _job("connect", connect), _job("purge", purge), _job("remove", remove)]


def _job(name: str, op: dg.OpDefinition) -> dg.JobDefinition:
    @dg.graph(name=name, description=op.description)
    def graph() -> None:
        op()

    return graph.to_job(name=name, executor_def=dg.in_process_executor, description=op.description)


def _refresh(context: dg.OpExecutionContext, settings: Settings, config: RefreshConfig) -> None:
    db, request = database(settings), config.request()
    request.validate()
    if not request.data:
        _discover(context, settings, db, request, confirm=config.confirm)
        return
    connection, tables = db.plan(request)
    _refresh_data(context, settings, db, connection, tables, one=bool(request.table_name))


def _discover(
    context: dg.OpExecutionContext, settings: Settings, db: RuntimeDB, request: RefreshRequest, *, confirm: bool
) -> None:
    result = db.refresh(request, confirm=confirm)
    for connection in db.connections():
        if request.connection in (None, connection.name, connection.id):
            _sync(context, settings, connection, db.tables(connection.id))
    errors = result.errors if isinstance(result, DiscoveryResult) else []
    tell(context, result.to_dict(), good=not errors)
    if errors:
        told = "\n".join(error["error"] for error in errors)
        raise dg.Failure(f"{len(errors)} connections could not be discovered:\n{told}", allow_retries=False)


def _refresh_data(
    context: dg.OpExecutionContext,
    settings: Settings,
    db: RuntimeDB,
    connection: Connection,
    tables: list[Table],
    *,
    one: bool,
) -> None:
    key, started = asset_key(settings, connection.name), perf_counter()
    _sync(context, settings, connection, db.tables(connection.id))
    plan(context, key, tables)
    outcomes = record(context, key, db.refresh_tables(connection.id, tables, note=context.log.info), len(tables))
    failed = [str(outcome.error) for outcome in outcomes if outcome.error is not None]
    for result in check_results(db, connection.id, key, {table.id for table in tables}):
        event: Any = as_event(result)  # the signature of log_event forgets checks, its body takes them
        context.log_event(event)
    if one:
        tell(context, table_result(connection.id, outcomes[0]).to_dict(), good=True)
        return
    duration_ms = round((perf_counter() - started) * 1000)
    tell(context, connection_result(connection.id, outcomes, duration_ms).to_dict(), good=not failed)
    if failed:
        raise dg.Failure(summary(connection.name, failed, len(tables)), allow_retries=False)


def _sync(context: dg.OpExecutionContext, settings: Settings, connection: Connection, tables: list[Table]) -> None:
    keys = [table.ref.partition_key for table in tables]
    context.log.info("%s: %s", connection.name, sync_partitions(context.instance, settings, connection.name, keys))

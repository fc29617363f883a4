"""The operations as jobs, so that all of them can be launched from the UI and through GraphQL."""

# No `from __future__ import annotations`: Dagster reads the annotations of `context` and `config`.

from typing import Any

import dagster as dg
from pydantic import Field

from runtimedb_dagster.dagster.checks import AUDITS, as_event, drifted, result_of
from runtimedb_dagster.dagster.events import report_result
from runtimedb_dagster.dagster.failures import as_failures
from runtimedb_dagster.dagster.jobs.refresh import build_refresh
from runtimedb_dagster.dagster.names import asset_key
from runtimedb_dagster.dagster.partitions import sync
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.domain.names import AUDIT_JOB, CONNECT_JOB, PURGE_JOB, REMOVE_JOB, job_name
from runtimedb_dagster.domain.settings import Settings

__all__ = ["build_jobs"]


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


class AuditConfig(dg.Config):
    """Whose tables to compare with their source."""

    connection: str = Field(description="A connection's name or id.")
    schema_name: str | None = Field(default=None, description="With table_name: this one table.")
    table_name: str | None = Field(default=None, description="With schema_name: this one table.")


class RemoveConfig(dg.Config):
    """Which connection to forget."""

    connection: str = Field(description="A connection's name or id.")


def build_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """The jobs `refresh`, `connect`, `purge`, `remove` and `audit`, with the prefix before their names."""

    def name(job: str) -> str:
        return job_name(settings.asset_prefix, job)

    @dg.op(name=name(CONNECT_JOB), out=dg.Out(dg.Nothing), description="Registers a remote database.")
    def connect(context: dg.OpExecutionContext, config: ConnectConfig) -> None:
        with as_failures():
            db = runtimedb(settings)
            connection = db.connect(config.name, config.url, options=config.options, password_env=config.password_env)
            tables = db.tables(connection.id)
            sync(context, settings, connection, tables)
            context.log.info("Connection '%s' shows after this code location reloads", connection.name)
            report_result(
                context, {"connection_id": connection.id, "name": connection.name, "tables": len(tables)}, good=True
            )

    @dg.op(name=name(PURGE_JOB), out=dg.Out(dg.Nothing), description="Forgets versions and keeps the tables.")
    def purge(context: dg.OpExecutionContext, config: PurgeConfig) -> None:
        with as_failures():
            result = runtimedb(settings).purge(config.connection, config.schema_name, config.table_name)
            report_result(context, result.to_dict(), good=True)

    @dg.op(name=name(REMOVE_JOB), out=dg.Out(dg.Nothing), description="Forgets a connection with its versions.")
    def remove(context: dg.OpExecutionContext, config: RemoveConfig) -> None:
        with as_failures():
            report_result(context, runtimedb(settings).remove(config.connection).to_dict(), good=True)

    @dg.op(
        name=name(AUDIT_JOB),
        out=dg.Out(dg.Nothing),
        description="Reads tables whole, and compares them with what changes make of their versions.",
    )
    def audit(context: dg.OpExecutionContext, config: AuditConfig) -> None:
        with as_failures():
            _audit(context, settings, config)

    others = {CONNECT_JOB: connect, PURGE_JOB: purge, REMOVE_JOB: remove, AUDIT_JOB: audit}
    return [build_refresh(settings), *(_job(name(job), op) for job, op in others.items())]


def _audit(context: dg.OpExecutionContext, settings: Settings, config: AuditConfig) -> None:
    db = runtimedb(settings)
    audited = db.audit(config.connection, config.schema_name, config.table_name)
    connection = db.connection(config.connection)
    # Those of other tables, too, that an earlier audit has found.
    problems = drifted(db.tables(connection.id))
    event: Any = as_event(result_of(asset_key(settings, connection.name), AUDITS, problems))
    context.log_event(event)
    bad = [f"{each.table}: {each.message}" for each in audited if not each.good]
    report_result(context, {"audited": [each.to_dict() for each in audited]}, good=not bad)
    if bad:
        raise dg.Failure("\n".join(bad), allow_retries=False)


def _job(name: str, op: dg.OpDefinition) -> dg.JobDefinition:
    @dg.graph(name=f"{name}_graph", description=op.description)
    def graph() -> None:
        op()

    return graph.to_job(name=name, executor_def=dg.in_process_executor, description=op.description)

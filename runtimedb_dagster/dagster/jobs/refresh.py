"""The job `refresh`: plans chunks of tables, refreshes each where its executor runs it, and reports once.

A chunk never fails because its tables do: Dagster would skip what comes after it, and nobody would report.
"""

# No `from __future__ import annotations`: Dagster reads the annotations of `context` and `config`.

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
from pydantic import Field

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.common.words import counted
from runtimedb_dagster.dagster.checks import as_event, check_results
from runtimedb_dagster.dagster.events import announce, report_result, summary
from runtimedb_dagster.dagster.failures import as_failures
from runtimedb_dagster.dagster.jobs.chunks import Chunk, Json, divide, leave_if_over
from runtimedb_dagster.dagster.jobs.executors import refresh_executor
from runtimedb_dagster.dagster.jobs.handover import handover_io_manager
from runtimedb_dagster.dagster.names import asset_key
from runtimedb_dagster.dagster.partitions import sync
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster.domain.names import REFRESH_JOB, TableRef, job_name
from runtimedb_dagster.domain.outcomes import Unchanged
from runtimedb_dagster.domain.requests import (
    ConnectionRefreshResult,
    DiscoveryResult,
    RefreshRequest,
    TableRefreshResult,
)
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, Table
from runtimedb_dagster.engine.facade import RuntimeDB

__all__ = ["RefreshConfig", "build_refresh", "refresh_config"]

HANDOVER = "runtimedb_handover"


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
    full: bool = Field(
        default=False, description="Keep a version of the same content only if its file, read whole, is as it was."
    )
    confirm: bool = Field(
        default=False, description="Go on although most tables are gone, or more rows than max_delete_ratio allows."
    )

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
            full=self.full,
        )


def refresh_config(settings: Settings, config: Json) -> Json:
    """The run config of the job."""
    return {"ops": {job_name(settings.asset_prefix, REFRESH_JOB): {"config": config}}}


def build_refresh(settings: Settings) -> dg.JobDefinition:
    """The job, on the executor of the settings."""
    description = "Discovers tables, or makes new versions."
    name = job_name(settings.asset_prefix, REFRESH_JOB)

    @dg.op(
        name=name,
        description=description,
        out={
            "chunk": dg.DynamicOut(Json, io_manager_key=HANDOVER),
            "planned": dg.Out(Json, is_required=False, io_manager_key=HANDOVER),
        },
    )
    def refresh(context: dg.OpExecutionContext, config: RefreshConfig) -> Iterator[Any]:
        leave_if_over(context)
        with as_failures(settings.retry_delay):
            if config.data:
                yield from _divided(context, settings, config)
            else:
                _discover(context, settings, config)

    @dg.op(
        name=f"{name}_chunk",
        description="Makes new versions of some tables.",
        out=dg.Out(Json, io_manager_key=HANDOVER),
    )
    def refresh_chunk(context: dg.OpExecutionContext, chunk: Json) -> Json:
        return Chunk(context, settings, chunk).refresh()

    @dg.op(name=f"{name}_report", description="The result, and the checks.", out=dg.Out(dg.Nothing))
    def report(context: dg.OpExecutionContext, planned: Json, chunks: list[Json]) -> None:
        with as_failures():
            _report(context, settings, planned, _again(context, settings, planned, chunks))

    # Of ops and graphs no two may be called the same, jobs are another thing.
    @dg.graph(name=f"{name}_graph", description=description)
    def graph() -> None:
        chunk, planned = refresh()
        report(planned, chunk.map(refresh_chunk).collect())

    return graph.to_job(
        name=name,
        description=description,
        executor_def=refresh_executor(settings),
        resource_defs={HANDOVER: handover_io_manager},
        tags={"dagster/max_runtime": str(round(settings.refresh_deadline.total_seconds()))},
    )


def _discover(context: dg.OpExecutionContext, settings: Settings, config: RefreshConfig) -> None:
    db, request = runtimedb(settings), config.request()
    result = db.refresh(request, confirm=config.confirm)
    for connection in db.connections():
        if request.connection in (None, connection.name, connection.id):
            sync(context, settings, connection, db.tables(connection.id))
    errors = result.errors if isinstance(result, DiscoveryResult) else []
    report_result(context, result.to_dict(), good=not errors)
    if errors:
        reasons = "\n".join(error["error"] for error in errors)
        message = f"{counted(len(errors), 'connection')} could not be discovered:\n{reasons}"
        raise dg.Failure(message, allow_retries=False)


def _divided(context: dg.OpExecutionContext, settings: Settings, config: RefreshConfig) -> Iterator[Any]:
    db, request, started = runtimedb(settings), config.request(), utc_now()
    connection, tables = db.engine.select(request)
    sync(context, settings, connection, db.tables(connection.id))
    # Only what has to be read is announced, and costs an event.
    unchanged = [] if request.full or len(tables) == 1 else _unchanged(context, db, connection, tables)
    tables = _left(context, tables, unchanged)
    announce(context, asset_key(settings, connection.name), tables)
    shared = {
        "connection": connection.id,
        "since": db.engine.next_sequence(),
        "full": request.full,
        "confirm": config.confirm,
    }
    one = {"schema_name": request.schema_name, "table_name": request.table_name} if request.table_name else None
    known = {"unchanged": len(unchanged), "unchanged_rows": sum(outcome.version.rows for outcome in unchanged)}
    planned = shared | known | {"started": started.isoformat(), "tables": len(tables) + len(unchanged), "one": one}
    yield dg.Output(planned, "planned")
    for number, keys in enumerate(divide(settings, tables), start=1):
        yield dg.DynamicOutput(shared | {"keys": keys}, mapping_key=str(number), output_name="chunk")


def _unchanged(
    context: dg.OpExecutionContext, db: RuntimeDB, connection: Connection, tables: Sequence[Table]
) -> list[Unchanged]:
    """The outcomes of tables of which one question to the source tells that they did not change."""
    try:
        return db.engine.survey(connection, tables)
    except RuntimeDBError as error:
        # Whoever reads the tables says so, of each.
        context.log.warning("which tables did not change is not known: %s", error)
        return []


def _left(context: dg.OpExecutionContext, tables: Sequence[Table], unchanged: Sequence[Unchanged]) -> list[Table]:
    """The tables that have to be read."""
    if unchanged:
        context.log.info("%s of %s did not change, and are not read", len(unchanged), counted(len(tables), "table"))
    done = {outcome.ref for outcome in unchanged}
    return [table for table in tables if table.ref not in done]


def _again(context: dg.OpExecutionContext, settings: Settings, planned: Json, chunks: list[Json]) -> list[Json]:
    """Refresh what failed in an earlier run, of which this one re-executes what failed: this step, not the chunks."""
    earlier = [chunk for chunk in chunks if chunk["run"] != context.run_id]
    keys = [key for chunk in earlier for key in chunk["failed"]]
    if not keys:
        return chunks
    db = runtimedb(settings)
    connection = db.connection(planned["connection"])
    announce(context, asset_key(settings, connection.name), db.engine.tables_there(connection, keys))
    result = Chunk(context, settings, planned | {"keys": keys})
    return [*(chunk | {"failed": {}} for chunk in chunks), result.refresh()]


def _report(context: dg.OpExecutionContext, settings: Settings, planned: Json, chunks: list[Json]) -> None:
    db = runtimedb(settings)
    connection = db.connection(planned["connection"])
    failed = {key: error for chunk in chunks for key, error in chunk["failed"].items()}
    unreadable = [problem for chunk in chunks for problem in chunk["unreadable"]]
    for result in check_results(db, connection.id, asset_key(settings, connection.name), unreadable):
        event: Any = as_event(result)  # the signature of log_event forgets checks, its body takes them
        context.log_event(event)
    if not (planned["one"] and failed):
        report_result(context, _result(planned, chunks, failed).to_dict(), good=not failed)
    if failed:
        raise dg.Failure(summary(connection.name, list(failed.values()), planned["tables"]), allow_retries=False)


def _result(planned: Json, chunks: list[Json], failed: dict[str, str]) -> ConnectionRefreshResult | TableRefreshResult:
    rows = sum(chunk["rows"] for chunk in chunks) + planned["unchanged_rows"]
    taken = utc_now() - datetime.fromisoformat(planned["started"])
    duration_ms = max(0, round(taken.total_seconds() * 1000))
    if planned["one"]:
        told: Json = next((chunk["told"] for chunk in reversed(chunks) if chunk["told"]), {})
        one = {**planned["one"], "rows_synced": rows, "duration_ms": duration_ms}
        return TableRefreshResult(planned["connection"], **one, **told)
    return ConnectionRefreshResult(
        connection_id=planned["connection"],
        tables_refreshed=sum(chunk["refreshed"] for chunk in chunks) + planned["unchanged"],
        tables_failed=len(failed),
        total_rows=rows,
        duration_ms=duration_ms,
        tables_unchanged=sum(chunk["unchanged"] for chunk in chunks) + planned["unchanged"],
        rows_read=sum(chunk["rows_read"] for chunk in chunks),
        errors=[_error(key, error) for key, error in failed.items()],
    )


def _error(key: str, error: str) -> dict[str, str]:
    ref = TableRef.from_partition_key("", key)
    return {"schema_name": ref.schema_name, "table_name": ref.table_name, "error": error}

"""The deletion sweep: a job, and the schedule that runs it when something is due."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context`.

import dagster as dg

from runtimedb_dagster.common.words import counted
from runtimedb_dagster.dagster.events import report_result
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.domain.names import DELETION_SWEEP, job_name
from runtimedb_dagster.domain.settings import Settings

__all__ = ["build_sweep"]


def build_sweep(settings: Settings) -> dg.ScheduleDefinition:
    """The schedule `deletion_sweep` with its job: every minute, but no run while nothing is due."""
    name = job_name(settings.asset_prefix, DELETION_SWEEP)

    @dg.op(name=name, description="Deletes the files whose pending deletion is due.")
    def sweep(context: dg.OpExecutionContext) -> None:
        result = runtimedb(settings).sweep()
        report_result(context, result.to_dict(), good=not result.errors)
        context.log.info("%s files deleted, %s failed", result.files_deleted, result.files_failed)
        if result.errors:
            reasons = "\n".join(f"{error['table']}: {error['error']}" for error in result.errors)
            failed = counted(result.files_failed, "file")
            raise dg.Failure(f"{failed} could not be deleted, which will be retried:\n{reasons}")

    @dg.graph(name=f"{name}_graph", description="One sweep of due files.")
    def graph() -> None:
        sweep()

    @dg.schedule(
        name=name,
        job=graph.to_job(name=name, executor_def=dg.in_process_executor),
        cron_schedule="* * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Sweeps every minute, if a file is due.",
    )
    def schedule() -> dg.RunRequest | dg.SkipReason:
        due = runtimedb(settings).engine.deletions_due()
        return dg.RunRequest() if due else dg.SkipReason("No file is due for deletion")

    return schedule

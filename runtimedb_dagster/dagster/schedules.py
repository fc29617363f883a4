"""A connection's own schedule: one run for all its cached tables."""

from __future__ import annotations

import logging

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from runtimedb_dagster.dagster.jobs.refresh import refresh_config
from runtimedb_dagster.domain.names import job_name
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection

__all__ = ["build_schedule"]

logger = logging.getLogger(__name__)


def build_schedule(connection: Connection, settings: Settings, job: dg.JobDefinition) -> dg.ScheduleDefinition | None:
    """The schedule of the option `refresh_cron`; None without one, or if Dagster does not take it."""
    cron = connection.options.refresh_cron
    if cron is None:
        return None
    if not is_valid_cron_schedule(cron):
        # One wrong option must not take the code location down.
        logger.error("Connection '%s' has no schedule: its option refresh_cron is not a cron line", connection.name)
        return None
    return dg.ScheduleDefinition(
        name=job_name(settings.asset_prefix, f"{connection.name}_refresh"),
        job=job,
        cron_schedule=cron,
        # No run key: each tick is a run of its own, whatever became of the one before.
        run_config=refresh_config(settings, {"connection": connection.name, "data": True, "include_uncached": False}),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Refreshes the cached tables of connection '{connection.name}'.",
    )

"""What Dagster loads: `build_definitions(settings)` for a project of one's own, `defs` for RuntimeDB alone."""

from __future__ import annotations

import logging

import dagster as dg

from runtimedb_dagster.config import Settings
from runtimedb_dagster.defs.assets import build_asset, build_source
from runtimedb_dagster.defs.checks import build_storage
from runtimedb_dagster.defs.database import database
from runtimedb_dagster.defs.jobs import build_jobs
from runtimedb_dagster.defs.schedules import build_schedule
from runtimedb_dagster.defs.sensors import build_sensor
from runtimedb_dagster.defs.sweep import build_sweep
from runtimedb_dagster.errors import CatalogError
from runtimedb_dagster.model import Connection

__all__ = ["build_definitions", "defs"]

logger = logging.getLogger(__name__)


def build_definitions(settings: Settings | None = None) -> dg.Definitions:
    """An asset and a sensor per connection of the catalog, and the sweep; to merge into a project's own.

    A catalog that can't be reached does not take the code location down: the definitions are then without
    connections, the error is in the location's metadata and in the log, and the sweep's ticks show it.

    Args:
        settings: by default what the environment says.
    """
    settings = settings or Settings()
    connections, error = _connections(settings)
    jobs = build_jobs(settings)
    storage = build_storage(settings)
    refresh_job = jobs[0]
    schedules = [build_schedule(connection, settings, refresh_job) for connection in connections]
    return dg.Definitions(
        assets=[
            *(build_asset(connection, settings) for connection in connections),
            *(build_source(connection, settings) for connection in connections),
            storage.asset,
        ],
        asset_checks=[storage.check],
        sensors=[build_sensor(connection, settings, refresh_job) for connection in connections],
        schedules=[build_sweep(settings), storage.schedule, *filter(None, schedules)],
        jobs=jobs,
        metadata={"runtimedb/error": error} if error else {"runtimedb/connections": len(connections)},
    )


def _connections(settings: Settings) -> tuple[list[Connection], str | None]:
    try:
        return database(settings).connections(), None
    except CatalogError as error:
        logger.exception("RuntimeDB's definitions are loaded without connections")
        return [], str(error)


@dg.definitions
def defs() -> dg.Definitions:
    """RuntimeDB alone. In-process, since a run's tables are read by threads and a process each costs seconds."""
    return dg.Definitions.merge(build_definitions(), dg.Definitions(executor=dg.in_process_executor))

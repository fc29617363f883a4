"""The definitions of RuntimeDB, made from the catalog."""

from __future__ import annotations

import logging

import dagster as dg

from runtimedb_dagster.dagster.assets import build_asset, build_source
from runtimedb_dagster.dagster.checks import build_storage_asset
from runtimedb_dagster.dagster.deletion_sweep import build_sweep
from runtimedb_dagster.dagster.jobs.operations import build_jobs
from runtimedb_dagster.dagster.process import runtimedb
from runtimedb_dagster.dagster.schedules import build_schedule
from runtimedb_dagster.dagster.sensors import build_sensor
from runtimedb_dagster.domain.errors import CatalogError
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection

__all__ = ["build_definitions"]

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
    storage = build_storage_asset(settings)
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
        return runtimedb(settings).connections(), None
    except CatalogError as error:
        logger.exception("RuntimeDB's definitions are loaded without connections")
        return [], str(error)

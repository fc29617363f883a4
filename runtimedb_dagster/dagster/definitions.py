"""The definitions of RuntimeDB, made from the catalog."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.common.redaction import shown
from runtimedb_dagster.dagster.assets import build_asset, build_source
from runtimedb_dagster.dagster.checks import build_storage_asset
from runtimedb_dagster.dagster.deletion_sweep import build_sweep
from runtimedb_dagster.dagster.jobs.operations import build_jobs
from runtimedb_dagster.dagster.names import asset_key, named, partitions_def
from runtimedb_dagster.dagster.process import File, opened, remember
from runtimedb_dagster.dagster.schedules import build_schedule
from runtimedb_dagster.dagster.sensors import build_sensor
from runtimedb_dagster.dagster.translator import RuntimeDBTranslator
from runtimedb_dagster.domain.errors import CatalogError
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.engine.declaring import checked

__all__ = ["build_definitions"]

logger = logging.getLogger(__name__)


def build_definitions(
    settings: Settings | None = None, *, translator: RuntimeDBTranslator | None = None, file: File | None = None
) -> dg.Definitions:
    """An asset and a sensor per connection of the catalog, and the sweep; to merge into a project's own.

    A catalog that can't be reached does not take the code location down: the definitions are then without
    connections, the error is in the location's metadata and in the log, and the sweep's ticks show it.

    Args:
        settings: by default what the environment says.
        translator: how connections look; by default `RuntimeDBTranslator`.
        file: connections that are declared there are in the definitions whatever the catalog says, which is brought
            in step with them when something is executed, not when it is loaded.
    """
    settings, translator = settings or Settings(), translator or RuntimeDBTranslator()
    connections, error = _connections(settings)
    if file is not None:
        remember(settings, file)
        connections = _with_declared(connections, file)
    jobs = build_jobs(settings)
    storage = build_storage_asset(settings)
    refresh_job = jobs[0]
    schedules = [build_schedule(connection, settings, refresh_job) for connection in connections]
    return dg.Definitions(
        assets=[
            *(build_asset(connection, settings, translator) for connection in connections),
            *(build_source(connection, settings) for connection in connections),
            storage.asset,
            *_stubs(settings, connections),
        ],
        asset_checks=[storage.check],
        sensors=[build_sensor(connection, settings, refresh_job) for connection in connections],
        schedules=[build_sweep(settings), storage.schedule, *filter(None, schedules)],
        jobs=jobs,
        metadata={"runtimedb/error": error} if error else {"runtimedb/connections": len(connections)},
    )


def _connections(settings: Settings) -> tuple[list[Connection], str | None]:
    try:
        return opened(settings).connections(), None
    except CatalogError as error:
        logger.exception("RuntimeDB's definitions are loaded without connections")
        return [], str(error)


def _with_declared(there: Sequence[Connection], file: File) -> list[Connection]:
    """The connections as they will be: of those that the catalog does not have yet, without an id."""
    known, declared = {each.name: each for each in there}, [checked(each) for each in file.declarations]
    mine = {
        each.name: replace(
            known.get(each.name) or Connection("", each.name, "", "", {}, None, utc_now()),
            source_type=each.url.partition(":")[0],
            url=each.url,
            given=dict(each.options),
            password_env=each.password_env,
            declared_in=file.name,
        )
        for each in declared
    }
    doomed = {each.name for each in there if each.declared_in == file.name} if file.remove_undeclared else set()
    others = [each for each in there if each.name not in mine and each.name not in doomed]
    return sorted([*others, *mine.values()], key=lambda each: each.name)


def _stubs(settings: Settings, connections: Sequence[Connection]) -> list[dg.AssetSpec]:
    """What the project's assets depend on and the catalog does not have: another one, say, or a clone's empty one.

    Without them Dagster refuses the whole code location, with an error that names none of this.
    """
    there = {asset_key(settings, connection.name) for connection in connections}
    missing = sorted(key for key in named - there if key.path[0] == settings.asset_prefix)
    for key in missing:
        logger.warning(
            "%s has no connection '%s', which assets of this project read; it shows as an asset without tables until "
            "it is registered and this code location reloads",
            shown(settings.catalog_url),
            key.path[-1],
        )
    return [
        dg.AssetSpec(
            key,
            partitions_def=partitions_def(settings, key.path[-1]),
            group_name=settings.asset_prefix,
            description=f"The connection '{key.path[-1]}', which is not in the catalog: `runtimedb connect` it.",
        )
        for key in missing
    ]

"""Connections: registered, configured, checked, purged."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import ConfigurationError, RequestError, RuntimeDBError
from runtimedb_dagster.domain.names import CONNECTION_NAME, RESERVED_NAMES
from runtimedb_dagster.domain.options import written
from runtimedb_dagster.domain.requests import CheckResult, ConfigureResult, PurgeResult
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.engine.engine import Engine
from runtimedb_dagster.sources.registry import known_options, open_source, recipes, validate
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["Options", "check", "configure", "connect", "purge", "require_name", "written_options"]

Options = Mapping[str, Any]
"""Options of a connection by name; a list or a dict is taken as its JSON."""


def connect(engine: Engine, name: str, url: str, options: Options, password_env: str | None) -> Connection:
    """See `RuntimeDB.connect`."""
    require_name(name)
    source_url = SourceUrl.parse(url)
    given = {**source_url.options, **written_options(options)}
    validate(source_url, given)
    connections = engine.catalog.connections
    connection = connections.add(name, source_url.scheme, str(source_url), given, password_env, utc_now())
    try:
        engine.discoverer.one(connection)
    except RuntimeDBError as error:
        raise type(error)(
            f"{error} ('{name}' is registered: discover it again with `runtimedb refresh {name}`, "
            f"or forget it with `runtimedb remove {name}`)"
        ) from error
    return connections.get(connection.id)


def configure(
    engine: Engine, connection: str, options: Options, unset: set[str], password_env: str | None
) -> ConfigureResult:
    """See `RuntimeDB.configure`."""
    found = engine.catalog.connections.get(connection)
    known = known_options(found.source_type)
    if unknown := sorted(unset - set(known)):
        raise ConfigurationError(
            f"Connection '{found.name}': there is no option '{unknown[0]}' to take back; known are: {', '.join(known)}"
        )

    def changed(before: Mapping[str, str]) -> dict[str, str]:
        given = {name: value for name, value in before.items() if name not in unset} | written_options(options)
        validate(SourceUrl.parse(found.url), given)
        return given

    after, modified = engine.catalog.connections.change_options(found, changed, password_env, recipes)
    return ConfigureResult(after, tuple(modified))


def check(engine: Engine, connection: str) -> CheckResult:
    """See `RuntimeDB.check`."""
    found = engine.catalog.connections.get(connection)
    started, error = perf_counter(), None
    try:
        with open_source(found, engine.settings.duckdb_config) as source:
            source.check()
    except RuntimeDBError as failure:
        error = str(failure)
    return CheckResult(found.id, error is None, round((perf_counter() - started) * 1000), error)


def purge(engine: Engine, connection: str, schema_name: str | None, table_name: str | None) -> PurgeResult:
    """See `RuntimeDB.purge`."""
    one = schema_name is not None or table_name is not None
    if one and not (schema_name and table_name):
        raise RequestError("a purge takes a connection, or a connection with schema_name and table_name")
    catalog = engine.catalog
    found = catalog.connections.get(connection)
    if schema_name and table_name:
        tables = [catalog.tables.get(found, schema_name, table_name)]
    else:
        tables = catalog.tables.list(found)
    delete_after = utc_now() + engine.settings.grace_period
    return PurgeResult(found.id, catalog.publications.purge(found, tables, delete_after))


def require_name(name: str) -> None:
    """Refuse a name that can't be the first part of a table's full name.

    Raises:
        ConfigurationError
    """
    if not CONNECTION_NAME.fullmatch(name) or name.lower() in RESERVED_NAMES:
        raise ConfigurationError(
            f"The connection name '{name}' can't be used: it is a letter, then letters, digits or _, up to 63, "
            f"and none of {', '.join(sorted(RESERVED_NAMES))}"
        )


def written_options(options: Options) -> dict[str, str]:
    """Options as the catalog keeps them."""
    return {name: written(name, value) for name, value in options.items()}

"""Connections that are declared in a project's files: the catalog is brought in step with them."""

from __future__ import annotations

from collections.abc import Sequence

from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.declarations import Declaration, Declared
from runtimedb_dagster.domain.errors import ConfigurationError, ConnectionNotFoundError
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.engine.engine import Engine
from runtimedb_dagster.engine.registration import require_name
from runtimedb_dagster.sources.registry import recipes, validate
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["checked", "declare", "require_by_hand"]


def checked(declaration: Declaration) -> Declaration:
    """A declaration with the options of its URL among the others, as `connect` has them.

    Raises:
        ConfigurationError: a wrong name or URL, an unknown source type or option, or a value of the wrong form.
    """
    try:
        require_name(declaration.name)
        url = SourceUrl.parse(declaration.url)
        options = {**url.options, **declaration.options}
        validate(url, options)
    except ConfigurationError as error:
        raise ConfigurationError(f"Connection '{declaration.name}': {error}") from error
    return Declaration(declaration.name, str(url), options, declaration.password_env)


def declare(
    engine: Engine, declarations: Sequence[Declaration], declared_in: str, *, remove_undeclared: bool
) -> Declared:
    """See `RuntimeDB.declare`."""
    wanted = {each.name: checked(each) for each in declarations}
    if len(wanted) < len(declarations):
        raise ConfigurationError(f"{declared_in} declares a connection twice")
    there = {connection.name: connection for connection in engine.catalog.connections.list()}
    added, changed = list[str](), list[str]()
    for name, declaration in wanted.items():
        if name not in there:
            _add(engine, declaration, declared_in)
            added.append(name)
        elif _differs(there[name], declaration, declared_in):
            engine.catalog.connections.redeclare(there[name], declaration, declared_in, recipes)
            changed.append(name)
    left = [each for each in there.values() if each.declared_in == declared_in and each.name not in wanted]
    gone = [each.name for each in left]
    if not remove_undeclared:
        for connection in left:
            engine.catalog.connections.release(connection, declared_in)
        return Declared(added, changed, released=gone)
    for connection in left:
        _remove(engine, connection)
    return Declared(added, changed, removed=gone)


def require_by_hand(connection: Connection, what: str) -> None:
    """Refuse to change by hand what is declared in a file, which would undo it.

    Raises:
        ConfigurationError
    """
    if connection.declared_in is not None:
        raise ConfigurationError(
            f"Connection '{connection.name}' is declared in {connection.declared_in}, and can't be {what} by hand: "
            "change it there"
        )


def _add(engine: Engine, declaration: Declaration, declared_in: str) -> None:
    try:
        engine.catalog.connections.add(
            declaration.name,
            SourceUrl.parse(declaration.url).scheme,
            declaration.url,
            dict(declaration.options),
            declaration.password_env,
            utc_now(),
            declared_in,
        )
    except ConfigurationError:
        # Another process was faster, and may declare something else; or the name is taken in other letters' case.
        there = {connection.name: connection for connection in engine.catalog.connections.list()}
        found = there.get(declaration.name)
        if found is None or _differs(found, declaration, declared_in):
            raise


def _differs(connection: Connection, declaration: Declaration, declared_in: str) -> bool:
    if connection.declared_in not in (None, declared_in):
        raise ConfigurationError(
            f"Connection '{connection.name}' is declared in {declared_in} and in {connection.declared_in}; leave it in "
            "one of them, or give each an asset_prefix and a catalog of its own"
        )
    return (connection.url, connection.given, connection.password_env, connection.declared_in) != (
        declaration.url,
        dict(declaration.options),
        declaration.password_env,
        declared_in,
    )


def _remove(engine: Engine, connection: Connection) -> None:
    try:
        engine.catalog.connections.remove(connection, utc_now() + engine.settings.grace_period)
    except ConnectionNotFoundError:
        return  # by another process

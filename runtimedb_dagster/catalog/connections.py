"""Transitions of connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import Row, delete, func, insert, or_, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, new_id, next_sequence, transition
from runtimedb_dagster.catalog.differences import change_recipes
from runtimedb_dagster.catalog.publications import retire
from runtimedb_dagster.domain.declarations import Declaration
from runtimedb_dagster.domain.errors import ConfigurationError, ConnectionNotFoundError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.domain.versions import SequenceNumber

__all__ = ["ConnectionCatalog", "connection_of"]


class ConnectionCatalog:
    """The registered connections."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def add(
        self,
        name: str,
        source_type: str,
        url: str,
        given: dict[str, str],
        password_env: str | None,
        now: datetime,
        declared_in: str | None = None,
    ) -> Connection:
        """Register a connection.

        Raises:
            ConfigurationError: the name is taken, perhaps in other letters' case.
        """
        connection = Connection(new_id(), name, source_type, url, given, password_env, now, declared_in=declared_in)
        with self._database.write() as tx:
            next_sequence(tx)  # one at a time, so that none misses a name that another is about to take
            taken = tx.execute(
                select(schema.connections.c.name).where(func.lower(schema.connections.c.name) == name.lower())
            ).scalar()
            if taken is not None:
                raise ConfigurationError(
                    f"Connection '{name}' can't be added: '{taken}' exists. Choose another name, or remove it first."
                )
            tx.execute(
                insert(schema.connections).values(
                    id=connection.id,
                    name=name,
                    source_type=source_type,
                    url=url,
                    options=given,
                    password_env=password_env,
                    created_at=now,
                    discovery_sequence=0,
                    declared_in=declared_in,
                )
            )
        return connection

    @transition
    def get(self, name_or_id: str) -> Connection:
        """The connection of that name or id.

        Raises:
            ConnectionNotFoundError: there is none.
        """
        with self._database.read() as tx:
            row = tx.execute(
                select(schema.connections).where(
                    or_(schema.connections.c.name == name_or_id, schema.connections.c.id == name_or_id)
                )
            ).first()
        if row is None:
            raise ConnectionNotFoundError(name_or_id)
        return connection_of(row)

    @transition
    def list(self) -> list[Connection]:
        """All connections, by name."""
        with self._database.read() as tx:
            return [connection_of(row) for row in tx.execute(select(schema.connections).order_by("name"))]

    @transition
    def change_options(
        self,
        connection: Connection,
        change: Callable[[Mapping[str, str]], dict[str, str]],
        password_env: str | None,
        recipes: Callable[[Connection], Recipes],
    ) -> tuple[Connection, Sequence[TableRef]]:
        """Change a connection's options from what they are now, and the variable that holds its password, if given.

        Returns:
            The connection, and the tables whose versions are not as they would be made from now on.

        Raises:
            ConnectionNotFoundError: it was removed meanwhile.
        """

        def values(row: Row[Any]) -> dict[str, Any]:
            return {"options": change(row.options), "password_env": password_env or row.password_env}

        with self._database.write() as tx:
            return _change(tx, connection, values, recipes)

    @transition
    def redeclare(
        self,
        connection: Connection,
        declaration: Declaration,
        declared_in: str,
        recipes: Callable[[Connection], Recipes],
    ) -> None:
        """Make a connection what a file declares.

        Raises:
            ConnectionNotFoundError: it was removed meanwhile.
        """
        values = {
            "source_type": declaration.url.partition(":")[0],
            "url": declaration.url,
            "options": dict(declaration.options),
            "password_env": declaration.password_env,
            "declared_in": declared_in,
        }
        with self._database.write() as tx:
            _change(tx, connection, lambda _: values, recipes)

    @transition
    def release(self, connection: Connection, declared_in: str) -> None:
        """Leave a connection that a file no longer declares to whoever configures it by hand."""
        mine = (schema.connections.c.id == connection.id) & (schema.connections.c.declared_in == declared_in)
        with self._database.write() as tx:
            next_sequence(tx)  # which a catalog that was moved has none of
            tx.execute(update(schema.connections).where(mine).values(declared_in=None))

    @transition
    def begin_discovery(self) -> SequenceNumber:
        """A number to be taken before the source is asked."""
        with self._database.write() as tx:
            return next_sequence(tx)

    @transition
    def record_discovery_failure(self, connection: Connection, error: str) -> None:
        """Keep the error of the last discovery where `connections()` shows it."""
        with self._database.write() as tx:
            tx.execute(
                update(schema.connections).where(schema.connections.c.id == connection.id).values(discovery_error=error)
            )

    @transition
    def remove(self, connection: Connection, delete_after: datetime) -> int:
        """Forget a connection and its tables; their files get pending deletions.

        Returns:
            The number of tables that were forgotten.

        Raises:
            ConnectionNotFoundError: somebody else removed it meanwhile.
        """
        with self._database.write() as tx:
            return _remove(tx, connection, delete_after)


def _change(
    tx: Transaction,
    connection: Connection,
    values: Callable[[Row[Any]], dict[str, Any]],
    recipes: Callable[[Connection], Recipes],
) -> tuple[Connection, Sequence[TableRef]]:
    """Change a connection's row, and what that means for its tables; see `ConnectionCatalog.change_options`."""
    mine = schema.connections.c.id == connection.id
    row = tx.execute(select(schema.connections).where(mine).with_for_update()).first()
    if row is None:
        raise ConnectionNotFoundError(connection.name)
    tx.execute(update(schema.connections).where(mine).values(values(row)))
    changed = connection_of(tx.execute(select(schema.connections).where(mine)).one())
    modified = change_recipes(tx, changed, recipes(connection_of(row)), recipes(changed))
    next_sequence(tx)  # which a catalog that was moved has none of
    return changed, modified


def _remove(tx: Transaction, connection: Connection, delete_after: datetime) -> int:
    mine = schema.tables.c.connection_id == connection.id
    # Before its tables, as a discovery does.
    tx.execute(select(schema.connections.c.id).where(schema.connections.c.id == connection.id).with_for_update())
    rows = tx.execute(select(schema.tables).where(mine).order_by(schema.tables.c.id).with_for_update()).all()
    retire(tx, connection.name, rows, "connection removed", delete_after)
    tx.execute(delete(schema.tables).where(mine))
    gone = tx.execute(delete(schema.connections).where(schema.connections.c.id == connection.id))
    if gone.rowcount != 1:
        raise ConnectionNotFoundError(connection.name)
    return len(rows)


def connection_of(row: Row[Any]) -> Connection:
    """A connection from its row in the catalog."""
    return Connection(
        id=row.id,
        name=row.name,
        source_type=row.source_type,
        url=row.url,
        given=dict(row.options),
        password_env=row.password_env,
        created_at=row.created_at,
        discovered_at=row.discovered_at,
        discovery_error=row.discovery_error,
        declared_in=row.declared_in,
    )

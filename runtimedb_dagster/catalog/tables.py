"""Transitions of the discovered tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as Transaction
from sqlalchemy import Row, Select, bindparam, delete, insert, select, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, new_id, transition
from runtimedb_dagster.catalog.versions import retire, version_of
from runtimedb_dagster.domain.errors import (
    ConnectionNotFoundError,
    DiscoveryRefusedError,
    TableNotFoundError,
)
from runtimedb_dagster.domain.model import Column, Connection, DiscoveredTable, DiscoveryChanges, Table, TableRef

__all__ = ["TableCatalog"]

Address = tuple[str, str]


class TableCatalog:
    """The tables of all connections."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def list(self, connection: Connection | None = None) -> list[Table]:
        """The tables of one connection or of all, by address."""
        query = _selected()
        if connection is not None:
            query = query.where(schema.tables.c.connection_id == connection.id)
        with self._database.read() as tx:
            return [_table(row) for row in tx.execute(query)]

    def get(self, connection: Connection, schema_name: str, table_name: str) -> Table:
        """One table, by its address to the letter.

        Raises:
            TableNotFoundError: it is not in the catalog.
        """
        table = self.find(connection, schema_name, table_name)
        if table is None:
            full_name = str(TableRef(connection.name, schema_name, table_name))
            raise TableNotFoundError(full_name, f"; `runtimedb refresh {connection.name}` discovers new tables")
        return table

    @transition
    def find(self, connection: Connection, schema_name: str, table_name: str) -> Table | None:
        """One table, by its address to the letter; None if it is not in the catalog."""
        query = _selected().where(
            schema.tables.c.connection_id == connection.id,
            schema.tables.c.schema_name == schema_name,
            schema.tables.c.table_name == table_name,
        )
        with self._database.read() as tx:
            row = tx.execute(query).first()
        return None if row is None else _table(row)

    @transition
    def record_discovery(
        self,
        connection: Connection,
        generation: int,
        found: Sequence[DiscoveredTable],
        now: datetime,
        delete_after: datetime,
        *,
        confirm: bool = False,
    ) -> DiscoveryChanges:
        """Make the catalog show what the source has: add, update and remove tables in one transaction.

        A table that is gone loses its row, and its file gets a pending deletion; every other cached
        version stays. If a discovery that started later has already been recorded, nothing changes.

        Raises:
            DiscoveryRefusedError: nothing was found, or more than half would go, unless `confirm`.
            ConnectionNotFoundError: the connection was removed meanwhile.
        """
        with self._database.write() as tx:
            last = tx.execute(
                select(schema.connections.c.discovery_generation)
                .where(schema.connections.c.id == connection.id)
                .with_for_update()
            ).scalar()
            if last is None:
                raise ConnectionNotFoundError(connection.name)
            if last > generation:
                return DiscoveryChanges(discovered=len(found))
            difference = _Difference(tx, connection, found)
            if not confirm:
                difference.refuse_if_drastic()
            difference.apply(tx, now, delete_after)
            tx.execute(
                update(schema.connections)
                .where(schema.connections.c.id == connection.id)
                .values(discovery_generation=generation, discovered_at=now, discovery_error=None)
            )
            return difference.changes()


class _Difference:
    """What a source shows, against the rows the catalog has for it."""

    def __init__(self, tx: Transaction, connection: Connection, found: Sequence[DiscoveredTable]) -> None:
        self.connection = connection
        self.found = {(table.schema_name, table.table_name): table for table in found}
        rows = tx.execute(select(schema.tables).where(schema.tables.c.connection_id == connection.id).with_for_update())
        self.known: dict[Address, Row[Any]] = {(row.schema_name, row.table_name): row for row in rows}
        self.added = [address for address in self.found if address not in self.known]
        self.removed = [address for address in self.known if address not in self.found]
        self.updated = [a for a in self.found if a in self.known and _described(self.found[a]) != _shown(self.known[a])]
        self.modified = [a for a in self.updated if _signature(self.found[a].columns) != _stored(self.known[a].columns)]

    def refuse_if_drastic(self) -> None:
        """Raise if this looks like a revoked permission."""
        name = self.connection.name
        if not self.found:
            raise DiscoveryRefusedError(
                f"Connection '{name}': the source shows no tables at all, as if a permission was revoked; nothing "
                "was changed. If that is right, confirm it: `runtimedb refresh --confirm`."
            )
        if 2 * len(self.removed) > len(self.known):
            raise DiscoveryRefusedError(
                f"Connection '{name}': {len(self.removed)} of {len(self.known)} tables are no longer shown, as if a "
                "permission was revoked; nothing was changed. If that is right, confirm it: "
                "`runtimedb refresh --confirm`."
            )

    def apply(self, tx: Transaction, now: datetime, delete_after: datetime) -> None:
        """Write the difference; files of removed tables get pending deletions."""
        if self.added:
            tx.execute(insert(schema.tables), [self._row(address, now) for address in self.added])
        if self.updated:
            values: dict[str, Any] = {
                name: bindparam(f"new_{name}") for name in _described(self.found[self.updated[0]])
            }
            tx.execute(
                update(schema.tables).where(schema.tables.c.id == bindparam("row_id")).values(values),
                [
                    {"row_id": self.known[a].id} | {f"new_{k}": v for k, v in _described(self.found[a]).items()}
                    for a in self.updated
                ],
            )
        gone = [self.known[address] for address in self.removed]
        retire(tx, self.connection.name, gone, "table dropped", delete_after)
        if gone:
            tx.execute(
                delete(schema.tables).where(schema.tables.c.id == bindparam("row_id")),
                [{"row_id": row.id} for row in gone],
            )

    def _row(self, address: Address, now: datetime) -> dict[str, Any]:
        return {
            "id": new_id(),
            "connection_id": self.connection.id,
            "schema_name": address[0],
            "table_name": address[1],
            "discovered_at": now,
        } | _described(self.found[address])

    def changes(self) -> DiscoveryChanges:
        """The difference, for the caller."""

        def refs(addresses: list[Address]) -> tuple[TableRef, ...]:
            return tuple(TableRef(self.connection.name, *address) for address in addresses)

        return DiscoveryChanges(len(self.found), refs(self.added), refs(self.removed), refs(self.modified))


def _described(table: DiscoveredTable) -> dict[str, Any]:
    return {
        "kind": table.kind,
        "columns": [column.to_dict() for column in table.columns],
        "primary_key": list(table.primary_key),
        "comment": table.comment,
        "estimated_rows": table.estimated_rows,
    }


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("kind", "columns", "primary_key", "comment", "estimated_rows")}


def _signature(columns: Sequence[Column]) -> list[tuple[str, str, bool]]:
    return [(column.name, column.type, column.nullable) for column in columns]


def _stored(columns: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    return _signature([Column(**column) for column in columns])


def _selected() -> Select[Any]:
    # A version's columns have a name of their own here, so that both rows can be told apart.
    version_columns = [column.label(f"version_{column.name}") for column in schema.versions.c if column.name != "id"]
    return (
        select(schema.tables, schema.connections.c.name.label("connection_name"), *version_columns)
        .join(schema.connections, schema.connections.c.id == schema.tables.c.connection_id)
        .outerjoin(schema.versions, schema.versions.c.id == schema.tables.c.version_id)
        .order_by("connection_name", schema.tables.c.schema_name, schema.tables.c.table_name)
    )


def _table(row: Row[Any]) -> Table:
    return Table(
        id=row.id,
        connection_id=row.connection_id,
        ref=TableRef(row.connection_name, row.schema_name, row.table_name),
        kind=row.kind,
        columns=tuple(Column(**column) for column in row.columns),
        primary_key=tuple(row.primary_key),
        comment=row.comment,
        estimated_rows=row.estimated_rows,
        discovered_at=row.discovered_at,
        version=version_of(row, "version_") if row.version_id else None,
    )

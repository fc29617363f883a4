"""Transitions of the discovered tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Row, Select, and_, select, tuple_, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.connections import connection_of
from runtimedb_dagster.catalog.database import Database, transition
from runtimedb_dagster.catalog.differences import Address, Difference, source_columns
from runtimedb_dagster.catalog.versions import selected_columns, version_of
from runtimedb_dagster.domain.errors import ConnectionNotFoundError, RefreshError, TableNotFoundError
from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.tables import Connection, DiscoveredTable, DiscoveryChanges, Table
from runtimedb_dagster.domain.versions import SequenceNumber

__all__ = ["TableCatalog"]

ADDRESSES_PER_STATEMENT = 500


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
            return _tables(tx.execute(query))

    @transition
    def some(self, connection: Connection, addresses: Sequence[Address]) -> Sequence[Table]:
        """Those of a connection's tables that have one of some addresses (schema, name), by address."""
        address = tuple_(schema.tables.c.schema_name, schema.tables.c.table_name)
        mine = _selected().where(schema.tables.c.connection_id == connection.id)
        found = []
        with self._database.read() as tx:
            for start in range(0, len(addresses), ADDRESSES_PER_STATEMENT):
                wanted = addresses[start : start + ADDRESSES_PER_STATEMENT]
                found += _tables(tx.execute(mine.where(address.in_(wanted))))
        return sorted(found, key=lambda table: table.ref)

    def find(self, connection: Connection, schema_name: str, table_name: str) -> Table | None:
        """One table, by its address to the letter; None if it is not in the catalog."""
        return next(iter(self.some(connection, [(schema_name, table_name)])), None)

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
    def again(self, table: Table) -> Table:
        """A table as it is now.

        Raises:
            RefreshError: it was dropped.
        """
        with self._database.read() as tx:
            found = _tables(tx.execute(_selected().where(schema.tables.c.id == table.id)))
        if not found:
            raise RefreshError(f"{table.ref} was dropped while it was refreshed")
        return found[0]

    @transition
    def record_discovery(
        self,
        connection: Connection,
        sequence: SequenceNumber,
        found: Sequence[DiscoveredTable],
        recipes: Callable[[Connection], Recipes],
        now: datetime,
        delete_after: datetime,
        *,
        confirm: bool = False,
    ) -> DiscoveryChanges:
        """Make the catalog show what the source has: add, update and remove tables in one transaction.

        A table that is gone loses its row, and its files get pending deletions; every other cached
        version stays. If a discovery that started later has already been recorded, nothing changes.

        Args:
            connection: whose tables they are.
            sequence: taken before the source was asked.
            found: what it showed.
            recipes: how versions would be made by a connection's options, which may have changed since they were read.
            now: when that is recorded.
            delete_after: until when the files of tables that are gone stay.
            confirm: remove tables even if that looks like a revoked permission.

        Raises:
            DiscoveryRefusedError: nothing was found, or more than half would go, unless `confirm`.
            ConnectionNotFoundError: the connection was removed meanwhile.
        """
        mine = schema.connections.c.id == connection.id
        with self._database.write() as tx:
            row = tx.execute(select(schema.connections).where(mine).with_for_update()).first()
            if row is None:
                raise ConnectionNotFoundError(connection.name)
            if row.discovery_sequence > sequence:
                return DiscoveryChanges(discovered=len(found))
            difference = Difference(tx, connection, found, recipes(connection_of(row)))
            if not confirm:
                difference.refuse_if_drastic()
            difference.apply(tx, now, delete_after)
            values = {"discovery_sequence": sequence, "discovered_at": now, "discovery_error": None}
            tx.execute(update(schema.connections).where(mine).values(values))
            return difference.changes()


def _selected() -> Select[Any]:
    """Tables with their versions, a row for each file of a version."""
    publications, versions, files = schema.publications, schema.versions, schema.data_files
    of_table = publications.c.version_id == schema.tables.c.version_id
    return (
        select(
            schema.tables,
            schema.connections.c.name.label("connection_name"),
            publications.c.previous_rows,
            *selected_columns(),
        )
        .join(schema.connections, schema.connections.c.id == schema.tables.c.connection_id)
        .outerjoin(publications, and_(of_table, publications.c.until_sequence.is_(None)))
        .outerjoin(versions, versions.c.id == schema.tables.c.version_id)
        .outerjoin(files, files.c.version_id == schema.tables.c.version_id)
        .order_by("connection_name", schema.tables.c.schema_name, schema.tables.c.table_name, files.c.number)
    )


def _tables(rows: Iterable[Row[Any]]) -> list[Table]:
    return [_table(list(of_table)) for _, of_table in groupby(rows, key=lambda row: row.id)]


def _table(rows: Sequence[Row[Any]]) -> Table:
    row = rows[0]
    return Table(
        id=row.id,
        connection_id=row.connection_id,
        ref=TableRef(row.connection_name, row.schema_name, row.table_name),
        kind=row.kind,
        columns=source_columns(row.columns),
        primary_key=tuple(row.primary_key),
        comment=row.comment,
        estimated_rows=row.estimated_rows,
        discovered_at=row.discovered_at,
        recipe=row.recipe,
        version=version_of(rows) if row.version_id else None,
        previous_rows=row.previous_rows,
        checked_at=row.checked_at,
        checked_sequence=row.checked_sequence,
        refreshed=RefreshFacts.from_dict(row.refreshed) if row.refreshed else None,
        audited_at=row.audited_at,
        distrusted=row.distrusted,
    )

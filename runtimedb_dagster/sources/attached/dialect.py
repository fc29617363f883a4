"""What differs from source to source, for those that DuckDB attaches: a `Dialect`, with what most of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import literal, qualified
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.sources.attached.projection import Projected, project
from runtimedb_dagster.sources.attached.watch import Peer

__all__ = [
    "Dialect",
    "PlainDialect",
    "Relation",
    "Scan",
    "TableIsGone",
    "attached",
    "described",
    "discovered",
    "discovery_query",
]

C = TypeVar("C", bound=SourceColumn)


@dataclass(frozen=True)
class Relation(Generic[C]):
    """A remote table as the transaction that reads it sees it.

    Attributes:
        columns: with what the dialect needs to read them.
        session: the source's id of the session that reads, by which it can be cancelled.
        scannable: whether DuckDB's own scan may read it, rather than a query of ours on the server.
        state: what the dialect has to know after the reading, to tell whether the table changed meanwhile.
    """

    columns: tuple[C, ...]
    session: int | None = None
    scannable: bool = True
    state: Any = None


@dataclass(frozen=True)
class Scan(Generic[C]):
    """A remote table that is about to be read.

    Attributes:
        duck: the connection in whose open transaction it is read.
        alias: the name that the database is attached by.
        projection: what is read of it.
        where: the condition that its rows must meet, in SQL of the source.
        is_first: whether nothing was read in its transaction before.
        native: whether DuckDB's own scan reads it.
    """

    duck: duckdb.DuckDBPyConnection
    alias: str
    ref: TableRef
    relation: Relation[C]
    projection: Sequence[Projected]
    where: str | None
    is_first: bool
    native: bool = False

    def arrives_as_projected(self) -> bool:
        """Whether DuckDB's idea of the table, which may be older than the transaction, is what is projected."""
        try:
            rows = self.duck.execute(f"DESCRIBE {attached(self.alias, self.ref, None)}").fetchall()
        except duckdb.CatalogException:
            return False
        known = {row[0]: row[1] for row in rows}
        return all(known.get(each.source_name) == each.arrives for each in self.projection)


class TableIsGone(Exception):  # noqa: N818 - it ends in what the user reads
    """A dialect found no such table."""


class Dialect(ABC, Generic[C]):
    """One is made per attached source. All that raises `duckdb.Error` is explained by `explain`."""

    extensions: Sequence[str] = ()
    config: Mapping[str, Any] = {}

    @abstractmethod
    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the remote database read-only; returns the name it is attached by."""

    def peer(self) -> Peer | None:
        """The server, if sockets to it may be shut down when time is over."""
        return None

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Ask the source for something small."""
        duck.execute(f"SELECT count(*) FROM duckdb_schemas() WHERE database_name = {literal(alias)}")

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """All tables and views with their columns, by as few queries as the source allows."""
        return discovered(duck.execute(discovery_query(alias)).fetchall())

    @abstractmethod
    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[C]:
        """The table as the transaction of `duck` sees it.

        Raises:
            TableIsGone
        """

    @abstractmethod
    def project(self, column: C) -> Projected:
        """The select-list entry that yields a column as the type contract demands.

        Raises:
            TypeContractError: its type has no exact form.
        """

    def treatment(self, schema_name: str, table_name: str, column: SourceColumn) -> str | None:  # noqa: ARG002
        """What the options make of a column beyond its type, as a part of the recipe; None: nothing."""
        return None

    def options_of_rows(self) -> Mapping[str, str]:
        """The options that decide which rows the source shows, where they are not the defaults."""
        return {}

    def is_native(self, scan: Scan[C]) -> bool:
        """Whether DuckDB's own scan reads every column right."""
        return scan.relation.scannable

    def guard(self, scan: Scan[C]) -> None:
        """Look, in the transaction of the read, for values that have no exact form.

        Raises:
            TypeContractError: there is one.
        """

    def from_clause(self, scan: Scan[C]) -> str:
        """What the select list reads from."""
        return attached(scan.alias, scan.ref, scan.where)

    def confirm(self, scan: Scan[C]) -> str | None:  # noqa: ARG002
        """After the reading, in its transaction: why it may not be what it should be; None if it is."""
        return None

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """End what a session of the source is doing, where DuckDB's interrupt would wait for it."""

    def is_transient(self, error: str) -> bool:  # noqa: ARG002
        """Whether an error may be gone when one tries again."""
        return False

    def explain(self, error: str) -> str:
        """What DuckDB's message of an error means and what to do, or its first line."""
        return first_line(error)

    def detail(self, scan: Scan[C], error: str) -> str | None:  # noqa: ARG002
        """After a failed reading and its rollback: what the source can add to the error; None if nothing."""
        return None


class PlainDialect(Dialect[SourceColumn]):
    """A dialect of a database that DuckDB describes in full."""

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """As every dialect, with views as they are read: DuckDB lists them as they were when they were made."""
        found = super().discover(duck, alias)
        return [_as_read(duck, alias, each) if each.kind == "view" else each for each in found]

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[SourceColumn]:
        """The table in DuckDB's words."""
        return described(duck, qualified(alias, ref.schema_name, ref.table_name))

    def project(self, column: SourceColumn) -> Projected:
        """As DuckDB holds it."""
        return project(column)


def described(duck: duckdb.DuckDBPyConnection, relation: str, target: str | None = None) -> Relation[SourceColumn]:
    """What DuckDB says of an attached table.

    Args:
        duck: in whose transaction to look.
        relation: the table as it stands in a FROM clause.
        target: what to describe, if not the table by its name.

    Raises:
        TableIsGone
    """
    try:
        rows = duck.execute(f"DESCRIBE {target or relation}").fetchall()
        # The rows of a description of more than 2,048 columns come in any order.
        order = duck.sql(f"SELECT * FROM {relation} LIMIT 0").columns if len(rows) > 2048 else []  # noqa: PLR2004
    except duckdb.CatalogException as error:
        raise TableIsGone(f" ({first_line(error)})") from error
    places = {name: place for place, name in enumerate(order)}
    rows.sort(key=lambda row: places.get(row[0], 0))
    return Relation(tuple(SourceColumn(row[0], row[1], nullable=row[2] == "YES") for row in rows))


def _as_read(duck: duckdb.DuckDBPyConnection, alias: str, view: DiscoveredTable) -> DiscoveredTable:
    """A view with the columns that a reading would find; one that can't be read stays as it is listed."""
    try:
        columns = described(duck, qualified(alias, view.schema_name, view.table_name)).columns
    except (TableIsGone, duckdb.BinderException):
        return view
    comments = {column.name: column.comment for column in view.columns}
    return replace(view, columns=tuple(replace(each, comment=comments.get(each.name)) for each in columns))


def attached(alias: str, ref: TableRef, where: str | None) -> str:
    """An attached table in a FROM clause, or those of its rows that a condition leaves."""
    name = qualified(alias, ref.schema_name, ref.table_name)
    return name if where is None else f"(SELECT * FROM {name} WHERE {where})"


def discovered(rows: Iterable[Sequence[Any]]) -> list[DiscoveredTable]:
    """Tables from rows of (schema, table, kind, comment, estimated rows, columns as dicts, primary key)."""
    return [
        DiscoveredTable(
            schema_name,
            table_name,
            kind,
            tuple(SourceColumn.from_dict(column) for column in columns),
            tuple(primary_key or ()),
            comment,
            estimated_rows,
        )
        for schema_name, table_name, kind, comment, estimated_rows, columns, primary_key in rows
    ]


def discovery_query(alias: str) -> str:
    """All tables and views of an attached database, as DuckDB's catalog functions list them."""
    return f"""
        WITH relation AS (
            SELECT schema_name, table_name, 'table' AS kind, comment, estimated_size AS estimated_rows
            FROM duckdb_tables() WHERE database_name = {literal(alias)} AND NOT internal AND NOT temporary
            UNION ALL
            SELECT schema_name, view_name, 'view', comment, NULL
            FROM duckdb_views() WHERE database_name = {literal(alias)} AND NOT internal AND NOT temporary
        ), listed AS (
            SELECT schema_name, table_name, list({{
                'name': column_name, 'nullable': is_nullable, 'comment': comment,
                -- as DESCRIBE has it
                'type': replace(data_type, '"NULL"', 'INTEGER')
            }} ORDER BY column_index) AS columns
            FROM duckdb_columns() WHERE database_name = {literal(alias)} GROUP BY ALL
        ), keyed AS (
            SELECT schema_name, table_name, any_value(constraint_column_names) AS primary_key
            FROM duckdb_constraints()
            WHERE database_name = {literal(alias)} AND constraint_type = 'PRIMARY KEY' GROUP BY ALL
        )
        SELECT schema_name, table_name, kind, comment, estimated_rows, coalesce(columns, []), primary_key
        FROM relation LEFT JOIN listed USING (schema_name, table_name)
        LEFT JOIN keyed USING (schema_name, table_name)
        ORDER BY schema_name, table_name
    """

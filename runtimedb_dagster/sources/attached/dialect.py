"""What differs from source to source, for those that DuckDB attaches: a `Dialect`, with what most of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import literal, qualified
from runtimedb_dagster.domain.model import Column, DiscoveredTable, TableRef
from runtimedb_dagster.sources.attached.projection import Projected, project
from runtimedb_dagster.sources.attached.watch import Peer

__all__ = [
    "AttachedDialect",
    "Dialect",
    "Relation",
    "TableIsGone",
    "attached",
    "described",
    "discovered",
    "discovery_query",
]


@dataclass(frozen=True)
class Relation:
    """A remote table as the transaction that reads it sees it.

    Attributes:
        columns: in the words of the source.
        session: the source's id of the session that reads, by which it can be cancelled.
        native: whether DuckDB's own scan may read it, rather than a query of ours on the server.
        state: what the dialect has to know after the reading, to tell whether the table changed meanwhile.
    """

    columns: tuple[Column, ...]
    session: int | None = None
    native: bool = True
    state: Any = None


class TableIsGone(Exception):  # noqa: N818 - it ends in what the user reads
    """A dialect found no such table."""


class Dialect(Protocol):
    """One is made per attached source. All that raises `duckdb.Error` is told in the words of `explain`."""

    extensions: Sequence[str]
    config: Mapping[str, Any]

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the remote database read-only; returns the name it is attached by."""

    def peer(self) -> Peer | None:
        """The server, if sockets to it may be shut down when time is over."""

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Ask the source for something small."""

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """All tables and views, by as few queries as the source allows."""

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation:
        """The table as the transaction that `duck` has just begun sees it.

        Raises:
            TableIsGone
        """

    def project(self, column: Column) -> Projected:
        """The select-list entry that yields a column as the type contract demands."""

    def origin(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        ref: TableRef,
        relation: Relation,
        projection: Sequence[Projected],
        where: str | None,
    ) -> str:
        """What the select list reads from, after the guards have found nothing in the same transaction.

        Raises:
            TypeContractError: a value has no exact form.
        """

    def confirm(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, relation: Relation) -> str | None:
        """After the reading, in its transaction: why it may not be what it should be; None if it is."""

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """End what a session of the source is doing, where DuckDB's interrupt would wait for it."""

    def is_passing(self, error: str) -> bool:
        """Whether an error may be gone when one tries again."""

    def explain(self, error: str) -> str:
        """What DuckDB's message of an error means and what to do, or its first line."""

    def words(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        ref: TableRef,
        relation: Relation,
        projection: Sequence[Projected],
        where: str | None,
        error: str,
    ) -> str | None:
        """After a failed reading and its rollback: more of the source's words than the error has, if there are."""


class AttachedDialect:
    """A dialect of whose database DuckDB tells everything."""

    extensions: Sequence[str] = ()
    config: Mapping[str, Any] = {}

    def peer(self) -> Peer | None:
        """None."""
        return None

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Count its schemas."""
        duck.execute(f"SELECT count(*) FROM duckdb_schemas() WHERE database_name = {literal(alias)}")

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """Tables and views, with their columns, from DuckDB's own catalog functions."""
        return discovered(duck.execute(discovery_query(alias)).fetchall())

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation:
        """The table in DuckDB's words."""
        return described(duck, qualified(alias, ref.schema_name, ref.table_name))

    def project(self, column: Column) -> Projected:
        """As DuckDB holds it."""
        return project(column)

    def origin(
        self,
        duck: duckdb.DuckDBPyConnection,  # noqa: ARG002
        alias: str,
        ref: TableRef,
        relation: Relation,  # noqa: ARG002
        projection: Sequence[Projected],  # noqa: ARG002
        where: str | None,
    ) -> str:
        """The attached table itself."""
        return attached(alias, ref, where)

    def confirm(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, relation: Relation) -> str | None:
        """Nothing to say: DuckDB's transaction is the source's."""

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """DuckDB's interrupt is enough."""

    def is_passing(self, error: str) -> bool:  # noqa: ARG002
        """Nothing is known to pass."""
        return False

    def explain(self, error: str) -> str:
        """DuckDB's own words."""
        return first_line(error)

    def words(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        ref: TableRef,
        relation: Relation,
        projection: Sequence[Projected],
        where: str | None,
        error: str,
    ) -> str | None:
        """Nothing to add: DuckDB says it all."""


def described(duck: duckdb.DuckDBPyConnection, relation: str, target: str | None = None) -> Relation:
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
    return Relation(tuple(Column(row[0], row[1], nullable=row[2] == "YES") for row in rows))


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
            tuple(Column(**column) for column in columns),
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
                'name': column_name, 'type': data_type, 'nullable': is_nullable, 'comment': comment
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

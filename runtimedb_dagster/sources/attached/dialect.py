"""What differs from source to source, for those that DuckDB attaches: a `Dialect`, with what most of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import identifier, literal, qualified
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.projection import Projected, project
from runtimedb_dagster.sources.attached.watch import Peer
from runtimedb_dagster.sources.base import Base, Delta, Ranges, Same, State, Unknown

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
    "is_certain",
    "is_table",
    "same_everywhere",
    "selected",
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
        origin: what stands in the FROM clause instead of the table, if anything does.
    """

    duck: duckdb.DuckDBPyConnection
    alias: str
    ref: TableRef
    relation: Relation[C]
    projection: Sequence[Projected]
    where: str | None
    is_first: bool
    native: bool = False
    origin: str | None = None

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

    now = "now()"
    """SQL of the source for the time by its clock."""

    def quoted(self, name: str) -> str:
        """A name in SQL of the source."""
        return identifier(name)

    def constant(self, text: str) -> str:
        """A text in SQL of the source."""
        return literal(text)

    def ask_of(self, scan: Scan[C], *asked: str) -> Sequence[str | None]:
        """One row of a table's aggregates, by SQL of the source, as text; in the snapshot of `delta`."""
        listed = ", ".join(f"({each})::VARCHAR" for each in asked)
        ((*answers,),) = scan.duck.execute(f"SELECT {listed} FROM {self.from_clause(scan)}").fetchall()
        return answers

    def primary_key(self, scan: Scan[C]) -> Sequence[str]:  # noqa: ARG002
        """The columns of a table's primary key, or of what is as good; none if it has none, or that is not known."""
        return ()

    def position(self, scan: Scan[C]) -> Position | None:  # noqa: ARG002
        """What tells later what has changed since the moment of a scan; None if nothing does."""
        return None

    def delta(self, scan: Scan[C], base: Base) -> tuple[Delta, str]:
        """What is known of a table against a base of the same columns and recipe, and where its rows may have changed.

        The latter is for `changed`. By default nothing changed if the position is the same.
        """
        position = self.position(scan)
        if position is None:
            return Unknown("the source can't tell what changed"), ""
        if self.is_same(base.position, position):
            unsure = Unknown("the source only hints that nothing changed, unless trust_hints says more", hint=True)
            return (Same() if is_certain(position) else unsure), ""
        return Unknown("the source was written since"), ""

    def is_same(self, before: Position, now: Position) -> bool:
        """Whether nothing can have changed between two positions."""
        return before == now

    def changed(self, scan: Scan[C], what: str) -> Scan[C]:
        """A scan of those rows alone that may have changed, by what `delta` said of them: a condition.

        Of all rows if nothing is said, but in the snapshot in which that was said.
        """
        if not what:
            return scan
        both = " AND ".join(f"({each})" for each in (what, scan.where) if each)
        return replace(scan, where=both or None, native=False)

    def counts(self, scan: Scan[C], number: str) -> dict[int | None, int] | None:  # noqa: ARG002
        """How many rows there are of each value of a whole number, SQL of the source; None if it is not asked that.

        In the snapshot in which `delta` was said.
        """
        return None

    def numbered(self, column: str, ranges: Ranges) -> str:
        """The number of the range that the value of a column is in, in SQL of the source."""
        return f"((CAST({column} AS bigint) - ({ranges.lowest})) / {ranges.width})"

    def within(self, number: str, numbers: Sequence[int]) -> str:
        """SQL of the source that is true for rows in one of some ranges, by their numbers."""
        return f"{number} IN ({', '.join(map(str, numbers)) or 'NULL'})"

    def states(
        self,
        duck: duckdb.DuckDBPyConnection,  # noqa: ARG002
        alias: str,  # noqa: ARG002
        bases: Mapping[TableRef, Base],  # noqa: ARG002
        wheres: Mapping[TableRef, str],  # noqa: ARG002
        *,
        thorough: bool,  # noqa: ARG002
    ) -> Mapping[TableRef, State]:
        """Which bases the tables still hold, asked of many at once in the transaction of `duck`.

        Args:
            duck: see `describe`.
            alias: see `describe`.
            bases: by table.
            wheres: the conditions that rows must meet, of tables that have one.
            thorough: ask even what costs a scan of a large table.
        """
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
        return selected(scan.origin or qualified(scan.alias, scan.ref.schema_name, scan.ref.table_name), scan.where)

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
    return selected(qualified(alias, ref.schema_name, ref.table_name), where)


def selected(relation: str, where: str | None) -> str:
    """A relation in a FROM clause, or those of its rows that a condition leaves."""
    return relation if where is None else f"(SELECT * FROM {relation} WHERE {where})"


def is_table(scan: Scan[SourceColumn]) -> bool:
    """Whether a relation of an attached database is a table, and not a view."""
    name, ref = literal(scan.alias), scan.ref
    query = (
        f"SELECT 1 FROM duckdb_tables() WHERE database_name = {name} AND schema_name = {literal(ref.schema_name)} "
        f"AND table_name = {literal(ref.table_name)}"
    )
    return scan.duck.execute(query).fetchone() is not None


def is_certain(position: Position) -> bool:
    """Whether an equal position proves that nothing changed; else it is a hint."""
    return bool(position.get("certain", True))


def same_everywhere(
    dialect: Dialect[Any], bases: Mapping[TableRef, Base], position: Position | None
) -> dict[TableRef, State]:
    """Those of some bases that a source still holds whose position is of all its tables at once."""
    if position is None:
        return {}
    state = State(position, proof=is_certain(position))
    return {ref: state for ref, base in bases.items() if dialect.is_same(base.position, position)}


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

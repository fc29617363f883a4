"""DuckDB files: `duckdb:///path/to/file.duckdb`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
from pydantic import BaseModel, ConfigDict

from runtimedb_dagster.duck import first_line
from runtimedb_dagster.model import Column, DiscoveredTable, TableRef
from runtimedb_dagster.sources.adapter import Relation, TableIsGone
from runtimedb_dagster.sources.projection import Projected, project
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster.sql import identifier, literal, qualified

__all__ = ["DuckDBFile", "NoOptions", "attached", "described", "discovered", "discovery_query"]

TAKEN_NAMES = {"main", "memory", "system", "temp"}


class NoOptions(BaseModel):
    """A source without options of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class DuckDBFile:
    """The dialect of a DuckDB file. It is opened read-only, so a process that writes it locks it."""

    options = NoOptions
    extensions: Sequence[str] = ()

    def __init__(self, url: SourceUrl, options: NoOptions, password: str | None) -> None:  # noqa: ARG002 - as the others
        """Read the file that `url` names."""
        self._path = Path(url.path)

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the file by the name DuckDB itself would give it: its views may contain that name."""
        alias = self._path.stem
        if alias.lower() in TAKEN_NAMES:
            alias = f"{alias}_file"
        duck.execute(f"ATTACH {literal(str(self._path))} AS {identifier(alias)} (READ_ONLY)")
        return alias

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Count its schemas."""
        duck.execute(f"SELECT count(*) FROM duckdb_schemas() WHERE database_name = {literal(alias)}")

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """Tables and views, with their columns, from DuckDB's own catalog functions."""
        return discovered(duck.execute(discovery_query(alias)).fetchall())

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation:
        """The table in DuckDB's words. Views of the source may name their tables without schema or database."""
        duck.execute(f"USE {identifier(alias)}")
        return described(duck, alias, ref)

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

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """DuckDB's interrupt is enough."""

    def is_passing(self, error: str) -> bool:
        """A file that somebody writes."""
        return "Could not set lock" in error or "already attached" in error

    def explain(self, error: str) -> str:
        """DuckDB's message, and what to do where that is known."""
        if "Could not set lock" in error:
            holder = re.search(r"PID (\d+)", error)
            who = f"process {holder[1]}" if holder else "another process"
            return f"{who} has it open for writing; close it there, or connect to a copy"
        if "does not exist" in error:
            return "there is no such file"
        if "already attached" in error:
            return "this process has it open for writing; close it first"
        return first_line(error)


def described(duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation:
    """What DuckDB says of an attached table.

    Raises:
        TableIsGone
    """
    try:
        rows = duck.execute(f"DESCRIBE {qualified(alias, ref.schema_name, ref.table_name)}").fetchall()
    except duckdb.CatalogException as error:
        raise TableIsGone(f" ({first_line(error)})") from error
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

"""DuckDB files: `duckdb:///path/to/file.duckdb`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import duckdb

from runtimedb_dagster.model import Column
from runtimedb_dagster.sources.projection import Projected, project
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster.sql import identifier, literal

__all__ = ["DuckDBFile"]

TAKEN_NAMES = {"main", "memory", "system", "temp"}


class DuckDBFile:
    """The dialect of a DuckDB file. It is opened read-only, so a process that writes it locks it."""

    options: Mapping[str, str] = {}

    def __init__(self, url: SourceUrl) -> None:
        """Read the file that `url` names."""
        self._path = Path(url.path)

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the file by the name DuckDB itself would give it: its views may contain that name."""
        alias = self._path.stem
        if alias.lower() in TAKEN_NAMES:
            alias = f"{alias}_file"
        duck.execute(f"ATTACH {literal(str(self._path))} AS {identifier(alias)} (READ_ONLY)")
        return alias

    def discovery_query(self, alias: str) -> str:
        """Tables and views, with their columns, from DuckDB's own catalog functions."""
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

    def project(self, column: Column) -> Projected:
        """As DuckDB holds it."""
        return project(column)

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
        return error

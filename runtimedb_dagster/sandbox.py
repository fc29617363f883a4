"""The sandbox of the reader: one SELECT, over the files of the tables that it names, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from runtimedb_dagster.errors import QueryError
from runtimedb_dagster.model import TableRef
from runtimedb_dagster.sql import identifier, literal, qualified

__all__ = ["Parameters", "Sandbox", "tables_named"]

Parameters = Sequence[Any] | Mapping[str, Any] | None

# Schemas of DuckDB's own, which need no connection before them.
OWN_SCHEMAS = {"information_schema", "pg_catalog"}

# Table functions that read nothing but their arguments and what is in the sandbox. Others reach further:
# `enable_logging` in a FROM clause changes the process, and `query` hides names from the check.
TABLE_FUNCTIONS = {
    "generate_series", "json_each", "json_tree", "pragma_table_info", "range", "repeat", "repeat_row", "unnest",
    "duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_schemas", "duckdb_tables", "duckdb_types",
    "duckdb_views",
}  # fmt: skip

LOCKED_DOWN: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}


class Sandbox:
    """A DuckDB that can read some files, by their tables' names, and do nothing else.

    `allowed_paths` can't be widened once the configuration is locked, so each set of tables has its own.
    """

    def __init__(
        self,
        locations: Mapping[TableRef, str],
        temporary: Path,
        config: Mapping[str, Any],
        make_readable: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> None:
        """Make the tables at `locations` views; what does not fit into memory goes to `temporary`.

        `make_readable` lets DuckDB read the locations, before everything else is put out of reach.
        """
        self.refs = set(locations)
        self.duck = duckdb.connect(":memory:", config={**LOCKED_DOWN, "temp_directory": str(temporary), **config})
        self.duck.execute("SET TimeZone = 'UTC'")
        # DuckDB copies HTTP_PROXY into it, password and all, for any query to read. httpfs uses the variable itself.
        self.duck.execute("SET http_proxy = ''")
        for connection in sorted({ref.connection for ref in locations}):
            self.duck.execute(f"ATTACH ':memory:' AS {identifier(connection)}")
        if locations:
            make_readable(self.duck)
        for ref, location in locations.items():
            self._create_view(ref, location)
        allowed = ", ".join(literal(location) for location in locations.values())
        self.duck.execute(f"SET allowed_paths = [{allowed}]")
        self.duck.execute("SET enable_external_access = false")
        self.duck.execute("SET lock_configuration = true")

    def _create_view(self, ref: TableRef, location: str) -> None:
        self.duck.execute(f"CREATE SCHEMA IF NOT EXISTS {qualified(ref.connection, ref.schema_name)}")
        self.duck.execute(
            f"CREATE VIEW {qualified(ref.connection, ref.schema_name, ref.table_name)} AS "
            f"SELECT * FROM read_parquet({literal(location)}, hive_partitioning = false)"
        )


def tables_named(query: str) -> set[tuple[str, str, str]]:
    """The tables that one SELECT names, as (connection, schema, table).

    Raises:
        QueryError: it is no statement, more than one, or no SELECT; or a table's name is incomplete.
    """
    if not _is_text(query):
        raise QueryError("The query holds characters that are no text (halves of a surrogate pair)")
    _require_one_select(query)
    nodes = list(_nodes(_syntax_tree(query)))
    for node in nodes:
        if node.get("type") == "TABLE_FUNCTION":
            _require_harmless(node["function"])
    named = {
        (node["catalog_name"], node["schema_name"], node["table_name"])
        for node in nodes
        if node.get("type") == "BASE_TABLE"
    }
    for catalog, schema, table in named:
        if schema and not catalog and schema.lower() not in OWN_SCHEMAS:
            raise QueryError(f"The table '{schema}.{table}' lacks its connection; write connection.schema.table")
    return {name for name in named if all(name)}


def _is_text(query: str) -> bool:
    try:
        query.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={**LOCKED_DOWN, "enable_external_access": False, "threads": 1})


def _require_one_select(query: str) -> None:
    with _parser().cursor() as parser:
        try:
            statements = parser.extract_statements(query)
        except duckdb.Error as error:
            raise QueryError(f"The query can't be parsed: {error}") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError(f"A query is exactly one SELECT, not {len(statements)} statements or another kind")


def _syntax_tree(query: str) -> Any:
    with _parser().cursor() as parser:
        row = parser.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    try:
        tree = json.loads(row[0]) if row else {"error": True, "error_message": "no answer from the parser"}
    except RecursionError:
        raise QueryError("The query is nested too deeply; write it with fewer expressions within others") from None
    if tree["error"]:
        raise QueryError(f"A query is exactly one SELECT: {tree['error_message']}")
    return tree["statements"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of a syntax tree, wherever it stands."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
        if isinstance(node, dict | list):
            waiting.extend(node.values() if isinstance(node, dict) else node)


def _require_harmless(function: dict[str, Any]) -> None:
    name = str(function.get("function_name", "")).lower()
    if name not in TABLE_FUNCTIONS:
        raise QueryError(
            f"The table function '{name}' can't be used in a query: it could reach beyond the tables that the "
            "query names. Name tables as connection.schema.table"
        )

"""Whether a statement is one SELECT that does no harm, and which tables it names.

DuckDB's parser writes a statement down as JSON, which is searched as a text: to make Python's objects of it takes
hundreds of times the size of the statement. Quotation marks within its strings are escaped, so no name or literal can
pass for a node.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import connect, lock_down
from runtimedb_dagster.domain.errors import QueryError

__all__ = ["tables_named"]

# Schemas of DuckDB's own, which need no connection before them.
OWN_SCHEMAS = {"information_schema", "pg_catalog"}

# Table functions that read nothing but their arguments and what is in the sandbox. Others reach further:
# `enable_logging` in a FROM clause changes the process, and `query` hides names from the check.
TABLE_FUNCTIONS = {
    "generate_series", "json_each", "json_tree", "pragma_table_info", "range", "repeat", "repeat_row", "unnest",
    "duckdb_columns", "duckdb_functions", "duckdb_keywords", "duckdb_schemas", "duckdb_tables", "duckdb_types",
    "duckdb_views",
}  # fmt: skip

# A nested value of some depth has these overflow the stack, which ends the process.
CRASHING = {
    "json_structure", "json_group_structure", "json_contains", "json_merge_patch", "json_transform",
    "json_transform_strict", "from_json", "from_json_strict", "json_serialize_plan", "json_execute_serialized_sql",
}  # fmt: skip
# These reach beyond the query: into the log, the session, the clock of whoever waits, settings that name paths.
REACHING = {
    "getenv", "getvariable", "nextval", "currval", "pg_sleep", "setseed", "sleep_ms", "write_log",
}  # fmt: skip
# A path with many wildcards has what reads JSON overflow the stack; one that a query makes up can't be seen here.
WILDCARDS = re.compile(r'"value":"\$?(?:[^"\\]|\\.)*?(?:(?:\[\*\]|\.\*)(?:[^"\\]|\\.)*?){100}')
OFFSETTING = {"lag", "lead"}
# The smallest number of 64 bits has no positive one.
GREATEST_OFFSET = 2**62
MOST_NAME_PARTS = 50

# What the parser may take of a statement, so that a long one fails and nothing else.
PARSER_LIMITS = {"memory_limit": "512MB", "threads": 1}
# Runs of numbers are what makes statements long; where one stands, none of its numbers is a name.
LONG = 100_000
# Of other values so many fit; to find out that more don't takes the parser half a minute.
MOST_VALUES = 250_000
NUMBERS = re.compile(r"(?:,[ \t]*+-?[0-9]++(?:\.[0-9]++)?+[ \t]*+(?=,)){64,}+")

TABLE = re.compile(r'\{(?:"class":"[A-Z_]+",)?"type":"(BASE_TABLE|TABLE_FUNCTION)"')
FUNCTION = re.compile(r'"function_name":"((?:[^"\\]|\\.)*)"')
NODE_START = '{"class":"'
COLUMN = re.compile(r'"column_names":\[((?:"(?:[^"\\]|\\.)*",?)*)\]')
VARIANT = re.compile(r'"(?:id|name)":"variant"', re.IGNORECASE)


def tables_named(query: str) -> set[tuple[str, str, str]]:
    """The tables that one SELECT names, as (connection, schema, table).

    Raises:
        QueryError: it is not exactly one SELECT; a table's name is incomplete; or it would do harm.
    """
    if not _is_text(query):
        raise QueryError("The query holds characters that are not text (halves of a surrogate pair)")
    _require_one_select(query)
    tree = _tree(query)
    _require_harmless(tree)
    named = set()
    for found in TABLE.finditer(tree):
        if found[1] == "TABLE_FUNCTION":
            _require_harmless_source(tree, found.end())
            continue
        node = _node(tree, found.start())
        catalog, schema, table = node["catalog_name"], node["schema_name"], node["table_name"]
        if schema and not catalog and schema.lower() not in OWN_SCHEMAS:
            raise QueryError(f"The table '{schema}.{table}' lacks its connection; write connection.schema.table")
        if catalog and schema and table:
            named.add((catalog, schema, table))
    return named


def _is_text(query: str) -> bool:
    try:
        query.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    duck = connect(PARSER_LIMITS)
    lock_down(duck)
    return duck


def _require_one_select(query: str) -> None:
    with _parser().cursor() as parser:
        try:
            statements = parser.extract_statements(query)
        except duckdb.Error as error:
            raise QueryError(f"The query can't be parsed: {error}") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryError(
            f"A query is exactly one SELECT, not {len(statements)} statements or another kind "
            "(a PIVOT without IN (…) is two)"
        )


def _tree(query: str) -> str:
    """The statement as DuckDB's parser sees it, runs of numbers left out."""
    shorter = NUMBERS.sub(",0", query) if len(query) > LONG else query
    if shorter.count(",") > MOST_VALUES:
        raise _too_long(query)
    tree = _serialized(shorter)
    if tree.startswith('{"error":true') and shorter != query:
        tree = _serialized(query)
    if tree.startswith('{"error":true'):
        raise QueryError(f"A query is exactly one SELECT: {json.loads(tree)['error_message']}")
    return tree


def _serialized(query: str) -> str:
    with _parser().cursor() as parser:
        try:
            row = parser.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
        except duckdb.OutOfMemoryException:
            raise _too_long(query) from None
        except duckdb.Error as error:
            raise QueryError(f"The query can't be parsed: {error}") from error
    return str(row[0]) if row else '{"error":true,"error_message":"no answer from the parser"}'


def _too_long(query: str) -> QueryError:
    return QueryError(
        f"The query is too long to be looked through ({len(query):,} characters); join a table instead of "
        "listing values"
    )


def _node(tree: str, start: int) -> dict[str, Any]:
    """The node that begins at `start`."""
    try:
        node, _ = json.JSONDecoder().raw_decode(tree, start)
    except RecursionError:
        raise QueryError("The query is nested too deeply; write it with fewer expressions within others") from None
    return dict(node)


def _require_harmless_source(tree: str, start: int) -> None:
    found = FUNCTION.search(tree, start)
    name = _text(found[1]).lower() if found else ""
    if name not in TABLE_FUNCTIONS:
        raise QueryError(
            f"The table function '{name}' can't be used in a query: it could reach beyond the tables that the "
            "query names. Name tables as connection.schema.table"
        )


def _require_harmless(tree: str) -> None:
    if VARIANT.search(tree):
        raise QueryError("The type VARIANT can't be used in a query: a nested value of some depth ends the process")
    if WILDCARDS.search(tree):
        raise QueryError(
            "A path in the query has too many wildcards: with a nested value of some depth it ends the process"
        )
    for found in COLUMN.finditer(tree):
        if found[1].count('","') >= MOST_NAME_PARTS:
            raise QueryError(f"A column's name in the query has more than {MOST_NAME_PARTS} parts")
    for found in FUNCTION.finditer(tree):
        name = _text(found[1]).lower()
        if name in CRASHING:
            raise QueryError(
                f"The function '{name}' can't be used in a query: a nested value of some depth ends the process"
            )
        if name in REACHING:
            raise QueryError(f"The function '{name}' can't be used in a query: it reaches beyond the query")
        if name in OFFSETTING:
            _require_small_offset(name, _node(tree, tree.rindex(NODE_START, 0, found.start())))


def _require_small_offset(name: str, node: dict[str, Any]) -> None:
    value = ((node.get("offset_expr") or {}).get("value") or {}).get("value")
    if isinstance(value, int) and abs(value) >= GREATEST_OFFSET:
        raise QueryError(f"The function '{name}' can't be used with an offset of {value} in a query")


def _text(escaped: str) -> str:
    return str(json.loads(f'"{escaped}"'))

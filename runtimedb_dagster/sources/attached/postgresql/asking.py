"""What is asked of the server through DuckDB's connection to it; and of one table that is about to be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from runtimedb_dagster.common.sql import identifier, literal, qualified
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.sources.attached.dialect import Scan
from runtimedb_dagster.sources.attached.postgresql import catalog
from runtimedb_dagster.sources.attached.postgresql.types import PostgreSQLColumn
from runtimedb_dagster.sources.attached.projection import Projected

__all__ = [
    "ask",
    "is_replica",
    "other_dimensions",
    "require_exact",
    "run",
    "select_list",
    "table_name",
]


def table_name(scan: Scan[PostgreSQLColumn]) -> str:
    return qualified(scan.ref.schema_name, scan.ref.table_name)


def other_dimensions(scan: Scan[PostgreSQLColumn]) -> str | None:
    for each in scan.projection:
        name = identifier(each.source_name)
        found = f"SELECT 1 AS n FROM {table_name(scan)} WHERE pg_catalog.array_ndims({name}) > 1 LIMIT 1"
        if (each.arrives or "").endswith("[]") and ask(scan.duck, scan.alias, found):
            return (
                f"column {name} ({each.column.source_type}) holds arrays that differ in their number of dimensions; "
                "set the option arrays=text"
            )
    return None


def is_replica(duck: duckdb.DuckDBPyConnection, alias: str) -> bool:
    """Whether the server is a replica by what it receives; so it is taken for one if it does not say."""
    try:
        return bool(ask(duck, alias, catalog.WAL_RECEIVER)[0][0])
    except duckdb.Error:
        return True


def select_list(projection: Sequence[Projected]) -> str:
    """The select list on the server."""
    listed = [
        part
        for each in projection
        for part in (each.parts or [(each.source_name, each.remote or identifier(each.source_name))])
    ]
    return ", ".join(f"{sql} AS {identifier(name)}" for name, sql in listed)


def require_exact(scan: Scan[PostgreSQLColumn]) -> None:
    guarded = [each for each in scan.projection if each.guard]
    if not guarded:
        return
    listed = ", ".join(f"coalesce({each.guard}, false) AS c{i}" for i, each in enumerate(guarded))
    found = " OR ".join(f"({each.guard})" for each in guarded)
    condition = f"({scan.where}) AND ({found})" if scan.where else found
    for row in ask(scan.duck, scan.alias, f"SELECT {listed} FROM {table_name(scan)} WHERE {condition} LIMIT 1"):
        each = guarded[row.index(True)]
        column = each.column
        raise TypeContractError(f"column {identifier(column.name)} ({column.source_type}): {each.because}")


def ask(duck: duckdb.DuckDBPyConnection, alias: str, query: str) -> list[tuple[Any, ...]]:
    return duck.execute(f"SELECT * FROM postgres_query({literal(alias)}, {literal(query)})").fetchall()


def run(duck: duckdb.DuckDBPyConnection, alias: str, statements: str) -> None:
    duck.execute(f"CALL postgres_execute({literal(alias)}, {literal(statements)}, use_transaction = true)")

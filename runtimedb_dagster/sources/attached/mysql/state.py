"""Whether anything was written to a MariaDB server: its log has come no further."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import duckdb

from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Position

__all__ = ["is_same", "logged", "position"]

Ask = Callable[[str], list[tuple[Any, ...]]]

# All that InnoDB writes goes through this log first. (MySQL has a status of that name no more.)
STATUS = """
    SELECT VARIABLE_NAME AS name, VARIABLE_VALUE AS value FROM information_schema.GLOBAL_STATUS
    WHERE VARIABLE_NAME IN ('INNODB_LSN_CURRENT', 'UPTIME')
    UNION ALL SELECT 'NOW', UNIX_TIMESTAMP() UNION ALL SELECT 'ID', @@server_id UNION ALL SELECT 'HOST', @@hostname
    UNION ALL SELECT 'VERSION', VERSION()
"""
# The columns that the login may read, of tables that are kept by InnoDB.
LOGGED = """
    SELECT CONVERT(t.TABLE_SCHEMA USING utf8mb4) AS s, CONVERT(t.TABLE_NAME USING utf8mb4) AS t,
        CONVERT(c.COLUMN_NAME USING utf8mb4) AS c
    FROM information_schema.TABLES t JOIN information_schema.COLUMNS c
        ON c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME
    WHERE t.ENGINE = 'InnoDB' AND t.TABLE_SCHEMA IN ({schemas}) AND c.PRIVILEGES LIKE '%select%'
"""
# The start of a server is known to the second, by two clocks that are read one after the other.
SECONDS = 3


def position(duck: duckdb.DuckDBPyConnection, query: Callable[[str], str]) -> Position | None:
    """How far the log has come, and of which server; None if it does not say.

    Taken before anything is read: what is read then is not older.
    """
    try:
        rows = duck.execute(f"SELECT name, value::VARCHAR FROM {query(STATUS)}").fetchall()
    except duckdb.Error:
        return None
    found = {name.upper(): value for name, value in rows}
    if "INNODB_LSN_CURRENT" not in found or "MariaDB" not in found.get("VERSION", ""):
        return None
    started = int(float(found["NOW"])) - int(float(found["UPTIME"]))
    return {
        "by": "log",
        "log": found["INNODB_LSN_CURRENT"],
        "server": [found["ID"], found["HOST"], found["VERSION"]],
        "started": started,
    }


def is_same(before: Position, now: Position) -> bool:
    """Whether nothing was written between two positions."""
    if before.get("by") != "log" or (before["log"], before["server"]) != (now["log"], now["server"]):
        return False
    return abs(int(before["started"]) - int(now["started"])) <= SECONDS


def logged(
    duck: duckdb.DuckDBPyConnection, query: Callable[[str], str], refs: Iterable[TableRef]
) -> dict[tuple[str, str], set[str]]:
    """Tables of some schemas, by schema and name, of which the log tells, with the columns that the login may read."""
    schemas = ", ".join(f"_utf8mb4 x'{name.encode().hex()}'" for name in sorted({ref.schema_name for ref in refs}))
    rows = duck.execute(f"SELECT s, t, c FROM {query(LOGGED.format(schemas=schemas or 'NULL'))}").fetchall()
    found: dict[tuple[str, str], set[str]] = {}
    for schema, table, column in rows:
        found.setdefault((schema, table), set()).add(column)
    return found

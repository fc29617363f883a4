"""What has changed in a DuckLake: each of its snapshots says which tables it did something to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import duckdb

from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import Scan, attached
from runtimedb_dagster.sources.base import Base, Changed, Delta, Same, State, Unknown

__all__ = ["delta", "position", "states"]

# What says of itself that it only added rows.
INSERTS = ("inserted_into_table", "inlined_insert")

TABLES = """
    SELECT s.schema_name, t.table_name, t.table_id, t.table_uuid::VARCHAR
    FROM {place}.ducklake_table t JOIN {place}.ducklake_schema s USING (schema_id)
    WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL
"""


def position(scan: Scan[Any], place: str) -> Position | None:
    """The position of a table in the snapshot that the transaction sees; None if the lake does not tell."""
    tables = _tables(scan.duck, place)
    found = tables.get((scan.ref.schema_name, scan.ref.table_name))
    return None if found is None else _position(_current(scan.duck, place), found)


def delta(scan: Scan[Any], place: str, base: Base) -> tuple[Delta, str]:
    """What the snapshots since the base's did to a table, and the relation of what they inserted."""
    now = position(scan, place)
    if now is None:
        return Unknown("the lake does not tell what changed"), ""
    changes, reason = _since(scan.duck, place, base.position, now)
    if reason:
        return Unknown(reason), ""
    kinds = [kind for kind, table in changes if table == now["table"]]
    if not kinds:
        return Same(), ""
    if any(kind not in INSERTS for kind in kinds):
        return Unknown("rows of it were deleted, updated or rewritten since"), ""
    name = ", ".join(literal(each) for each in (scan.alias, scan.ref.schema_name, scan.ref.table_name))
    inserted = f"ducklake_table_insertions({name}, {base.position['snapshot'] + 1}, {now['snapshot']})"
    counted = f"SELECT count(*) FROM {attached(scan.alias, scan.ref, scan.where)}"
    ((count,),) = scan.duck.execute(counted).fetchall()
    return Changed(None, count, ()), inserted


def states(duck: duckdb.DuckDBPyConnection, place: str, bases: Mapping[TableRef, Base]) -> dict[TableRef, State]:
    """Which bases the tables still hold."""
    tables, current = _tables(duck, place), _current(duck, place)
    found: dict[TableRef, State] = {}
    for ref, base in bases.items():
        table = tables.get((ref.schema_name, ref.table_name))
        if table is None:
            continue
        now = _position(current, table)
        changes, reason = _since(duck, place, base.position, now)
        if not reason and all(changed != now["table"] for _, changed in changes):
            found[ref] = State(now)
    return found


def _tables(duck: duckdb.DuckDBPyConnection, place: str) -> dict[tuple[str, str], tuple[int, str]]:
    rows = duck.execute(TABLES.format(place=place)).fetchall()
    return {(schema, table): (number, uuid) for schema, table, number, uuid in rows}


def _current(duck: duckdb.DuckDBPyConnection, place: str) -> tuple[int, str]:
    query = f"SELECT snapshot_id, snapshot_time::VARCHAR FROM {place}.ducklake_snapshot ORDER BY 1 DESC LIMIT 1"
    ((number, time),) = duck.execute(query).fetchall()
    return int(number), str(time)


def _position(snapshot: tuple[int, str], table: tuple[int, str]) -> dict[str, Any]:
    return {"by": "snapshot", "snapshot": snapshot[0], "time": snapshot[1], "table": table[0], "uuid": table[1]}


def _since(
    duck: duckdb.DuckDBPyConnection, place: str, before: Position, now: Position
) -> tuple[list[tuple[str, int]], str | None]:
    """What was done to tables, by their numbers, since a position; and why that is not known, if so."""
    if before.get("by") != "snapshot" or (before["table"], before["uuid"]) != (now["table"], now["uuid"]):
        return [], "the table is another one than before"
    rows = duck.execute(
        f"SELECT snapshot_id, snapshot_time::VARCHAR, changes_made FROM {place}.ducklake_snapshot "
        f"LEFT JOIN {place}.ducklake_snapshot_changes USING (snapshot_id) "
        f"WHERE snapshot_id BETWEEN {int(before['snapshot'])} AND {int(now['snapshot'])} ORDER BY 1"
    ).fetchall()
    if len(rows) != now["snapshot"] - before["snapshot"] + 1 or rows[0][1] != before["time"]:
        return [], "snapshots since were expired, or the lake was restored to an earlier one"
    if any(made is None for _, _, made in rows[1:]):
        return [], "a snapshot does not say what it changed"
    return [(kind, int(number)) for _, _, made in rows[1:] for kind, number in re.findall(r"(\w+):(\d+)", made)], None

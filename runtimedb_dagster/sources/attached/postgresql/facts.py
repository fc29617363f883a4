"""What decides in PostgreSQL whether the rows of a table can be followed: the server, the snapshot, shape and key."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.sources.attached.postgresql.asking import ask
from runtimedb_dagster.sources.attached.postgresql.session import escaped

__all__ = ["GENUINE", "Facts", "Moment", "chosen_by", "facts_of", "followed", "is_genuine", "moment_of", "types_now"]

logger = logging.getLogger(__name__)

# Servers that speak PostgreSQL's protocol, and know nothing of its transactions, say another version or add to it.
GENUINE = re.compile(r"PostgreSQL \d+(\.\d+|devel|beta\d+|rc\d+)*( \(|[ ,]|$)")
LEAST_VERSION = 130_000

# `{system}`: the identity of the cluster, for who may ask for it.
MOMENT = """
    SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text AS horizon,
        pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text AS next,
        (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END - '0/0'::pg_catalog.pg_lsn)::text AS wal,
        pg_catalog.pg_postmaster_start_time()::text AS started,
        (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())::text AS database,
        {system} AS system,
        {types},
        (SELECT pg_catalog.string_agg(pg_catalog.concat(x.extname, ' ', x.extversion), ',' ORDER BY x.extname)
            FROM pg_catalog.pg_extension x) AS extensions,
        pg_catalog.current_setting('lc_monetary') AS money,
        pg_catalog.current_setting('server_version_num')::int AS version
"""
# What is shown of values of types that are made of others, without any row being written; and by which transactions
# that was changed last, so that there and back again is not the same.
TYPES = """
    (SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(pg_catalog.hashtextextended(
        pg_catalog.concat_ws(' ', e.xmin, e.oid, e.enumtypid, e.enumsortorder, e.enumlabel), 1)))
        FROM pg_catalog.pg_enum e) AS labels,
    (SELECT pg_catalog.concat(pg_catalog.count(*), ' ', pg_catalog.sum(pg_catalog.hashtextextended(
        pg_catalog.concat_ws(' ', a.xmin, a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod), 1)))
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        WHERE c.relkind = 'c' AND a.attnum > 0) AS composites
"""
MOMENT_COLUMNS = 11
NO_TYPES = "NULL::text AS labels, NULL::text AS composites"
SYSTEM = (
    "(SELECT pg_catalog.concat(s.system_identifier, ' ', k.timeline_id) "
    "FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() k)"
)
ABOUT = """
    SELECT pg_catalog.version() AS version, pg_catalog.current_setting('server_version_num')::int AS number,
        pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
            AND pg_catalog.has_function_privilege('pg_catalog.pg_control_checkpoint()', 'EXECUTE') AS identified
"""

# Of tables: why their rows can't be followed, what their values depend on, and by which columns a row is known.
FACTS = """
    WITH RECURSIVE wanted AS (
        SELECT c.oid, n.nspname, c.relname, c.relkind, c.relam, c.relfilenode, c.relpages, c.relhassubclass,
            c.relpersistence
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm', 'p', 'v', 'f') AND {chosen}
    ), beneath AS (
        SELECT w.oid AS root, i.inhrelid AS oid FROM wanted w
        JOIN pg_catalog.pg_inherits i ON i.inhparent = w.oid WHERE w.relhassubclass
        UNION
        SELECT b.root, i.inhrelid FROM beneath b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
    ), tree AS (
        SELECT b.root, pg_catalog.string_agg(pg_catalog.concat(c.oid, ':', c.relfilenode), ',' ORDER BY c.oid) AS tree,
            pg_catalog.bool_and(c.relkind = 'p' OR c.relkind = 'r' AND am.amname = 'heap') AS heaps,
            pg_catalog.sum(c.relpages) AS pages
        FROM beneath b JOIN pg_catalog.pg_class c ON c.oid = b.oid LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
        GROUP BY b.root
    ), shape AS (
        SELECT a.attrelid, pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', a.attnum, a.attname,
                a.atttypid, a.atttypmod, a.attnotnull, {generated}, d.description), 1))::text AS shape,
            pg_catalog.bool_or(coalesce(e.typname, t.typname) ~ '^reg[a-z]+$' AND
                coalesce(e.typnamespace, t.typnamespace) = 'pg_catalog'::pg_catalog.regnamespace) AS named,
            pg_catalog.bool_or(t.typtype <> 'b' OR e.typtype <> 'b') AS made
        FROM wanted w JOIN pg_catalog.pg_attribute a ON a.attrelid = w.oid
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
        LEFT JOIN pg_catalog.pg_description d ON d.objoid = a.attrelid AND d.objsubid = a.attnum
            AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
        WHERE a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid
    ), keyed AS (
        SELECT DISTINCT ON (i.indrelid) i.indrelid, (
                SELECT pg_catalog.json_agg(a.attname ORDER BY pg_catalog.array_position(i.indkey::int2[], a.attnum))
                FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])
            )::text AS key
        FROM wanted w JOIN pg_catalog.pg_index i ON i.indrelid = w.oid
        WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
            AND (w.relkind = 'p' OR NOT w.relhassubclass)
            AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])
                    AND NOT (a.attnotnull AND NOT EXISTS (
                        SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'n'
                            AND NOT k.convalidated AND a.attnum = ANY(k.conkey))
                        OR w.relkind = 'm')
            )
        ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid
    )
    SELECT w.nspname::text AS schema_name, w.relname::text AS table_name, w.oid::text AS oid, w.relkind::text AS kind,
        w.relpages + coalesce(tree.pages, 0) AS pages,
        CASE
            WHEN w.relkind IN ('v', 'f') THEN 'a view or a foreign table says nothing of what changed'
            WHEN NOT pg_catalog.has_schema_privilege(w.nspname, 'USAGE')
                OR NOT pg_catalog.has_table_privilege(w.oid, 'SELECT') THEN 'the login may read it in parts only'
            WHEN pg_catalog.row_security_active(w.oid) THEN 'row security applies to the login'
            WHEN w.relkind <> 'p' AND am.amname IS DISTINCT FROM 'heap' OR NOT coalesce(tree.heaps, true)
                THEN 'it is not kept as PostgreSQL keeps tables by itself'
            WHEN shape.named THEN 'a column shows names of other things, which change without it'
        END AS reason,
        pg_catalog.concat(shape.shape, ' ', tree.tree) AS shape, coalesce(shape.made, false) AS made,
        tree.tree IS NULL AND w.relkind <> 'p' AS plain,
        keyed.key AS key
    FROM wanted w LEFT JOIN tree ON tree.root = w.oid LEFT JOIN shape ON shape.attrelid = w.oid
    LEFT JOIN keyed ON keyed.indrelid = w.oid LEFT JOIN pg_catalog.pg_am am ON am.oid = w.relam
"""
GENERATED = (
    "(SELECT pg_catalog.pg_get_expr(g.adbin, g.adrelid) FROM pg_catalog.pg_attrdef g "
    "WHERE g.adrelid = a.attrelid AND g.adnum = a.attnum AND a.attgenerated <> '')"
)


@dataclass(frozen=True)
class Moment:
    """A snapshot of a server.

    Attributes:
        horizon: the oldest transaction that was open.
        next: the one that came next.
        wal: how much had been written to the log by then, in bytes.
        server: what transaction numbers and values depend on, apart from the types that users made.
        types: how those are made, if that was asked.
        version: of the server: 150019 is 15.19.
    """

    horizon: int
    next: int
    wal: int
    server: dict[str, Any]
    types: dict[str, Any]
    version: int


@dataclass(frozen=True)
class Facts:
    """What decides whether the rows of a table can be followed.

    Attributes:
        reason: why they can't; None if they can.
        shape: of its columns, and its partitions and children; whatever differs in it makes a position meaningless.
        made: whether it has columns of types that users made.
        plain: whether all its rows are in one file of the server.
        key: the columns by which a row is known; empty if there are none.
    """

    oid: str
    kind: str
    pages: int
    reason: str | None
    shape: str
    made: bool
    plain: bool
    key: tuple[str, ...]


def moment_of(duck: duckdb.DuckDBPyConnection, alias: str, *, identified: bool, types: bool) -> Moment:
    """The snapshot of the transaction that `duck` has open.

    Args:
        duck: see `facts_of`.
        alias: see `facts_of`.
        identified: whether the server says which cluster it is.
        types: whether to ask how users' types are made, which takes a look at all tables of the catalog.
    """
    (row,) = ask(duck, alias, _moment(identified=identified, types=types))
    return _moment_of(row)


def followed(
    duck: duckdb.DuckDBPyConnection, alias: str, address: tuple[str, str], *, identified: bool
) -> tuple[Moment, Facts | None]:
    """The snapshot of the transaction that `duck` has open, and what it knows of one table: in one question."""
    row = _ask_both(duck, alias, chosen_by([address]), identified=identified, types=False)
    if row[MOMENT_COLUMNS] is None:
        return _moment_of(row[:MOMENT_COLUMNS]), None
    _, found = _facts_of(row[MOMENT_COLUMNS:])
    if found.made:
        return moment_of(duck, alias, identified=identified, types=True), found
    return _moment_of(row[:MOMENT_COLUMNS]), found


def _ask_both(
    duck: duckdb.DuckDBPyConnection, alias: str, chosen: str, *, identified: bool, types: bool
) -> tuple[Any, ...]:
    """The columns of the snapshot, and behind them those of one table, which are NULL if it is not there."""
    facts = FACTS.format(chosen=chosen, generated=GENERATED)
    query = f"SELECT moment.*, facts.* FROM ({_moment(identified=identified, types=types)}) AS moment "
    (row,) = ask(duck, alias, f"{query} LEFT JOIN ({facts}) AS facts ON true")
    return row


def _moment(*, identified: bool, types: bool) -> str:
    return MOMENT.format(system=SYSTEM if identified else "NULL::text", types=TYPES if types else NO_TYPES)


def _moment_of(row: Sequence[Any]) -> Moment:
    horizon, next_, wal, started, database, system, labels, composites, extensions, money, version = row
    server = {"started": started, "database": database, "system": system, "extensions": extensions, "money": money}
    return Moment(int(horizon), int(next_), int(wal), server, {"labels": labels, "composites": composites}, version)


def types_now(duck: duckdb.DuckDBPyConnection, alias: str) -> dict[str, Any]:
    """How the types that users made are made now, whatever the snapshot of a transaction knows."""
    with duck.cursor() as aside:
        ((labels, composites),) = ask(aside, alias, f"SELECT {TYPES}")
    return {"labels": labels, "composites": composites}


def is_genuine(duck: duckdb.DuckDBPyConnection, alias: str) -> tuple[bool, bool]:
    """Whether the server is PostgreSQL, and can be asked all that is asked here; and whether it says which cluster."""
    try:
        ((version, number, identified),) = ask(duck, alias, ABOUT)
        if not GENUINE.match(version) or "-YB-" in version or number < LEAST_VERSION:
            return False, False
        # Once outside the transaction of a reading, which an error would end.
        _ask_both(duck, alias, "FALSE", identified=identified, types=True)
    except duckdb.Error as error:
        logger.info("tables are read whole, for the server can't be asked what changed: %s", first_line(error))
        return False, False
    return True, identified


def facts_of(duck: duckdb.DuckDBPyConnection, alias: str, chosen: str) -> dict[tuple[str, str], Facts]:
    """Of tables, by schema and name, in the transaction of `duck`."""
    return dict(map(_facts_of, ask(duck, alias, FACTS.format(chosen=chosen, generated=GENERATED))))


def _facts_of(row: Sequence[Any]) -> tuple[tuple[str, str], Facts]:
    schema, table, oid, kind, pages, reason, shape, made, plain, key = row
    return (schema, table), Facts(oid, kind, int(pages), reason, shape, made, plain, tuple(json.loads(key or "[]")))


def chosen_by(addresses: Iterable[tuple[str, str]]) -> str:
    """SQL that chooses tables by schema and name: one by the index, many by a hash."""
    listed = [(escaped(schema), escaped(table)) for schema, table in addresses]
    if len(listed) == 1:
        return f"n.nspname = {listed[0][0]} AND c.relname = {listed[0][1]}"
    values = ", ".join(f"({schema}, {table})" for schema, table in listed)
    return f"(n.nspname::text, c.relname::text) IN (SELECT v.s, v.t FROM (VALUES {values}) AS v (s, t))"

"""What has changed in PostgreSQL since a version was read: by the transactions that wrote the rows, with SELECT alone.

The position is a horizon: the oldest transaction that was still open when the base was read. Whatever was changed since
then was written by it or by a later one, so its rows are among those whose `xmin` is not older; and what has not been
changed is in the base. How many rows there are, counted in the same snapshot, tells whether rows are gone besides.

All of it is worth nothing where transaction numbers mean something else than they did, or where values change without a
row being written: for that the position remembers what they depend on.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import first_line, transaction
from runtimedb_dagster.common.sql import qualified
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import Scan
from runtimedb_dagster.sources.attached.postgresql.asking import ask, run, table_name
from runtimedb_dagster.sources.attached.postgresql.session import escaped
from runtimedb_dagster.sources.base import Base, Changed, Delta, Same, State, Unknown

__all__ = ["Facts", "Moment", "chosen_by", "condition_since", "delta", "facts_of", "moment_of", "position_of", "states"]

logger = logging.getLogger(__name__)

# As many tables are asked about in one statement.
TABLES_PER_STATEMENT = 200
# What takes longer to scan is asked about by the refresh that would read it, in its own snapshot.
LARGE_FROM_PAGES = 5_000
# Of a large table, to estimate how much of it may have changed.
SAMPLED_PERCENT = 1
# Up to this part of a table, rows are fetched by their places, if these are not more text than that.
FEW = 0.02
LONGEST_LIST = 4_000_000
# From this release on, workers make parts of an array side by side.
PARALLEL_ARRAYS = 160_000
# Numbers of transactions are compared by 32 bits: those farther away than that would look like those to come.
FARTHEST = 2**31 - 1_000_000

# Servers that speak PostgreSQL's protocol, and know nothing of its transactions, say another version or add to it.
GENUINE = re.compile(r"PostgreSQL \d+(\.\d+|devel|beta\d+|rc\d+)*( \(|[ ,]|$)")
LEAST_VERSION = 130_000

# Extensions that come with PostgreSQL, and some that are everywhere; none of them scans tables in its own way.
CONTRIB = {
    "plpgsql", "plperl", "plperlu", "plpython3u", "pltcl", "adminpack", "amcheck", "autoinc", "bloom", "btree_gin",
    "btree_gist", "citext", "cube", "dblink", "dict_int", "dict_xsyn", "earthdistance", "fuzzystrmatch", "hstore",
    "insert_username", "intagg", "intarray", "isn", "lo", "ltree", "moddatetime", "pageinspect", "pg_buffercache",
    "pg_freespacemap", "pg_prewarm", "pg_stat_statements", "pg_trgm", "pg_visibility", "pg_walinspect", "pgcrypto",
    "pgrowlocks", "pgstattuple", "postgres_fdw", "file_fdw", "refint", "seg", "sslinfo", "tablefunc", "tcn",
    "tsm_system_rows", "tsm_system_time", "unaccent", "uuid-ossp", "xml2", "postgis", "postgis_topology", "vector",
    "pg_cron", "pgaudit", "pg_partman",
}  # fmt: skip

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
        pg_catalog.current_setting('lc_monetary') AS money
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

# Which tables are not in the files, or not behind the name, by which the snapshot knows them.
REPLACED = """
    WITH RECURSIVE beneath AS (
        SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid IN ({oids})
        UNION
        SELECT i.inhrelid FROM beneath b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
    )
    SELECT 1 AS n FROM beneath JOIN pg_catalog.pg_class c ON c.oid = beneath.oid
    WHERE c.relkind IN ('r', 'm') AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
    UNION ALL
    SELECT 1 FROM (VALUES {names}) AS known (oid, name)
    WHERE pg_catalog.to_regclass(known.name)::pg_catalog.oid IS DISTINCT FROM known.oid::pg_catalog.oid
    LIMIT 1
"""


@dataclass(frozen=True)
class Moment:
    """A snapshot of a server.

    Attributes:
        horizon: the oldest transaction that was open.
        next: the one that came next.
        wal: how much had been written to the log by then, in bytes.
        server: what transaction numbers and values depend on, apart from the types that users made.
        types: how those are made.
    """

    horizon: int
    next: int
    wal: int
    server: dict[str, Any]
    types: dict[str, Any]


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


def moment_of(duck: duckdb.DuckDBPyConnection, alias: str, *, identified: bool) -> Moment:
    """The snapshot of the transaction that `duck` has open."""
    ((horizon, next_, wal, started, database, system, labels, composites, extensions, money),) = ask(
        duck, alias, MOMENT.format(system=SYSTEM if identified else "NULL::text", types=TYPES)
    )
    server = {"started": started, "database": database, "system": system, "extensions": extensions, "money": money}
    return Moment(int(horizon), int(next_), int(wal), server, {"labels": labels, "composites": composites})


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
        moment_of(duck, alias, identified=identified)
        facts_of(duck, alias, "FALSE")
    except duckdb.Error as error:
        logger.info("tables are read whole, for the server can't be asked what changed: %s", first_line(error))
        return False, False
    return True, identified


def facts_of(duck: duckdb.DuckDBPyConnection, alias: str, chosen: str) -> dict[tuple[str, str], Facts]:
    """Of tables, by schema and name, in the transaction of `duck`."""
    rows = ask(duck, alias, FACTS.format(chosen=chosen, generated=GENERATED))
    return {
        (schema, table): Facts(oid, kind, int(pages), reason, shape, made, plain, tuple(json.loads(key or "[]")))
        for schema, table, oid, kind, pages, reason, shape, made, plain, key in rows
    }


def chosen_by(addresses: Iterable[tuple[str, str]]) -> str:
    """SQL that chooses tables by schema and name."""
    listed = ", ".join(f"({escaped(schema)}, {escaped(table)})" for schema, table in addresses)
    return f"(n.nspname, c.relname) IN ({listed})"


def position_of(moment: Moment, facts: Facts) -> Position | None:
    """The position of a table in a snapshot; None if its rows can't be followed from there."""
    if facts.reason is not None:
        return None
    types = moment.types if facts.made else None
    return {
        "by": "xmin",
        "horizon": str(moment.horizon),
        "wal": str(moment.wal),
        "server": moment.server,
        "types": types,
        "table": facts.oid,
        "shape": facts.shape,
    }


def meaningless(before: Position, moment: Moment, facts: Facts) -> str | None:
    """Why a position says nothing in a snapshot; None if it does."""
    now = position_of(moment, facts)
    if now is None:
        return facts.reason
    if before.get("by") != "xmin":
        return "its version was read in another way"
    if before["server"] != now["server"]:
        return _what_differs(before["server"], now["server"])
    for name, why in (
        ("table", "the table was replaced by another one since"),
        ("shape", "its columns, comments or partitions were changed since"),
        ("types", "a type that users made was changed since"),
    ):
        if before[name] != now[name]:
            return why
    return _out_of_reach(before, moment)


def _out_of_reach(before: Position, moment: Moment) -> str | None:
    if int(before["wal"]) > moment.wal:
        return "the server is behind the one that was read before"
    if not 0 <= moment.next - int(before["horizon"]) < FARTHEST:
        return "too many transactions passed since"
    return None


def _what_differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    words = {
        "started": "the server was restarted since, or is another one",
        "extensions": "an extension was changed since",
        "money": "the setting lc_monetary was changed since",
    }
    return next(
        (words[name] for name in words if before.get(name) != now.get(name)), "the server is another one than before"
    )


def condition_since(position: Position) -> str:
    """SQL that is true for all rows that may have changed since a position, and not for many others.

    Numbers of transactions are compared as those of the half circle from the position on. (`age` says the same, but
    no parallel worker may ask for it.)
    """
    oldest = int(position["horizon"]) % 2**32
    return f"((xmin::text::bigint - {oldest}) & 4294967295) < 2147483648"


def counted(table: str, position: Position, where: str | None, number: int = 0) -> str:
    """SQL of a row: a number, how many rows a table has, and how many may have changed."""
    return (
        f"SELECT {number} AS number, {_count(where)} AS count, "
        f"pg_catalog.count(*) FILTER (WHERE {condition_since(position)}) AS candidates FROM {table}"
    )


def _count(where: str | None) -> str:
    return "pg_catalog.count(*)" + (f" FILTER (WHERE {where})" if where else "")


def delta(scan: Scan[Any], base: Base, moment: Moment, facts: Facts, key: Sequence[str]) -> tuple[Delta, str]:
    """What is known of a table against a base, and SQL that is true for the rows that may have changed."""
    if reason := meaningless(base.position, moment, facts):
        return Unknown(reason), ""
    if scans_otherwise(scan, base.position, moment):
        return Unknown("it is not scanned as PostgreSQL scans tables by itself"), ""
    if facts.pages >= LARGE_FROM_PAGES:
        return _of_large(scan, base, facts, key)
    ((_, count, candidates),) = ask(scan.duck, scan.alias, counted(table_name(scan), base.position, scan.where))
    if not candidates and count == base.rows:
        return Same(), ""
    return Changed(candidates, count, tuple(key)), condition_since(base.position) if candidates else "FALSE"


def _of_large(scan: Scan[Any], base: Base, facts: Facts, key: Sequence[str]) -> tuple[Delta, str]:
    """As `delta`, with as few looks at the rows as will do.

    A sample tells how much may have changed. If that is little, one look tells how many rows there are and where
    those are that may have changed, which are then fetched by their places.
    """
    table, may = table_name(scan), condition_since(base.position)
    sampled = f"SELECT pg_catalog.count(*) AS n, pg_catalog.count(*) FILTER (WHERE {may}) AS m FROM {table}"
    ((rows, changed),) = ask(scan.duck, scan.alias, f"{sampled} TABLESAMPLE SYSTEM ({SAMPLED_PERCENT})")
    if changed > rows * FEW:
        count, _ = _look(scan, "NULL")
        return Changed(count * changed // rows, count, tuple(key)), may
    if not facts.plain:
        count, first = _look(scan, f"pg_catalog.min(ctid) FILTER (WHERE {may})")
        return _same_or(base, count, key, first, may)
    count, places = _places(scan, may)
    listed = f"ctid = ANY ('{places}'::pg_catalog.tid[])" if places and len(places) < LONGEST_LIST else may
    return _same_or(base, count, key, places, listed)


def _same_or(base: Base, count: int, key: Sequence[str], found: str | None, condition: str) -> tuple[Delta, str]:
    if found is None:
        return (Same(), "") if count == base.rows else (Changed(0, count, tuple(key)), "FALSE")
    return Changed(None, count, tuple(key)), condition


def _places(scan: Scan[Any], may: str) -> tuple[int, str | None]:
    """How many rows there are, and the places of those that may have changed, as an array."""
    ((number,),) = ask(scan.duck, scan.alias, "SELECT pg_catalog.current_setting('server_version_num')::int AS n")
    if number >= PARALLEL_ARRAYS:
        return _look(scan, f"pg_catalog.array_agg(ctid) FILTER (WHERE {may})")
    count, first = _look(scan, f"pg_catalog.min(ctid) FILTER (WHERE {may})")
    if first is None:
        return count, None
    # The planner expects a third of all rows, which is too many to have parallel workers hand over.
    run(scan.duck, scan.alias, "SET LOCAL parallel_tuple_cost = 0; SET LOCAL parallel_setup_cost = 0")
    query = f"SELECT ctid FROM {table_name(scan)} WHERE {may} AND ctid >= '{first}'::pg_catalog.tid OFFSET 0"
    ((places,),) = ask(scan.duck, scan.alias, f"SELECT pg_catalog.array_agg(ctid)::text AS places FROM ({query}) AS t")
    run(scan.duck, scan.alias, "SET LOCAL parallel_tuple_cost TO DEFAULT; SET LOCAL parallel_setup_cost TO DEFAULT")
    return count, places


def _look(scan: Scan[Any], asked: str) -> tuple[int, str | None]:
    """How many rows there are, and an aggregate of all of them."""
    query = f"SELECT {_count(scan.where)} AS count, ({asked})::text AS asked FROM {table_name(scan)}"
    ((count, answer),) = ask(scan.duck, scan.alias, query)
    return count, answer


def scans_otherwise(scan: Scan[Any], position: Position, moment: Moment) -> bool:
    """Whether rows come from something that is not a table of PostgreSQL's own: an extension's, or another server.

    Asked only where extensions are there that do not come with PostgreSQL.
    """
    if _only_contrib(moment):
        return False
    query = f"EXPLAIN (FORMAT JSON, COSTS FALSE) SELECT 1 FROM {table_name(scan)} WHERE {condition_since(position)}"
    # What DuckDB asks for has to be a SELECT: so the plan is handed over in a setting.
    block = (
        "DO $runtimedb$ DECLARE plan json; BEGIN EXECUTE "
        f"{escaped(query)} INTO plan; PERFORM pg_catalog.set_config('runtimedb.plan', plan::text, true); "
        "END $runtimedb$"
    )
    try:
        with transaction(scan.duck) as aside:
            run(aside, scan.alias, block)
            ((plan,),) = ask(aside, scan.alias, "SELECT pg_catalog.current_setting('runtimedb.plan') AS plan")
    except duckdb.Error as error:
        logger.info("%s: its plan can't be looked at: %s", scan.ref, first_line(error))
        return True
    return re.search(r'"(Custom|Foreign) Scan"', plan) is not None


def _only_contrib(moment: Moment) -> bool:
    listed = moment.server["extensions"] or ""
    return all(each.partition(" ")[0] in CONTRIB for each in listed.split(",") if each)


def states(
    duck: duckdb.DuckDBPyConnection,
    alias: str,
    bases: Mapping[TableRef, Base],
    moment: Moment,
    wheres: Mapping[TableRef, str],
    *,
    thorough: bool,
) -> dict[TableRef, State]:
    """Which of some bases the tables still hold, all in the transaction of `duck`."""
    facts = facts_of(duck, alias, chosen_by((ref.schema_name, ref.table_name) for ref in bases))
    if not _only_contrib(moment):
        # What scans a table has to be looked at for each.
        return {}
    asked: list[tuple[TableRef, Base, Facts]] = []
    for ref, base in bases.items():
        found = facts.get((ref.schema_name, ref.table_name))
        if found and meaningless(base.position, moment, found) is None and (thorough or found.pages < LARGE_FROM_PAGES):
            asked.append((ref, base, found))
    found_states: dict[TableRef, State] = {}
    for start in range(0, len(asked), TABLES_PER_STATEMENT):
        chunk = asked[start : start + TABLES_PER_STATEMENT]
        found_states |= _states_of(duck, alias, chunk, moment, wheres)
    return found_states


def _states_of(
    duck: duckdb.DuckDBPyConnection,
    alias: str,
    chunk: Sequence[tuple[TableRef, Base, Facts]],
    moment: Moment,
    wheres: Mapping[TableRef, str],
) -> dict[TableRef, State]:
    query = " UNION ALL ".join(
        counted(qualified(ref.schema_name, ref.table_name), base.position, wheres.get(ref), number)
        for number, (ref, base, _) in enumerate(chunk)
    )
    proven = [
        chunk[number]
        for number, count, candidates in ask(duck, alias, query)
        if not candidates and count == chunk[number][1].rows
    ]
    if not proven:
        return {}
    oids = ", ".join(facts.oid for _, _, facts in proven)
    names = ", ".join(
        f"({facts.oid}, {escaped(qualified(ref.schema_name, ref.table_name))})" for ref, _, facts in proven
    )
    if ask(duck, alias, REPLACED.format(oids=oids, names=names)):
        # Some table was rewritten or replaced meanwhile, and may have been read as if it were empty.
        return {}
    if any(facts.made for _, _, facts in proven) and types_now(duck, alias) != moment.types:
        # What is shown of such types is what they are now.
        proven = [each for each in proven if not each[2].made]
    return {ref: State(position) for ref, _, facts in proven if (position := position_of(moment, facts))}

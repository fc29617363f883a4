"""What has changed in PostgreSQL since a version was read: by the transactions that wrote the rows, with SELECT alone.

The position is a horizon: the oldest transaction that was still open when the base was read. Whatever was changed since
then was written by it or by a later one, so its rows are among those whose `xmin` is not older; and what has not been
changed is in the base. How many rows there are, counted in the same snapshot, tells whether rows are gone besides.

All of it is worth nothing where transaction numbers mean something else than they did, or where values change without a
row being written: for that the position remembers what they depend on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import first_line, transaction
from runtimedb_dagster.common.sql import qualified
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import Scan
from runtimedb_dagster.sources.attached.postgresql.asking import ask, run, table_name
from runtimedb_dagster.sources.attached.postgresql.facts import Facts, Moment, types_now
from runtimedb_dagster.sources.attached.postgresql.session import escaped
from runtimedb_dagster.sources.base import Base, Changed, Delta, Same, State, Unknown

__all__ = ["condition_since", "delta", "meaningless", "position_of", "states"]

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
# From this release on, a list is looked up by hash, if it has so many elements.
HASHED_LISTS, SHORTEST_HASHED = 140_000, 9
# The longest list of transactions that is asked for.
MOST_TRANSACTIONS = 10_000
# From this release on, workers make parts of an array side by side.
PARALLEL_ARRAYS = 160_000
# Numbers of transactions are compared by 32 bits: those farther away than that would look like those to come.
FARTHEST = 2**31 - 1_000_000

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


def is_idle(position: Position, moment: Moment) -> bool:
    """Whether no transaction has ended since a position: then no row of the server is another one."""
    return moment.next == int(position["horizon"])


def condition_since(position: Position, moment: Moment, *, large: bool = False) -> str:
    """SQL that is true for all rows of a snapshot that may have changed since a position, and not for many others.

    There is no order of transaction numbers that parallel workers may ask for, but there is one of their bytes. To look
    a row's number up among those that came since takes half as long, where it is done by hash and they are not many.
    """
    oldest = int(position["horizon"])
    if large and moment.version >= HASHED_LISTS and moment.next - oldest <= MOST_TRANSACTIONS:
        # Those that are yet to come are no row's.
        since = range(oldest, max(moment.next, oldest + SHORTEST_HASHED))
        return f"xmin = ANY ('{{{','.join(str(each % 2**32) for each in since)}}}'::pg_catalog.xid[])"
    lower, upper = _not_before(oldest), f"NOT {_not_before(oldest + 2**31)}"
    if moment.next <= 2**32:
        return lower
    # They have begun again from 0: those of the half circle from the position on.
    return f"({lower} {'AND' if oldest % 2**32 < 2**31 else 'OR'} {upper})"


def _not_before(transaction: int) -> str:
    return f"pg_catalog.xidsend(xmin) >= pg_catalog.decode('{transaction % 2**32:08x}', 'hex')"


def counted(table: str, may: str, where: str | None, number: int = 0) -> str:
    """SQL of a row: a number, how many rows a table has, and how many may have changed."""
    return (
        f"SELECT {number} AS number, {_count(where)} AS count, "
        f"pg_catalog.count(*) FILTER (WHERE {may}) AS candidates FROM {table}"
    )


def _count(where: str | None) -> str:
    return "pg_catalog.count(*)" + (f" FILTER (WHERE {where})" if where else "")


def delta(scan: Scan[Any], base: Base, moment: Moment, facts: Facts, key: Sequence[str]) -> tuple[Delta, str]:
    """What is known of a table against a base, and SQL that is true for the rows that may have changed."""
    if reason := meaningless(base.position, moment, facts):
        return Unknown(reason), ""
    if scans_otherwise(scan, base.position, moment):
        return Unknown("it is not scanned as PostgreSQL scans tables by itself"), ""
    if is_idle(base.position, moment):
        return Same(), ""
    if facts.pages >= LARGE_FROM_PAGES:
        return _of_large(scan, base, moment, facts, key)
    may = condition_since(base.position, moment)
    ((_, count, candidates),) = ask(scan.duck, scan.alias, counted(table_name(scan), may, scan.where))
    if not candidates and count == base.rows:
        return Same(), ""
    return Changed(candidates, count, tuple(key)), may if candidates else "FALSE"


def _of_large(scan: Scan[Any], base: Base, moment: Moment, facts: Facts, key: Sequence[str]) -> tuple[Delta, str]:
    """As `delta`, with as few looks at the rows as will do.

    A sample tells how much may have changed. If that is little, one look tells how many rows there are and where
    those are that may have changed, which are then fetched by their places.
    """
    table, may = table_name(scan), condition_since(base.position, moment, large=True)
    sampled = f"SELECT pg_catalog.count(*) AS n, pg_catalog.count(*) FILTER (WHERE {may}) AS m FROM {table}"
    ((rows, changed),) = ask(scan.duck, scan.alias, f"{sampled} TABLESAMPLE SYSTEM ({SAMPLED_PERCENT})")
    if changed > rows * FEW:
        count, _ = _look(scan, "NULL")
        return Changed(count * changed // rows, count, tuple(key)), may
    if not facts.plain:
        count, first = _look(scan, f"pg_catalog.min(ctid) FILTER (WHERE {may})")
        return _same_or(base, count, key, first, may)
    count, places = _places(scan, moment, may)
    listed = f"ctid = ANY ('{places}'::pg_catalog.tid[])" if places and len(places) < LONGEST_LIST else may
    return _same_or(base, count, key, places, listed)


def _same_or(base: Base, count: int, key: Sequence[str], found: str | None, condition: str) -> tuple[Delta, str]:
    if found is None:
        return (Same(), "") if count == base.rows else (Changed(0, count, tuple(key)), "FALSE")
    return Changed(None, count, tuple(key)), condition


def _places(scan: Scan[Any], moment: Moment, may: str) -> tuple[int, str | None]:
    """How many rows there are, and the places of those that may have changed, as an array."""
    if moment.version >= PARALLEL_ARRAYS:
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
    may = condition_since(position, moment)
    query = f"EXPLAIN (FORMAT JSON, COSTS FALSE) SELECT 1 FROM {table_name(scan)} WHERE {may}"
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
    facts: Mapping[tuple[str, str], Facts],
    wheres: Mapping[TableRef, str],
    *,
    thorough: bool,
) -> dict[TableRef, State]:
    """Which of some bases the tables still hold, all in the transaction of `duck`."""
    if not _only_contrib(moment):
        # What scans a table has to be looked at for each.
        return {}
    asked: list[tuple[TableRef, Base, Facts]] = []
    found_states: dict[TableRef, State] = {}
    for ref, base in bases.items():
        found = facts.get((ref.schema_name, ref.table_name))
        if found is None or meaningless(base.position, moment, found) is not None:
            continue
        if is_idle(base.position, moment) and (position := position_of(moment, found)):
            found_states[ref] = State(position)
        elif thorough or found.pages < LARGE_FROM_PAGES:
            asked.append((ref, base, found))
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
        counted(
            qualified(ref.schema_name, ref.table_name), condition_since(base.position, moment), wheres.get(ref), number
        )
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

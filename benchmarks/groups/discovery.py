"""Discovery of many tables, of which none or few changed."""

from __future__ import annotations

from benchmarks.measure import Goal, Section, Side, alternate
from benchmarks.peers import DLT_DISCOVERY, INSPECTOR
from benchmarks.world import World

QUERY = """
    SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY 1, 2, a.attnum
"""
SAME, SOME, TICK = "RuntimeDB, nothing changed", "RuntimeDB, 1 % changed", "a sensor's tick, nothing changed"


def measure(world: World) -> Section:
    """10,000 tables of 10 columns in PostgreSQL."""
    url, count = world.postgres_tables[1], world.of(10_000)
    home = str(world.directory / "discovered")
    prepare(world.ours("", "connect", url, BENCH_HOME=home))
    some = max(count // 100, 1)
    sides = [
        world.psql("psql, one query of the catalog", url, QUERY),
        world.ours(SAME, "discover", 0, BENCH_HOME=home),
        world.ours(SOME, "modify", url, some, BENCH_HOME=home),
        world.ours(TICK, "tick", url, module="ours_dagster"),
        *world.of_peers((INSPECTOR, ""), (DLT_DISCOVERY, ""), url=url, table="*"),
    ]
    trial = alternate(f"discovery of {count:,} tables", sides, min(world.repeat, 3))
    goals = [
        Goal.at_most("discovery-same", "nothing changed", trial.of(SAME).median, 3, "s"),
        Goal.at_most("discovery-some", "1 % changed", trial.of(SOME).median, 4, "s"),
        Goal.at_most("discovery-tick", "a sensor's tick", trial.of(TICK).median, 10, "s"),
    ]
    return Section("Discovery", "Tables of 10 columns in PostgreSQL, all known to the catalog.", [trial], goals)


def prepare(side: Side) -> None:
    """Run a side for what it leaves behind."""
    result = alternate("preparation", [side], 1).results[0]
    if result.failed:
        raise RuntimeError(result.failed)

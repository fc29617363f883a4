"""Many small tables in one request, in the core and in a Dagster run."""

from __future__ import annotations

from benchmarks.measure import Goal, Section, alternate
from benchmarks.peers import ADBC, DLT_ONCE, DUCKDB
from benchmarks.world import World

CORE, RUN, EVENTS = "RuntimeDB", "RuntimeDB, a Dagster run", "Dagster's events of such a run alone"
SERVER = ", its storage in PostgreSQL"


def measure(world: World) -> Section:
    """1,000 tables of 10 rows from PostgreSQL."""
    url, count = world.postgres_tables[0], world.of(1_000)
    sides = [
        DUCKDB.side(url, world.directory / "out", "*"),
        world.ours(CORE, "refresh", url, "*"),
        world.ours(RUN, "run", url, module="ours_dagster"),
        world.ours(EVENTS, "events", url, module="ours_dagster"),
        world.ours(RUN + SERVER, "run", url, module="ours_dagster", BENCH_DAGSTER=world.dagster_storage),
        world.ours(EVENTS + SERVER, "events", url, module="ours_dagster", BENCH_DAGSTER=world.dagster_storage),
        *world.of_peers((DLT_ONCE, ""), (ADBC, ""), url=url, table="*"),
    ]
    trial = alternate(f"{count:,} tables of 10 rows", sides, min(world.repeat, 3), amount=count)
    each = 1000 * trial.of(CORE).median / count

    def added(where: str) -> float:
        return (trial.of(RUN + where).median - trial.of(CORE).median) / trial.of(EVENTS + where).median

    of_events = "of what Dagster's events cost alone"
    goals = [
        Goal.at_most("small-core", "the core, with fsync and swap", each, 8, "ms a table"),
        Goal.at_most("small-run", "a Dagster run adds", added(""), 1, of_events),
        Goal.at_most("small-run-server", f"a Dagster run adds{SERVER}", added(SERVER), 1, of_events),
    ]
    about = "From PostgreSQL, by one request. DuckDB copies them one after the other, and syncs nothing."
    return Section("Small tables", about, [trial], goals)

"""A query of one table by its name, among many in the catalog."""

from __future__ import annotations

import os

from benchmarks.groups.discovery import prepare
from benchmarks.measure import Goal, Section, alternate
from benchmarks.world import PASSWORD, World
from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings
from runtimedb_dagster_tests.support.parts import path_of

STATEMENT, TIMES = "SELECT * FROM source.public.t00007", 50
OURS = "a query block for each"


def measure(world: World) -> Section:
    """10,000 tables in the catalog."""
    home = world.directory / "queried"
    prepare(world.ours("", "connect", world.postgres_tables[1], BENCH_HOME=str(home)))
    os.environ["BENCH_PASSWORD"] = PASSWORD
    with RuntimeDB(Settings(home=home)) as db:
        db.refresh(RefreshRequest("source", "public", "t00007", data=True))
        (file,) = (home / "storage" / path_of(table.version) for table in db.tables() if table.version)
    sides = [
        world.ours("DuckDB on the file, opened anew", "query_file", file, TIMES),
        world.ours(OURS, "query", STATEMENT, TIMES, BENCH_HOME=str(home)),
        world.ours("statements in one query block", "query_again", STATEMENT, TIMES, BENCH_HOME=str(home)),
    ]
    trial = alternate(f"a query, {world.of(10_000):,} tables in the catalog", sides, world.repeat)
    added = 1000 * (trial.of(OURS).median - trial.results[0].median)
    goal = Goal.at_most("query", "added to DuckDB on the file", added, 10, "ms")
    about = f"Seconds of one statement, the mean of {TIMES} in one process."
    return Section("A query", about, [trial], [goal])

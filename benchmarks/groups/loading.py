"""Loading the definitions of many connections, as each process of Dagster does."""

from __future__ import annotations

import sys

from benchmarks.measure import Goal, Section, Side, alternate
from benchmarks.world import World
from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster_tests.support.parts import NO_RECIPES, discovered

LOAD = (
    "from runtimedb_dagster.definitions import build_definitions; "
    "build_definitions().get_repository_def().load_all_definitions()"
)


def measure(world: World) -> Section:
    """200 connections of 500 tables."""
    home = world.directory / "loaded"
    connections, tables = world.of(200), world.of(500)
    columns = tuple(SourceColumn(f"c{number}", "INTEGER") for number in range(10))
    with RuntimeDB(Settings(home=home)) as db:
        for number in range(connections):
            found = discovered(*(f"t{each}" for each in range(tables)), columns=columns)
            connection = db.engine.catalog.connections.add(f"c{number}", "duckdb", "duckdb:///x", {}, None, utc_now())
            generation = db.engine.catalog.connections.begin_discovery()
            db.engine.catalog.tables.record_discovery(
                connection, generation, found, lambda _: NO_RECIPES, utc_now(), utc_now()
            )
    environment = {"RUNTIMEDB_HOME": str(home)}
    sides = [
        Side("import dagster", [sys.executable, "-W", "ignore", "-c", "import dagster"]),
        Side("the definitions", [sys.executable, "-W", "ignore", "-c", LOAD], environment),
    ]
    trial = alternate(f"{connections} connections of {tables} tables", sides, world.repeat)
    over = trial.results[1].median - trial.results[0].median
    goal = Goal.at_most("loading", "over importing dagster", over, 2, "s")
    return Section("Loading the definitions", "Whole processes, to the loaded repository.", [trial], [goal])

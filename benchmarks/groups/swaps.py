"""How many versions the catalog publishes a second: one process per writer, one table each."""

from __future__ import annotations

from benchmarks.measure import Goal, Section, Side, alternate
from benchmarks.world import World
from runtimedb_dagster_tests.support.servers import postgres

WRITERS = (1, 8, 32)
LEAST = {"SQLite": 300, "PostgreSQL": 1_000}
SWAPS = 1_000


def measure(world: World) -> Section:
    """On SQLite and on a PostgreSQL that waits for its disk, as SQLite does."""
    with postgres(durable=True) as server:
        urls = {"SQLite": "sqlite", "PostgreSQL": server.catalog_url("postgres")}
        sides = [_side(world, name, url, writers) for writers in WRITERS for name, url in urls.items()]
        trial = alternate(f"{SWAPS:,} swaps", sides, min(world.repeat, 3), amount=SWAPS)
    goals = [_goal(trial.of(_name(name, writers)).median, name, writers) for writers in WRITERS for name in LEAST]
    about = (
        "A reservation and a swap, the two transactions of every refresh, counted for some seconds; each process has a "
        "table of its own, as refreshes have. It fails if the catalog does not know each of them."
    )
    return Section("Swaps", about, [trial], goals)


def _side(world: World, name: str, url: str, writers: int) -> Side:
    return world.ours(_name(name, writers), str(writers), BENCH_CATALOG=url, module="swapping")


def _name(name: str, writers: int) -> str:
    return f"{name}, {writers} writers" if writers > 1 else f"{name}, 1 writer"


def _goal(seconds: float, name: str, writers: int) -> Goal:
    goal_id = f"swaps-{name.lower()}-{writers}"
    return Goal.at_least(goal_id, _name(name, writers), SWAPS / seconds, LEAST[name], "a second")

"""A table that did not change."""

from __future__ import annotations

from benchmarks.measure import Goal, Section, alternate
from benchmarks.peers import DUCKDB_SAME
from benchmarks.world import World


def measure(world: World) -> Section:
    """Its second refresh, against the bare read and against the first refresh."""
    url, name = world.postgres_lineitem, "refresh of an unchanged table"
    sides = [
        DUCKDB_SAME.side(url, world.directory / "out", "lineitem"),
        world.ours("first refresh", "refresh", url, "lineitem"),
        world.ours(name, "unchanged", url, "lineitem"),
    ]
    trial = alternate("lineitem, unchanged", sides, min(world.repeat, 3))
    goal = Goal.at_most("unchanged", "detected, nothing swapped", trial.ratio(name), 1.1, "of the bare read")
    about = "The read is DuckDB's bare COPY of the same table. Memory and CPU of the second include those of a first."
    return Section("An unchanged table", about, [trial], [goal])

"""A sweep of many due files, against rm."""

from __future__ import annotations

from benchmarks.measure import Goal, Section, alternate
from benchmarks.world import World


def measure(world: World) -> Section:
    """10,000 files of 100 tables."""
    count = world.of(10_000)
    sides = [world.ours("rm -rf", "rm", count), world.ours("RuntimeDB", "sweep", count)]
    trial = alternate(f"{count:,} due files", sides, world.repeat, amount=count)
    goal = Goal.at_most("sweep", "10,000 files", trial.ratio("RuntimeDB"), 3, "of rm's time")
    return Section(
        "Sweep", "Files of 4 kB, in a directory per table. rm claims, checks and records nothing.", [trial], [goal]
    )

"""A refresh after little changed, near the source and far from it; and a month of them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Goal, Section, Side, Trial, alternate
from benchmarks.world import World

NEAR = {"unchanged": 0.10, "appended": 0.15, "scattered": 0.20, "deleted": 0.40}
FAR = {"unchanged": 0.02, "appended": 0.03, "scattered": 0.05, "deleted": 0.2}
WORDS = {
    "full": "full refresh", "unchanged": "nothing changed", "appended": "0.1 % appended", "scattered": "0.1 % updated",
    "deleted": "0.1 % deleted",
}  # fmt: skip


def measure(world: World) -> Section:
    """Lineitem with a primary key in PostgreSQL; refreshes of every kind take turns over one version."""
    url = world.postgres_changing
    near = alternate("lineitem, changing", _sides(world, url, url, "near"), world.repeat)
    small = _small(world)
    month = alternate("a month of hourly refreshes", [_month(world)], 1, amount=720)
    with world.far(url) as far:
        through = alternate(
            "lineitem, changing, over 100 Mbit/s and 20 ms", _sides(world, url, far, "far"), min(world.repeat, 2)
        )
    goals = [*_goals(near, NEAR, "near"), *_goals(through, FAR, "far"), *_small_goals(small)]
    about = "Each after its change, over one version that all of them carry on."
    return Section("What changed", about, [near, through, small, month], goals)


def _sides(world: World, direct: str, url: str, name: str) -> list[Side]:
    home, turns = world.directory / f"home-{name}", world.directory / "turns"
    return [_side(world, direct, url, what, home, turns) for what in WORDS]


def _side(world: World, direct: str, url: str, what: str, home: Path, turns: Path) -> Side:
    arguments = (direct, url, what, turns)
    return world.ours(WORDS[what], "refresh", *arguments, module="changing", BENCH_HOME=str(home))


def _goals(trial: Trial, goals: dict[str, float], where: str) -> list[Goal]:
    return [
        Goal.at_most(
            f"changes-{where}-{what}", f"{where}, {WORDS[what]}", trial.ratio(WORDS[what]), most, "of a full one"
        )
        for what, most in goals.items()
    ]


def _small(world: World) -> Trial:
    few, many = world.postgres_tables
    counts = {"few": world.of(1_000), "many": world.of(10_000)}
    sides = [
        _tables(world, few, f"{counts['few']:,} tables, none changed", 0, "few"),
        _tables(world, few, f"{counts['few']:,} tables, 10 changed", 10, "few"),
        _tables(world, many, f"{counts['many']:,} tables, none changed", 0, "many"),
    ]
    return alternate("tables of 10 rows", sides, min(world.repeat, 3))


def _tables(world: World, url: str, name: str, changed: int, home: str) -> Side:
    kept = str(world.directory / f"home-{home}")
    return world.ours(name, "tables", url, url, changed, module="changing", BENCH_HOME=kept)


def _small_goals(trial: Trial) -> list[Goal]:
    return [
        Goal.at_most(f"changes-tables-{number}", result.name, result.median, most, "s")
        for number, (result, most) in enumerate(zip(trial.results, (0.5, 1.0, 4.0), strict=True))
    ]


def _month(world: World) -> Side:
    url = world.postgres_changing
    return world.ours("720 refreshes, 0.1 % updated before each", "month", url, url, 720, module="changing")

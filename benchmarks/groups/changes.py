"""A refresh after little changed, near the source and far from it; and a month of them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.measure import Goal, Section, Side, Trial, alternate
from benchmarks.peers import DLT_MERGE, sling_says
from benchmarks.world import World

NEAR = {"unchanged": 0.10, "appended": 0.15, "scattered": 0.20, "deleted": 0.40}
FAR = {"unchanged": 0.02, "appended": 0.03, "scattered": 0.05, "deleted": 0.2}
WORDS = {
    "full": "full refresh", "idle": "nothing changed on the server", "unchanged": "nothing changed",
    "appended": "0.1 % appended", "scattered": "0.1 % updated", "deleted": "0.1 % deleted",
}  # fmt: skip


def measure(world: World) -> Section:
    """Lineitem with a primary key in PostgreSQL; refreshes of every kind take turns over one version."""
    url = world.postgres_changing
    near = alternate("lineitem, changing", _sides(world, url, url, "near"), world.repeat)
    small, job = _small(world), _job(world)
    lost = _lost(world)
    month = alternate(
        "a month of hourly refreshes", [_month(world)], 1, amount=world.of(720), wrong="what became of it"
    )
    with world.far(url) as far:
        through = alternate(
            "lineitem, changing, over 100 Mbit/s and 20 ms", _sides(world, url, far, "far"), min(world.repeat, 2)
        )
    goals = [*_goals(near, NEAR, "near"), *_goals(through, FAR, "far"), *_small_goals(small, job)]
    goals += [_memory_goal(near), *_month_goals(month)]
    about = "Each after its change, over one version that all of them carry on."
    return Section("What changed", about, [near, through, small, job, lost, month], goals, [sling_says()])


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


def _job(world: World) -> Trial:
    url, kept = world.postgres_tables[0], str(world.directory / "home-job")
    sides = [
        world.ours(f"{count} changed", "again", url, count, module="ours_dagster", BENCH_HOME=kept) for count in (0, 10)
    ]
    name = f"the job over {world.of(1_000):,} tables of 10 rows, beyond a run of nothing"
    return alternate(name, sides, min(world.repeat, 3))


def _small_goals(core: Trial, job: Trial) -> list[Goal]:
    most = zip((*core.results, *job.results), (0.5, 1.0, 4.0, 1.5, 2.5), strict=True)
    return [
        Goal.at_most(
            f"changes-tables-{number}",
            result.name if result in core.results else f"{job.name}, {result.name}",
            result.median,
            limit,
            "s",
        )
        for number, (result, limit) in enumerate(most)
    ]


def _memory_goal(near: Trial) -> Goal:
    """Of the kinds that read rows."""
    full, *others = near.results
    most = max(result.peak for result in others) / full.peak
    return Goal.at_most("changes-memory", "peak memory of a refresh by changes", most, 1, "of a full one's")


def _lost(world: World) -> Trial:
    """A table that is followed by `updated_at`, as most do it, and by what the server says; what each has lost."""
    url, rows = world.postgres_lineitem, world.of(600_000)
    sides = [
        world.ours("RuntimeDB, by default", "losing", url, rows, module="changing"),
        *([DLT_MERGE.side(url, world.directory / "followed", "followed_dlt", str(rows))] if world.peers else []),
    ]
    name = f"{rows:,} rows, 0.1 % updated, 0.1 % deleted, 10 committed late before each refresh"
    return alternate(name, sides, min(world.repeat, 2), wrong="lost in four refreshes")


def _month(world: World) -> Side:
    url = world.postgres_changing
    return world.ours(
        f"{world.of(720)} refreshes, 0.1 % updated before each", "month", url, url, world.of(720), module="changing"
    )


def _month_goals(trial: Trial) -> list[Goal]:
    figures, nan = trial.results[0].figures, float("nan")
    return [
        Goal.at_most("changes-month-files", "a month, data files", figures.get("files", nan), 17, "files"),
        Goal.at_most("changes-month-scan", "a month, a whole scan", figures.get("scan", nan), 1.5, "of one file's"),
        Goal.at_most(
            "changes-month-growth", "a month, bytes written", figures.get("growth", nan), 1.1, "of what is linear"
        ),
    ]

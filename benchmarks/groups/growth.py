"""Whether time grows with rows and tables as they do, and memory not at all."""

from __future__ import annotations

from benchmarks.measure import Goal, Section, Side, Trial, alternate
from benchmarks.world import World

ROWS = (100_000, 1_000_000, 10_000_000, 30_000_000)
TABLES = {"t0000*": 10, "t000*": 100, "t00*": 1_000, "*": 10_000}
TABLE = """
    CREATE UNLOGGED TABLE rows_{0} AS SELECT n AS id, (n % 1000000 / 100.0)::numeric(12,2) AS amount,
        timestamp '2024-01-01' + n * interval '1 s' AS at, md5(n::text) AS name FROM generate_series(1, {0}) n
"""


def measure(world: World) -> Section:
    """Rows of one table, and tables of 10 rows, from PostgreSQL."""
    server, most = world.postgres, min(world.repeat, 2)
    server.run(None, "CREATE DATABASE growth")
    counts = [world.of(count) for count in ROWS]
    server.run("growth", *(TABLE.format(count) for count in counts), "VACUUM ANALYZE", "CHECKPOINT")
    url = world.url(server, "growth")
    rows = alternate("rows", [world.ours(f"{count:,} rows", "refresh", url, f"rows_{count}") for count in counts], most)
    server.run(None, "DROP DATABASE growth")
    many, sizes = world.postgres_tables[1], {name: min(count, world.of(10_000)) for name, count in TABLES.items()}
    tables = alternate("tables", [_tables(world, many, pattern, count) for pattern, count in sizes.items()], 1)
    return Section(
        "Growth",
        "Rows of four columns; tables of 10 rows, in one round.",
        [rows, tables],
        [*_goals("rows", rows, [count / 1e6 for count in counts]), *_goals("tables", tables, list(sizes.values()))],
    )


def _tables(world: World, url: str, pattern: str, count: int) -> Side:
    return world.ours(f"{count:,} tables", "refresh", url, f"public.{pattern}")


def _goals(what: str, trial: Trial, counts: list[float]) -> list[Goal]:
    """The largest against the second: the smallest is all start."""
    second, last = trial.results[1], trial.results[-1]
    growth = (last.median / counts[-1]) / (second.median / counts[1])
    memory = last.peak / second.peak
    return [
        Goal.at_most(f"growth-{what}", f"{what}, linear time", growth, 1.15, "of the time each"),
        Goal.at_most(f"growth-{what}-memory", f"{what}, flat memory", memory, 1.15, "of the peak"),
    ]

"""The same lineitem from a SQLite file and from a DuckDB file, against DuckDB's bare COPY."""

from __future__ import annotations

from benchmarks.measure import Goal, Section, alternate
from benchmarks.peers import ADBC, CONNECTORX, DLT_ONCE, DUCKDB, DUCKDB_SAME, SLING
from benchmarks.world import World

OURS = "RuntimeDB"
UNCHECKED = ""


def measure(world: World) -> Section:
    """Both files, each against those that read it."""
    trials, goals = [], []
    sources = {
        "SQLite": (f"sqlite:///{world.sqlite_lineitem}", (DUCKDB, DLT_ONCE, CONNECTORX, ADBC, SLING)),
        "DuckDB": (f"duckdb:///{world.duckdb_file}", (DUCKDB, DLT_ONCE, ADBC)),
    }
    for name, (url, peers) in sources.items():
        sides = [
            DUCKDB_SAME.side(url, world.directory / "out", "lineitem"),
            world.ours(OURS, "refresh", url, "main.lineitem"),
            *world.of_peers(*((peer, UNCHECKED) for peer in peers), url=url, table="lineitem"),
        ]
        trial = alternate(f"lineitem from a {name} file", sides, world.repeat)
        goals.append(Goal.at_most(f"files-{name.lower()}", name, trial.ratio(OURS), 1.15, "of DuckDB's bare COPY"))
        trials.append(trial)
    rows = f"{world.of(6_001_215):,} rows of lineitem each"
    about = f"{rows}. In the SQLite file its money is floating point, as SQLite has it."
    return Section("SQLite and DuckDB files", about, trials, goals)

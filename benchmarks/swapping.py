"""Swaps by several processes: `python -m benchmarks.swapping WRITERS` prints the seconds of 1,000."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from time import monotonic

import psycopg

from benchmarks.ours import print_seconds
from runtimedb_dagster.catalog import Catalog, new_id
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster_tests.support.parts import NO_RECIPES, discovered, reserve, swap, version_of

SECONDS = 4
COUNTED = 1_000


def measure(url: str, writers: int) -> float:
    """Seconds for so many swaps; none may be lost."""
    catalog = Catalog(url)
    connection = catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, utc_now())
    names = [f"t{number}" for number in range(writers)]
    generation = catalog.connections.begin_discovery()
    catalog.tables.record_discovery(
        connection, generation, discovered(*names), lambda _: NO_RECIPES, utc_now(), utc_now()
    )
    swaps = sum(_run(url, names))
    made = len(catalog.deletions.list()) + writers
    catalog.close()
    if made != swaps:
        raise SystemExit(f"{swaps} swaps were made, but the catalog knows {made}")
    return COUNTED * SECONDS / swaps


def _run(url: str, names: list[str]) -> list[int]:
    """Have a process per name begin at once; how many swaps each made."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.swapping"]
    processes = [
        subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "BENCH_CATALOG": url},
        )
        for name in names
    ]  # fmt: skip
    for process in processes:
        assert process.stdout, "it was asked for"  # noqa: S101
        process.stdout.readline()
    for process in processes:
        assert process.stdin, "it was asked for"  # noqa: S101
        process.stdin.write("go\n")
        process.stdin.flush()
    return [int(process.communicate()[0]) for process in processes]


def swap_again_and_again(url: str, name: str) -> None:
    """Swap one table again and again, and print how often."""
    catalog = Catalog(url)
    connection = catalog.connections.get("shop")
    print("ready", flush=True)
    sys.stdin.readline()
    swaps, end = 0, monotonic() + SECONDS
    while monotonic() < end:
        reservation = reserve(catalog, catalog.tables.get(connection, "main", name))
        swap(catalog, reservation, version_of(reservation), utc_now() + timedelta(hours=1))
        swaps += 1
    print(swaps)


def _fresh(url: str, directory: str) -> str:
    """A catalog that nobody has used."""
    if url == "sqlite":
        return f"sqlite:///{directory}/catalog.db"
    name = f"catalog_{new_id()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.rpartition("/")[0] + f"/{name}"


def main() -> None:
    """One writer if a name is given, else all."""
    asked, url = sys.argv[1], os.environ["BENCH_CATALOG"]
    if not asked.isdigit():
        swap_again_and_again(url, asked)
        return
    with tempfile.TemporaryDirectory(dir=os.environ["BENCH_DIRECTORY"]) as directory:
        print_seconds(measure(_fresh(url, directory), int(asked)))


if __name__ == "__main__":
    main()

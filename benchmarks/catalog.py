"""Swaps per second, with 1, 8 and 32 processes that write, on a catalog in SQLite and in PostgreSQL.

    make bench

A swap here is a reservation and a swap, the two transactions of every refresh; each process has tables of its own, as
refreshes have. PostgreSQL waits for its disk, as SQLite does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import timedelta
from time import monotonic

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.heartbeat import utc_now
from runtimedb_dagster_tests.core.support import discovered, reserve, version_of
from runtimedb_dagster_tests.servers import postgres

WRITERS = (1, 8, 32)
SECONDS = 8


def main() -> None:
    """Measure and print a table."""
    print("| writers | SQLite | PostgreSQL |\n| --- | --- | --- |")
    for writers in WRITERS:
        with tempfile.TemporaryDirectory() as directory, postgres(durable=True) as server:
            urls = (f"sqlite:///{directory}/catalog.db", server.catalog_url("postgres"))
            rates = [f"{measure(url, writers):.0f} a second" for url in urls]
            print(f"| {writers} | {rates[0]} | {rates[1]} |", flush=True)


def measure(url: str, writers: int) -> float:
    """Swaps per second; none may be lost."""
    catalog = Catalog(url)
    connection = catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, utc_now())
    names = [f"t{number}" for number in range(writers)]
    generation = catalog.connections.begin_discovery()
    catalog.tables.record_discovery(connection, generation, discovered(*names), utc_now(), utc_now())
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, url, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout, "it was asked for"  # noqa: S101 - for mypy
        process.stdout.readline()
    for process in processes:
        assert process.stdin, "it was asked for"  # noqa: S101 - for mypy
        process.stdin.write("go\n")
        process.stdin.flush()
    swaps = sum(int(process.communicate()[0]) for process in processes)
    made = len(catalog.deletions.list()) + writers
    catalog.close()
    if made != swaps:
        raise RuntimeError(f"{swaps} swaps were made, but the catalog knows {made}")
    return swaps / SECONDS


def swap(url: str, name: str) -> None:
    """Swap one table again and again, and print how often."""
    catalog = Catalog(url)
    connection = catalog.connections.get("shop")
    print("ready", flush=True)
    sys.stdin.readline()
    swaps, end = 0, monotonic() + SECONDS
    while monotonic() < end:
        reservation = reserve(catalog, catalog.tables.get(connection, "main", name))
        catalog.versions.swap(reservation, version_of(reservation), utc_now() + timedelta(hours=1))
        swaps += 1
    print(swaps)


if __name__ == "__main__":
    swap(*sys.argv[1:]) if len(sys.argv) > 1 else main()

"""What a large catalog costs: 100 connections x 1,000 tables, and x 10,000, on SQLite and on PostgreSQL.

    python -m benchmarks.scale

The rows are made by the database itself, each table with 10 columns and a version; what is measured is RuntimeDB's own
code over them. Medians of 5.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import dagster as dg
from sqlalchemy import create_engine, text

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.dagster.partitions import sync_partitions
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.tables import Connection, DiscoveredTable
from runtimedb_dagster_tests.support.parts import NO_RECIPES, reserve, swap, version_of
from runtimedb_dagster_tests.support.servers import postgres

CONNECTIONS, SIZES, TIMES = 100, (1_000, 10_000), 5
COLUMNS = tuple(SourceColumn(f"column_{number}", "BIGINT") for number in range(10))
NUMBERS = {
    "sqlite": "(WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n) n",
    "postgresql": "(SELECT i FROM generate_series(0, {last}) i) n",
}
TABLES = """INSERT INTO tables (id, connection_id, schema_name, table_name, kind, columns, primary_key, discovered_at,
    version_id) SELECT c.name || '-' || n.i, c.id, 'main', 't' || n.i, 'table', {columns}, '[]', 0, c.name || '-' || n.i
    FROM connections c, {numbers}"""
VERSIONS = (
    """INSERT INTO versions (id, rows, columns, fingerprint, created_at, duration_ms)
    SELECT id, 10, columns, 'x', 0, 10 FROM tables""",
    """INSERT INTO version_files (version_id, path, rows, bytes) SELECT id,
    connection_id || '/main/' || table_name || '/' || table_name || '_v' || id || '.parquet', 10, 1000 FROM tables""",
    """INSERT INTO publications (version_id, connection_id, schema_name, table_name, from_sequence)
    SELECT id, connection_id, schema_name, table_name, 1 FROM tables""",
)


def main() -> None:
    """Measure and print a table per size."""
    for tables in SIZES:
        with tempfile.TemporaryDirectory() as directory, postgres(durable=True) as server:
            urls = {"SQLite": f"sqlite:///{directory}/catalog.db", "PostgreSQL": server.catalog_url("postgres")}
            figures = {name: dict(measured(url, tables, Path(directory))) for name, url in urls.items()}
        print(f"\n{CONNECTIONS} connections x {tables:,} tables\n\n| what | SQLite | PostgreSQL |\n| --- | --- | --- |")
        for what in figures["SQLite"]:
            print(f"| {what} | {figures['SQLite'][what]} | {figures['PostgreSQL'][what]} |", flush=True)


def measured(url: str, tables: int, directory: Path) -> Iterator[tuple[str, str]]:
    """What was measured, in words and figures."""
    with filled(url, tables) as catalog:
        shop = catalog.connections.get("c50")
        found = [DiscoveredTable("main", f"t{number}", columns=COLUMNS) for number in range(tables)]
        discover: Callable[[], Any] = lambda: catalog.tables.record_discovery(  # noqa: E731
            shop, catalog.connections.begin_discovery(), found, lambda _: NO_RECIPES, utc_now(), utc_now()
        )
        yield "size of the catalog", f"{size(url) / 1e6:,.0f} MB"
        yield "list the connections", timed(catalog.connections.list)
        yield "list one connection's tables", timed(lambda: catalog.tables.list(shop))
        yield "record a discovery of it in which nothing changed", timed(discover)
        yield "find one table's version by name, under a lease", timed(lambda: look_up(catalog, shop, tables))
        yield "reserve and swap one table", timed(lambda: swap_one(catalog, shop))
        yield "ask whether a file is due", timed(lambda: catalog.deletions.count_due(utc_now()))
        settings = Settings(home=directory / "home", catalog_url=url)
        yield "load the definitions", timed(lambda: build_definitions(settings).get_repository_def())
        yield "compare its partitions with Dagster's", partitions(settings, shop)


@contextmanager
def filled(url: str, tables: int) -> Iterator[Catalog]:
    """A catalog of that many tables per connection."""
    catalog = Catalog(url)
    for number in range(CONNECTIONS):
        catalog.connections.add(f"c{number}", "duckdb", "duckdb:///shop", {}, None, utc_now())
    columns = json.dumps([column.to_dict() for column in COLUMNS])
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    postgresql = engine.dialect.name == "postgresql"
    literal = f"'{columns}'" + ("::json" if postgresql else "")
    with engine.begin() as tx:
        numbers = NUMBERS[engine.dialect.name].format(last=tables - 1)
        tx.exec_driver_sql(TABLES.format(columns=literal, numbers=numbers))
        for statement in VERSIONS:
            tx.exec_driver_sql(statement)
        tx.execute(text("UPDATE lake SET sequence = sequence + 1"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()
    try:
        yield catalog
    finally:
        catalog.close()


def timed(call: Callable[[], Any]) -> str:
    """The median duration."""
    durations = []
    for _ in range(TIMES):
        started = perf_counter()
        call()
        durations.append(perf_counter() - started)
    return f"{statistics.median(durations) * 1000:,.1f} ms"


def look_up(catalog: Catalog, connection: Connection, tables: int) -> None:
    """What a query does for each name."""
    lease = catalog.leases.open(utc_now(), timedelta(minutes=1))
    version = catalog.leases.visible(lease, connection.id, "main", f"t{tables // 2}")
    catalog.leases.close(lease)
    if version is None:
        raise RuntimeError("the version was not found")


def swap_one(catalog: Catalog, connection: Connection) -> None:
    """What a refresh does in the catalog."""
    reservation = reserve(catalog, catalog.tables.get(connection, "main", "t1"))
    swap(catalog, reservation, version_of(reservation), utc_now() + timedelta(hours=1))


def partitions(settings: Settings, connection: Connection) -> str:
    """A sensor's tick without its discovery, nothing being new."""
    with RuntimeDB(settings) as db, dg.DagsterInstance.ephemeral() as instance:
        keys = [table.ref.partition_key for table in db.tables(connection.name)]
        sync_partitions(instance, settings, connection.name, keys)
        return timed(lambda: sync_partitions(instance, settings, connection.name, keys))


def size(url: str) -> int:
    """Bytes of the database."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    query = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        "postgresql": "SELECT pg_database_size(current_database())",
    }[engine.dialect.name]
    with engine.connect() as connection:
        return int(connection.execute(text(query)).scalar_one())


if __name__ == "__main__":
    main()

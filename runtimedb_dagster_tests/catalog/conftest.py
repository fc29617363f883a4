"""A catalog of either kind, with a connection and a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimedb_dagster import Connection, Table
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster_tests.catalog.steps import (
    NOW,
    discover,
)
from runtimedb_dagster_tests.support.fixtures import nothing_from_outside  # noqa: F401 - by itself
from runtimedb_dagster_tests.support.parts import (
    discovered,
)
from runtimedb_dagster_tests.support.places import a_database
from runtimedb_dagster_tests.support.servers import Server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, file: Path) -> Iterator[str]:
    """Where a catalog is kept, one after the other."""
    if request.param == "sqlite":
        yield f"sqlite:///{file}"
        return
    server: Server = request.getfixturevalue("postgres_server")
    with a_database(server) as database:
        yield server.catalog_url(database)


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    opened = Catalog(url)
    yield opened
    opened.close()


@pytest.fixture
def shop(catalog: Catalog) -> Connection:
    return catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, NOW)


@pytest.fixture
def orders(catalog: Catalog, shop: Connection) -> Table:
    discover(catalog, shop, discovered("orders", "customers"))
    return catalog.tables.get(shop, "main", "orders")

"""Connections and their tables are found by name; times come back as they went in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone

import pytest

from runtimedb_dagster import Connection, Table
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common import failpoints
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    ConnectionNotFoundError,
)
from runtimedb_dagster_tests.catalog.steps import (
    GRACE,
    NOW,
    publish,
)


def test_a_time_without_a_zone_is_refused(catalog: Catalog) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(Exception, match="aware times only"):
        catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, naive)
    assert catalog.connections.list() == []


def test_a_time_comes_back_as_the_same_instant_in_utc(catalog: Catalog) -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    catalog.connections.add("shop", "duckdb", "duckdb:///shop", {}, None, NOW.astimezone(zone))
    created = catalog.connections.get("shop").created_at
    assert created == NOW
    assert created.utcoffset() == timedelta(0)


def test_a_connection_is_found_by_name_and_id(catalog: Catalog, shop: Connection) -> None:
    assert catalog.connections.get("shop") == catalog.connections.get(shop.id) == shop
    with pytest.raises(ConnectionNotFoundError, match=r"^Connection 'x' not found$"):
        catalog.connections.get("x")


@pytest.mark.parametrize("name", ["shop", "SHOP"])
@pytest.mark.usefixtures("shop")
def test_a_name_is_taken_in_any_case(catalog: Catalog, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}' can't be added: 'shop' exists"):
        catalog.connections.add(name, "duckdb", "duckdb:///x", {}, None, NOW)
    assert len(catalog.connections.list()) == 1


def test_one_of_many_that_add_a_name_at_once_wins(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(name: str) -> bool:
        try:
            catalog.connections.add(name, "duckdb", "duckdb:///x", {}, None, NOW)
        except ConfigurationError:
            return False
        return True

    monkeypatch.setenv(failpoints.VARIABLE, "before_commit=delay@0.3:1")  # the others come before the first is done
    failpoints.arm()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, ["shop", "SHOP"] * 4)) == 1
    monkeypatch.undo()
    failpoints.arm()
    assert len(catalog.connections.list()) == 1


def test_removing_a_connection_schedules_its_files(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    assert catalog.connections.remove(shop, NOW + GRACE) == 2
    assert catalog.connections.list() == []
    assert catalog.tables.list() == []
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.reason, pending.delete_after) == (path, "connection removed", NOW + GRACE)
    with pytest.raises(ConnectionNotFoundError):
        catalog.connections.remove(shop, NOW)

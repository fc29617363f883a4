"""What a discovery adds, removes and modifies, and when it is refused."""

from __future__ import annotations

import pytest

from runtimedb_dagster import Connection, Table
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import (
    ConnectionNotFoundError,
    DiscoveryRefusedError,
    TableNotFoundError,
)
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveryChanges
from runtimedb_dagster_tests.catalog.steps import (
    GRACE,
    NOW,
    discover,
    publish,
    version_path_of,
)
from runtimedb_dagster_tests.support.parts import (
    NO_RECIPES,
    discovered,
)


def test_a_discovery_adds_removes_and_modifies(catalog: Catalog, shop: Connection) -> None:
    discover(catalog, shop, discovered("a", "b", "c"))
    wider = discovered("b", columns=(SourceColumn("i", "BIGINT"),))

    changes = discover(catalog, shop, [*discovered("a", "d"), *wider])

    refs = {name: TableRef("shop", "main", name) for name in "abcd"}
    assert changes == DiscoveryChanges(3, added=(refs["d"],), removed=(refs["c"],), modified=(refs["b"],))
    assert [table.ref for table in catalog.tables.list(shop)] == [refs["a"], refs["b"], refs["d"]]
    assert catalog.tables.get(shop, "main", "b").columns == (SourceColumn("i", "BIGINT"),)
    with pytest.raises(TableNotFoundError, match=r"Table 'shop\.main\.c' not found"):
        catalog.tables.get(shop, "main", "c")


@pytest.mark.parametrize(
    ("columns", "modified"),
    [
        ((SourceColumn("i", "INTEGER"), SourceColumn("j", "DATE")), True),
        ((SourceColumn("k", "INTEGER"),), True),
        ((SourceColumn("i", "INTEGER", nullable=False),), True),
        ((SourceColumn("i", "INTEGER", comment="new"),), False),
    ],
)
def test_columns_are_compared_as_schemas(
    catalog: Catalog, shop: Connection, columns: tuple[SourceColumn, ...], modified: bool
) -> None:
    discover(catalog, shop, discovered("a"))
    assert bool(discover(catalog, shop, discovered("a", columns=columns)).modified) is modified
    assert catalog.tables.get(shop, "main", "a").columns == columns


def test_an_unchanged_discovery_changes_nothing(catalog: Catalog, shop: Connection) -> None:
    discover(catalog, shop, discovered("a", "b"))
    before = catalog.tables.list()
    assert discover(catalog, shop, discovered("a", "b")) == DiscoveryChanges(2)
    assert catalog.tables.list() == before


def test_a_table_that_changed_or_stayed_keeps_its_version(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    discover(catalog, shop, discovered("orders", "customers", columns=(SourceColumn("new", "DATE"),)))
    assert version_path_of(catalog, orders) == path
    assert catalog.deletions.list() == []


def test_the_file_of_a_table_that_is_gone_is_scheduled(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    discover(catalog, shop, discovered("customers"))
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.reason, pending.delete_after) == (path, "table dropped", NOW + GRACE)


@pytest.mark.parametrize(("left", "message"), [([], "no tables at all"), (["a"], "2 of 3 tables")])
def test_a_drastic_discovery_is_refused_until_confirmed(
    catalog: Catalog, shop: Connection, left: list[str], message: str
) -> None:
    discover(catalog, shop, discovered("a", "b", "c"))
    with pytest.raises(DiscoveryRefusedError, match=message):
        discover(catalog, shop, discovered(*left))
    assert len(catalog.tables.list()) == 3
    assert len(discover(catalog, shop, discovered(*left), confirm=True).removed) == 3 - len(left)
    assert [table.table_name for table in catalog.tables.list()] == left


def test_exactly_half_may_go(catalog: Catalog, shop: Connection) -> None:
    discover(catalog, shop, discovered("a", "b"))
    assert len(discover(catalog, shop, discovered("a")).removed) == 1


def test_a_first_discovery_that_finds_nothing_is_refused(catalog: Catalog, shop: Connection) -> None:
    with pytest.raises(DiscoveryRefusedError, match="no tables at all"):
        discover(catalog, shop, [])
    assert catalog.connections.get("shop").discovered_at is None


def test_a_slow_older_discovery_changes_nothing(catalog: Catalog, shop: Connection) -> None:
    slow = catalog.connections.begin_discovery()
    discover(catalog, shop, discovered("new"))
    changes = catalog.tables.record_discovery(shop, slow, discovered("old"), lambda _: NO_RECIPES, NOW, NOW)
    assert (changes.added, changes.removed, changes.modified) == ((), (), ())
    assert [table.table_name for table in catalog.tables.list()] == ["new"]


def test_the_error_of_a_discovery_stays_until_one_succeeds(catalog: Catalog, shop: Connection) -> None:
    catalog.connections.record_discovery_failure(shop, "unreachable")
    assert catalog.connections.get("shop").discovery_error == "unreachable"
    discover(catalog, shop, discovered("a"))
    found = catalog.connections.get("shop")
    assert (found.discovery_error, found.discovered_at) == (None, NOW)


def test_a_removed_connection_can_not_be_discovered(catalog: Catalog, shop: Connection) -> None:
    catalog.connections.remove(shop, NOW)
    with pytest.raises(ConnectionNotFoundError):
        discover(catalog, shop, discovered("a"))
    assert catalog.tables.list() == []


def test_addresses_are_to_the_letter(catalog: Catalog, shop: Connection) -> None:
    names = ["T", "t", "é", "e\u0301", "a b", "x.y", "'; drop table tables; --", "\U0001f600"]
    discover(catalog, shop, discovered(*names))
    assert {table.table_name for table in catalog.tables.list()} == set(names)
    assert [catalog.tables.get(shop, "main", name).table_name for name in names] == names

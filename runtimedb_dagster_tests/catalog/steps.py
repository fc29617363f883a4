"""What the tests of the catalog share."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from runtimedb_dagster import Connection, Table
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.tables import DiscoveredTable, DiscoveryChanges
from runtimedb_dagster.domain.versions import PendingDeletion
from runtimedb_dagster_tests.support.parts import (
    NO_RECIPES,
    path_of,
    reserve,
    swap,
    version_of,
)

NOW = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
GRACE = timedelta(seconds=60)
SECOND = timedelta(seconds=1)
CLAIM = timedelta(minutes=5)


def discover(
    catalog: Catalog,
    connection: Connection,
    found: list[DiscoveredTable],
    *,
    confirm: bool = False,
    recipes: Recipes = NO_RECIPES,
) -> DiscoveryChanges:
    """Record a discovery that starts now."""
    sequence = catalog.connections.begin_discovery()
    return catalog.tables.record_discovery(
        connection, sequence, found, lambda _: recipes, NOW, NOW + GRACE, confirm=confirm
    )


def publish(catalog: Catalog, table: Table) -> str:
    """Swap in a new version; its path."""
    reservation = reserve(catalog, table, NOW)
    swap(catalog, reservation, version_of(reservation), NOW + GRACE)
    return reservation.paths[0]


def claim(catalog: Catalog, now: datetime, by: str = "sweep", limit: int = 100) -> list[PendingDeletion]:
    return list(catalog.deletions.claim(by, now, now + CLAIM, limit))


def version_path_of(catalog: Catalog, table: Table) -> str | None:
    """The path that a table points at now."""
    found = next(each for each in catalog.tables.list() if each.id == table.id)
    return path_of(found.version) if found.version else None

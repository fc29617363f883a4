"""The catalog: every transition of RuntimeDB's state is one method here, and all its SQL is here."""

from __future__ import annotations

from collections.abc import Callable

from runtimedb_dagster.catalog.connections import ConnectionCatalog
from runtimedb_dagster.catalog.database import Database, catalog_is_there, new_id
from runtimedb_dagster.catalog.deletions import DeletionCatalog
from runtimedb_dagster.catalog.lake import Lake, LakeCatalog
from runtimedb_dagster.catalog.leases import LeaseCatalog
from runtimedb_dagster.catalog.publications import PublicationCatalog
from runtimedb_dagster.catalog.slots import SlotCatalog
from runtimedb_dagster.catalog.tables import TableCatalog
from runtimedb_dagster.catalog.transfer import is_moving, move_catalog

__all__ = ["Catalog", "catalog_is_there", "new_id"]


class Catalog:
    """One catalog, by subject.

    Attributes:
        connections: registered connections.
        tables: discovered tables.
        publications: reserve, publish, keep, abandon, purge.
        deletions: pending deletions, for the sweep.
        leases: readers' snapshots.
        slots: who reads a connection, and who waits.
        lake: which catalog this is.
    """

    def __init__(self, url: str) -> None:
        """Open the catalog at an SQLAlchemy URL, migrating it if needed."""
        self._database = Database(url)
        self.connections = ConnectionCatalog(self._database)
        self.tables = TableCatalog(self._database)
        self.publications = PublicationCatalog(self._database)
        self.deletions = DeletionCatalog(self._database)
        self.leases = LeaseCatalog(self._database)
        self.slots = SlotCatalog(self._database)
        self.lake = LakeCatalog(self._database)

    def move_from(self, url: str, require: Callable[[Lake], None]) -> dict[str, int]:
        """Move the catalog at `url` into this one, which must be empty; see `move_catalog`.

        `require` raises if it should not be, which changes nothing; a move that was begun, and ended before it was
        finished, goes on.

        Raises:
            ConfigurationError: there is no catalog at `url`; none is made.
        """
        source = Database(url, must_exist=True)
        try:
            require(LakeCatalog(source).get(even_if_moved=is_moving(source, self._database)))
            return move_catalog(source, self._database)
        finally:
            source.dispose()

    def close(self) -> None:
        """Close the connections to the catalog's database."""
        self._database.dispose()

"""Discovery: what a source shows, recorded as a difference."""

from __future__ import annotations

from dataclasses import dataclass

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.config import Settings
from runtimedb_dagster.errors import RuntimeDBError
from runtimedb_dagster.heartbeat import utc_now
from runtimedb_dagster.model import Connection, DiscoveryChanges
from runtimedb_dagster.sources import Source

__all__ = ["Discoverer"]


@dataclass(frozen=True)
class Discoverer:
    """Compares sources with the catalog."""

    catalog: Catalog
    settings: Settings

    def discover(self, connection: Connection, source: Source, *, confirm: bool = False) -> DiscoveryChanges:
        """Record what `source` shows now.

        Args:
            connection: whose tables they are.
            source: its open source.
            confirm: remove tables even if that looks like a revoked permission.

        Raises:
            SourceError: the source can't be asked.
            DiscoveryRefusedError: see `confirm`.
        """
        # Taken before the source is asked, so that a slow discovery can't undo a later one.
        generation = self.catalog.connections.begin_discovery()
        found = source.discover()
        now = utc_now()
        return self.catalog.tables.record_discovery(
            connection, generation, found, now, now + self.settings.grace_period, confirm=confirm
        )

    def record_failure(self, connection: Connection, error: RuntimeDBError) -> None:
        """Keep an error where `connections()` shows it."""
        self.catalog.connections.record_discovery_failure(connection, str(error))

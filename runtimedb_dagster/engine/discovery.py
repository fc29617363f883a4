"""Discovery: what a source shows, recorded as a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import RuntimeDBError
from runtimedb_dagster.domain.requests import DiscoveryResult
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Connection, DiscoveryChanges
from runtimedb_dagster.sources.base import Source
from runtimedb_dagster.sources.registry import open_source, recipes

__all__ = ["Discoverer"]


@dataclass(frozen=True)
class Discoverer:
    """Compares sources with the catalog."""

    catalog: Catalog
    settings: Settings

    def one(self, connection: Connection, *, confirm: bool = False) -> DiscoveryResult:
        """Discover a connection.

        Args:
            connection: whose tables to find.
            confirm: remove tables even if that looks like a revoked permission.

        Raises:
            SourceError: the source can't be opened or asked.
            DiscoveryRefusedError: see `confirm`.
        """
        return _result([self._open_and_compare(connection, confirm=confirm)], [])

    def all(self, *, confirm: bool = False) -> DiscoveryResult:
        """Discover every connection; the errors of some keep none of the others from it."""
        changes, errors = [], []
        for connection in self.catalog.connections.list():
            try:
                changes.append(self._open_and_compare(connection, confirm=confirm))
            except RuntimeDBError as error:
                errors.append({"connection_id": connection.id, "error": str(error)})
        return _result(changes, errors)

    def compare(self, connection: Connection, source: Source, *, confirm: bool = False) -> DiscoveryChanges:
        """Record what an open source shows now; see `one`."""
        # Taken before the source is asked, so that a slow discovery can't undo a later one.
        sequence = self.catalog.connections.begin_discovery()
        found = source.discover()
        now = utc_now()
        return self.catalog.tables.record_discovery(
            connection, sequence, found, recipes, now, now + self.settings.grace_period, confirm=confirm
        )

    def _open_and_compare(self, connection: Connection, *, confirm: bool) -> DiscoveryChanges:
        try:
            with open_source(connection, self.settings.duckdb_config) as source:
                return self.compare(connection, source, confirm=confirm)
        except RuntimeDBError as error:
            # Kept where `connections()` shows it.
            self.catalog.connections.record_discovery_failure(connection, str(error))
            raise


def _result(changes: Sequence[DiscoveryChanges], errors: list[dict[str, str]]) -> DiscoveryResult:
    return DiscoveryResult(
        connections_refreshed=len(changes),
        connections_failed=len(errors),
        tables_discovered=sum(each.discovered for each in changes),
        tables_added=sum(len(each.added) for each in changes),
        tables_removed=sum(len(each.removed) for each in changes),
        tables_modified=sum(len(each.modified) for each in changes),
        errors=errors,
    )

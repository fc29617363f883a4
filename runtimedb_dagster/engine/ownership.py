"""Whose a storage is: a marker in it names the one catalog that writes, sweeps and verifies it.

Two catalogs over one storage delete what the other one serves: a home that was copied for a test, a backup that was
restored beside the original, a process that still uses the catalog before it was moved. And a storage without the
marker that it had is not the storage: its volume is not mounted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.catalog.lake import Lake
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import ForeignStorageError, StorageUnavailableError
from runtimedb_dagster.storage import Storage

__all__ = ["Owner"]


class Owner:
    """The catalog's claim on the storage."""

    def __init__(self, catalog: Catalog, storage: Storage, url: str) -> None:
        """Of `catalog` on `storage`, which is shown as `url`."""
        self._catalog = catalog
        self._storage = storage
        self._url = url

    def require(self) -> None:
        """Have the storage be this catalog's; one that is new to both is marked.

        Raises:
            CatalogMovedError: the catalog is used no more.
            ForeignStorageError: the storage is another catalog's, or that of which this one is a copy.
            StorageUnavailableError: the storage has lost its marker, as where a volume is not mounted.
            StorageError: it can't be asked.
        """
        lake = self._catalog.lake.get()
        marker = self._storage.read_marker()
        if marker is None:
            self._mark_first(lake)
            return
        found = _parsed(marker)
        if found is None:
            raise ForeignStorageError(
                f"The storage {self._url} has a marker that says nothing; if it really is this catalog's, "
                "take it over: `runtimedb adopt`"
            )
        places = found.get("places")
        known = set(places) if isinstance(places, list) else set()
        if found.get("catalog") == _next_id(lake):
            # It is just being taken over, or that ended before the catalog knew of it.
            self._catalog.lake.mark(_next_id(lake))
            return
        if found.get("catalog") == lake.catalog_id and known & set(lake.places):
            if known != set(lake.places):
                # It was moved, or restored: what else was at one of its places is a copy from now on.
                self._write(lake, utc_now())
            return
        since = f"(since {found.get('since')})"
        if found.get("catalog") == lake.catalog_id:
            raise ForeignStorageError(
                f"The storage {self._url} belongs to the catalog that this one is a copy of {since}; nothing was "
                "touched. If nothing but this catalog uses the storage, because its files were copied too, or the "
                "original is gone or was moved here, take it over: `runtimedb adopt`. Otherwise this catalog needs a "
                "storage of its own (RUNTIMEDB_STORAGE_URL)"
            )
        raise ForeignStorageError(
            f"The storage {self._url} belongs to another catalog {since}; nothing was touched. Check "
            "RUNTIMEDB_CATALOG_URL and RUNTIMEDB_STORAGE_URL. If a `runtimedb migrate --from` into this one ended "
            "before it was finished, give it again. If the other catalog is gone, and nothing uses it any more, take "
            "the storage over: `runtimedb adopt`"
        )

    def require_of(self, lake: Lake) -> None:
        """Have the storage be that of a catalog which is about to be moved into this one.

        Raises:
            ForeignStorageError: it is not, so its versions would not be found.
            StorageError: it can't be asked.
        """
        marker = self._storage.read_marker()
        found = _parsed(marker) if marker is not None else None
        # The latter where a move ended after it had taken the storage over.
        expected = {lake.catalog_id, _next_id(self._catalog.lake.get())}
        if lake.marked and (found or {}).get("catalog") not in expected:
            raise ForeignStorageError(
                f"The storage {self._url} is not that of the catalog to be moved, so its versions would not be found "
                "here; nothing was moved. Set RUNTIMEDB_STORAGE_URL to its storage, or copy the files with the marker"
            )

    def adopt(self) -> None:
        """Take the storage over, under an id that no copy of this catalog has.

        Raises:
            CatalogMovedError, StorageError
        """
        lake = self._catalog.lake.get()
        self._write(replace(lake, catalog_id=_next_id(lake)), utc_now())

    def _mark_first(self, lake: Lake) -> None:
        """Mark a storage that has no marker: a new one, or one of a release that made none."""
        tables = [table for table in self._catalog.tables.list() if table.version] if self._has_versions() else []
        paths = (path for table in tables if table.version for path in table.version.paths)
        there = any(map(self._storage.exists, paths))
        if lake.marked or (tables and not there):
            raise StorageUnavailableError(
                f"The storage {self._url} is not the one that it was: it has lost its marker, or is empty, though "
                "tables have versions in it. Is it mounted, and the right one? If its files are lost, `runtimedb "
                "purge` each connection and take it over: `runtimedb adopt`"
            )
        self._write(lake, utc_now())

    def _has_versions(self) -> bool:
        return self._catalog.publications.exist()

    def _write(self, lake: Lake, now: datetime) -> None:
        content = {
            "catalog": lake.catalog_id,
            "places": lake.places,
            "since": now.isoformat(timespec="seconds"),
        }
        self._storage.write_marker(json.dumps(content).encode())
        self._catalog.lake.mark(lake.catalog_id)


def _next_id(lake: Lake) -> str:
    """The id under which a catalog takes a storage over: another than it had, and than a copy elsewhere would take."""
    return hashlib.sha256("\0".join((lake.catalog_id, *lake.places)).encode()).hexdigest()[:32]


def _parsed(marker: bytes) -> dict[str, object] | None:
    try:
        found = json.loads(marker)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None

"""The one row about the whole: which catalog this is and where, its clock, and whether it was moved."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select, text, update

from runtimedb_dagster.catalog import schema
from runtimedb_dagster.catalog.database import Database, require_here, transition

__all__ = ["Lake", "LakeCatalog"]


@dataclass(frozen=True)
class Lake:
    """A catalog, as its storage knows it.

    Attributes:
        catalog_id: of its rows, which a copy has too.
        places: of its database; a copy has none of them. One of them is enough: a file that was moved has its inode,
            one that was restored its path.
        marked: whether its storage was marked as its own.
    """

    catalog_id: str
    places: tuple[str, ...]
    marked: bool


class LakeCatalog:
    """The one row of the catalog about itself."""

    def __init__(self, database: Database) -> None:
        """Work on `database`."""
        self._database = database

    @transition
    def get(self, *, even_if_moved: bool = False) -> Lake:
        """Which catalog this is, or was.

        Raises:
            CatalogMovedError: it was moved into another database.
        """
        with self._database.read() as tx:
            if not even_if_moved:
                require_here(tx)
            row = tx.execute(select(schema.lake)).one()
            if self._database.file is not None:
                places = _places_of_file(self._database.file)
            else:
                places = _places_in_postgresql(tx)
            return Lake(row.catalog_id, places, row.storage_marked)

    @transition
    def mark(self, catalog_id: str) -> None:
        """Remember that the storage was marked, and under which id."""
        with self._database.write() as tx:
            require_here(tx)
            tx.execute(update(schema.lake).values(storage_marked=True, catalog_id=catalog_id))


def _places_in_postgresql(tx: Connection) -> tuple[str, ...]:
    database, address = tx.execute(text("SELECT current_database(), inet_server_addr()::text")).one()
    if tx.execute(text("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")).scalar():
        server = tx.execute(text("SELECT system_identifier FROM pg_control_system()")).scalar()
    else:
        server = address
    return (_hashed("postgresql", str(server), str(database)),)


def _places_of_file(file: Path) -> tuple[str, ...]:
    found = file.stat()
    return (
        _hashed("file", socket.gethostname(), os.path.realpath(file)),
        _hashed("inode", str(found.st_dev), str(found.st_ino)),
    )


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

"""Files that can be read and not written, whatever DuckDB is asked to do with them.

`allowed_paths` allows to write as well as to read. Where others get hold of a connection, as of a relation's, DuckDB
reads versions through Python, which opens no file for anything else.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from runtimedb_dagster.storage import Storage

__all__ = ["ReadOnlyFiles"]

SCHEME = "runtimedb"


class ReadOnlyFiles(AbstractFileSystem):  # type: ignore[misc]  # it has no types
    """A storage, as DuckDB takes file systems of Python's."""

    protocol = SCHEME
    cachable = False

    def __init__(self, storage: Storage) -> None:
        """Of `storage`."""
        super().__init__()
        self._storage = storage

    @staticmethod
    def location(path: str) -> str:
        """What DuckDB reads a file from."""
        return f"{SCHEME}://{path}"

    def open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        """A file's content.

        Raises:
            PermissionError: it was to be written.
            StorageError: it is not there.
        """
        if mode != "rb":
            raise PermissionError(f"{path} can only be read")
        return self._storage.open(_path(path))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """The size of a file."""
        with self._storage.open(_path(path)) as file:
            return {"name": path, "size": file.seek(0, os.SEEK_END), "type": "file"}

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is a file."""
        return self._storage.exists(_path(path))

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file of that name: none is a pattern."""
        return [_path(path)] if self.exists(path) else []

    def modified(self, path: str) -> datetime:  # noqa: ARG002 - versions never change
        """When a file was changed: never."""
        return datetime.fromtimestamp(0, timezone.utc)


def _path(path: str) -> str:
    return path.removeprefix(f"{SCHEME}:").lstrip("/")

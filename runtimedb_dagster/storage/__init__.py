"""Where versions are kept: a protocol, and the storages that speak it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from runtimedb_dagster.errors import ConfigurationError
from runtimedb_dagster.storage.filesystem import FileStorage
from runtimedb_dagster.storage.paths import version_path

__all__ = ["FileStorage", "Storage", "open_storage", "version_path"]


class Storage(Protocol):
    """Keeps versions by path. Nothing is ever overwritten, and nothing is listed to be read."""

    def prepare(self, path: str) -> Path:
        """An empty local file to write the version into."""

    def finalize(self, path: str) -> None:
        """Make the written file durable, under its final name."""

    def delete(self, path: str) -> None:
        """Delete a version, finished or not; already gone is fine."""

    def location(self, path: str) -> str:
        """What DuckDB reads the version from."""

    def list(self) -> Iterator[str]:
        """The paths of all files, for `verify` alone."""

    def exists(self, path: str) -> bool:
        """Whether anything is at the path, finished or not."""


def open_storage(url: str) -> Storage:
    """The storage at a URL (`file:///path`) or a plain path.

    Raises:
        ConfigurationError: no storage knows the URL's scheme.
    """
    parsed = urlsplit(url)
    if parsed.scheme not in ("", "file") or parsed.netloc:
        raise ConfigurationError(f"The storage URL's scheme '{parsed.scheme}' is unknown; write file:///path")
    path = Path(unquote(parsed.path) if parsed.scheme else url).expanduser().absolute()
    return FileStorage(path)

"""Where versions are kept: a protocol, and the storages that speak it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import duckdb

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.storage.filesystem import FileStorage
from runtimedb_dagster.storage.paths import deletes_path, version_path

__all__ = ["FileStorage", "Storage", "deletes_path", "open_storage", "version_path"]


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

    def make_readable(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Have a DuckDB be able to read locations, before it is locked down."""

    def open(self, path: str) -> BinaryIO:
        """A version's content, of which only what is read is fetched."""

    def list(self) -> Iterator[str]:
        """The paths of all files, for `verify` alone."""

    def exists(self, path: str) -> bool:
        """Whether anything is at the path, finished or not."""

    def sizes(self, paths: Sequence[str]) -> Mapping[str, int]:
        """The sizes of finished files, in bytes; those that are not there are missing."""

    def read_marker(self) -> bytes | None:
        """What the storage says of the catalog whose it is; None if it says nothing."""

    def write_marker(self, content: bytes) -> None:
        """Have the storage say whose it is; `list` leaves that out."""

    def tidy(self) -> None:
        """Remove what writers of the marker have left that were ended."""


def open_storage(url: str, staging: Path) -> Storage:
    """The storage at a URL (`file:///path`, `s3://bucket/prefix`) or a plain path.

    Args:
        url: where versions are kept.
        staging: a directory on this machine, for versions that are written before they are sent.

    Raises:
        ConfigurationError: no storage knows the URL's scheme, or a part of it is wrong.
    """
    try:
        parsed = urlsplit(url)
        path = Path(unquote(parsed.path) if parsed.scheme else url).expanduser().absolute()
        url.encode()
    except (ValueError, RuntimeError):  # a home that nobody has is the latter
        raise ConfigurationError("The storage URL is malformed; write file:///path or s3://bucket/prefix") from None
    if parsed.scheme == "s3":
        return _open_s3(parsed, staging)
    if parsed.scheme not in ("", "file") or parsed.netloc:
        raise ConfigurationError(
            f"The storage URL's scheme '{parsed.scheme}' is unknown; write file:///path or s3://bucket/prefix"
        )
    return FileStorage(path)


def _open_s3(url: SplitResult, staging: Path) -> Storage:
    try:
        from runtimedb_dagster.storage.s3 import S3Storage  # noqa: PLC0415 - boto3 is there with an extra only
        from runtimedb_dagster.storage.s3.url import S3Url  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(f"A storage in S3 needs {error.name}: pip install 'runtimedb-dagster[s3]'") from error
    return S3Storage(S3Url.parse(url), staging)

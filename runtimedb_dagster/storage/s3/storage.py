"""Versions as objects of a bucket."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, cast

import duckdb
from botocore.exceptions import BotoCoreError, ClientError

from runtimedb_dagster.common import extensions
from runtimedb_dagster.common.scratch import Scratch
from runtimedb_dagster.common.sql import create_secret
from runtimedb_dagster.domain.errors import StorageError, UnsafePathError
from runtimedb_dagster.storage.paths import MARKER, is_safe
from runtimedb_dagster.storage.s3.ranged import RangedFile
from runtimedb_dagster.storage.s3.store import Store, code_of
from runtimedb_dagster.storage.s3.upload import Upload
from runtimedb_dagster.storage.s3.url import S3Url

__all__ = ["S3Storage"]

# httpfs copies these out of the AWS environment into settings, which any query can read and secrets fall back to.
LEAKY_SETTINGS = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token")

# To list is one request for a thousand objects.
LISTED_FROM = 8


class S3Storage:
    """The storage protocol on an object store.

    A version is written to a local file, and uploaded when it is finished. Its multipart upload is begun before its
    first byte: that is what the sweep aborts, so a writer that wakes up after its sweep can't bring the file back.
    """

    def __init__(self, url: S3Url, staging: Path) -> None:
        """Keep versions at `url`, and in `staging` those that are being written. Nothing is contacted yet."""
        self.url = url
        self._store = Store(url)
        self._staging = Scratch(staging)
        self._uploads: dict[str, Upload] = {}

    def prepare(self, path: str) -> Path:
        """An empty local file to write a version into.

        Raises:
            UnsafePathError, StorageError
        """
        self._key(path)
        if path in self._uploads:
            raise StorageError(f"{self.url.location(path)} can't be written: it is being written already")
        local = self._staging.create()
        try:
            with self._store.named_errors(path, "written"):
                self._uploads[path] = Upload.begin(self._store, path, local)
        except BaseException:
            local.unlink()
            raise
        return local

    def finalize(self, path: str) -> None:
        """Upload the written file, read its size and its end back, and remove it here.

        Raises:
            StorageError: the store would not take it, or something is there already; nothing was overwritten.
        """
        self._key(path)
        upload = self._uploads.pop(path, None)
        if upload is None:
            raise StorageError(f"{self.url.location(path)} can't be written: no file was begun, or it was swept")
        try:
            with self._store.named_errors(path, "written"):
                upload.finish()
        except BaseException:
            # Where this does not succeed, the sweep does it.
            with contextlib.suppress(BotoCoreError, ClientError):
                upload.abort()
            raise
        finally:
            upload.local.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """Delete a version, finished or not; already gone is fine. What dead processes left in staging goes too.

        Raises:
            UnsafePathError: the path leads outside the prefix; nothing was touched.
            StorageError: the store refused.
        """
        key = self._key(path)
        self._staging.clean()
        if upload := self._uploads.pop(path, None):
            upload.local.unlink(missing_ok=True)
        with self._store.named_errors(path, "deleted"):
            # Uploads first: one that is completed in between is deleted with the key.
            for found, upload_id in self._store.unfinished(key):
                if found == key:
                    self._store.abort(key, upload_id)
            self._store.delete(key)

    def location(self, path: str) -> str:
        """What DuckDB reads a version from."""
        self._key(path)
        return self.url.location(path)

    def make_readable(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Give a DuckDB the access key, for as long as it lives and where no query can see it.

        Raises:
            ConfigurationError: the extension httpfs is missing.
            StorageError: there is no access key.
        """
        statement = create_secret("storage", "s3", **self._store.secret())
        extensions.load(duck, "httpfs")
        for name in LEAKY_SETTINGS:
            duck.execute(f"SET GLOBAL {name} = ''")
        duck.execute("SET GLOBAL allow_persistent_secrets = false")
        duck.execute("SET GLOBAL allow_unredacted_secrets = false")
        try:
            duck.execute(statement)
        except duckdb.Error:
            # Its message quotes the statement.
            raise StorageError(f"DuckDB can't be given the access key of {self.url.location('')}") from None

    def open(self, path: str) -> BinaryIO:
        """A version's content, of which only what is read is fetched.

        Raises:
            StorageError: it is not there, or the store refused.
        """
        key = self._key(path)

        def fetch(start: int, length: int) -> bytes:
            with self._store.named_errors(path, "read"):
                return self._store.range(key, f"bytes={start}-{start + length - 1}")[0]

        with self._store.named_errors(path, "read"):
            head = self._store.head(key)
        if head is None:
            raise StorageError(f"{self.url.location(path)} can't be read: it is not there")
        return cast("BinaryIO", RangedFile(head["ContentLength"], fetch))

    def list(self) -> Iterator[str]:
        """The path of whatever is under the prefix, unfinished uploads by the path they would get.

        Raises:
            StorageError
        """
        under = self.url.key("")
        with self._store.named_errors("", "listed"):
            for key in self._store.keys(under):
                if key != self.url.key(MARKER):
                    yield key.removeprefix(under)
            for key, _ in self._store.unfinished(under):
                yield key.removeprefix(under)

    def exists(self, path: str) -> bool:
        """Whether anything is at the path, finished or not."""
        key = self.url.key(path)
        with self._store.named_errors(path, "looked up"):
            return self._store.head(key) is not None or any(key == found for found, _ in self._store.unfinished(key))

    def sizes(self, paths: Sequence[str]) -> dict[str, int]:
        """The sizes of objects; those that are not there are missing. Many are listed, a few are asked for.

        Raises:
            StorageError
        """
        keys = {self._key(path): path for path in paths}
        with self._store.named_errors("", "looked up"):
            if len(keys) <= LISTED_FROM:
                heads = {path: self._store.head(key) for key, path in keys.items()}
                return {path: head["ContentLength"] for path, head in heads.items() if head is not None}
            first, last = min(keys), max(keys)
            same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
            under = "".join(letter for letter, _ in same)
            return {keys[key]: size for key, size in self._store.sizes(under) if key in keys}

    def read_marker(self) -> bytes | None:
        """What the storage says of the catalog whose it is.

        Raises:
            StorageError
        """
        with self._store.named_errors(MARKER, "read"):
            try:
                answer = self._store.client.get_object(Bucket=self.url.bucket, Key=self.url.key(MARKER))
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return None
                raise
            with contextlib.closing(answer["Body"]) as body:
                return cast("bytes", body.read())

    def write_marker(self, content: bytes) -> None:
        """Have the storage say whose it is.

        Raises:
            StorageError
        """
        with self._store.named_errors(MARKER, "written"):
            self._store.client.put_object(Bucket=self.url.bucket, Key=self.url.key(MARKER), Body=content)

    def tidy(self) -> None:
        """Nothing to do: an object is there whole or not at all."""

    def _key(self, path: str) -> str:
        if not is_safe(path):
            raise UnsafePathError(f"The path '{path}' does not lie under {self.url.location('')}; it was not touched")
        return self.url.key(path)

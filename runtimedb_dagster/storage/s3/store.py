"""The object store as boto3 speaks to it: bounded in time and tries, with errors that say what to do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError  # noqa: A004 - boto's own
from botocore.parsers import ResponseParserError

from runtimedb_dagster.domain.errors import StorageError, StorageUnavailableError
from runtimedb_dagster.storage.s3.url import S3Url

__all__ = ["Store", "code_of"]

BOUNDS: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 60,
    "retries": {"mode": "standard", "total_max_attempts": 4},
    "max_pool_connections": 32,
}
NO_CONTENT = 204
NO_ANSWER = (ConnectionError, HTTPClientError)
PROXY_HINT = "is there a proxy or a portal before it, and does the storage URL name the right endpoint?"
KEY_HINT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile"
HINTS = {
    "NoSuchBucket": "make the bucket, or correct the storage URL",
    "InvalidAccessKeyId": "check the access key in the AWS environment",
    "SignatureDoesNotMatch": "check the secret key in the AWS environment",
    "ExpiredToken": "renew the session of the access key",
    "AccessDenied": "the access key needs to get, put, delete and list objects and multipart uploads there",
    "403": "check the access key in the AWS environment, and what it may do",
    "NoCredentialsError": KEY_HINT,
    "EndpointConnectionError": "is the server up?",
}


class Store:
    """A bucket. Nothing is contacted before the first use."""

    def __init__(self, url: S3Url) -> None:
        self.url = url
        self._opening = threading.Lock()
        self._opened: tuple[boto3.Session, Any] | None = None

    @property
    def client(self) -> Any:
        """boto3's client; use it inside `named_errors`."""
        return self._open()[1]

    def secret(self) -> dict[str, str]:
        """What DuckDB's secret needs to reach the same place with the same key.

        Raises:
            StorageError: there is no access key, or it can't be had.
        """
        with self.named_errors("", "read"):
            session, client = self._open()
            found = session.get_credentials()
            key = found.get_frozen_credentials() if found else None
        if key is None:
            raise StorageError(f"{self.url.location('')} can't be read: there is no access key ({KEY_HINT})")
        store = urlsplit(client.meta.endpoint_url)
        return {
            "KEY_ID": key.access_key,
            "SECRET": key.secret_key,
            "SESSION_TOKEN": key.token or "",
            "REGION": self.url.region or session.region_name or "us-east-1",
            "ENDPOINT": store.netloc,
            # A store of one's own seldom has a host name for each bucket.
            "URL_STYLE": "path" if self.url.endpoint else "vhost",
            "USE_SSL": "false" if store.scheme == "http" else "true",
            "SCOPE": self.url.location(""),
        }

    def head(self, key: str) -> dict[str, Any] | None:
        """What the store knows of an object, None if there is none."""
        try:
            return cast("dict[str, Any]", self.client.head_object(Bucket=self.url.bucket, Key=key))
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return None
            raise

    def range(self, key: str, wanted: str) -> tuple[bytes, int]:
        """Some bytes of an object, as `bytes=…` asks for them, and its size."""
        answer = self.client.get_object(Bucket=self.url.bucket, Key=key, Range=wanted)
        with contextlib.closing(answer["Body"]) as body:
            return body.read(), int(answer["ContentRange"].rpartition("/")[2])

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of all objects that begin with `prefix`."""
        return (key for key, _ in self.sizes(prefix))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The keys of all objects that begin with `prefix`, with their sizes in bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.url.bucket, Prefix=prefix)
        for page in pages:
            _require_answer(page, "Name", "KeyCount", "Contents")
            for found in page.get("Contents", []):
                yield found["Key"], found["Size"]

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The multipart uploads to keys that begin with `prefix`, as (key, id)."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.url.bucket, Prefix=prefix)
        for page in pages:
            _require_answer(page, "Bucket", "MaxUploads", "Uploads")
            for upload in page.get("Uploads", []):
                yield upload["Key"], upload["UploadId"]

    def delete(self, key: str) -> None:
        """Delete an object; already gone is fine.

        Raises:
            KeyError: the answer is not what S3 answers.
        """
        answer = self.client.delete_object(Bucket=self.url.bucket, Key=key)
        if answer["ResponseMetadata"]["HTTPStatusCode"] != NO_CONTENT and self.head(key) is not None:
            raise KeyError("204")

    def abort(self, key: str, upload_id: str) -> None:
        """End a multipart upload; one that is gone is fine."""
        try:
            self.client.abort_multipart_upload(Bucket=self.url.bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":
                raise

    @contextlib.contextmanager
    def named_errors(self, path: str, verb: str) -> Iterator[None]:
        """Have errors name the version and what to do.

        Raises:
            StorageError: instead of boto3's.
            StorageUnavailableError: where no answer came at all.
        """
        try:
            yield
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, RecursionError) as error:
            # boto3 finds nothing in an answer of another kind, such as a portal's page, and says nothing of it.
            what = f"{self.url.location(path)} can't be {verb}"
            raise StorageError(f"{what}: the endpoint answers, but not as S3 does ({error!r}); {PROXY_HINT}") from error
        except ResponseParserError as error:
            what = f"{self.url.location(path)} can't be {verb}"
            raise StorageError(f"{what}: the endpoint answers, but not as S3 does; {PROXY_HINT}") from error
        except (BotoCoreError, ClientError) as error:
            kind = StorageUnavailableError if isinstance(error, NO_ANSWER) else StorageError
            raise kind(f"{self.url.location(path)} can't be {verb}: {_reason(error)}") from error

    def _open(self) -> tuple[boto3.Session, Any]:
        with self._opening:
            if self._opened is None:
                session = boto3.Session(profile_name=self.url.profile, region_name=self.url.region)
                style = {"addressing_style": "path" if self.url.endpoint else "auto"}
                client = session.client("s3", endpoint_url=self.url.endpoint, config=Config(s3=style, **BOUNDS))
                self._require_bucket(client)
                self._opened = session, client
            return self._opened

    def _require_bucket(self, client: Any) -> None:
        """Some stores answer as if a bucket that is missing were empty, or make it."""
        try:
            client.head_bucket(Bucket=self.url.bucket)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchBucket"):
                hint = HINTS["NoSuchBucket"]
                raise StorageError(f"The bucket '{self.url.bucket}' does not exist; {hint}") from None
            if code_of(error) not in ("403", "AccessDenied"):
                raise
            # A key may be allowed to use objects and not to look at the bucket; its next request will show.


def _require_answer(answer: dict[str, Any], *any_of: str) -> None:
    """Have an answer hold what those of its kind do.

    Raises:
        KeyError: it holds none of it.
    """
    if not any(name in answer for name in any_of):
        raise KeyError(any_of[0])


def _reason(error: Exception) -> str:
    """What went wrong, and what to do about it, where that is known."""
    code = code_of(error) if isinstance(error, ClientError) else type(error).__name__
    # Of a status alone boto3 makes a code, of some requests none.
    if isinstance(error, ClientError) and (not code or code.isdigit()) and code not in HINTS:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return f"the endpoint answers with the status {status} and without a word, which S3 does not; {PROXY_HINT}"
    hint = HINTS.get(code)
    return f"{error} ({hint})" if hint else str(error)


def code_of(error: ClientError) -> str:
    """The store's own name for what went wrong, or the status where it sent none."""
    return str(error.response.get("Error", {}).get("Code", ""))

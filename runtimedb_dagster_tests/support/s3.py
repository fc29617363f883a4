"""A real object store for the tests of the storage, and ways to look behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
from botocore.config import Config

from runtimedb_dagster.storage.paths import MARKER
from runtimedb_dagster_tests.support.servers import PASSWORD

__all__ = ["BUCKET", "ENVIRONMENT", "KEY_ID", "Bucket", "ObjectStore", "object_store_running"]

BUCKET = "plain"
REGION = "us-east-1"
KEY_ID = "keeper"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": PASSWORD,
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class ObjectStore:
    """A running server with the bucket `BUCKET`."""

    endpoint: str

    def client(self) -> Any:
        """boto3's client, with the right key."""
        return _client(self.endpoint)


@lru_cache
def _client(endpoint: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=PASSWORD,
        config=Config(s3={"addressing_style": "path"}),
    )


@dataclass(frozen=True)
class Bucket:
    """A prefix of the bucket."""

    store: ObjectStore
    prefix: str

    def url(self, bucket: str = BUCKET, endpoint: str | None = None, **options: str) -> str:
        """The storage URL."""
        given = {"endpoint": endpoint or self.store.endpoint, "region": REGION, **options}
        return f"s3://{bucket}/{self.prefix}?{urlencode(given)}"

    @classmethod
    def at(cls, url: str) -> Bucket:
        """The prefix of a storage URL."""
        parts = urlsplit(url)
        return cls(ObjectStore(dict(parse_qsl(parts.query))["endpoint"]), parts.path.strip("/"))

    def keys(self) -> set[str]:
        """What really lies under the prefix, the marker apart."""
        pages = self.store.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        keys = {found["Key"].removeprefix(f"{self.prefix}/") for page in pages for found in page.get("Contents", [])}
        return keys - {MARKER}

    def uploads(self) -> set[str]:
        """The uploads under the prefix that are not finished."""
        answer = self.store.client().list_multipart_uploads(Bucket=BUCKET, Prefix=f"{self.prefix}/")
        return {found["Key"].removeprefix(f"{self.prefix}/") for found in answer.get("Uploads", [])}

    def get(self, path: str) -> bytes:
        """The content of an object."""
        answer = self.store.client().get_object(Bucket=BUCKET, Key=f"{self.prefix}/{path}")
        content: bytes = answer["Body"].read()
        return content

    def put(self, path: str, content: bytes) -> None:
        """An object that RuntimeDB has not written."""
        self.store.client().put_object(Bucket=BUCKET, Key=f"{self.prefix}/{path}", Body=content)

    def begin(self, path: str) -> None:
        """An upload that RuntimeDB has not begun."""
        self.store.client().create_multipart_upload(Bucket=BUCKET, Key=f"{self.prefix}/{path}")

    def remove(self, path: str) -> None:
        """Take an object away."""
        self.store.client().delete_object(Bucket=BUCKET, Key=f"{self.prefix}/{path}")


@contextmanager
def object_store_running() -> Iterator[ObjectStore]:
    """Start one over an empty directory, and end it."""
    from runtimedb_dagster_tests.support.seaweed import seaweed  # noqa: PLC0415 - pyiceberg takes a second to load

    with seaweed() as running:
        yield ObjectStore(running.store)

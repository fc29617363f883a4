"""The key of data files in an object store, for the sources that keep their data in one."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import duckdb
from pydantic import BaseModel, ConfigDict, Field

from runtimedb_dagster.common.sql import create_secret

__all__ = ["S3Options", "create_s3_secret", "s3_key"]


class S3Options(BaseModel):
    """Where data files are, if they are in an object store that needs a key of the user's own."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    s3_key_id: str | None = Field(default=None, description="access key id for the data files in S3")
    s3_key_env: str = Field(
        default="AWS_SECRET_ACCESS_KEY", description="environment variable with the secret access key of s3_key_id"
    )
    s3_region: str | None = Field(default=None, description="region of the data files, such as `eu-west-1`")
    s3_endpoint: str | None = Field(
        default=None, pattern=r"^https?://[^/?#]+/?$", description="URL of the object store, where that is not AWS"
    )


def s3_key(options: S3Options) -> str | None:
    """The secret access key of the data files, if the options name one."""
    return os.environ.get(options.s3_key_env) if options.s3_key_id else None


def create_s3_secret(options: S3Options) -> str:
    """The statement that gives DuckDB the key of the data files."""
    secret = s3_key(options)
    if secret is None:
        raise duckdb.InvalidInputException(
            f"the environment variable {options.s3_key_env} is not set, which holds the secret key of s3_key_id"
        )
    store = urlsplit(options.s3_endpoint or "")
    return create_secret(
        "data",
        "s3",
        KEY_ID=options.s3_key_id,
        SECRET=secret,
        # Unless it is given, httpfs takes that of the environment, which may belong to another key.
        SESSION_TOKEN=_session_token(options),
        REGION=options.s3_region,
        ENDPOINT=store.netloc or None,
        # A store of one's own seldom has a host name for each bucket.
        URL_STYLE="path" if store.netloc else None,
        USE_SSL="false" if store.scheme == "http" else None,
    )


def _session_token(options: S3Options) -> str:
    """The environment's, if it is that of this key; else none."""
    mine = options.s3_key_id == os.environ.get("AWS_ACCESS_KEY_ID")
    return os.environ.get("AWS_SESSION_TOKEN", "") if mine else ""

"""`s3://bucket/prefix?endpoint=…&region=…`: where in an object store versions are kept, never with a key."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import SplitResult, parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.storage.paths import is_safe

__all__ = ["S3Url"]

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class S3Url(BaseModel):
    """A place in an object store."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bucket: str
    prefix: str
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$",
        description="URL of the object store, where that is not AWS",
    )
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$", description="its region, such as `eu-west-1`")
    profile: str | None = Field(default=None, description="profile of the AWS configuration that has the access key")
    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        default=None, description="how the server encrypts: `AES256`, `aws:kms` or `aws:kms:dsse`"
    )
    sse_kms_key_id: str | None = Field(default=None, description="the key that `aws:kms` encrypts with")

    @classmethod
    def parse(cls, url: SplitResult) -> S3Url:
        """Read a URL.

        Raises:
            ConfigurationError: a part of it is wrong; what it holds is not shown.
        """
        if "@" in url.netloc:
            raise ConfigurationError(
                "The storage URL holds a user or a key; leave them out: the access key comes from the AWS "
                "environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile or a role"
            )
        prefix = url.path.strip("/")
        if not BUCKET.fullmatch(url.netloc) or (prefix and not is_safe(prefix)) or url.fragment:
            raise ConfigurationError(
                "The storage URL is not s3://bucket/prefix; the prefix is of letters, digits and _ . ~ - between /"
            )
        try:
            given = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
            return cls.model_validate({**dict(given), "bucket": url.netloc, "prefix": prefix})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            known = ", ".join(name for name in cls.model_fields if name not in ("bucket", "prefix"))
            raise ConfigurationError(
                f"The storage URL's option '{first['loc'][0]}' is wrong: {first['msg']} (there are: {known})"
            ) from None
        except ValueError:
            raise ConfigurationError("The storage URL's options are not of the form name=value&name=value") from None

    def key(self, path: str) -> str:
        """The key of a version, or with `""` what the keys of all begin with."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def location(self, path: str) -> str:
        """A version as DuckDB names it."""
        return f"s3://{self.bucket}/{self.key(path)}"

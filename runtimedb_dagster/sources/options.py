"""The options that every connection has; a source's own are in its dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from runtimedb_dagster.config import Duration
from runtimedb_dagster.errors import ConfigurationError

__all__ = ["ConnectionOptions"]

# Five fields of digits, names, `*`, `/`, `,`, `-`, `#` and `L`; Dagster checks what they mean.
OWNER = re.compile(r"team:\w[\w-]*|[^@\s,]+@[^@\s,]+\.[^@\s,]+")
CRON = re.compile(r"(\S+\s+){4}\S+")


class ConnectionOptions(BaseModel):
    """What is set for one connection, or its defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    discovery_interval: int = Field(default=300, ge=1, description="seconds between two discoveries by the sensor")
    parallel_refresh: int | None = Field(
        default=None, ge=1, le=64, description="tables refreshed at a time, over all runs (default: the setting)"
    )
    refresh_cron: str | None = Field(default=None, description="when to refresh all cached tables, such as `0 * * * *`")
    materialize_new: bool = Field(default=False, description="true: the sensor refreshes tables that it found new")
    refresh_modified: bool = Field(default=False, description="true: the sensor refreshes tables with other columns")
    min_row_ratio: float = Field(
        default=0.5, ge=0, le=1, description="a version with fewer rows than this part of the one before is reported"
    )
    max_age: Duration | None = Field(
        default=None,
        ge=timedelta(minutes=1),
        description="seconds, from 60 on, after which a table is stale, in Dagster's checks",
    )

    owners: tuple[str, ...] = Field(default=(), description="who to ask, such as `team:data,ann@example.org`")

    @field_validator("owners", mode="before")
    @classmethod
    def _addresses(cls, owners: Any) -> Any:
        given = [owner.strip() for owner in owners.split(",")] if isinstance(owners, str) else owners
        if not all(OWNER.fullmatch(owner) for owner in given):
            raise ValueError("owners are teams or mail addresses, such as team:data,ann@example.org")
        return given

    @field_validator("refresh_cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is not None and not CRON.fullmatch(cron.strip()):
            raise ValueError("a cron line has five fields, such as 0 * * * *")
        return cron

    @classmethod
    def of(cls, options: Mapping[str, str]) -> ConnectionOptions:
        """The options of a connection.

        Raises:
            ConfigurationError: a value is of the wrong form.
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ConfigurationError(f"The option {first['loc'][0]} is wrong: {first['msg']}") from None

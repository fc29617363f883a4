"""The options that every connection has, parsed once; a source's own are in its dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import PurePath
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.patterns import Matcher
from runtimedb_dagster.domain.selection import Selection
from runtimedb_dagster.domain.settings import LONGEST, Duration

__all__ = ["ConnectionOptions", "parsed", "written"]

M = TypeVar("M", bound=BaseModel)

# Five fields of digits, names, `*`, `/`, `,`, `-`, `#` and `L`; Dagster checks what they mean.
OWNER = re.compile(r"team:\w[\w-]*|[^@\s,]+@[^@\s,]+\.[^@\s,]+")
CRON = re.compile(r"(\S+\s+){4}\S+")
MASKS = ("sha256", "null", "redact")

Names = tuple[str, ...]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _names(text: str) -> Any:
    """Names with commas between them; a JSON list where a name has a comma itself."""
    if text.lstrip().startswith("["):
        return _json(text)
    return [name.strip() for name in text.split(",") if name.strip()]


class ConnectionOptions(BaseModel):
    """What is set for one connection, or its defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    discovery_interval: int = Field(default=300, ge=1, description="seconds between two discoveries by the sensor")
    parallel_refresh: int | None = Field(
        default=None, ge=1, le=64, description="tables refreshed at a time, over all runs (default: the setting)"
    )
    refresh_cron: str | None = Field(default=None, description="when to refresh all cached tables, such as `0 * * * *`")
    materialize_new: bool = Field(default=False, description="true: the sensor refreshes tables that it found new")
    refresh_on_change: bool = Field(
        default=False,
        description="true: at each discovery the sensor asks which cached tables changed, and refreshes those; where "
        "the source can tell",
    )
    refresh_modified: bool = Field(default=False, description="true: the sensor refreshes tables with other columns")
    min_row_ratio: float = Field(
        default=0.5, ge=0, le=1, description="a version with fewer rows than this part of the one before is reported"
    )
    max_delete_ratio: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="a version that lacks more than this part of the rows before waits until that is confirmed",
    )
    max_age: Duration | None = Field(
        default=None,
        ge=timedelta(minutes=1),
        description="seconds, from 60 on, after which a table is stale, in Dagster's checks",
    )

    owners: tuple[str, ...] = Field(default=(), description="who to ask, such as `team:data,ann@example.org`")

    include: Names = Field(default=(), description="patterns of the tables to discover, such as `sales.*,main.orders`")
    exclude: Names = Field(default=(), description="patterns of tables to leave out")
    where: dict[str, str] | None = Field(
        default=None, description="conditions on rows in the source's SQL, such as `sales.*: year >= 2020`"
    )
    columns: Names = Field(default=(), description="where a table has columns of these patterns, only they are read")
    exclude_columns: Names = Field(default=(), description="patterns of columns to leave out, such as `*.ssn`")
    mask: dict[str, str] | None = Field(
        default=None, description="columns to mask by sha256, null or redact, such as `*email*:sha256`"
    )
    changes: Literal["auto", "cursor", "full"] = Field(
        default="auto",
        description="auto: only what changed is read, where the source can tell; cursor: where it can't, what the "
        "column of the option cursor says is new, which is declared; full: tables are read whole",
    )
    cursor: Names = Field(
        default=(), description="with changes=cursor: patterns of the columns that say what is new, as `*.updated_at`"
    )
    lookback: Duration = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="how far before the greatest cursor is read again: a duration, or so many whole numbers",
    )
    key: Names = Field(
        default=(), description="with a cursor: patterns of the columns that rows are known by, if not the primary key"
    )
    append: bool = Field(default=False, description="with a cursor, true: rows are only ever added; declared")
    full_every: Duration | None = Field(
        default=None,
        ge=timedelta(seconds=1),
        description="how often a table that is read by a cursor is compared with the whole of it (default: P7D)",
    )
    audit_every: Duration | None = Field(
        default=None,
        ge=timedelta(seconds=1),
        description="how often a refresh also reads a table whole, and compares, such as P30D",
    )
    trust_hints: bool = Field(
        default=False, description="true: a source's hint that nothing changed is enough not to read a table; declared"
    )
    where_is_stable: bool = Field(
        default=False,
        description="true: the conditions of where depend on the row alone, though that can't be seen; declared",
    )
    read_timeout: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST.total_seconds(),
        description="seconds that reading one table may take, whatever the source's own limits",
    )
    discovery_timeout: float = Field(
        default=50,
        gt=0,
        le=LONGEST.total_seconds(),
        description="seconds that opening, checking or listing the source may take; a sensor's tick has 60",
    )
    password_file: str | None = Field(default=None, description="a file that holds the password, read at each use")

    @field_validator("include", "exclude", "columns", "exclude_columns", "cursor", "key", mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        return _names(given) if isinstance(given, str) else given

    @field_validator("where", mode="before")
    @classmethod
    def _conditions(cls, given: Any) -> Any:
        if not isinstance(given, str) or given.lstrip().startswith("{"):
            return _json(given) if isinstance(given, str) else given
        pattern, separator, condition = given.partition(":")
        if not separator or not pattern.strip() or not condition.strip():
            raise ValueError("a condition is written `pattern: SQL`, or several as a JSON object")
        return {pattern.strip(): condition.strip()}

    @field_validator("mask", mode="before")
    @classmethod
    def _masks(cls, given: Any) -> Any:
        if not isinstance(given, str) or given.lstrip().startswith("{"):
            return _json(given) if isinstance(given, str) else given
        return {pattern: mask for pattern, _, mask in (entry.rpartition(":") for entry in _names(given))}

    @field_validator("mask")
    @classmethod
    def _known_masks(cls, masks: dict[str, str] | None) -> dict[str, str] | None:
        for pattern, mask in (masks or {}).items():
            if not pattern or mask not in MASKS:
                raise ValueError(f"a mask is written `pattern:mask`, where mask is one of {', '.join(MASKS)}")
        return masks

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

    @cached_property
    def selection(self) -> Selection:
        """What they say by pattern: of tables, rows and columns."""
        return Selection(
            Matcher.of(self.include),
            Matcher.of(self.exclude),
            Matcher(self.where or {}),
            Matcher.of(self.columns),
            Matcher.of(self.exclude_columns),
            Matcher(self.mask or {}),
        )

    @classmethod
    def of(cls, given: Mapping[str, str]) -> ConnectionOptions:
        """From options as they were given.

        Raises:
            ConfigurationError: a value is of the wrong form.
        """
        return parsed(cls, given)


def parsed(model: type[M], given: Mapping[str, str]) -> M:
    """Options as a model of them has them; what it does not know is another model's.

    Raises:
        ConfigurationError: a value is of the wrong form.
    """
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(f"The option {first['loc'][0]} is wrong: {first['msg']}") from None


def written(name: str, value: Any) -> str:
    """An option's value as the catalog keeps it and the command line gives it.

    Raises:
        ConfigurationError: it is of a type that no option takes.
    """
    if isinstance(value, set | frozenset):
        value = sorted(value)
    if isinstance(value, dict | list | tuple):
        return json.dumps(value)
    if isinstance(value, timedelta):
        return str(value.total_seconds())
    if isinstance(value, str | bool | int | float | PurePath):
        return str(value)
    raise ConfigurationError(
        f"The option {name} takes a text, a number, a list or a dictionary, not a value of type {type(value).__name__}"
    )

"""Settings: where the catalog and the versions are, and how long things live."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)
from sqlalchemy import URL

from runtimedb_dagster.domain.errors import ConfigurationError

__all__ = ["IN_PROCESS", "LONGEST", "Duration", "Settings"]

DEFAULT_HOME = ".runtimedb"
DEFAULT_FILE = "runtimedb.toml"
IN_PROCESS = "in_process"


def _seconds(value: Any) -> Any:
    """Let the text `60` mean 60 seconds, as the number does."""
    if isinstance(value, str):
        try:
            return timedelta(seconds=float(value))
        except (ValueError, OverflowError):
            return value
    return value


def _catalog_under(values: dict[str, Any]) -> str:
    return URL.create("sqlite", database=str(values["home"] / "catalog.db")).render_as_string(hide_password=False)


def _storage_under(values: dict[str, Any]) -> str:
    return f"file://{quote(str(values['home'] / 'storage'))}"


# So that any can be added to the time of day.
LONGEST = timedelta(days=36500)
Duration = Annotated[timedelta, BeforeValidator(_seconds), Field(le=LONGEST)]


class Settings(BaseSettings):
    """What RuntimeDB needs to know about its deployment.

    Arguments win over `RUNTIMEDB_…` variables, these over the TOML file (`runtimedb.toml`, or the path
    in `RUNTIMEDB_CONFIG`), and that over the defaults. Durations are seconds, ISO 8601 (`PT5M`) or
    `timedelta`.

    Raises:
        ConfigurationError: a value is of the wrong form, or a name is unknown.
    """

    model_config = SettingsConfigDict(
        env_prefix="RUNTIMEDB_", frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True
    )

    home: Path = Field(default=Path(DEFAULT_HOME), description="directory of all that is kept on this machine")
    catalog_url: str = Field(
        default_factory=_catalog_under,
        repr=False,
        description="SQLAlchemy URL of the catalog (default: SQLite under home)",
    )
    storage_url: str = Field(
        default_factory=_storage_under, repr=False, description="where versions are kept (default: files under home)"
    )
    grace_period: Duration = Field(
        default=timedelta(seconds=60),
        ge=timedelta(0),
        description="how long a replaced version stays readable",
    )
    write_lease: Duration = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        description="how long an unfinished file is kept after its writer was last heard of",
    )
    reader_lease: Duration = Field(
        default=timedelta(seconds=60),
        gt=timedelta(0),
        description="how long a reader's versions are kept after it was last heard of",
    )
    parallel_refresh: int = Field(default=4, ge=1, le=64, description="tables of one connection refreshed at a time")
    fold_below: int = Field(
        default=100_000, ge=0, description="a version of at most so many rows is kept in one plain Parquet file"
    )
    retry_delay: Duration = Field(
        default=timedelta(seconds=10),
        ge=timedelta(0),
        description="between two attempts of a run whose source is unavailable",
    )
    memory_limit: str | None = Field(
        default=None, description="DuckDB's memory limit per process, such as 4GB (default: 80 % of memory)"
    )
    threads: int | None = Field(default=None, ge=1, description="DuckDB's threads (default: one per core)")
    executor: str = Field(
        default=IN_PROCESS,
        description="who runs the job refresh: in_process, or module:name of one of Dagster's executors",
    )
    executor_config: dict[str, Any] | None = Field(
        default=None, repr=False, description="the executor's own configuration, as a JSON object"
    )
    chunk_tables: int = Field(default=50, ge=1, description="tables that one step of a spread refresh takes")
    refresh_deadline: Duration = Field(
        default=timedelta(days=1),
        gt=timedelta(0),
        description="after which Dagster's run monitoring ends a run of the job refresh",
    )
    asset_prefix: str = Field(
        default="runtimedb", pattern=r"^[A-Za-z0-9_]+$", description="first part of the asset keys"
    )

    def __init__(self, **values: Any) -> None:
        """Check the values; a wrong one is named, its content is not shown."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"Setting '{name}' is wrong: {first['msg']}") from None
        except SettingsError as error:
            found = re.search(r'field "(\w+)"', str(error))
            name = found[1] if found else "of a variable"
            raise ConfigurationError(f"Setting '{name}' is wrong: its variable is not valid JSON") from None

    def __hash__(self) -> int:
        """Equal settings are one key, whatever their values are made of."""
        return hash(self.model_dump_json())

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("executor")
    @classmethod
    def _is_importable(cls, value: str) -> str:
        if value != IN_PROCESS and not re.fullmatch(r"[\w.]+:\w+", value):
            raise ValueError("write in_process, or module:name such as dagster_celery:celery_executor")
        return value

    @property
    def duckdb_config(self) -> dict[str, Any]:
        """What `duck.connect` takes: DuckDB's limits, those that are set, and where it may spill."""
        limits = {"memory_limit": self.memory_limit, "threads": self.threads}
        given = {name: value for name, value in limits.items() if value is not None}
        return {"temp_directory": str(self.home / "spill"), **given}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order in which values are looked up: arguments, variables, file."""
        file = _settings_file()
        try:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)
        except ValueError as error:  # tomllib's and tomli's
            raise ConfigurationError(f"The settings file {file} is not valid TOML: {error}") from None


def _settings_file() -> Path:
    named = os.environ.get("RUNTIMEDB_CONFIG")
    if named and not Path(named).is_file():
        raise ConfigurationError(f"RUNTIMEDB_CONFIG names '{named}', which is not a file")
    return Path(named or DEFAULT_FILE)

"""Which sources there are, and how one is opened. A further source is a file and a line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from pydantic import BaseModel

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.options import ConnectionOptions, parsed
from runtimedb_dagster.domain.recipes import Recipes
from runtimedb_dagster.domain.tables import Connection
from runtimedb_dagster.sources.attached.dialect import Dialect
from runtimedb_dagster.sources.attached.duckdb_file import DuckDBFile
from runtimedb_dagster.sources.attached.ducklake import DuckLake
from runtimedb_dagster.sources.attached.iceberg import Iceberg
from runtimedb_dagster.sources.attached.motherduck import MotherDuck
from runtimedb_dagster.sources.attached.mysql.dialect import MySQL
from runtimedb_dagster.sources.attached.postgresql.dialect import PostgreSQL
from runtimedb_dagster.sources.attached.source import AttachedSource, recipes_of
from runtimedb_dagster.sources.attached.sqlite.dialect import SQLite
from runtimedb_dagster.sources.base import Source
from runtimedb_dagster.sources.secrets import password, redactor
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["DIALECTS", "known_options", "open_source", "option_fields", "recipes", "validate"]


class DialectType(Protocol):
    """How a dialect is made: for a URL, with its own options, and the password if there is one."""

    @property
    def options(self) -> type[BaseModel]:
        """The model of its own options."""

    def __call__(self, url: SourceUrl, options: Any, password: str | None) -> Dialect[Any]:
        """Make one; nothing is opened yet."""


DIALECTS: dict[str, DialectType] = {
    "duckdb": DuckDBFile,
    "postgresql": PostgreSQL,
    "sqlite": SQLite,
    "mysql": MySQL,
    "ducklake": DuckLake,
    "ducklake+sqlite": DuckLake,
    "ducklake+postgresql": DuckLake,
    "iceberg+http": Iceberg,
    "iceberg+https": Iceberg,
    "iceberg+glue": Iceberg,
    "motherduck": MotherDuck,
}


@contextmanager
def open_source(connection: Connection, config: Mapping[str, Any]) -> Iterator[Source]:
    """Open the source of a connection; `config` is DuckDB's (memory_limit, threads).

    Raises:
        ConfigurationError: its password is not where it should be.
        SourceError: it can't be opened.
    """
    secret = password(connection)
    source = AttachedSource(connection, _dialect(connection, secret), config, redactor(secret))
    try:
        yield source
    finally:
        source.close()


def recipes(connection: Connection) -> Recipes:
    """How versions of a connection's tables are made today; nothing is opened for it.

    Raises:
        ConfigurationError: an option is wrong.
    """
    return recipes_of(connection, _dialect(connection, None))


def known_options(scheme: str) -> list[str]:
    """The names of the options of a connection to that type of source.

    Raises:
        ConfigurationError: the source type is unknown.
    """
    if scheme not in DIALECTS:
        raise ConfigurationError(f"The source type '{scheme}' is unknown; known are: {', '.join(DIALECTS)}")
    return [*ConnectionOptions.model_fields, *DIALECTS[scheme].options.model_fields]


def option_fields() -> dict[str, str]:
    """What each option of any connection is for, by name; those of some sources only say of which."""
    found = {name: str(field.description) for name, field in ConnectionOptions.model_fields.items()}
    sources: dict[str, list[str]] = {}
    for scheme, dialect in DIALECTS.items():
        for name in dialect.options.model_fields:
            sources.setdefault(name, []).append(scheme)
    for name, schemes in sources.items():
        about = DIALECTS[schemes[0]].options.model_fields[name].description
        found[name] = f"{', '.join(schemes)}: {about}"
    return found


def validate(url: SourceUrl, given: Mapping[str, str]) -> None:
    """Refuse what no source could be opened with.

    Raises:
        ConfigurationError: an unknown source type or option, or a value of the wrong form.
    """
    known = known_options(url.scheme)
    for name in given:
        if name not in known:
            raise ConfigurationError(f"The option '{name}' is unknown to '{url.scheme}'; known are: {', '.join(known)}")
    parsed(ConnectionOptions, given)
    parsed(DIALECTS[url.scheme].options, given)


def _dialect(connection: Connection, secret: str | None) -> Dialect[Any]:
    make = DIALECTS[connection.source_type]
    return make(SourceUrl.parse(connection.url), parsed(make.options, connection.given), secret)

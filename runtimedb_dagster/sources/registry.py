"""Sources: a protocol, and the registry of what speaks it. A further source is a file and a line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.model import Connection, DiscoveredTable, TableRef
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.sources.attached.dialect import Dialect
from runtimedb_dagster.sources.attached.duckdb_file import DuckDBFile
from runtimedb_dagster.sources.attached.ducklake import DuckLake
from runtimedb_dagster.sources.attached.iceberg import Iceberg
from runtimedb_dagster.sources.attached.motherduck import MotherDuck
from runtimedb_dagster.sources.attached.mysql.dialect import MySQL
from runtimedb_dagster.sources.attached.postgresql.dialect import PostgreSQL
from runtimedb_dagster.sources.attached.reading import Reading
from runtimedb_dagster.sources.attached.shape import Shape
from runtimedb_dagster.sources.attached.source import AttachedSource
from runtimedb_dagster.sources.attached.sqlite.dialect import SQLite
from runtimedb_dagster.sources.secrets import hider, password
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["ConnectionOptions", "Reading", "Source", "SourceUrl", "open_source", "validate"]


class Source(Protocol):
    """The open adapter of a connection."""

    def check(self) -> None:
        """Ask the source for something small."""

    def discover(self) -> list[DiscoveredTable]:
        """All tables and views the source shows."""

    def read(self, ref: TableRef) -> AbstractContextManager[Reading]:
        """Open a table for one read, in one transaction of the source."""

    def cancel(self) -> None:
        """Interrupt all readings, from any thread."""

    def close(self) -> None:
        """Let go of the source."""


class DialectType(Protocol):
    """How a dialect is made: for a URL, with its own options, and the password if there is one."""

    @property
    def options(self) -> type[BaseModel]:
        """The model of its own options."""

    def __call__(self, url: SourceUrl, options: Any, password: str | None) -> Dialect:
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
    make, secret = DIALECTS[connection.source_type], password(connection)
    dialect = make(SourceUrl.parse(connection.url), _parsed(make.options, connection.options), secret)
    options = ConnectionOptions.of(connection.options)
    source = AttachedSource(
        connection,
        dialect,
        Shape.of(options),
        config,
        hider(secret),
        options.read_timeout,
        options.discovery_timeout,
    )
    try:
        yield source
    finally:
        source.close()


def validate(url: SourceUrl, options: Mapping[str, str]) -> None:
    """Refuse what no source could be opened with.

    Raises:
        ConfigurationError: an unknown source type or option, or a value of the wrong form.
    """
    if url.scheme not in DIALECTS:
        raise ConfigurationError(f"The source type '{url.scheme}' is unknown; known are: {', '.join(DIALECTS)}")
    own = DIALECTS[url.scheme].options
    known = [*ConnectionOptions.model_fields, *own.model_fields]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"The option '{name}' is unknown to '{url.scheme}'; known are: {', '.join(known)}")
    _parsed(ConnectionOptions, options)
    _parsed(own, options)


def _parsed(model: type[BaseModel], options: Mapping[str, str]) -> Any:
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigurationError(f"The option {first['loc'][0]} is wrong: {first['msg']}") from None

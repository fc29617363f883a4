"""Sources: a protocol, and the registry of what speaks it. A further source is a file and a line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from runtimedb_dagster.errors import ConfigurationError
from runtimedb_dagster.model import Connection, DiscoveredTable, TableRef
from runtimedb_dagster.sources.adapter import AttachedSource, Reading
from runtimedb_dagster.sources.duckdb_file import DuckDBFile
from runtimedb_dagster.sources.url import SourceUrl

__all__ = [
    "COMMON_OPTIONS",
    "Reading",
    "Source",
    "SourceUrl",
    "discovery_interval",
    "open_source",
    "validate",
]


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


DIALECTS = {"duckdb": DuckDBFile}
PLANNED = ("sqlite", "postgresql", "mysql")
COMMON_OPTIONS = {
    "discovery_interval": "seconds between two discoveries by the sensor (default 300)",
    "parallel_refresh": "how many of its tables are refreshed at a time, over all runs (default: the setting)",
}
DEFAULT_DISCOVERY_INTERVAL = 300


@contextmanager
def open_source(connection: Connection, config: Mapping[str, Any]) -> Iterator[Source]:
    """Open the source of a connection; `config` is DuckDB's (memory_limit, threads).

    Raises:
        SourceError: it can't be opened.
    """
    dialect = DIALECTS[connection.source_type](SourceUrl.parse(connection.url))
    source = AttachedSource(connection, dialect, config)
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
        why = "is not supported by this release" if url.scheme in PLANNED else "is unknown"
        raise ConfigurationError(f"The source type '{url.scheme}' {why}; known are: {', '.join(DIALECTS)}")
    known = {**COMMON_OPTIONS, **DIALECTS[url.scheme].options}
    for name in options:
        if name not in known:
            raise ConfigurationError(f"The option '{name}' is unknown to '{url.scheme}'; known are: {', '.join(known)}")
    discovery_interval(options)
    parallel_refresh(options, 1)


def discovery_interval(options: Mapping[str, str]) -> int:
    """Seconds between two discoveries of a connection.

    Raises:
        ConfigurationError: the option is not a whole number from 1 on.
    """
    return _whole_number(options, "discovery_interval", DEFAULT_DISCOVERY_INTERVAL)


def parallel_refresh(options: Mapping[str, str], default: int) -> int:
    """How many tables of a connection are refreshed at a time.

    Raises:
        ConfigurationError: the option is not a whole number from 1 on.
    """
    return _whole_number(options, "parallel_refresh", default)


def _whole_number(options: Mapping[str, str], name: str, default: int) -> int:
    value = options.get(name, str(default))
    if not value.isdecimal() or int(value) < 1:
        raise ConfigurationError(f"The option {name} is a whole number from 1 on, not '{value}'")
    return int(value)

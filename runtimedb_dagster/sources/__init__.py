"""Sources: a protocol, and the registry of what speaks it. A further source is a file and a line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from runtimedb_dagster.errors import ConfigurationError
from runtimedb_dagster.model import Connection, DiscoveredTable, TableRef
from runtimedb_dagster.sources.adapter import AttachedSource, Reading
from runtimedb_dagster.sources.duckdb_file import DuckDBFile
from runtimedb_dagster.sources.options import ConnectionOptions
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


DIALECTS = {"duckdb": DuckDBFile}
PLANNED = ("sqlite", "postgresql", "mysql")


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
    known = [*ConnectionOptions.model_fields, *DIALECTS[url.scheme].options]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"The option '{name}' is unknown to '{url.scheme}'; known are: {', '.join(known)}")
    ConnectionOptions.of(options)

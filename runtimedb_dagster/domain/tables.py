"""Connections and their tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.domain.versions import SequenceNumber, Version

__all__ = ["Connection", "DiscoveredTable", "DiscoveryChanges", "Kind", "Table"]


@dataclass(frozen=True)
class Connection:
    """A registered remote database. Neither `url` nor `given` ever holds a secret.

    Attributes:
        given: its options as they were given, by name; see `options`.
        password_env: the environment variable that holds its password.
        declared_in: the project's file that says how it is to be; None if it was registered by hand.
    """

    id: str
    name: str
    source_type: str
    url: str
    given: dict[str, str]
    password_env: str | None
    created_at: datetime
    discovered_at: datetime | None = None
    discovery_error: str | None = None
    declared_in: str | None = None

    @cached_property
    def options(self) -> ConnectionOptions:
        """Its options, parsed once.

        Raises:
            ConfigurationError: a value is of the wrong form, as one that another release took.
        """
        try:
            return ConnectionOptions.of(self.given)
        except ConfigurationError as error:
            raise ConfigurationError(f"Connection '{self.name}': {error}") from error


Kind = Literal["table", "view", "materialized view", "partitioned table", "foreign table"]


@dataclass(frozen=True, slots=True)
class DiscoveredTable:
    """A table as a source shows it."""

    schema_name: str
    table_name: str
    kind: Kind = "table"
    columns: tuple[SourceColumn, ...] = ()
    primary_key: tuple[str, ...] = ()
    comment: str | None = None
    estimated_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A catalogued remote table, with its current version if it is cached.

    Attributes:
        columns: in the words of the source, as it was last discovered.
        recipe: how a version of it would be made today; None before its first discovery by a release that kept recipes.
        version: what serves now.
        previous_rows: of the version that `version` replaced, if it replaced one.
        checked_at: when a refresh last found the source to hold what `version` holds.
        checked_sequence: the number of the refresh that found so, taken before it read the source; or of the purge
            since which there is no version.
        refreshed: what that refresh did; None if a release did it that kept nothing.
        audited_at: when the version, or one that led to it, was last found to be what the whole source holds.
        distrusted: why the version can't be a base, and the next refresh reads the table whole.
    """

    id: str
    connection_id: str
    ref: TableRef
    kind: str
    columns: tuple[SourceColumn, ...]
    primary_key: tuple[str, ...]
    comment: str | None
    estimated_rows: int | None
    discovered_at: datetime
    recipe: str | None = None
    version: Version | None = None
    previous_rows: int | None = None
    checked_at: datetime | None = None
    checked_sequence: SequenceNumber | None = None
    refreshed: RefreshFacts | None = None
    audited_at: datetime | None = None
    distrusted: str | None = None

    @property
    def connection(self) -> str:
        """The connection's name."""
        return self.ref.connection

    @property
    def schema_name(self) -> str:
        """The schema, to the letter."""
        return self.ref.schema_name

    @property
    def table_name(self) -> str:
        """The name, to the letter."""
        return self.ref.table_name

    @property
    def cached(self) -> bool:
        """Whether the table has a version."""
        return self.version is not None

    @property
    def modified(self) -> bool:
        """Whether its version was made in another way than one would be made today."""
        made = self.version and self.version.recipe
        return made is not None and self.recipe is not None and made != self.recipe


@dataclass(frozen=True)
class DiscoveryChanges:
    """The difference between what a source shows and what the catalog held.

    Attributes:
        modified: tables with other columns than before, and those whose version would be made in another way today.
    """

    discovered: int = 0
    added: tuple[TableRef, ...] = ()
    removed: tuple[TableRef, ...] = ()
    modified: tuple[TableRef, ...] = ()

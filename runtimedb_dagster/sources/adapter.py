"""The one adapter of all sources that DuckDB can attach; what differs between them is a `Dialect`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import duckdb

from runtimedb_dagster.errors import RefreshError, SourceError, SourceUnavailableError, TypeContractError
from runtimedb_dagster.model import Column, Connection, DiscoveredTable, TableRef
from runtimedb_dagster.sources.projection import Projected
from runtimedb_dagster.sql import identifier, literal, qualified

__all__ = ["AttachedSource", "Dialect", "Reading", "first_line"]


class Dialect(Protocol):
    """What differs from source to source."""

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the remote database read-only; returns the name it is attached by."""

    def discovery_query(self, alias: str) -> str:
        """One query: schema, table, kind, comment, estimated rows, columns, primary key.

        `columns` is a list of structs (name, type, nullable, comment) in their order.
        """

    def project(self, column: Column) -> Projected:
        """The select-list entry that yields a column as the type contract demands."""

    def is_passing(self, error: str) -> bool:
        """Whether an error may be gone when one tries again."""

    def explain(self, error: str) -> str:
        """What an error of this source means and what to do, or the error itself."""


@dataclass(frozen=True)
class Reading:
    """A table, ready to be read once, in one transaction of its source.

    Attributes:
        ref: which table.
        duck: the DuckDB connection in whose open transaction the table is read.
        projection: its columns as the transaction sees them.
        origin: the table as DuckDB addresses it.
    """

    ref: TableRef
    duck: duckdb.DuckDBPyConnection
    projection: tuple[Projected, ...]
    origin: str

    @property
    def select(self) -> str:
        """The statement that yields the table under the type contract."""
        return f"SELECT {', '.join(projected.expression for projected in self.projection)} FROM {self.origin}"

    def progress(self) -> float | None:
        """The fraction that has been read, from 0 to 1; None where DuckDB can't tell."""
        percent = self.duck.query_progress()
        return percent / 100 if percent >= 0 else None

    def blame(self, error: duckdb.Error) -> RefreshError:
        """Why the read failed: the column whose value has no exact form, if that is it."""
        with contextlib.suppress(duckdb.Error):
            self.duck.execute("ROLLBACK")
        for projected in self.projection:
            if isinstance(error, _OF_A_VALUE) and projected.converts and (reason := self._failure(projected)):
                column = projected.column
                origin = column.source_type or column.type
                return TypeContractError(f"{self.ref}: column {identifier(column.name)} ({origin}): {reason}")
        return RefreshError(f"{self.ref}: reading it failed: {first_line(error)}")

    def _failure(self, projected: Projected) -> str | None:
        try:
            self.duck.execute(f"SELECT count(COLUMNS(*)) FROM (SELECT {projected.expression} FROM {self.origin})")
        except _OF_A_VALUE as error:
            return first_line(error)
        return None


class AttachedSource:
    """A remote database, attached to a DuckDB of its own; each reading gets a transaction of its own.

    Attached once, read by as many threads as the caller likes.
    """

    def __init__(self, connection: Connection, dialect: Dialect, config: Mapping[str, Any]) -> None:
        """Attach the database of `connection`.

        Raises:
            SourceError: it can't be opened.
        """
        self._connection = connection
        self._dialect = dialect
        self._duck = duckdb.connect(":memory:", config={**_LOCKED_DOWN, **config})
        self._readings: set[duckdb.DuckDBPyConnection] = set()
        try:
            self._duck.execute("SET TimeZone = 'UTC'")
            self._alias = dialect.attach(self._duck)
        except duckdb.Error as error:
            self._duck.close()
            raise self._source_error("can't be opened", error) from error

    def close(self) -> None:
        """Detach."""
        self._duck.close()

    def cancel(self) -> None:
        """Interrupt all readings, from any thread."""
        for duck in list(self._readings):
            duck.interrupt()

    def check(self) -> None:
        """Ask the source for something small.

        Raises:
            SourceError: it does not answer.
        """
        try:
            self._duck.execute(f"SELECT count(*) FROM duckdb_schemas() WHERE database_name = {literal(self._alias)}")
        except duckdb.Error as error:
            raise self._source_error("does not answer", error) from error

    def discover(self) -> list[DiscoveredTable]:
        """All tables and views the source shows.

        Raises:
            SourceError: it can't be asked.
        """
        try:
            rows = self._duck.execute(self._dialect.discovery_query(self._alias)).fetchall()
        except duckdb.Error as error:
            raise self._source_error("can't be listed", error) from error
        return [_discovered(*row) for row in rows]

    @contextmanager
    def read(self, ref: TableRef) -> Iterator[Reading]:
        """Open a table for one read.

        Raises:
            RefreshError: it is gone, or has a column without an exact form.
        """
        with self._duck.cursor() as duck:
            self._readings.add(duck)
            try:
                # Views of the source may name their tables without schema or database.
                duck.execute(f"USE {identifier(self._alias)}; SET TimeZone = 'UTC'; SET enable_progress_bar = true")
                duck.execute("SET enable_progress_bar_print = false; BEGIN")
                yield self._reading(duck, ref)
            finally:
                self._readings.discard(duck)
                with contextlib.suppress(duckdb.Error):
                    duck.execute("ROLLBACK")

    def _reading(self, duck: duckdb.DuckDBPyConnection, ref: TableRef) -> Reading:
        origin = qualified(self._alias, ref.schema_name, ref.table_name)
        try:
            described = duck.execute(f"DESCRIBE {origin}").fetchall()
        except duckdb.CatalogException as error:
            raise RefreshError(
                f"{ref}: the source no longer has it, or it is a view of something that is gone ({first_line(error)}); "
                f"`runtimedb refresh {ref.connection}` discovers what is there now"
            ) from error
        except duckdb.Error as error:
            raise RefreshError(f"{ref}: the source can't describe it: {first_line(error)}") from error
        columns = [Column(row[0], row[1], nullable=row[2] == "YES") for row in described]
        try:
            return Reading(ref, duck, tuple(self._dialect.project(column) for column in columns), origin)
        except TypeContractError as error:
            raise TypeContractError(f"{ref}: {error}") from error

    def _source_error(self, what: str, error: duckdb.Error) -> SourceError:
        reason = self._dialect.explain(first_line(error))
        kind = SourceUnavailableError if self._dialect.is_passing(first_line(error)) else SourceError
        return kind(f"Connection '{self._connection.name}' ({self._connection.url}) {what}: {reason}")


# Nothing is fetched from the network, or loaded, that was not asked for; rows may come in any order.
_LOCKED_DOWN: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
    "preserve_insertion_order": False,
}


_OF_A_VALUE = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)


def first_line(error: duckdb.Error) -> str:
    """DuckDB's message without the kind of error before it and the pointer into the statement after it."""
    return re.sub(r"^[A-Z][\w ]* Error: ", "", str(error).split("\n", 1)[0].strip())


def _discovered(
    schema_name: str,
    table_name: str,
    kind: Any,
    comment: str | None,
    estimated_rows: int | None,
    columns: list[dict[str, Any]],
    primary_key: list[str] | None,
) -> DiscoveredTable:
    return DiscoveredTable(
        schema_name,
        table_name,
        kind,
        tuple(Column(**column) for column in columns),
        tuple(primary_key or ()),
        comment,
        estimated_rows,
    )

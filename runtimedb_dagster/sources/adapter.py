"""The one adapter of all sources that DuckDB can attach; what differs between them is a `Dialect`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import duckdb

from runtimedb_dagster.duck import connect
from runtimedb_dagster.errors import (
    ConfigurationError,
    RefreshError,
    SourceError,
    SourceUnavailableError,
    TypeContractError,
)
from runtimedb_dagster.extensions import load
from runtimedb_dagster.model import Column, Connection, DiscoveredTable, TableRef
from runtimedb_dagster.sources.projection import Projected
from runtimedb_dagster.sources.shape import Shape
from runtimedb_dagster.sql import identifier

__all__ = ["AttachedSource", "Dialect", "Reading", "Relation", "TableIsGone"]


CANCEL_INTERVAL_SECONDS = 0.1


@dataclass(frozen=True)
class Relation:
    """A remote table as the transaction that reads it sees it.

    Attributes:
        columns: in the words of the source.
        session: the source's id of the session that reads, by which it can be cancelled.
        native: whether DuckDB's own scan may read it, rather than a query of ours on the server.
    """

    columns: tuple[Column, ...]
    session: int | None = None
    native: bool = True


class TableIsGone(Exception):  # noqa: N818 - it ends in what the user reads
    """A dialect found no such table."""


class Dialect(Protocol):
    """What differs from source to source; one is made per attached source."""

    extensions: Sequence[str]

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the remote database read-only; returns the name it is attached by."""

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Ask the source for something small."""

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """All tables and views, by as few queries as the source allows."""

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation:
        """The table as the transaction that `duck` has just begun sees it.

        Raises:
            TableIsGone
        """

    def project(self, column: Column) -> Projected:
        """The select-list entry that yields a column as the type contract demands."""

    def origin(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        ref: TableRef,
        relation: Relation,
        projection: Sequence[Projected],
        where: str | None,
    ) -> str:
        """What the select list reads from, after the guards have found nothing in the same transaction.

        Raises:
            TypeContractError: a value has no exact form.
        """

    def cancel(self, duck: duckdb.DuckDBPyConnection, alias: str, session: int) -> None:
        """End what a session of the source is doing, where DuckDB's interrupt would wait for it."""

    def is_passing(self, error: str) -> bool:
        """Whether an error may be gone when one tries again."""

    def explain(self, error: str) -> str:
        """What DuckDB's message of an error means and what to do, or its first line."""


@dataclass(frozen=True)
class Reading:
    """A table, ready to be read once, in one transaction of its source.

    Attributes:
        ref: which table.
        duck: the DuckDB connection in whose open transaction the table is read.
        projection: its columns as the transaction sees them.
        origin: what DuckDB reads them from.
        explain: what an error of this source means.
        look_again: raises TypeContractError if the source finds a value without an exact form.
    """

    ref: TableRef
    duck: duckdb.DuckDBPyConnection
    projection: tuple[Projected, ...]
    origin: str
    explain: Callable[[duckdb.Error], str]
    look_again: Callable[[], None]

    @property
    def select(self) -> str:
        """The statement that yields the table under the type contract."""
        return f"SELECT {', '.join(projected.expression for projected in self.projection)} FROM {self.origin}"

    def progress(self) -> float | None:
        """The fraction that has been read, from 0 to 1; None where DuckDB can't tell."""
        percent = self.duck.query_progress()
        return percent / 100 if percent >= 0 else None

    def blame(self, error: duckdb.Error | UnicodeDecodeError) -> RefreshError:
        """Why the read failed: the column whose value has no exact form, if that is it."""
        with contextlib.suppress(duckdb.Error):
            self.duck.execute("ROLLBACK")
        if isinstance(error, (*_VALUE_ERRORS, UnicodeDecodeError)):
            try:
                self.look_again()
            except TypeContractError as found:
                return TypeContractError(f"{self.ref}: {found}")
            for projected in self.projection:
                if projected.converts and (reason := self._failure(projected)):
                    return self._refused(projected, reason)
        told = self.explain(error) if isinstance(error, duckdb.Error) else "it holds text that is not UTF-8"
        return RefreshError(f"{self.ref}: reading it failed: {told}")

    def _refused(self, projected: Projected, reason: str) -> TypeContractError:
        column = projected.column
        if projected.masked:
            reason = "it holds a value that can't be read; which one is not told, for the column is masked"
        origin = column.source_type or column.type
        return TypeContractError(f"{self.ref}: column {identifier(column.name)} ({origin}): {reason}")

    def _failure(self, projected: Projected) -> str | None:
        try:
            self.duck.execute(f"SELECT count(COLUMNS(*)) FROM (SELECT {projected.expression} FROM {self.origin})")
        except UnicodeDecodeError:  # DuckDB's own message holds the value
            return "it holds text that is not UTF-8"
        except _VALUE_ERRORS as error:
            return self.explain(error)
        return None


class AttachedSource:
    """A remote database, attached to a DuckDB of its own; each reading gets a transaction of its own.

    Attached once, read by as many threads as the caller likes.
    """

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        shape: Shape,
        config: Mapping[str, Any],
        hide: Callable[[str], str],
        read_timeout: float | None = None,
    ) -> None:
        """Attach the database of `connection`.

        Args:
            connection: whose source it is.
            dialect: what is particular about it.
            shape: which of its tables, rows and columns are wanted.
            config: DuckDB's.
            hide: takes the secrets out of a text.
            read_timeout: seconds that reading one table may take.

        Raises:
            SourceError: it can't be opened.
        """
        self._connection = connection
        self._dialect = dialect
        self._shape = shape
        self._hide = hide
        self._read_timeout = read_timeout
        self._duck = connect({**_READING, **config})
        self._readings: dict[duckdb.DuckDBPyConnection, int | None] = {}
        try:
            for extension in dialect.extensions:
                load(self._duck, extension)
            self._alias = dialect.attach(self._duck)
        except duckdb.Error as error:
            self._duck.close()
            raise self._source_error("can't be opened", error) from None
        except ConfigurationError as error:
            self._duck.close()
            raise ConfigurationError(f"Connection '{connection.name}': {error}") from error

    def close(self) -> None:
        """Detach."""
        self._duck.close()

    def cancel(self) -> None:
        """Interrupt all readings, from any thread."""
        for duck in list(self._readings):
            self._cancel(duck)

    def _cancel(self, duck: duckdb.DuckDBPyConnection) -> None:
        duck.interrupt()
        if (session := self._readings.get(duck)) is not None:
            with self._duck.cursor() as aside, contextlib.suppress(duckdb.Error):
                self._dialect.cancel(aside, self._alias, session)

    def check(self) -> None:
        """Ask the source for something small.

        Raises:
            SourceError: it does not answer.
        """
        try:
            self._dialect.check(self._duck, self._alias)
        except duckdb.Error as error:
            raise self._source_error("does not answer", error) from None

    def discover(self) -> list[DiscoveredTable]:
        """All tables and views that the source shows and the connection wants.

        Raises:
            SourceError: it can't be asked.
        """
        try:
            found = self._dialect.discover(self._duck, self._alias)
        except duckdb.Error as error:
            raise self._source_error("can't be listed", error) from None
        return [table for table in found if self._shape.wants(table.schema_name, table.table_name)]

    @contextmanager
    def read(self, ref: TableRef) -> Iterator[Reading]:
        """Open a table for one read.

        Raises:
            RefreshError: it is gone, or has a column without an exact form.
        """
        with self._duck.cursor() as duck:
            self._readings[duck] = None
            try:
                duck.execute("SET TimeZone = 'UTC'; SET enable_progress_bar_print = false")
                duck.execute("SET enable_progress_bar = true; BEGIN")
                with self._deadline(duck) as overdue:
                    yield self._reading(duck, ref, overdue)
            finally:
                del self._readings[duck]
                with contextlib.suppress(duckdb.Error):
                    duck.execute("ROLLBACK")

    @contextmanager
    def _deadline(self, duck: duckdb.DuckDBPyConnection) -> Iterator[threading.Event]:
        """End the reading when its time is over; tells whether it was."""
        overdue, done = threading.Event(), threading.Event()

        def end_in_time() -> None:
            if not done.wait(self._read_timeout):
                overdue.set()
                # Again and again: an interrupt that comes before a statement has begun is lost.
                while not done.wait(CANCEL_INTERVAL_SECONDS):
                    self._cancel(duck)

        watching = threading.Thread(target=end_in_time, name="runtimedb-deadline")
        if self._read_timeout is not None:
            watching.start()
        try:
            yield overdue
        finally:
            done.set()
            if self._read_timeout is not None:
                watching.join()

    def _reading(self, duck: duckdb.DuckDBPyConnection, ref: TableRef, overdue: threading.Event) -> Reading:
        def explained(error: duckdb.Error) -> str:
            if overdue.is_set():
                return f"it took longer than {self._read_timeout:g} s; raise the option read_timeout"
            return self._explained(error)

        try:
            relation = self._dialect.describe(duck, self._alias, ref)
            self._readings[duck] = relation.session
            projection = self._shape.apply(ref, relation.columns, self._dialect.project)
            where = self._shape.where(ref)
            origin = self._dialect.origin(duck, self._alias, ref, relation, projection, where)
        except TableIsGone as gone:
            raise RefreshError(
                f"{ref}: the source no longer has it, or it is a view of something that is gone{gone}; "
                f"`runtimedb refresh {ref.connection}` discovers what is there now"
            ) from None
        except duckdb.Error as error:
            raise RefreshError(f"{ref}: the source can't describe it: {explained(error)}") from None
        except TypeContractError as error:
            raise TypeContractError(f"{ref}: {error}") from error

        def look_again() -> None:
            # A query of the source's own leaves no guard to DuckDB's scan.
            with contextlib.suppress(duckdb.Error):
                self._dialect.origin(duck, self._alias, ref, replace(relation, native=False), projection, where)

        return Reading(ref, duck, projection, origin, explained, look_again)

    def _explained(self, error: duckdb.Error) -> str:
        return self._dialect.explain(self._hide(str(error)))

    def _source_error(self, what: str, error: duckdb.Error) -> SourceError:
        kind = SourceUnavailableError if self._dialect.is_passing(str(error)) else SourceError
        return kind(f"Connection '{self._connection.name}' ({self._connection.url}) {what}: {self._explained(error)}")


# Rows may come in any order.
_READING: dict[str, Any] = {
    "preserve_insertion_order": False,
    # Each version is read back once: with the cache 10,000 small tables took 676 MB.
    "enable_external_file_cache": False,
}


_VALUE_ERRORS = (
    duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException, duckdb.TypeMismatchException,
)  # fmt: skip

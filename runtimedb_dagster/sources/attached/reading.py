"""A table that is ready to be read once, and why its reading failed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.errors import RefreshError, TableUnavailableError, TypeContractError
from runtimedb_dagster.domain.model import TableRef
from runtimedb_dagster.sources.attached.projection import Projected

__all__ = ["FATAL", "Reading", "is_fatal"]

VALUE_ERRORS = (
    duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException, duckdb.TypeMismatchException,
)  # fmt: skip
FATAL = (duckdb.FatalException, duckdb.InternalException)


@dataclass(frozen=True)
class Reading:
    """A table, ready to be read once, in one transaction of its source.

    Attributes:
        ref: which table.
        duck: the DuckDB connection in whose open transaction the table is read.
        projection: its columns as the transaction sees them.
        origin: what DuckDB reads them from.
        explain: what an error of this source means.
        is_passing: whether an error may be gone when one tries again.
        look_again: raises TypeContractError if the source finds a value without an exact form.
        words: more of the source's own words about an error, if it has any.
        confirm: why what was read may not be what it should be, if so.
        died: is told that DuckDB can't be relied on any more.
    """

    ref: TableRef
    duck: duckdb.DuckDBPyConnection
    projection: tuple[Projected, ...]
    origin: str
    explain: Callable[[duckdb.Error], str]
    is_passing: Callable[[duckdb.Error], bool]
    look_again: Callable[[], None]
    words: Callable[[duckdb.Error], str | None]
    confirm: Callable[[], str | None]
    died: Callable[[], None]

    @property
    def select(self) -> str:
        """The statement that yields the table under the type contract."""
        return f"SELECT {', '.join(projected.expression for projected in self.projection)} FROM {self.origin}"

    def progress(self) -> float | None:
        """The fraction that has been read, from 0 to 1; None where DuckDB can't tell."""
        percent = self.duck.query_progress()
        return percent / 100 if percent >= 0 else None

    def require_whole(self) -> None:
        """After the last row, in the transaction of the reading.

        Raises:
            TableUnavailableError: the table was rewritten while it was read.
        """
        if reason := self.confirm():
            raise TableUnavailableError(f"{self.ref}: {reason}")

    def blame(self, error: duckdb.Error | UnicodeDecodeError) -> RefreshError:
        """Why the read failed: the column whose value has no exact form, if that is it."""
        if isinstance(error, FATAL):
            self.died()
            return RefreshError(
                f"{self.ref}: reading it failed by a fault of DuckDB's: {self.explain(error)}; other tables are not "
                "concerned; leave the column out with exclude_columns, or change its type on the source"
            )
        with contextlib.suppress(duckdb.Error):
            self.duck.execute("ROLLBACK")
        if isinstance(error, (*VALUE_ERRORS, UnicodeDecodeError)) and (found := self._bad_value()):
            return found
        if isinstance(error, UnicodeDecodeError):
            return RefreshError(f"{self.ref}: reading it failed: it holds text that is not UTF-8")
        told = self.words(error) or self.explain(error)
        kind = TableUnavailableError if self.is_passing(error) else RefreshError
        return kind(f"{self.ref}: reading it failed: {told}")

    def _bad_value(self) -> TypeContractError | None:
        """The value without an exact form, of the first column that has one."""
        try:
            self.look_again()
        except TypeContractError as found:
            return TypeContractError(f"{self.ref}: {found}")
        for projected in self.projection:
            if projected.converts and (reason := self._failure(projected)):
                return self._refused(projected, reason)
        return None

    def _refused(self, projected: Projected, reason: str) -> TypeContractError:
        column = projected.column
        if projected.masked:
            reason = "it holds a value that can't be read; which one is not told, for the column is masked"
        origin = column.source_type or column.type
        advice = projected.advice or "leave it out with exclude_columns, or cast it in a view on the source"
        hint = "" if "option" in reason or "view" in reason else f"; {advice}"
        return TypeContractError(f"{self.ref}: column {identifier(column.name)} ({origin}): {reason}{hint}")

    def _failure(self, projected: Projected) -> str | None:
        try:
            self.duck.execute(f"SELECT count(COLUMNS(*)) FROM (SELECT {projected.expression} FROM {self.origin})")
        except UnicodeDecodeError:  # DuckDB's own message holds the value
            return "it holds text that is not UTF-8"
        except VALUE_ERRORS as error:
            return _without_the_cast(self.explain(error))
        return None


def is_fatal(error: Exception) -> bool:
    """Whether DuckDB can't be relied on after an error."""
    return isinstance(error, FATAL) or "database has been invalidated" in str(error)


def _without_the_cast(told: str) -> str:
    """A message without what DuckDB adds of the expression that failed, which is ours and not the user's."""
    return re.sub(r'(\.  Input: ".*)? when casting from [^;]*', "", told, flags=re.DOTALL)

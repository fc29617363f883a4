"""A table of an attached database that is read once, by a COPY of DuckDB's, and why its reading failed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from runtimedb_dagster.common.failpoints import passed_by_rows
from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.errors import RefreshError, TableUnavailableError, TypeContractError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import NO_SUMS, Position, Sums
from runtimedb_dagster.sources.attached.dialect import Dialect, Scan
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.attached.watch import Overrun
from runtimedb_dagster.sources.base import COMPRESSION_LEVEL, ROW_GROUP_SIZE, Delta, Ranges

__all__ = ["AttachedReading", "Diagnosis", "is_fatal"]

VALUE_ERRORS = (
    duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException, duckdb.TypeMismatchException,
)  # fmt: skip
FATAL = (duckdb.FatalException, duckdb.InternalException)


@dataclass(frozen=True)
class Diagnosis:
    """What errors of a source mean.

    Attributes:
        dialect: of the source.
        hide: takes the secrets out of a text.
        overrun: why the reading was ended, if it was.
    """

    dialect: Dialect[Any]
    hide: Callable[[str], str]
    overrun: Overrun

    def explain(self, error: duckdb.Error) -> str:
        """What an error means and what to do about it."""
        return self.overrun.reason or self.dialect.explain(self.hide(str(error)))

    def is_transient(self, error: duckdb.Error) -> bool:
        """Whether an error may be gone when one tries again."""
        return self.overrun.reason.startswith("the server") or self.dialect.is_transient(str(error))

    def detail(self, scan: Scan[Any], error: duckdb.Error) -> str | None:
        """What the source can add to an error, if anything."""
        if self.overrun.reason:
            return None
        with contextlib.suppress(duckdb.Error):
            detail = self.dialect.detail(scan, str(error))
            return None if detail is None else self.hide(detail)
        return None


@dataclass
class AttachedReading:
    """A table, ready to be read, in one transaction of its source.

    Attributes:
        scan: what is read.
        recipe: how the columns are made of the source's rows.
        diagnosis: what errors of its source mean.
        died: is called when DuckDB can't be relied on any more.
        prepare: looks whether all that a scan yields can be read, and says what DuckDB reads it from.
        delta: what is known against a base.
        position: of the moment that is read.
        changed: SQL of the source that is true for all rows that may have changed since the base.
    """

    scan: Scan[Any]
    recipe: str
    diagnosis: Diagnosis
    died: Callable[[], None]
    prepare: Callable[[Scan[Any]], str]
    delta: Delta
    position: Position | None
    changed: str
    _origin: str | None = None

    @property
    def ref(self) -> TableRef:
        """Which table."""
        return self.scan.ref

    @property
    def columns(self) -> Sequence[VersionColumn]:
        """As the file will have them."""
        return tuple(projected.column for projected in self.scan.projection)

    @property
    def origin(self) -> str:
        """What DuckDB reads all rows from.

        Raises:
            RefreshError: some can't be read.
        """
        if self._origin is None:
            self._origin = self.prepare(self.scan)
        return self._origin

    @property
    def select(self) -> str:
        """The statement that yields the table under the type contract."""
        return _select(self.scan, self.origin)

    def progress(self) -> float | None:
        """The fraction that has been read, from 0 to 1; None where DuckDB does not know."""
        percent = self.scan.duck.query_progress()
        return percent / 100 if percent >= 0 else None

    def write(self, path: Path, metadata: Mapping[str, str]) -> int:
        """Write the rows into the empty file at `path`; returns their number.

        Raises:
            RefreshError: see `diagnose`.
        """
        return self._write(self.scan, self.origin, path, metadata)

    def write_changes(self, path: Path, metadata: Mapping[str, str]) -> int:
        """As `write`, the rows that may have changed."""
        scan = self.diagnosis.dialect.changed(self.scan, self.changed)
        return self._write(scan, self.prepare(scan), path, metadata)

    def write_keys(
        self, path: Path, key: Sequence[str], ranges: Ranges | None = None, numbers: Sequence[int] = ()
    ) -> int:
        """As `write`, some columns of all rows, or of those in ranges of some numbers."""
        projection = tuple(each for each in self.scan.projection if each.column.name in key)
        within = self.diagnosis.dialect.within(self._number(ranges), numbers) if ranges else ""
        scan = self.diagnosis.dialect.changed(replace(self.scan, projection=projection), within)
        return self._write(scan, self.prepare(scan), path, {})

    def count_by(self, ranges: Ranges) -> dict[int | None, int] | None:
        """How many rows each range has, by its number; None if the source is not asked such things."""
        scan = self.diagnosis.dialect.changed(self.scan, "")
        try:
            counts = self.diagnosis.dialect.counts(scan, self._number(ranges))
            self._require_whole()
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise self.diagnose(error) from None
        return counts

    def _number(self, ranges: Ranges) -> str:
        """The number of a row's range in SQL of the source."""
        dialect = self.diagnosis.dialect
        (name,) = [each.source_name for each in self.scan.projection if each.column.name == ranges.column]
        return dialect.numbered(dialect.quoted(name), ranges)

    def sums(self, hashes: tuple[str, str]) -> tuple[int, Sums]:
        """How many rows there are, and the sums over two hashes of each.

        Raises:
            RefreshError: see `diagnose`.
        """
        summed = ", ".join(f"sum(({sql})::HUGEINT)" for sql in hashes)
        # In the snapshot of `delta`, as what changed.
        scan = self.diagnosis.dialect.changed(self.scan, "")
        try:
            query = f"SELECT count(*), {summed} FROM ({_select(scan, self.prepare(scan))})"
            ((rows, first, second),) = scan.duck.execute(query).fetchall()
            self._require_whole()
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise self.diagnose(error) from None
        return int(rows), Sums(first, second) if rows else NO_SUMS

    def _write(self, scan: Scan[Any], origin: str, path: Path, metadata: Mapping[str, str]) -> int:
        select = passed_by_rows("after_first_rows", scan.duck, _select(scan, origin))
        kept = ", ".join(f"{name}: {literal(value)}" for name, value in metadata.items())
        # The file exists already, empty and private; DuckDB must write into it, not into one of its own beside it.
        statement = (
            f"COPY ({select}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd, "
            f"COMPRESSION_LEVEL {COMPRESSION_LEVEL}, PARQUET_VERSION V1, ROW_GROUP_SIZE {ROW_GROUP_SIZE}, "
            f"USE_TMP_FILE false{f', KV_METADATA {{{kept}}}' if kept else ''})"
        )
        try:
            row = scan.duck.execute(statement).fetchone()
            self._require_whole()
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise self.diagnose(error) from None
        if row is None:
            raise RefreshError(f"{self.ref}: DuckDB did not say how many rows it wrote")
        return int(row[0])

    def diagnose(self, error: duckdb.Error | UnicodeDecodeError) -> RefreshError:
        """Why the read failed: the column whose value has no exact form, if that is it."""
        if isinstance(error, FATAL):
            self.died()
            return RefreshError(
                f"{self.ref}: reading it failed by a fault of DuckDB's: {self.diagnosis.explain(error)}; other tables "
                "are not concerned; leave the column out with exclude_columns, or change its type on the source"
            )
        with contextlib.suppress(duckdb.Error):
            self.scan.duck.execute("ROLLBACK")
        if isinstance(error, (*VALUE_ERRORS, UnicodeDecodeError)) and (found := self._bad_value()):
            return found
        if isinstance(error, UnicodeDecodeError):
            return RefreshError(f"{self.ref}: reading it failed: it holds text that is not UTF-8")
        reason = self.diagnosis.detail(self.scan, error) or self.diagnosis.explain(error)
        kind = TableUnavailableError if self.diagnosis.is_transient(error) else RefreshError
        return kind(f"{self.ref}: reading it failed: {reason}")

    def _require_whole(self) -> None:
        """After the last row, in the transaction of the reading.

        Raises:
            TableUnavailableError: the table was rewritten while it was read.
        """
        if reason := self.diagnosis.dialect.confirm(self.scan):
            raise TableUnavailableError(f"{self.ref}: {reason}")

    def _bad_value(self) -> TypeContractError | None:
        """The value without an exact form, of the first column that has one."""
        try:
            # A query of the source's own leaves no guard to DuckDB's scan.
            with contextlib.suppress(duckdb.Error):
                self.diagnosis.dialect.guard(replace(self.scan, native=False))
        except TypeContractError as found:
            return TypeContractError(f"{self.ref}: {found}")
        for projected in self.scan.projection:
            if projected.converts and (reason := self._failure(projected)):
                return self._refused(projected, reason)
        return None

    def _refused(self, projected: Projected, reason: str) -> TypeContractError:
        column = projected.column
        if column.mask:
            reason = "it holds a value that can't be read; which one is not shown, because the column is masked"
        advice = projected.advice or "leave it out with exclude_columns, or cast it in a view on the source"
        hint = "" if "option" in reason or "view" in reason else f"; {advice}"
        type_ = column.source_type or column.type
        return TypeContractError(f"{self.ref}: column {identifier(column.name)} ({type_}): {reason}{hint}")

    def _failure(self, projected: Projected) -> str | None:
        try:
            self.scan.duck.execute(f"SELECT count(COLUMNS(*)) FROM (SELECT {projected.expression} FROM {self.origin})")
        except UnicodeDecodeError:  # DuckDB's own message holds the value
            return "it holds text that is not UTF-8"
        except VALUE_ERRORS as error:
            return _without_the_cast(self.diagnosis.explain(error))
        return None


def _select(scan: Scan[Any], origin: str) -> str:
    return f"SELECT {', '.join(projected.expression for projected in scan.projection)} FROM {origin}"


def is_fatal(error: Exception) -> bool:
    """Whether DuckDB can't be relied on after an error."""
    return isinstance(error, FATAL) or "database has been invalidated" in str(error)


def _without_the_cast(message: str) -> str:
    """A message without what DuckDB adds of the expression that failed, which is ours and not the user's."""
    return re.sub(r'(\.  Input: ".*)? when casting from [^;]*', "", message, flags=re.DOTALL)

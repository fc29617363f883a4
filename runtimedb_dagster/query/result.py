"""What a query hands out: rows that are its own, whole, and can only be read."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from runtimedb_dagster.domain.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["Result", "ended"]

BATCH_ROWS = 122_880


class Result:
    """The rows of one SELECT.

    Rows are fetched one after the other (`fetchone`, `fetchmany`, `fetchall`, iteration), by any threads. Whatever else
    it is asked for (`arrow`, `pl`, `df`, `reader`) is the whole of it, for which the SELECT is run once more. It is
    read within its query block; what was handed over as a value stays.
    """

    def __init__(
        self,
        open_cursor: Callable[[], duckdb.DuckDBPyConnection],
        ask: Callable[[duckdb.DuckDBPyConnection], duckdb.DuckDBPyRelation],
        guard: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Of what `ask` asks on a cursor; `guard` names errors, and refuses once the block has ended."""
        self._open_cursor = open_cursor
        self._ask = ask
        self._guard = guard
        self._fetching = threading.Lock()
        self._cursor = open_cursor()
        with guard():
            self._rows = ask(self._cursor)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._rows.columns)

    @property
    def types(self) -> list[str]:
        """Their types, in DuckDB's words."""
        return [str(type_) for type_ in self._rows.types]

    @property
    def description(self) -> list[tuple[Any, ...]]:
        """The columns as Python's database interface has them: names first."""
        return list(self._rows.description)

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, None after the last one.

        Raises:
            QueryError: DuckDB fails, or the block has ended.
            LeaseExpiredError: the process was suspended for longer than its lease.
        """
        with self._fetching, self._guard():
            row: tuple[Any, ...] | None = self._rows.fetchone()
            return row

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """The next rows, none after the last one; raises as `fetchone`."""
        with self._fetching, self._guard():
            return list(self._rows.fetchmany(size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that were not fetched yet; raises as `fetchone`."""
        with self._fetching, self._guard():
            return list(self._rows.fetchall())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """The rows that were not fetched yet; raises as `fetchone`."""
        while rows := self.fetchmany(BATCH_ROWS):
            yield from rows

    def arrow(self) -> pa.Table:
        """All rows, as a table that needs no block any more; raises as `fetchone`."""
        with self._guard():
            return self._again().to_arrow_table()

    def to_arrow_table(self) -> pa.Table:
        """As `arrow`."""
        return self.arrow()

    def pl(self) -> pl.DataFrame:
        """All rows as a frame of polars; raises as `fetchone`."""
        with self._guard():
            return self._again().pl()

    def df(self) -> pd.DataFrame:
        """All rows as a frame of pandas; raises as `fetchone`."""
        with self._guard():
            return self._again().df()

    def reader(self, batch_rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """All rows in batches, for what exceeds memory; read within the block, each batch raises as `fetchone`."""
        with self._guard():
            source = self._again().to_arrow_reader(batch_rows)
        return pa.RecordBatchReader.from_batches(source.schema, self._batches(source))

    def to_arrow_reader(self, batch_rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """As `reader`."""
        return self.reader(batch_rows)

    def count(self) -> int:
        """How many rows there are; raises as `fetchone`."""
        with self._guard():
            ((count,),) = self._again().aggregate("count(*)").fetchall()
            return int(count)

    def texts(self, batch_rows: int = BATCH_ROWS) -> Iterator[list[tuple[str | None, ...]]]:
        """All rows in batches, each value as DuckDB writes it; raises as `fetchone`."""
        listed = ", ".join(f"CAST(#{i} AS VARCHAR) AS c{i}" for i in range(1, len(self.columns) + 1))
        for batch in self._projected(listed, batch_rows, None):
            yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))

    def jsons(self, limit: int | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """All rows in batches, each value as JSON can have it, else as text: numbers, times and infinity are exact.

        Raises:
            As `fetchone`.
        """
        kinds = [str(type_.id) for type_ in self._rows.types]
        listed = ", ".join(f"{_for_json(kind, f'#{i}')} AS c{i}" for i, kind in enumerate(kinds, 1))
        for batch in self._projected(listed, JSON_ROWS, limit):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            yield [tuple(_json_value(kind, value) for kind, value in zip(kinds, row, strict=True)) for row in rows]

    def csv(self, limit: int | None = None) -> Iterator[bytes]:
        """All rows as CSV, in parts: NULL is nothing, an empty text `""`; raises as `fetchone`."""
        yield (",".join(map(_csv_text, self.columns)) + "\r\n").encode()
        kinds = [str(type_.id) for type_ in self._rows.types]
        line = " || ',' || ".join(f"coalesce({_csv_value(kind, f'#{i}')}, '')" for i, kind in enumerate(kinds, 1))
        for batch in self._projected(f"{line} || chr(13) || chr(10) AS line", BATCH_ROWS, limit):
            # The texts of a column stand one behind the other.
            lines = batch.column(0).cast(pa.large_string())
            _, offsets, data = lines.buffers()
            first, last = (
                int.from_bytes(offsets[8 * n : 8 * n + 8].to_pybytes(), sys.byteorder)
                for n in (lines.offset, lines.offset + len(lines))
            )
            yield data[first:last].to_pybytes() if data is not None else b""

    def _projected(self, listed: str, batch_rows: int, limit: int | None) -> Iterator[pa.RecordBatch]:
        with self._guard():
            rows = self._again()
            rows = rows if limit is None else rows.limit(limit)
            source = rows.project(listed).to_arrow_reader(batch_rows)
        return self._batches(source)

    def _batches(self, source: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        while True:
            with self._guard():
                try:
                    batch = source.read_next_batch()
                except StopIteration:
                    return
            yield batch

    def _again(self) -> duckdb.DuckDBPyRelation:
        """The rows once more, on a cursor of their own."""
        return self._ask(self._open_cursor())

    def __repr__(self) -> str:
        """The columns; not the rows, which would be read for it."""
        return f"Result({', '.join(f'{name} {type_}' for name, type_ in zip(self.columns, self.types, strict=True))})"


WHOLE_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"}
NEVER_QUOTED = WHOLE_NUMBERS | {"hugeint", "uhugeint", "boolean", "float", "double", "decimal", "date", "uuid"}
# Arrow has none of their size.
HUGE_NUMBERS = {"hugeint", "uhugeint"}
# Their values become Python's own.
JSON_ROWS = 10_000
NESTED = {"list", "array", "struct", "map", "union"}


def _csv_value(kind: str, column: str) -> str:
    """SQL of a value in CSV, quoted where it has to be; NULL stays NULL."""
    text = column if kind == "varchar" else f"CAST({column} AS VARCHAR)"
    if kind in NEVER_QUOTED:
        return text
    quoted = f"""'"' || replace({text}, '"', '""') || '"'"""
    return f"""CASE WHEN {text} = '' OR regexp_matches({text}, '[",\\r\\n]') THEN {quoted} ELSE {text} END"""


def _csv_text(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if not text or set(text) & set('",\r\n') else text


def _for_json(kind: str, column: str) -> str:
    """SQL of what a value of a type is fetched as."""
    if kind in WHOLE_NUMBERS or kind in ("boolean", "float", "double"):
        return column
    return f"CAST(to_json({column}) AS VARCHAR)" if kind in NESTED else f"CAST({column} AS VARCHAR)"


def _json_value(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind in HUGE_NUMBERS:
        return int(value)
    if kind in NESTED:
        try:
            return json.loads(value, parse_constant=str, parse_float=_exact_float, parse_int=_exact_int)
        except (ValueError, RecursionError):
            return value
    if kind in ("float", "double") and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value.replace(" ", "T", 1) if kind.startswith("timestamp") else value


def _exact_float(text: str) -> float | str:
    """A number as a float, if that is the number; else as its text."""
    number = float(text)
    return number if math.isfinite(number) and Decimal(repr(number)) == Decimal(text) else text


def _exact_int(text: str) -> int | str:
    return int(text) if len(text) < MOST_DIGITS else text


# Python reads no longer ones.
MOST_DIGITS = 4_000


def ended() -> QueryError:
    """What a result says that is read after its block."""
    return QueryError(
        "This result belongs to a query block that has ended; read it within the block, or keep a value of it: "
        "fetchall(), arrow(), pl(), df()"
    )

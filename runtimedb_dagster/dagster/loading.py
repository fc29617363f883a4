"""Tables as the values that an annotation asks for, and how long their lease lives."""

# polars and pandas are optional: each is imported by name, once an annotation has asked for a class of it.

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args, get_origin

import duckdb
import pyarrow as pa

from runtimedb_dagster.common.sql import qualified
from runtimedb_dagster.domain.errors import RequestError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.query.reader import Query, connection_for

__all__ = ["HeldQuery", "Wanted", "load", "load_held"]

BATCH_ROWS = 122_880
RELATION = "duckdb.DuckDBPyRelation"


@dataclass(frozen=True)
class Wanted:
    """What an annotation asks for.

    Attributes:
        name: the class of one table's value, as `package.Class`.
        by_table: whether a dict of them is asked for, by (schema, table).
    """

    name: str
    by_table: bool

    @classmethod
    def of(cls, annotation: Any) -> Wanted:
        """Read an annotation; Dagster gives that of a `Mapping` as one of a `dict`.

        Raises:
            RequestError: there is none, or none that a table can be loaded as.
        """
        by_table = get_origin(annotation) is dict and get_origin(get_args(annotation)[0]) is tuple
        wanted = cls(_class_name(get_args(annotation)[1] if by_table else annotation), by_table)
        if wanted.name not in {**AT_ONCE, **LATER}:
            raise RequestError(
                f"A table can't be loaded as {annotation}; annotate the argument as one of "
                f"{', '.join([*AT_ONCE, *LATER])}, or as a dict[tuple[str, str], …] of these by (schema, table)"
            )
        return wanted

    @property
    def read_later(self) -> bool:
        """Whether its values are read after they were handed over."""
        return self.name in LATER


def load(block: AbstractContextManager[Query], refs: Sequence[TableRef], wanted: Wanted) -> dict[TableRef, Any]:
    """Read whole tables from one snapshot; the lease ends with it.

    Raises:
        TableNotFoundError, TableNotCachedError, QueryError
    """
    with block as query:
        return {ref: AT_ONCE[wanted.name](connection_for(query, [ref]).sql(_select(ref))) for ref in refs}


class HeldQuery:
    """A query block that stays open until the last of the values that read from it is done with.

    A value is done with when it says so, or when Python drops it; `close` ends them all.
    """

    def __init__(self, block: AbstractContextManager[Query]) -> None:
        """Open `block`."""
        self._stack = ExitStack()
        self._closing = threading.Lock()
        self._values: set[object] = set()
        self.query = self._stack.enter_context(block)

    def hold_for(self, value: object) -> Callable[[], None]:
        """Stay open for `value`; returns what to call when it is done with."""
        token = object()
        self._values.add(token)
        weakref.finalize(value, self._dropped, token).atexit = False
        return lambda: self._done(token)

    def close(self) -> None:
        """End the lease now; what still reads from it fails. A second time does nothing."""
        self._values.clear()
        with self._closing:
            self._stack.close()

    def _done(self, token: object) -> None:
        self._values.discard(token)
        if not self._values:
            self.close()

    def _dropped(self, token: object) -> None:
        if token not in self._values:
            return
        self._values.discard(token)
        if not self._values:
            # In a thread: Python may drop a value in the middle of a catalog transaction of this one.
            threading.Thread(target=self.close, name="runtimedb-lease-end").start()


def load_held(
    block: AbstractContextManager[Query], refs: Sequence[TableRef], wanted: Wanted
) -> tuple[dict[TableRef, Any], HeldQuery]:
    """Make values that read from one snapshot later; the lease lives as long as one of them.

    Raises:
        TableNotFoundError, TableNotCachedError, QueryError
    """
    held = HeldQuery(block)
    try:
        # Relations can be joined only if they are of one connection.
        shared = connection_for(held.query, refs, handed_out=True) if wanted.name == RELATION else None
        connections = {ref: shared or connection_for(held.query, [ref]) for ref in refs}
        return {ref: LATER[wanted.name](held, ref, connections[ref]) for ref in refs}, held
    except BaseException:
        held.close()
        raise


def _relation(held: HeldQuery, ref: TableRef, duck: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    relation = duck.sql(_select(ref))
    held.hold_for(relation)
    return relation


def _reader(held: HeldQuery, ref: TableRef, duck: duckdb.DuckDBPyConnection) -> pa.RecordBatchReader:
    source = duck.sql(_select(ref)).to_arrow_reader(BATCH_ROWS)
    reader = pa.RecordBatchReader.from_batches(source.schema, _Batches(source, held))
    # Taken over as a stream, it lets go of the batches when it is closed, not only when Python drops it.
    return pa.RecordBatchReader.from_stream(reader)


class _Batches:
    """The record batches of a reader; after the last one the lease is done with."""

    def __init__(self, source: pa.RecordBatchReader, held: HeldQuery) -> None:
        self._source = source
        self._done = held.hold_for(self)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        try:
            return self._source.read_next_batch()
        except BaseException:
            self._done()
            raise


def _lazy_frame(held: HeldQuery, ref: TableRef, duck: duckdb.DuckDBPyConnection) -> Any:
    scan = _Scan(duck, ref)
    held.hold_for(scan)
    frame = import_module("polars.io.plugins").register_io_source(scan, schema=scan.schema, is_pure=True)
    # Polars filters: the predicates it gives a source may contain nodes that it can't apply itself.
    return frame.map_batches(
        lambda batch: batch, predicate_pushdown=False, validate_output_schema=False, streamable=True
    )


class _Scan:
    """A table as a source of a LazyFrame: reads the columns that are asked for, in batches.

    Not DuckDB's own `pl(lazy=True)`: that reads every scan of a query through one connection, where two of
    them fail or wait for each other.
    """

    def __init__(self, duck: duckdb.DuckDBPyConnection, ref: TableRef) -> None:
        self._duck = duck
        self._select = _select(ref)
        self._polars = import_module("polars")
        self.schema = self._polars.from_arrow(duck.sql(f"{self._select} LIMIT 0").to_arrow_table()).schema

    def __call__(
        self, columns: list[str] | None, _predicate: Any, rows: int | None, _size: int | None
    ) -> Iterator[Any]:
        with self._duck.cursor() as duck:
            relation = duck.sql(self._select)
            if columns is not None:
                relation = relation.select(*map(duckdb.ColumnExpression, columns))
            if rows is not None:
                relation = relation.limit(rows)
            for batch in relation.to_arrow_reader(BATCH_ROWS):
                frame = self._polars.from_arrow(batch)
                # A cursor does not inherit the time zone that instants are shown in.
                yield frame.cast({name: self.schema[name] for name in frame.columns})


def _pandas(relation: duckdb.DuckDBPyRelation) -> Any:
    # pandas' own types make a float of a decimal, and of an integer beside a NULL; Arrow's are exact.
    return relation.to_arrow_table().to_pandas(types_mapper=import_module("pandas").ArrowDtype)


AT_ONCE: dict[str, Callable[[duckdb.DuckDBPyRelation], Any]] = {
    "pyarrow.Table": lambda relation: relation.to_arrow_table(),
    "polars.DataFrame": lambda relation: relation.pl(),
    "pandas.DataFrame": _pandas,
}

LATER: dict[str, Callable[[HeldQuery, TableRef, duckdb.DuckDBPyConnection], Any]] = {
    "pyarrow.RecordBatchReader": _reader,
    "polars.LazyFrame": _lazy_frame,
    RELATION: _relation,
}


def _class_name(annotation: Any) -> str:
    package = str(getattr(annotation, "__module__", "")).partition(".")[0]
    # DuckDB's classes say that they are of `_duckdb`.
    return f"{package.removeprefix('_')}.{getattr(annotation, '__name__', '')}"


def _select(ref: TableRef) -> str:
    return f"SELECT * FROM {qualified(ref.connection, ref.schema_name, ref.table_name)}"

"""The cursor: which rows a column says are new, where nothing tells for certain.

In one snapshot: the column's greatest value, the rows from the last one's greatest value on (less a lookback) or
without any, and the count of all. What is read replaces all rows of the base within that range, so that ties, what
was committed late within the lookback, and deletes within it come out right, without a key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.errors import RefreshError
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.domain.patterns import Matcher, names_of_column
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import Dialect, Scan
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.base import Base, Changed, Delta, Unknown

__all__ = ["Cursor", "cursor_of"]

# What has an order, of which the source and DuckDB are of one mind.
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
TIMES = ("TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True)
class Cursor:
    """The cursor of one table, in one snapshot of its source.

    Attributes:
        mark: the column's greatest value, in the source's words; None if it has none.
        count: of all rows.
        source: which source it is, by its URL: a mark says nothing of another one.
    """

    dialect: Dialect[Any]
    scan: Scan[Any]
    column: Projected
    options: ConnectionOptions
    mark: str | None
    count: int
    source: str

    @property
    def position(self) -> Position | None:
        """From where on to read next."""
        if self.mark is None:
            return None
        return {"by": "cursor", "column": self.column.source_name, "mark": self.mark, "source": self.source}

    def delta(self, base: Base) -> tuple[Delta, str]:
        """What may have changed since a base."""
        before = base.position
        if before.get("by") != "cursor" or before["column"] != self.column.source_name:
            return Unknown("its version was not read by this cursor"), ""
        # Versions of earlier releases do not say.
        if before.get("source", self.source) != self.source:
            return Unknown("the connection's URL is another one since"), ""
        lowest, type_ = self._lowest(before["mark"]), self.column.column.type
        remote, name = self.dialect.quoted(self.column.source_name), identifier(self.column.column.name)
        of_base = f"{name} >= CAST({literal(lowest)} AS {type_}) OR {name} IS NULL"
        trusts = f"the cursor {self.column.source_name}" + (", and that rows are only added" if self._append else "")
        key = () if self._append else self._key()
        count = None if self._append else self.count
        return (
            Changed(None, count, key, range=of_base, trusts=trusts),
            f"{remote} >= {self.dialect.constant(lowest)} OR {remote} IS NULL",
        )

    @property
    def _append(self) -> bool:
        return self.options.append

    def _lowest(self, mark: str) -> str:
        """The mark, less the lookback."""
        lookback, type_ = self.options.lookback, self.column.column.type
        if not lookback:
            return mark
        if type_ in TIMES or type_ == "DATE":
            micros = lookback // timedelta(microseconds=1)
            value = f"CAST({literal(mark)} AS {type_}) - to_microseconds({micros})"
        else:
            value = f"CAST({literal(mark)} AS {type_}) - {lookback.total_seconds():g}"
        ((text,),) = self.scan.duck.execute(f"SELECT CAST(CAST({value} AS {type_}) AS VARCHAR)").fetchall()
        return str(text)

    def _key(self) -> tuple[str, ...]:
        """The columns by which a row is known: those of the option, else the source's primary key."""
        kept = {each.column.name: each.column for each in self.scan.projection}
        wanted = Matcher.of(self.options.key)
        ref = self.scan.ref
        named = [name for name in kept if wanted.first(names_of_column(ref.schema_name, ref.table_name, name))]
        key = tuple(named) or tuple(self.dialect.primary_key(self.scan))
        return key if all(name in kept and kept[name].mask in (None, "sha256") for name in key) else ()


def cursor_of(dialect: Dialect[Any], scan: Scan[Any], options: ConnectionOptions, url: str) -> Cursor | None:
    """The cursor of a table, if the options name one; asked for in the transaction of a scan.

    Args:
        dialect: of the source.
        scan: of the table.
        options: of the connection.
        url: of the connection.

    Raises:
        RefreshError: what they name can't be one, or is ahead of the source's clock.
    """
    if options.changes != "cursor":
        return None
    wanted, ref = Matcher.of(options.cursor), scan.ref
    named = [
        each
        for each in scan.projection
        if wanted.first(names_of_column(ref.schema_name, ref.table_name, each.source_name))
    ]
    if not named:
        return None
    if len(named) > 1:
        listed = ", ".join(identifier(each.source_name) for each in named)
        raise RefreshError(f"{ref}: the option cursor names several of its columns, {listed}; name one")
    _require_order(scan, named[0])
    column = dialect.quoted(named[0].source_name)
    mark, count, now = dialect.ask_of(scan, f"max({column})", "count(*)", f"max({dialect.now})")
    if mark and now and _is_ahead(scan, named[0].column.type, mark, now):
        raise RefreshError(
            f"{ref}: the greatest value of its cursor {identifier(named[0].source_name)} is {mark}, which is in the "
            "future of the source's clock; correct it there, or name another cursor"
        )
    source = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Cursor(dialect, scan, named[0], options, mark, int(count or 0), source)


def _require_order(scan: Scan[Any], each: Projected) -> None:
    column, type_ = each.column, each.column.type
    if column.mask or column.declared or not (type_ in (*WHOLE, *TIMES, "DATE") or type_.startswith("DECIMAL")):
        what = f"masked by {column.mask}" if column.mask else f"{column.source_type or type_}"
        raise RefreshError(
            f"{scan.ref}: column {identifier(each.source_name)} can't be its cursor: it is {what}, which has no exact "
            "order here; name a column of whole numbers, decimals, dates or timestamps with the option cursor"
        )


def _is_ahead(scan: Scan[Any], type_: str, mark: str, now: str) -> bool:
    """Whether a mark is in the future; of times without a zone that is known to a day only."""
    if type_ not in TIMES:
        return False
    zoned = type_ == "TIMESTAMP WITH TIME ZONE"
    latest = f"CAST({literal(now)} AS TIMESTAMP WITH TIME ZONE)" + ("" if zoned else " + INTERVAL 26 HOURS")
    query = f"SELECT CAST({literal(mark)} AS TIMESTAMP WITH TIME ZONE) > {latest}"
    return bool(scan.duck.execute(query).fetchall()[0][0])

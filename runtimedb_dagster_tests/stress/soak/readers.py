"""The readers of a soak: whatever happens around them, a block sees one snapshot, of whole versions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from runtimedb_dagster.query.reader import Query
from runtimedb_dagster_tests.stress.soak.role import Setting
from runtimedb_dagster_tests.stress.soak.source import PAIR, SHOP, STEADY, size

__all__ = ["LongReader", "Reader"]

LONGEST_PAUSE_SECONDS = 3  # within a block: longer than the grace period
LONG_PAUSE_SECONDS = 0.5


@dataclass
class Reader:
    """Opens a block, reads, dawdles, and reads again."""

    setting: Setting
    pause: ClassVar[float] = 0.05

    def step(self) -> Iterator[str | Exception]:
        lots = self.setting.lots
        tables = [*PAIR, lots.choice(STEADY)] if lots.random() < 0.5 else [self._any()]
        with self.setting.db.query() as query:
            seen = {table: number_in(query, table) for table in tables}
            if PAIR[0] in seen:
                require_pair(query, seen)
            self.setting.stop.wait(lots.uniform(0, LONGEST_PAUSE_SECONDS))
            for table, number in seen.items():
                require_same(query, table, number)
        yield "block of one snapshot"

    def _any(self) -> str:
        tables = [table for table in self.setting.db.tables() if table.schema_name == "public"]
        chosen = self.setting.lots.choice(tables).ref
        return f"{chosen.connection}.{chosen.schema_name}.{chosen.table_name}"


@dataclass
class LongReader:
    """Holds one block open until the soak ends; reads some tables in it only late."""

    setting: Setting
    pause: ClassVar[float] = 1

    def step(self) -> Iterator[str | Exception]:
        with self.setting.db.query() as query:
            yield "block opened"
            seen = {table: number_in(query, table) for table in (PAIR[0], STEADY[0])}
            for turn in range(1_000_000):
                if self.setting.stop.wait(LONG_PAUSE_SECONDS):
                    break
                if turn == 20:
                    seen |= {table: number_in(query, table) for table in (PAIR[1], STEADY[1])}
                    require_pair(query, seen)
                table = self.setting.lots.choice(list(seen))
                require_same(query, table, seen[table])
                yield "the same again"
        yield "block ended well"


def number_in(query: Query, table: str) -> int | None:
    """The number that all rows of a version hold, None of an empty one; it must be whole."""
    ((count, least, most),) = rows(query, f"SELECT count(*), min(n)::BIGINT, max(n)::BIGINT FROM {address(table)}")
    if count == 0 and ".public." in address(table):
        return None
    assert (least, count) == (most, size(table, least or 0)), f"{table}: {count} rows of {least} to {most}"
    return int(least)


def require_same(query: Query, table: str, number: int | None) -> None:
    """A self join sees what was seen before."""
    wanted = [] if number is None else [(number, size(table, number))]
    join = f"SELECT x.n::BIGINT, count(*) FROM {address(table)} x JOIN {address(table)} y USING (id) GROUP BY x.n"
    found = rows(query, join)
    assert found == wanted, f"{table}: a self join sees {found}, not {wanted}"


def require_pair(query: Query, seen: dict[str, int | None]) -> None:
    """`a` is refreshed before `b`: two moments would show a later `b`."""
    a, b = (seen[table] for table in PAIR)
    assert a is not None
    assert b is not None
    assert a - b in (0, 1), f"the pair is of two moments: {a} and {b}"
    joined = rows(query, f"SELECT DISTINCT a.n, b.n FROM {address(PAIR[0])} a JOIN {address(PAIR[1])} b USING (id)")
    assert joined == [(a, b)], f"a join of the pair sees {joined}, not {(a, b)}"


def address(table: str) -> str:
    """With its connection."""
    return table if table.count(".") == 2 else f"{SHOP}.{table}"


def rows(query: Query, statement: str) -> list[tuple[Any, ...]]:
    """What a statement yields."""
    return query.execute(statement).fetchall()

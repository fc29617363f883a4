"""The source of a soak: tables whose rows tell whether a version is whole, and the changes that they go through.

All rows of a table hold one number, from which follows how many rows there are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from runtimedb_dagster_tests.support.servers import Server

__all__ = ["CHANGING", "OTHER", "PAIR", "SHOP", "STEADY", "Mutator", "prepare", "refill_pair", "size"]

SHOP, OTHER = "shop", "other"
# `public` come and go; `steady` always have rows; `pair` are written in one transaction, with one number.
CHANGING = [f"public.t{number}" for number in range(10)]
STEADY = ["steady.small", "steady.big"]
PAIR = ["pair.a", "pair.b"]


def size(table: str, number: int) -> int:
    """How many rows a table has that holds a number; a big one is read by DuckDB's parallel scan."""
    return (50_000 if table == "steady.big" else 500) + number % 5 * 400


def prepare(server: Server) -> None:
    """Make the databases with their tables."""
    for database in (SHOP, OTHER):
        server.run(None, f"CREATE DATABASE {database}")
    server.run(SHOP, "CREATE SCHEMA steady", "CREATE SCHEMA pair")
    for table in (*CHANGING, *STEADY, *PAIR):
        server.run(SHOP, *_create(table), *_refill(table, 1))
    for number in range(3):
        server.run(OTHER, *_create(f"public.o{number}"), *_refill(f"public.o{number}", number))


def refill_pair(server: Server, number: int) -> None:
    """Give both tables of the pair a number, in one transaction."""
    changes = [statement for table in PAIR for statement in _refill(table, number)]
    server.run(SHOP, "BEGIN", *changes, "COMMIT")


@dataclass
class Mutator:
    """Creates, drops, alters, empties and fills tables, one at a time."""

    server: Server
    lots: random.Random

    def step(self) -> Iterator[str]:
        """Change one table, in one transaction."""
        number = self.lots.randrange(1_000_000)
        if self.lots.random() < 0.3:
            table = self.lots.choices(STEADY, (10, 1))[0]
            yield self._change("refilled", *_refill(table, number))
            return
        table = self.lots.choice(CHANGING)
        yield self._change(*self._change_of(table, number))

    def _change_of(self, table: str, number: int) -> tuple[str, ...]:
        ((there,),) = self.server.run(SHOP, f"SELECT to_regclass('{table}') IS NOT NULL")
        if not there:
            return "created", *_create(table), *_refill(table, number)
        return self.lots.choice([
            ("refilled", *_refill(table, number)),
            ("refilled", f"DELETE FROM {table}", *_refill(table, number)[1:]),
            ("emptied", f"TRUNCATE {table}"),
            ("dropped", f"DROP TABLE {table}"),
            ("altered", f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS c{number % 100} text DEFAULT 'new'"),
            ("altered", f"ALTER TABLE {table} ALTER COLUMN n TYPE {self.lots.choice(('int', 'bigint', 'numeric(9)'))}"),
            ("replaced", f"DROP TABLE {table}", *_create(table), *_refill(table, number)),
        ])  # fmt: skip

    def _change(self, what: str, *statements: str) -> str:
        self.server.run(SHOP, "BEGIN", *statements, "COMMIT")
        return what


def _create(table: str) -> list[str]:
    return [f"CREATE TABLE {table} (id int PRIMARY KEY, n int NOT NULL, filling text)"]


def _refill(table: str, number: int) -> list[str]:
    rows = f"SELECT i, {number}, repeat('x', 200) FROM generate_series(1, {size(table, number)}) AS i"
    return [f"TRUNCATE {table}", f"INSERT INTO {table} (id, n, filling) {rows}"]

"""Refreshes everything that a server holds, and compares every value with the source's, as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import sleep

from runtimedb_dagster import RuntimeDB, Table
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.outcomes import Failed
from runtimedb_dagster.query.reader import Query
from runtimedb_dagster_tests.support.parts import refreshed

__all__ = ["Judgement", "Row", "Tongue", "judge"]

Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Tongue:
    """How values of a kind of source are written down, in the source and in a version.

    Attributes:
        rows: a table's rows in the source, as text.
        written: SQL that writes a column of a version as the source would: of its name, DuckDB's type and the source's.
        alike: a value's text without what is no part of the value, of the table's column at a place.
    """

    rows: Callable[[Table], list[Row]]
    written: Callable[[str, str, str], str]
    alike: Callable[[str | None, Table, int], str | None]


@dataclass
class Judgement:
    """What came of the relations of a server.

    Attributes:
        exact: how many relations came through with every value as it is.
        columns: theirs.
        rows: theirs.
        refused: for which reasons how many were refused by name, and which.
        moving: those that differ from one look at the source to the next.
        wrong: those that came out as something else.
    """

    exact: int = 0
    columns: int = 0
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    moving: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    named: dict[str, list[str]] = field(default_factory=dict)

    def show(self) -> int:
        """Print it; returns the exit status."""
        print(f"{self.exact} relations, {self.columns} columns, {self.rows} rows came through exact")
        print(f"{sum(self.refused.values())} relations were refused by name:")
        for reason, count in self.refused.most_common():
            print(f"  {count:5} {reason} ({', '.join(self.named[reason][:3])})")
        print(f"{len(self.moving)} relations differ from one look at the source to the next: {self.moving[:20]}")
        print(f"{len(self.wrong)} relations came out as something else")
        for each in self.wrong:
            print(f"  {each}")
        return 1 if self.wrong else 0


def judge(
    db: RuntimeDB,
    connection: str,
    tongue: Tongue,
) -> Judgement:
    """Refresh all tables of a connection, and compare each with the source."""
    judgement = Judgement()
    tables = {table.ref: table for table in db.tables(connection)}
    for outcome in refreshed(db, list(tables.values()), connection):
        if isinstance(outcome, Failed):
            reason = _reason(str(outcome.error).removeprefix(f"{outcome.ref}: "))
            judgement.refused[reason] += 1
            judgement.named.setdefault(reason, []).append(str(outcome.ref))
    with db.query() as query:
        kept = [table for table in db.tables(connection) if table.version is not None]
        differing = [table for table in kept if not _is_exact(query, table, tongue, judgement)]
    # Their content may have changed since it was read.
    refreshed(db, differing, connection)
    with db.query() as query:
        for table in differing:
            _look_again(query, table, tongue, judgement)
    return judgement


def _is_exact(query: Query, table: Table, tongue: Tongue, judgement: Judgement) -> bool:
    """Whether a version is what the source holds; counts it if so."""
    given = _given(table, tongue)
    if _kept(query, table, tongue) != given:
        return False
    judgement.exact += 1
    judgement.columns += len(_columns(table))
    judgement.rows += given.total()
    return True


def _look_again(query: Query, table: Table, tongue: Tongue, judgement: Judgement) -> None:
    """Tell what changes by itself from what is wrong."""
    given, kept = _given(table, tongue), _kept(query, table, tongue)
    sleep(1.1)  # some functions give the same for a second
    if kept == given or given != _given(table, tongue):
        judgement.moving.append(str(table.ref))
        return
    lost, found = list((given - kept).items())[:2], list((kept - given).items())[:2]
    judgement.wrong.append(f"{table.ref} ({table.kind}): the source has {lost}, the version {found}")


def _given(table: Table, tongue: Tongue) -> Counter[Row]:
    return _counted(tongue.rows(table), table, tongue)


def _kept(query: Query, table: Table, tongue: Tongue) -> Counter[Row]:
    listed = ", ".join(tongue.written(each.name, each.type, each.source_type or "") for each in _columns(table))
    return _counted(query.sql(f"SELECT {listed} FROM {_quoted(table)}").fetchall(), table, tongue)


def _counted(rows: Sequence[Row], table: Table, tongue: Tongue) -> Counter[Row]:
    return Counter(tuple(tongue.alike(value, table, place) for place, value in enumerate(row)) for row in rows)


def _columns(table: Table) -> Sequence[VersionColumn]:
    assert table.version is not None
    return table.version.columns


def _quoted(table: Table) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (table.ref.connection, *_names(table)))


def _names(table: Table) -> tuple[str, str]:
    return table.schema_name, table.table_name


def _reason(error: str) -> str:
    """The kind of an error: without names, numbers and values."""
    line = error.partition("\n")[0]
    return " ".join(re.sub(r"\"[^\"]*\"|'[^']*'|\([^)]*\)|\b\d+\b", "…", line).split())[:110]

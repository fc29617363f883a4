"""SQLite files: `sqlite:///path/to/file.db`.

A table is guarded, then read by DuckDB's scan, in one transaction of SQLite. What DuckDB's scan reads wrong (views,
generated columns, times of day, columns without a type) is read as text by a query of SQLite, and taken back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
from pydantic import BaseModel, ConfigDict, Field, field_validator

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import identifier, literal, qualified
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.patterns import Matcher, names_of_column
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import Dialect, Relation, Scan, TableIsGone, attached, same_everywhere
from runtimedb_dagster.sources.attached.file_state import sqlite_file
from runtimedb_dagster.sources.attached.projection import Projected
from runtimedb_dagster.sources.attached.sqlite.types import SQLiteColumn, is_open, project, restored, type_of_values
from runtimedb_dagster.sources.base import Base, State
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["SQLite", "SQLiteOptions"]

ALIAS = "sqlite"


class SQLiteOptions(BaseModel):
    """What is particular to SQLite."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    busy_timeout: int = Field(default=5, ge=0, description="seconds to wait for a file that somebody writes")
    as_text: tuple[str, ...] = Field(
        default=(),
        description="patterns of columns to keep as text, whatever they hold, such as `orders.placed,*.note`",
    )

    @field_validator("as_text", mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        listed = json.loads(given) if given.lstrip().startswith("[") else given.split(",")
        return [pattern.strip() for pattern in listed if pattern.strip()]


class SQLite(Dialect[SQLiteColumn]):
    """The dialect of an SQLite file."""

    options = SQLiteOptions
    extensions: Sequence[str] = ("sqlite_scanner",)

    def __init__(self, url: SourceUrl, options: SQLiteOptions, password: str | None) -> None:  # noqa: ARG002
        """Read the file that `url` names."""
        self._path = Path(url.path)
        self._options = options
        self._as_text = Matcher.of(options.as_text)

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach the file, and look into it: DuckDB would open it at the first query only."""
        wait = self._options.busy_timeout * 1000
        path = literal(str(self._path))
        duck.execute(f"ATTACH {path} AS {ALIAS} (TYPE sqlite, READ_ONLY, BUSY_TIMEOUT {wait})")
        self.check(duck, ALIAS)
        return ALIAS

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """Count its tables."""
        _ask(duck, alias, "SELECT count(*) AS tables FROM sqlite_master")

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """Tables and views, in one query; in one query each if a view is of something that is gone."""
        relations = RELATIONS.format(listed="pragma_table_list")
        try:
            rows = _ask(duck, alias, f"SELECT {DESCRIBED} {relations} ORDER BY l.name")
        except duckdb.Error:
            names = _ask(duck, alias, f"SELECT l.name, l.type {relations} ORDER BY l.name")
            rows = [row for name, kind in names for row in _described_or_bare(duck, alias, name, kind)]
        return [_table(name, kind, json.loads(columns)) for name, kind, columns in rows]

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[SQLiteColumn]:
        """The table in the transaction of SQLite that this begins; columns of no type as their values demand."""
        before = sqlite_file(self._path)
        rows = _described(duck, alias, ref.table_name) if ref.schema_name == "main" else []
        if not rows:
            raise TableIsGone
        _name, kind, listed = rows[0]
        _scan_in_one_state(duck, alias)
        columns = [
            SQLiteColumn(each.name, each.type, each.nullable, as_text=self._is_as_text(ref.table_name, each.name))
            for each in _columns(json.loads(listed))
        ]
        scannable = kind == "table" and not any(column.name.lower() in ROWIDS for column in columns)
        described = tuple(_by_values(duck, alias, ref, columns))
        # What was the same before and after the transaction began is what it sees.
        state = before if kind == "table" and sqlite_file(self._path) == before else None
        return Relation(described, scannable=scannable, state=state)

    def _is_as_text(self, table_name: str, column: str) -> bool:
        return bool(self._as_text.first(names_of_column("main", table_name, column)))

    now = "datetime('now')"

    def ask_of(self, scan: Scan[SQLiteColumn], *asked: str) -> Sequence[str | None]:
        """In the transaction of SQLite."""
        listed = ", ".join(f"{each} AS a{number}" for number, each in enumerate(asked))
        return _ask(scan.duck, scan.alias, f"SELECT {listed} FROM {_table_of(scan)}")[0]

    def position(self, scan: Scan[SQLiteColumn]) -> Position | None:
        """The file's state, for tables; a view may compute with the time."""
        state: Position | None = scan.relation.state
        return state

    def states(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        bases: Mapping[TableRef, Base],
        wheres: Mapping[TableRef, str],  # noqa: ARG002 - as the others
        *,
        thorough: bool,  # noqa: ARG002
    ) -> Mapping[TableRef, State]:
        """All tables at once, by the file's state."""
        before = sqlite_file(self._path)
        self.check(duck, alias)
        return same_everywhere(self, bases, before if sqlite_file(self._path) == before else None)

    def project(self, column: SQLiteColumn) -> Projected:
        """As its declared type demands."""
        return project(column)

    def treatment(self, schema_name: str, table_name: str, column: SourceColumn) -> str | None:  # noqa: ARG002
        """Whether it is kept as text."""
        return "as_text" if self._is_as_text(table_name, column.name) else None

    def is_native(self, scan: Scan[SQLiteColumn]) -> bool:
        """Whether DuckDB's scan reads every column right."""
        return scan.relation.scannable and scan.where is None and scan.arrives_as_projected()

    def guard(self, scan: Scan[SQLiteColumn]) -> None:
        """Look in SQLite, in the transaction of the read, for values that do not fit their column."""
        _guard(scan, [each for each in scan.projection if each.guard and not (scan.native and each.scan_guards)])

    def from_clause(self, scan: Scan[SQLiteColumn]) -> str:
        """DuckDB's scan, or a query of SQLite."""
        if scan.native:
            return attached(scan.alias, scan.ref, None)
        listed = ", ".join(f"{each.remote} AS {identifier(each.source_name)}" for each in scan.projection)
        query = f"sqlite_query({literal(scan.alias)}, {literal(f'SELECT {listed} FROM {_table_of(scan)}')})"
        return f"(SELECT {', '.join(map(restored, scan.projection))} FROM {query})"

    def is_transient(self, error: str) -> bool:
        """A file that somebody writes."""
        return "is locked" in error

    def explain(self, error: str) -> str:
        """SQLite's own words, without the query that DuckDB puts before them, and what to do where that is known."""
        if "unable to open database file" in error and not self._path.exists():
            return "there is no such file"
        if self._path.is_dir():
            return "it is a directory, not a file"
        if "Invalid type in column" in error:  # DuckDB goes on with the value, which may be that of a masked column
            return "a value did not fit its column, though now all do; refresh it again"
        text = error.split("\n\nLINE ", 1)[0].rstrip()
        message = text.rsplit('": ', 1)[-1] if FAILED.match(text) else first_line(text)
        return next((f"{message}; {advice}" for sign, advice in ADVICE.items() if sign in error), message)


def _described(duck: duckdb.DuckDBPyConnection, alias: str, name: str) -> list[tuple[Any, ...]]:
    relation = RELATIONS.format(listed=f"pragma_table_list({literal(name)})")
    return _ask(duck, alias, f"SELECT {DESCRIBED} {relation} AND l.name = {literal(name)}")


def _described_or_bare(duck: duckdb.DuckDBPyConnection, alias: str, name: str, kind: str) -> list[tuple[Any, ...]]:
    """A relation; a view that is broken, or a virtual table whose module is missing, without columns."""
    try:
        return _described(duck, alias, name)
    except duckdb.Error as error:
        if kind == "table" or "is locked" in str(error):
            raise
        return [(name, kind, "[]")]


def _table(name: str, kind: str, columns: list[dict[str, Any]]) -> DiscoveredTable:
    keys = sorted((column["pk"], column["name"]) for column in columns if column["pk"])
    return DiscoveredTable(
        "main",
        name,
        "view" if kind == "view" else "table",
        tuple(_columns(columns)),
        tuple(name for _position, name in keys),
    )


def _columns(described: list[dict[str, Any]]) -> list[SourceColumn]:
    return [SourceColumn(each["name"], each["type"] or "ANY", nullable=bool(each["nullable"])) for each in described]


def _scan_in_one_state(duck: duckdb.DuckDBPyConnection, alias: str) -> None:
    """Have DuckDB's scan see what our transaction sees.

    Its threads open the file each for itself. While our transaction is open nobody can commit, unless the file is in
    WAL mode: there each thread would see what is newest when it comes to its next part, so one has to do.
    """
    ((mode,),) = _ask(duck, alias, "PRAGMA journal_mode")
    duck.execute(f"SET sqlite_disable_multithreaded_scans = {'true' if mode == 'wal' else 'false'}")


def _by_values(
    duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, columns: list[SQLiteColumn]
) -> list[SQLiteColumn]:
    """The columns, those of no type with the one that fits the values they hold now."""
    open_columns = [column for column in columns if not column.as_text and is_open(column)]
    if not open_columns:
        return columns
    asked = ", ".join(
        f"max(typeof({identifier(column.name)}) = '{storage}') AS c{i}_{storage}"
        for i, column in enumerate(open_columns)
        for storage in STORAGE_CLASSES
    )
    (found,) = _ask(duck, alias, f"SELECT {asked} FROM {qualified('main', ref.table_name)}")
    held = {}
    for i, column in enumerate(open_columns):
        flags = zip(STORAGE_CLASSES, found[i * len(STORAGE_CLASSES) :], strict=False)
        held[column.name] = type_of_values(frozenset(storage for storage, flag in flags if flag == "1"))
    return [replace(column, read_as=held.get(column.name)) for column in columns]


def _table_of(scan: Scan[SQLiteColumn]) -> str:
    return f"{qualified('main', scan.ref.table_name)}{f' WHERE {scan.where}' if scan.where else ''}"


def _guard(scan: Scan[SQLiteColumn], guarded: Sequence[Projected]) -> None:
    if not guarded:
        return
    misfit = " OR ".join(f"({each.guard})" for each in guarded)
    # A condition may be part of the source, so that the guards are held against what it leaves.
    source = f"(SELECT * FROM {_table_of(scan)})"
    if not _ask(scan.duck, scan.alias, f"SELECT 1 AS misfit FROM {source} WHERE {misfit} LIMIT 1"):
        return
    for each in guarded:
        name = identifier(each.source_name)
        value = f"typeof({name}) AS storage, substr(quote({name}), 1, 80) AS value"
        query = f"SELECT {value} FROM {source} WHERE {each.guard} LIMIT 1"
        for storage, quoted in _ask(scan.duck, scan.alias, query, encoded=True):
            raise _misfit(each, f"the {_text(storage)} {_text(quoted)}")


def _misfit(projected: Projected, value: str) -> TypeContractError:
    column = projected.column
    shown = "a value" if column.mask else value
    return TypeContractError(
        f"column {identifier(column.name)} ({column.source_type}): it holds {shown}, which {projected.because}; "
        f"{projected.advice}"
    )


def _ask(duck: duckdb.DuckDBPyConnection, alias: str, query: str, *, encoded: bool = False) -> list[tuple[Any, ...]]:
    """The rows of a query of SQLite, all as text; as its bytes if it may be none."""
    chosen = "encode(COLUMNS(*))" if encoded else "*"
    return duck.execute(f"SELECT {chosen} FROM sqlite_query({literal(alias)}, {literal(query)})").fetchall()


def _text(encoded: bytes) -> str:
    return encoded.decode(errors="replace")


FAILED = re.compile(r"(Failed to|Unable to) ")
# By its number of a row DuckDB's scan divides a table; a column may have taken the name.
ROWIDS = {"rowid", "oid", "_rowid_"}
STORAGE_CLASSES = ("integer", "real", "text", "blob")

ADVICE = {
    "unable to open database file": "may it be read, and is its directory writable, which a file in WAL mode needs?",
    "readonly database": "a file in WAL mode can be read only where its directory may be written: read a copy",
    "is locked": "somebody writes it; try again, or raise the option busy_timeout",
    "not a database": "it may be encrypted, or something else",
    "malformed": "the file is corrupt; `PRAGMA integrity_check` in SQLite says where",
}

# What a virtual table keeps its content in is left out, as are SQLite's own tables.
RELATIONS = r"""
    FROM {listed} l
    WHERE l.schema = 'main' AND l.type <> 'shadow' AND l.name NOT LIKE 'sqlite\_%' ESCAPE '\'
"""

# A single INTEGER primary key that needs no index is the rowid, which is never null. Other primary keys may be.
DESCRIBED = """
    l.name AS name, l.type AS type, (
        SELECT json_group_array(json_object('name', x.name, 'type', x.type, 'pk', x.pk, 'nullable', NOT (
            x."notnull" OR x.pk AND l.type = 'table' AND NOT l.wr
                AND NOT EXISTS (SELECT 1 FROM pragma_index_list(l.name) i WHERE i.origin = 'pk')
        ))) FROM pragma_table_xinfo(l.name) x WHERE x.hidden <> 1
    ) AS columns
"""

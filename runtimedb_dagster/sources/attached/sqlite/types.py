"""The type projection of SQLite: pure, from a declared type to its entry of the select list.

SQLite keeps any value in any column, so a declared type is a promise of its writer only. Each type here has a guard,
SQL of SQLite that is true for a value that breaks the promise: DuckDB's scan would turn some of those into something
else (an integer in a DATE column into a day of 1970, any value of a column without a type into bytes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.sources.attached.projection import PROJECTED, Projected
from runtimedb_dagster.sources.attached.projection import project as project_duckdb

__all__ = ["SQLiteColumn", "is_open", "project", "restored", "type_of_values"]

ADVICE = "set the option as_text to keep the column as text, or cast it in a view on the source"


@dataclass(frozen=True, slots=True)
class SQLiteColumn(SourceColumn):
    """A column whose `type` is the declared one, and how it is read.

    Attributes:
        read_as: a declared type that it is read by instead, for its own says nothing.
        as_text: whether it is kept as text, whatever it holds.
    """

    read_as: str | None = None
    as_text: bool = False


@dataclass(frozen=True)
class _Arrival:
    """How a declared type is read.

    Attributes:
        type: DuckDB's, of what the select list starts from; empty if DuckDB's own scan never yields it.
        guard: SQL of SQLite with `{0}` for the column, true for a value that does not fit.
        because: what a fitting value is.
        remote: SQL of SQLite that turns a value into text which loses nothing.
        convert: SQL of DuckDB with `{0}` for the column, if it has to be converted.
        kept: the type that the version has.
        declared: what is different in the version, if anything.
        scan_guards: whether DuckDB's scan of a column declared so fails on a value that does not fit.
    """

    type: str
    guard: str
    because: str
    remote: str = "{0}"
    convert: str | None = None
    kept: str | None = None
    declared: str | None = None
    scan_guards: bool = False


# DuckDB writes text unchecked, and nobody could read it back.
UTF8 = (
    "CASE WHEN {0} IS NOT NULL AND TRY(decode(encode({0}))) IS NULL "
    "THEN error('it holds text that is not UTF-8; its bytes are ' || left(hex(encode({0})), 80)) ELSE {0} END"
)
# 17 digits would do if SQLite rounded right; it doesn't always.
DIGITS = "CASE WHEN {0} IS NOT NULL THEN format('%!.20g', {0}) END"

# Times are what SQLite's functions give back unchanged; and with a `T`, without seconds, or with up to six decimals.
# A modifier that adds nothing has them count: without it they give back 24:00:00 and the 30th of February.
FRACTION = (
    "(substr({0}, {1}) = '' OR substr({0}, {1}) GLOB '.[0-9]*' AND length({0}) <= {1} + 6 "
    "AND substr({0}, {1} + 1) NOT GLOB '*[^0-9]*')"
)
TIMES = (
    "{0} IS NOT datetime({0}, '+0 days') AND {0} IS NOT date({0}, '+0 days') AND NOT (typeof({0}) = 'text' AND ("
    "replace({0}, 'T', ' ') IS strftime('%Y-%m-%d %H:%M', {0}, '+0 days') OR "
    "replace(substr({0}, 1, 19), 'T', ' ') IS datetime(substr({0}, 1, 19), '+0 days') AND "
    + FRACTION.format("{0}", 20)
    + "))"
)
WITHOUT_ZONE = (
    "CASE WHEN {0} GLOB '*Z' THEN substr({0}, 1, length({0}) - 1) "
    "WHEN {0} GLOB '*:*[+-][0-9][0-9]:[0-9][0-9]' THEN rtrim(substr({0}, 1, length({0}) - 6)) ELSE {0} END"
)
OF_DAY = (
    "{0} IS NOT time({0}, '+0 days') AND NOT (typeof({0}) = 'text' AND ("
    "{0} IS strftime('%H:%M', {0}, '+0 days') OR "
    "substr({0}, 1, 8) IS time(substr({0}, 1, 8), '+0 days') AND " + FRACTION.format("{0}", 9) + "))"
)

# Numbers come before all text, and text before all blobs; to compare is faster than to ask for the type.
INTEGER = _Arrival("BIGINT", "{0} >= '' OR {0} <> CAST({0} AS INTEGER)", "is not an integer", scan_guards=True)
# SQLite keeps no integers in a column that is declared REAL, so what is no double is no number.
REAL = _Arrival(
    "DOUBLE",
    "{0} NOT BETWEEN -9007199254740992 AND 9007199254740992 AND typeof({0}) <> 'real'",
    "is not a number that a double holds exactly",
    remote=DIGITS,
    scan_guards=True,
)
TEXT = _Arrival("VARCHAR", "{0} < '' OR {0} >= x''", "is not text", convert=UTF8, scan_guards=True)
BLOB = _Arrival("BLOB", "{0} < x''", "is not a blob", remote="CASE WHEN {0} IS NOT NULL THEN hex({0}) END")
BOOLEAN = _Arrival("BIGINT", "{0} NOT IN (0, 1)", "is neither 0 nor 1", convert="{0} = 1", kept="BOOLEAN")
DATE = _Arrival("DATE", "{0} IS NOT date({0}, '+0 days')", "is not a date of the form YYYY-MM-DD")
TIMESTAMP = _Arrival(
    "TIMESTAMP", TIMES, "is not a time of the form YYYY-MM-DD HH:MM:SS, with up to six decimals and without a time zone"
)
# DuckDB's scan and its cast to TIMESTAMP drop an offset unread.
INSTANT = _Arrival(
    "TIMESTAMP WITH TIME ZONE",
    TIMES.format(f"({WITHOUT_ZONE})"),
    "is not a time of the form YYYY-MM-DD HH:MM:SS+HH:MM, with up to six decimals",
    remote="replace(replace({0}, ' +', '+'), ' -', '-')",
    declared="as the instant in UTC, without the zone it was written in",
)
TIME = _Arrival("TIME", OF_DAY, "is not a time of the form HH:MM:SS, with up to six decimals")
JSON = replace(TEXT, convert=f"CAST({UTF8} AS JSON)", kept="JSON", scan_guards=False)
UUID = replace(TEXT, convert=f"CAST({UTF8} AS UUID)", kept="UUID", scan_guards=False)
ANYTHING = _Arrival(
    "",
    "typeof({0}) = 'blob'",
    "is a blob, which is not text",
    remote="CASE typeof({0}) WHEN 'real' THEN 'r' || format('%!.20g', {0}) ELSE 't' || {0} END",
    convert=UTF8,
    kept="VARCHAR",
    declared="as text",
)

# By a part of the declared type in the order of SQLite's rules of affinity; then by what SQLite has no affinity for.
BY_PART = [
    (("INT",), INTEGER),
    (("CHAR", "CLOB", "TEXT"), TEXT),
    (("BLOB",), BLOB),
    (("REAL", "FLOA", "DOUB"), REAL),
    (("BOOL",), BOOLEAN),
    (("TIMESTAMPTZ", "WITH TIME ZONE"), INSTANT),
    (("DATETIME", "TIMESTAMP"), TIMESTAMP),
    (("DATE",), DATE),
    (("TIME",), TIME),
    (("JSON",), JSON),
    (("UUID",), UUID),
    (("DEC", "NUM"), replace(REAL, declared="as DOUBLE, which is how SQLite stores it", scan_guards=False)),
]

# How DuckDB takes back the text that a query on SQLite yields.
RESTORE = {
    "BLOB": "unhex({0})",
    "": "CASE WHEN {0}[1] = 'r' THEN CAST(CAST({0}[2:] AS DOUBLE) AS VARCHAR) ELSE {0}[2:] END",
    "VARCHAR": "{0}",
}


@lru_cache(PROJECTED)
def project(column: SQLiteColumn) -> Projected:
    """The select-list entry of a column."""
    arrival = _arrival(column)
    name = identifier(column.name)
    kept = arrival.kept or arrival.type
    plain = project_duckdb(SourceColumn(column.name, kept, column.nullable, column.comment))
    if arrival.convert:
        plain = replace(plain, expression=f"{arrival.convert.format(name)} AS {name}", converts=True)
    declared = arrival.declared and f"{column.type} kept {arrival.declared}"
    return replace(
        plain,
        column=replace(plain.column, source_type=column.type, declared=declared),
        arrives=arrival.type,
        remote=arrival.remote.format(name),
        guard=arrival.guard.format(name),
        because=arrival.because,
        scan_guards=arrival.scan_guards and column.read_as is None and not column.as_text,
        advice=ADVICE,
    )


def is_open(column: SourceColumn) -> bool:
    """Whether the declared type says nothing of the values: none, ANY, or a word that SQLite does not know."""
    return _known(column.type) is None


def type_of_values(classes: frozenset[str]) -> str:
    """The declared type that would have fitted values of these storage classes; of a mixture none does."""
    types = {frozenset({"integer"}): "INTEGER", frozenset({"real"}): "REAL", frozenset({"blob"}): "BLOB"}
    types[frozenset({"integer", "real"})] = "REAL"
    return types.get(classes, "TEXT")


def restored(projected: Projected) -> str:
    """A column of the text that a query on SQLite yields, as the type that its expression starts from."""
    name = identifier(projected.source_name)
    restore = RESTORE.get(projected.arrives or "", f"CAST({{0}} AS {projected.arrives})")
    return f"{restore.format(name)} AS {name}"


def _arrival(column: SQLiteColumn) -> _Arrival:
    return ANYTHING if column.as_text else _known(column.read_as or column.type) or TEXT


def _known(declared: str) -> _Arrival | None:
    for parts, arrival in BY_PART:
        if any(part in declared.upper() for part in parts):
            return arrival
    return None

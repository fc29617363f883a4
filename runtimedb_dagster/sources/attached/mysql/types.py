"""The type projection of MySQL and MariaDB: pure, from a column in the server's words to its entry of the select list.

The metadata of a result set is too thin to trust: DuckDB's extension takes one digit off `decimal(10,0)`, and
NULL out of a zero date. So the server sends such types as text, which names its value, and it is converted here,
where a value without an exact form fails. What may be large is sent as it is: the server makes NULL of the result of
a function that is longer than its max_allowed_packet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster.sources.attached.projection import PROJECTED, Projected

__all__ = ["MySQLColumn", "Tinyint1", "ZeroDates", "project", "quoted", "treatment"]

Tinyint1 = Literal["bool", "int8"]
ZeroDates = Literal["fail", "null"]

INTEGERS = {"tinyint": "TINYINT", "smallint": "SMALLINT", "mediumint": "INTEGER", "int": "INTEGER", "bigint": "BIGINT"}
GEOMETRIES = {
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection", "geomcollection",
}  # fmt: skip
DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


@dataclass(frozen=True, slots=True)
class MySQLColumn(SourceColumn):
    """A column whose `type` is the server's COLUMN_TYPE, and how it comes in.

    Attributes:
        arrives: DuckDB's type of the bare column: text of a binary collation comes as BLOB, and binary strings that are
            the result of a function in a view as VARCHAR, with the bytes that they have.
        of_a_view: whether it is read in the login's time zone, and not in UTC.
    """

    arrives: str | None = None
    of_a_view: bool = False


@dataclass(frozen=True)
class _Arrival:
    """How a type comes in.

    Attributes:
        type: DuckDB's, of what the server sends.
        remote: what the server must make of the column, `{}`; None if it sends the bare column.
        kept: DuckDB's type that the version keeps, if another one.
        made: how DuckDB makes that of `{}`, if not by a cast.
        declared: what is different in the version, if anything is.
        nullable: whether NULL stands for some of its values.
    """

    type: str
    remote: str | None = None
    kept: str | None = None
    made: str | None = None
    declared: str | None = None
    nullable: bool = False


TEXT = _Arrival("VARCHAR")
AS_TEXT = _Arrival("VARCHAR", remote="CAST({} AS CHAR)")
# The same text for the server to make, in half the time.
TIME_AS_TEXT = replace(AS_TEXT, remote="CONCAT({})")
OTHER = {
    "float": _Arrival("FLOAT"),
    "double": _Arrival("DOUBLE"),
    "year": _Arrival("INTEGER"),
    "json": replace(TEXT, kept="JSON"),
    "uuid": replace(AS_TEXT, kept="UUID"),
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), TEXT),
    **dict.fromkeys(("enum", "set"), replace(TEXT, declared="text")),
    **dict.fromkeys(("time", "inet4", "inet6"), replace(AS_TEXT, declared="text")),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), _Arrival("BLOB")),
    # Four bytes with the number of its reference system stand before the WKB; longitude is first in it.
    **dict.fromkeys(
        GEOMETRIES, _Arrival("BLOB", kept="GEOMETRY", made="ST_GeomFromWKB({0}[5:])", declared="WKB without its SRID")
    ),
}
# The instant itself, by its number; a zero date has none, and some views say 0 of it.
INSTANT_OF_A_VIEW = "CASE WHEN CONCAT({0}) LIKE '0000%' THEN CONCAT({0}) ELSE UNIX_TIMESTAMP({0}) END"
FROM_NUMBER = "make_timestamptz(CAST(round(CAST({0} AS DECIMAL(22,6)) * 1000000) AS BIGINT))"
CALENDAR = {"date": "DATE", "datetime": "TIMESTAMP", "timestamp": "TIMESTAMP WITH TIME ZONE"}

# What makes it a whole number is checked here, for the server would take any for true.
TO_BOOL = (
    "CASE WHEN {0} IS NULL OR {0} IN (0, 1) THEN CAST({0} AS BOOLEAN) "
    "ELSE error('it holds ' || {0} || ', which is neither true nor false; set the option tinyint1=int8') END"
)
# A zero month or day is the only "00" from the sixth character on: 2024-00-10, 2024-10-00, 0000-00-00.
WITHOUT_ZEROS = "CASE WHEN substr({{0}}, 6, 5) NOT LIKE '%00%' THEN CAST({{0}} AS {}) END"


@lru_cache(PROJECTED)
def project(column: MySQLColumn, tinyint1: Tinyint1 = "bool", zero_dates: ZeroDates = "fail") -> Projected:
    """The select-list entry of a column.

    Raises:
        TypeContractError: the type is unknown.
    """
    arrival = _arrival(column, tinyint1, zero_dates)
    if column.of_a_view and column.type.startswith("timestamp"):
        arrival = _instant_of_a_view(arrival, zero_dates)
    name, kept = identifier(column.name), arrival.kept or arrival.type
    value = name if arrival.remote else _recoded(name, arrival.type, column.arrives)
    if arrival.kept:
        value = (arrival.made or f"CAST({{0}} AS {kept})").format(value)
    return Projected(
        column=VersionColumn(
            column.name,
            kept,
            column.nullable or arrival.nullable,
            column.comment,
            source_type=column.type,
            declared=arrival.declared and f"{column.type} kept as {arrival.declared}",
        ),
        expression=name if value == name else f"{value} AS {name}",
        converts=value != name,
        remote=arrival.remote and arrival.remote.format(quoted(column.name)),
        arrives=arrival.type,
    )


def treatment(column: SourceColumn, tinyint1: Tinyint1, zero_dates: ZeroDates) -> str | None:
    """What the options make of a column beyond its type."""
    if column.type == "tinyint(1)" and tinyint1 != "bool":
        return f"tinyint1={tinyint1}"
    if re.split(r"\W", column.type, maxsplit=1)[0] in CALENDAR and zero_dates != "fail":
        return f"zero_dates={zero_dates}"
    return None


def quoted(name: str) -> str:
    """`name` as the server quotes identifiers, in every SQL mode."""
    return "`" + name.replace("`", "``") + "`"


def _recoded(name: str, wanted: str, came: str | None) -> str:
    changed = {("VARCHAR", "BLOB"): "decode({})", ("BLOB", "VARCHAR"): "encode({})"}
    return changed.get((wanted, came or wanted), "{}").format(name)


def _arrival(column: MySQLColumn, tinyint1: Tinyint1, zero_dates: ZeroDates) -> _Arrival:
    word = re.split(r"\W", column.type, maxsplit=1)[0]
    if word in CALENDAR:
        return _calendar(CALENDAR[word], zero_dates)
    if column.type == "tinyint(1)" and tinyint1 == "bool":
        return _Arrival("TINYINT", kept="BOOLEAN", made=TO_BOOL)
    if word in INTEGERS:
        return _Arrival(("U" if "unsigned" in column.type else "") + INTEGERS[word])
    if word in OTHER:
        return OTHER[word]
    if word in SIZED:
        return SIZED[word](column)
    raise TypeContractError(
        f"column {identifier(column.name)} of type {column.type}: no exact form in a version; "
        "cast it in a view on the source, and refresh that, or leave it out with exclude_columns"
    )


def _calendar(kept: str, zero_dates: ZeroDates) -> _Arrival:
    if zero_dates == "fail":
        return replace(TIME_AS_TEXT, kept=kept)
    declared = f"{kept}, zero dates as NULL"
    return replace(TIME_AS_TEXT, kept=kept, made=WITHOUT_ZEROS.format(kept), declared=declared, nullable=True)


def _instant_of_a_view(arrival: _Arrival, zero_dates: ZeroDates) -> _Arrival:
    number = f"CASE WHEN {{0}} LIKE '0000-%' THEN CAST({{0}} AS {arrival.kept}) ELSE {FROM_NUMBER} END"
    or_null = f"CASE WHEN {{0}} NOT LIKE '0000-%' THEN {FROM_NUMBER} END"
    return replace(arrival, remote=INSTANT_OF_A_VIEW, made=number if zero_dates == "fail" else or_null)


def _decimal(column: MySQLColumn) -> _Arrival:
    found = DECIMAL.match(column.type)
    if found is None or int(found[1]) > 38:  # noqa: PLR2004 - the digits of a decimal128
        return replace(AS_TEXT, declared="text")
    kept = f"DECIMAL({found[1]},{found[2]})"
    return _Arrival(kept) if column.arrives == kept else replace(AS_TEXT, kept=kept)


def _bit(column: MySQLColumn) -> _Arrival:
    width = re.sub(r"\D", "", column.type) or "1"
    return _Arrival("VARCHAR", remote=f"LPAD(BIN({{}}), {width}, '0')", declared="text")


SIZED: dict[str, Callable[[MySQLColumn], _Arrival]] = {"decimal": _decimal, "bit": _bit}

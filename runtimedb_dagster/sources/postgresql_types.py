"""The type projection of PostgreSQL: pure, from a column in the server's words to its entry of the select list."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache

import duckdb

from runtimedb_dagster.model import Column
from runtimedb_dagster.sources.projection import PROJECTED, Projected
from runtimedb_dagster.sources.projection import project as project_duckdb
from runtimedb_dagster.sql import identifier

__all__ = ["project"]

# Types that arrive as they are, by DuckDB's scan and by a query on the server alike.
EXACT = {
    "boolean": "BOOLEAN",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "uuid": "UUID",
    "date": "DATE",
    "time without time zone": "TIME",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP WITH TIME ZONE",
    "bytea": "BLOB",
    "text": "VARCHAR",
    "name": "VARCHAR",
    "character": "VARCHAR",
    "character varying": "VARCHAR",
    '"char"': "VARCHAR",
}
NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
# DuckDB counts microseconds from 1970 in 64 bits, PostgreSQL from 2000.
LAST_INSTANT = "294247-01-10 04:00:54.775806"


@dataclass(frozen=True)
class _Arrival:
    """How a type comes in.

    Attributes:
        type: DuckDB's.
        remote: the cast that the server must make, with `{}` for the column; None if the bare column does.
        guard: what is true on the server for a value that would not arrive as it is.
        because: why it would not.
        kept: the type to convert to in DuckDB, if it is another one.
        made: how DuckDB makes that of `{}`, if not by a cast.
        exact: whether nothing is lost but the server's name for the type.
    """

    type: str
    remote: str | None = None
    guard: str | None = None
    because: str = ""
    kept: str | None = None
    made: str | None = None
    exact: bool = True


AS_TEXT = _Arrival("VARCHAR", remote="{}::text", exact=False)
AS_JSON = _Arrival("VARCHAR", remote="{}::text", kept="JSON")
OTHER = {
    "json": AS_JSON,
    "jsonb": AS_JSON,
    "oid": _Arrival("BIGINT", remote="{}::bigint", kept="UINTEGER"),
    "geometry": _Arrival("BLOB", remote="ST_AsBinary({})", kept="GEOMETRY", made="ST_GeomFromWKB({})", exact=False),
}


@lru_cache(PROJECTED)
def project(column: Column) -> Projected:
    """The select-list entry of a column; `base` tells what is beneath a type of the database's own making."""
    arrival = _arrival(column.base or column.type)
    name = identifier(column.name)
    plain = project_duckdb(Column(column.name, arrival.type, column.nullable, column.comment))
    if arrival.kept:
        value = (arrival.made or f"CAST({{}} AS {arrival.kept})").format(name)
        kept = replace(plain.column, type=arrival.kept)
        plain = replace(plain, expression=f"{value} AS {name}", converts=True, column=kept)
    declared = None if arrival.exact else f"{column.type} kept as {plain.column.type}"
    return replace(
        plain,
        column=replace(plain.column, source_type=column.type, declared=declared),
        arrives=arrival.type,
        remote=arrival.remote and arrival.remote.format(name),
        guard=arrival.guard and arrival.guard.format(name),
        because=arrival.because,
    )


def _arrival(base: str) -> _Arrival:
    if base.startswith("domain "):
        beneath = _arrival(base.removeprefix("domain "))
        # The type that DuckDB finds for a domain is text, unless the server takes the domain off.
        return beneath if beneath.remote else replace(beneath, remote=f"{{}}::{base.removeprefix('domain ')}")
    if base.startswith("record "):
        return _record(json.loads(base.removeprefix("record ")))
    if base.endswith("[]"):
        return _array(base)
    if base.startswith("numeric"):
        return _numeric(base)
    bare = re.sub(r"\(\d+\)", "", base)
    return _guarded(_Arrival(EXACT[bare])) if bare in EXACT else OTHER.get(base, AS_TEXT)


def _guarded(arrival: _Arrival) -> _Arrival:
    if not arrival.type.startswith("TIMESTAMP"):
        return arrival
    return replace(
        arrival,
        guard=f"{{0}} > '{LAST_INSTANT}' AND isfinite({{0}})",
        because=f"it holds an instant after {LAST_INSTANT}, the last that Parquet's 64 bits reach",
    )


def _numeric(base: str) -> _Arrival:
    found = NUMERIC.fullmatch(base)
    precision, scale = (int(found[1]), int(found[2])) if found else (1000, 0)
    # Digits before and after the point: the scale may be negative, or greater than the precision.
    kept_precision, kept_scale = max(precision - min(scale, 0), scale), max(scale, 0)
    if kept_precision > 38:  # noqa: PLR2004 - the digits of a decimal128
        return AS_TEXT
    kept = f"numeric({kept_precision},{kept_scale})"
    return _Arrival(
        f"DECIMAL({kept_precision},{kept_scale})",
        remote=None if kept == base else f"{{}}::{kept}",
        guard="{} = 'NaN'",
        because="it holds NaN, which a decimal can't; set the option numerics=text to keep exact text",
    )


def _record(fields: list[tuple[str, str]]) -> _Arrival:
    """A composite type: the server sends its fields as an array of text, which has a place for each of them."""
    arrivals = [(name, _field(field)) for name, field in fields]
    sent = ", ".join(f"({{0}}).{_braced(name)}::text" for name, _ in arrivals)
    packed = ", ".join(
        f"{_braced(name)} := {(made or 'CAST({} AS ' + kept + ')').format(f'{{0}}[{place}]')}"
        for place, (name, (kept, made, _)) in enumerate(arrivals, 1)
    )
    types = ", ".join(f"{identifier(name)} {kept}" for name, (kept, _, _) in arrivals)
    return _Arrival(
        "VARCHAR[]",
        # A composite of nothing but NULLs is NULL too, by SQL, but not as text.
        remote=f"CASE WHEN {{0}}::text IS NOT NULL THEN ARRAY[{sent}] END",
        kept=str(duckdb.sqltype(f"STRUCT({types})")),
        made=f"CASE WHEN {{0}} IS NOT NULL THEN struct_pack({packed}) END",
        exact=all(exact for _, (_, _, exact) in arrivals),
    )


def _field(base: str) -> tuple[str, str | None, bool]:
    """What a field is kept as, how that is made of its text if not by a cast, and whether it is exact."""
    bare = re.sub(r"\(\d+\)", "", base)
    if bare == "bytea":
        return "BLOB", "unhex(substr({}, 3))", True
    if bare in EXACT:
        return EXACT[bare], None, True
    if NUMERIC.fullmatch(base) and (arrival := _numeric(base)).exact:
        return arrival.type, None, True
    return ("JSON", None, True) if base in ("json", "jsonb") else ("VARCHAR", None, False)


def _braced(name: str) -> str:
    return identifier(name).replace("{", "{{").replace("}", "}}")


def _array(base: str) -> _Arrival:
    depth = base.count("[]")
    element = base[: -2 * depth]
    found = NUMERIC.fullmatch(element)
    bare = re.sub(r"\(\d+\)", "", element)
    brackets = "[]" * depth
    if bare in EXACT and bare not in ("bytea", "name") and depth == 1:
        arrival = _guarded(_Arrival(EXACT[bare]))
        guard = arrival.guard and f"EXISTS (SELECT FROM unnest({{0}}) AS e(v) WHERE {arrival.guard.format('v')})"
        return replace(arrival, type=arrival.type + brackets, guard=guard)
    if found and depth == 1 and 0 <= int(found[2]) <= int(found[1]) <= 38:  # noqa: PLR2004
        return replace(_numeric(element), type=f"DECIMAL({found[1]},{found[2]})[]", guard="'NaN' = ANY({})")
    if depth == 1 and element != "other":
        return _Arrival("VARCHAR[]", remote="{}::text[]", exact=False)
    return AS_TEXT

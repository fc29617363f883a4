"""The type projection of PostgreSQL: pure, from a column in the server's words to its entry of the select list."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import duckdb

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.columns import SourceColumn, VersionColumn
from runtimedb_dagster.sources.attached.projection import PROJECTED, Projected
from runtimedb_dagster.sources.attached.projection import project as project_duckdb

__all__ = ["Form", "PostgreSQLColumn", "Wishes", "project"]

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
}
Kind = Literal["built-in", "domain", "enum", "composite", "extension", "other"]
NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
# DuckDB counts microseconds from 1970 in 64 bits, PostgreSQL from 2000.
LAST_INSTANT = "294247-01-10 04:00:54.775806"


@dataclass(frozen=True, slots=True)
class Form:
    """What a type is made of.

    Attributes:
        name: of a built-in type or an extension's, with its modifiers; of a domain, that of the type beneath it.
        dimensions: of an array, as many as its column was declared with.
        fields: of a composite type, their names and types.
    """

    kind: Kind
    name: str = ""
    dimensions: int = 0
    fields: tuple[tuple[str, str], ...] = ()

    @classmethod
    def built_in(cls, type_: str) -> Form:
        """Of a built-in type by its name, such as `numeric(10,2)[]`."""
        return cls("built-in", type_.replace("[]", ""), type_.count("[]"))

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Form:
        """From what the server's catalog says."""
        fields = tuple((name, type_) for name, type_ in found.get("fields") or ())
        return cls(found["kind"], found.get("name", ""), found.get("dimensions", 0), fields)


@dataclass(frozen=True, slots=True)
class PostgreSQLColumn(SourceColumn):
    """A column with the form of its type, where that is not a built-in one."""

    made_of: Form | None = None

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> PostgreSQLColumn:
        """From what the server's catalog says."""
        made_of = kept.get("form") and Form.from_dict(kept["form"])
        return cls(kept["name"], kept["type"], kept["nullable"], kept["comment"], made_of or None)

    @property
    def form(self) -> Form:
        """What its type is made of."""
        return self.made_of or Form.built_in(self.type)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the options of a connection want to be kept as text."""

    numerics: Literal["decimal", "text"] = "decimal"
    arrays: Literal["list", "text"] = "list"
    jsons: Literal["json", "text"] = "json"

    def concerning(self, type_: str) -> dict[str, str]:
        """Those that are not the defaults and that may bear on a type, going by its name alone."""
        bare = re.sub(r"\(.*?\)", "", type_)
        known = bare in EXACT or bare in OTHER or bare == "numeric"
        found: dict[str, str] = {}
        if self.numerics == "text" and (bare == "numeric" or not known):
            found["numerics"] = self.numerics
        if self.arrays == "text" and not known:
            found["arrays"] = self.arrays
        if self.jsons == "text" and (bare in ("json", "jsonb") or not known):
            found["jsons"] = self.jsons
        return found


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
        advice: what to do about a value that the conversion fails on.
        fields: of a composite type, the names and types of its fields, each of which comes in by itself.
        settings: whether the text of a value depends on settings of the session.
    """

    type: str
    remote: str | None = None
    guard: str | None = None
    because: str = ""
    kept: str | None = None
    made: str | None = None
    exact: bool = True
    advice: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    settings: bool = False


AS_TEXT = _Arrival("VARCHAR", remote="{}::text", exact=False, settings=True)
AS_JSON = _Arrival(
    "VARCHAR",
    remote="{}::text",
    kept="JSON",
    advice="set the option jsons=text to keep such values as text, or leave the column out with exclude_columns",
)
OTHER = {
    "json": AS_JSON,
    "jsonb": AS_JSON,
    # One byte, which need not be text: the server writes those beyond ASCII as \300, and the zero byte as nothing.
    '"char"': _Arrival("VARCHAR", remote="{}::text"),
    "oid": _Arrival("BIGINT", remote="{}::bigint", kept="UINTEGER"),
    "geometry": _Arrival("BLOB", remote="ST_AsBinary({})", kept="GEOMETRY", made="ST_GeomFromWKB({})", exact=False),
}
# What the server writes the same whatever the session says.
JSON_AS_TEXT = replace(AS_TEXT, settings=False)
PLAIN_TEXT = re.compile(
    r"(numeric(\(.*\))?|enum|bit(\(\d+\))?|bit varying(\(\d+\))?|uuid|inet|cidr|macaddr8?|tsvector|tsquery"
    r"|jsonpath|xml|pg_lsn|xid8?|tid|citext|hstore|character(\(\d+\))?|int[48](multi)?range|num(multi)?range"
    r"|boolean|smallint|integer|bigint|oid|text|name|character varying(\(\d+\))?|\"char\")"
)
BOUNDS = ", whose subscripts begin at 1 (arrays=text keeps others)"


@lru_cache(PROJECTED)
def project(column: PostgreSQLColumn, wishes: Wishes = Wishes()) -> Projected:
    """The select-list entry of a column, as the options wish it."""
    return _projected(column, identifier(column.name), wishes)


def _projected(column: PostgreSQLColumn, source: str, wishes: Wishes) -> Projected:
    """The entry of a column that is `source` on the server."""
    form = column.form
    if form.kind == "composite" and (packed := _composite(column, source, wishes)):
        return packed
    arrival = _arrival(form, wishes)
    name = identifier(column.name)
    plain = project_duckdb(SourceColumn(column.name, arrival.type, column.nullable, column.comment))
    if arrival.kept:
        value = (arrival.made or f"CAST({{}} AS {arrival.kept})").format(name)
        kept = replace(plain.column, type=arrival.kept)
        plain = replace(plain, expression=f"{value} AS {name}", converts=True, column=kept)
    declared = None if arrival.exact else f"{column.type} kept as {plain.column.type}"
    if arrival.type.endswith("[]"):
        declared = f"{column.type} kept as {plain.column.type}{BOUNDS}"
    return replace(
        plain,
        column=replace(plain.column, source_type=column.type, declared=declared),
        arrives=arrival.type,
        remote=arrival.remote and arrival.remote.format(source),
        guard=arrival.guard and arrival.guard.format(source),
        because=arrival.because,
        advice=arrival.advice,
        settings=arrival.settings and form.kind != "enum" and not PLAIN_TEXT.fullmatch(form.name),
    )


def _composite(column: PostgreSQLColumn, source: str, wishes: Wishes) -> Projected | None:
    """A composite type: each field comes in as a column would; None if DuckDB can't have a struct of their names."""
    fields = column.form.fields
    if not fields or len({name.lower() for name, _ in fields}) < len(fields):
        return None
    # The server cuts names off after 63 bytes.
    prefix = f"field_{hashlib.sha256(column.name.encode()).hexdigest()[:16]}"
    there = f"{prefix}_0"
    # A composite of nothing but NULLs is NULL too, by SQL, but not by this.
    parts = [(there, f"pg_catalog.num_nonnulls({source}) = 1")]
    projected = []
    for place, (field_name, type_) in enumerate(fields, 1):
        alias, field_source = f"{prefix}_{place}", f"({source}).{identifier(field_name)}"
        field = _projected(PostgreSQLColumn(alias, type_), field_source, wishes)
        parts += field.parts or [(alias, field.remote or field_source)]
        projected.append((identifier(field_name), field))
    packed = ", ".join(f"{field_name} := {field.value}" for field_name, field in projected)
    types = ", ".join(f"{field_name} {field.column.type}" for field_name, field in projected)
    guarded = [field for _, field in projected if field.guard]
    kept = str(duckdb.sqltype(f"STRUCT({types})"))
    declared = f"{column.type} kept as {kept}" if any(field.column.declared for _, field in projected) else None
    return Projected(
        VersionColumn(column.name, kept, column.nullable, column.comment, column.type, declared),
        f"CASE WHEN {identifier(there)} THEN struct_pack({packed}) END AS {identifier(column.name)}",
        converts=True,
        guard=" OR ".join(f"({field.guard})" for field in guarded) or None,
        because="; or ".join(dict.fromkeys(field.because for field in guarded)),
        advice=next((field.advice for _, field in projected if field.advice), ""),
        settings=any(field.settings for _, field in projected),
        parts=tuple(parts),
    )


def _arrival(form: Form, wishes: Wishes) -> _Arrival:
    if form.dimensions:
        return AS_TEXT if wishes.arrays == "text" else _array(form, wishes)
    if wishes.jsons == "text" and form.name in ("json", "jsonb"):
        return JSON_AS_TEXT
    if form.kind == "domain":
        beneath = _arrival(replace(form, kind="built-in"), wishes)
        # The type that DuckDB finds for a domain is text, unless the server takes the domain off.
        return beneath if beneath.remote else replace(beneath, remote=f"{{}}::{form.name}")
    if form.kind not in ("built-in", "extension"):
        return AS_TEXT
    if form.name.startswith("numeric"):
        return AS_TEXT if wishes.numerics == "text" else _numeric(form.name)
    bare = re.sub(r"\(\d+\)", "", form.name)
    return _guarded(_Arrival(EXACT[bare])) if bare in EXACT else OTHER.get(form.name, AS_TEXT)


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


def _array(form: Form, wishes: Wishes) -> _Arrival:
    if form.dimensions > 1 or form.kind == "other":
        return AS_TEXT
    found = NUMERIC.fullmatch(form.name) if wishes.numerics == "decimal" else None
    bare = re.sub(r"\(\d+\)", "", form.name)
    if bare in EXACT and bare not in ("bytea", "name"):
        arrival = _guarded(_Arrival(EXACT[bare]))
        guard = arrival.guard and f"EXISTS (SELECT FROM unnest({{0}}) AS e(v) WHERE {arrival.guard.format('v')})"
        return replace(arrival, type=f"{arrival.type}[]", guard=guard)
    if found and 0 <= int(found[2]) <= int(found[1]) <= 38:  # noqa: PLR2004
        return replace(_numeric(form.name), type=f"DECIMAL({found[1]},{found[2]})[]", guard="'NaN' = ANY({})")
    return _Arrival("VARCHAR[]", remote="{}::text[]", exact=form.name == '"char"', settings=True)

"""The fingerprint of a version: equal if and only if its columns and its rows are, in whatever order the rows come.

DuckDB's `hash` alone would not do: it is the same for NULL and `[]`, for `[[1], [2]]` and `[[1, 2]]`, for 0.0 and -0.0,
for 1 and 2^64 in wide numbers. So each value becomes arguments of `hash` among which no two values are alike, and each
row two hashes of 64 bits, over other arguments in another order. Both are summed up: exclusive or would not notice two
values that changed places. Sums can be added and taken apart, so a refresh by changes keeps them up without reading
what it keeps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import duckdb
from duckdb.sqltypes import DuckDBPyType

from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.versions import NO_SUMS, Sums

__all__ = ["content", "fingerprint", "is_comparable", "row_hashes", "scan"]

# Stands before each fingerprint: those of another form can't be compared.
FORM = "2:"
# DuckDB hashes these by folding their 128 bits into 64: the halves of two may be exchanged.
FOLDED_FROM_DIGITS = 18

Arguments = list[str]


def scan(duck: duckdb.DuckDBPyConnection, location: str) -> duckdb.DuckDBPyRelation:
    """All columns of a Parquet file, in their order, and with no others."""
    return duck.sql(f"SELECT * FROM read_parquet({literal(location)}, hive_partitioning = false)")


def content(held: duckdb.DuckDBPyRelation, columns: Sequence[VersionColumn]) -> tuple[int, Sums]:
    """The rows of a relation, and the sums over them. They are comparable under one version of DuckDB only.

    Args:
        held: a file's columns, see `scan`.
        columns: what they are in the version.
    """
    first, second = row_hashes(held, columns)
    rows, *sums = held.aggregate(f"count(*), sum(({first})::HUGEINT), sum(({second})::HUGEINT)").fetchall()[0]
    return rows, Sums(*sums) if rows else NO_SUMS


def row_hashes(held: duckdb.DuckDBPyRelation, columns: Sequence[VersionColumn]) -> tuple[str, str]:
    """SQL of the two hashes of a row of a relation that has the columns of a version."""
    nullable = [column.nullable for column in columns]
    return _row_hashes(tuple(zip(held.columns, map(str, held.types), nullable, strict=True)))


def fingerprint(held: duckdb.DuckDBPyRelation, columns: Sequence[VersionColumn], rows: int, sums: Sums) -> str:
    """The fingerprint of a version with these columns, of so many rows with these sums.

    Args:
        held: any relation with the columns and types of its files.
        columns: what they are in the version.
        rows: how many there are.
        sums: over all of them, of this DuckDB.
    """
    # A geometry is called so only where a column of a file has one.
    shape = [
        (name, re.sub(r"GEOMETRY(\('[^']*'\))?", "BLOB", str(type_)))
        for name, type_ in zip(held.columns, held.types, strict=True)
    ]
    hashes = [str(sums.first), str(sums.second)] if rows else ["None", "None"]
    described = [duckdb.__version__, shape, [_described(column) for column in columns], rows, *hashes]
    return FORM + hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]


def _described(column: VersionColumn) -> dict[str, str | bool | None]:
    """A column as fingerprints of this form have always had it, whatever the catalog keeps."""
    return {
        "name": column.name,
        "type": column.type,
        "nullable": column.nullable,
        "comment": column.comment,
        "source_type": column.source_type,
        "declared": column.remark,
        "base": None,
    }


def is_comparable(fingerprint: str) -> bool:
    """Whether a fingerprint is of the form that `content` makes, not of an earlier release's."""
    return fingerprint.startswith(FORM)


@lru_cache(1024)
def _row_hashes(columns: tuple[tuple[str, str, bool], ...]) -> tuple[str, str]:
    """SQL of the two hashes of a row, whose columns are (name, DuckDB's type, nullable)."""
    typed = [(identifier(name), duckdb.sqltype(type_), nullable) for name, type_, nullable in columns]
    first = [part for name, type_, _ in typed for part in _arguments(name, type_, _plain)]
    second = [part for name, type_, _ in reversed(typed) for part in _arguments(name, type_, _salted)]
    # NULL has a hash that one value of a type may have, too.
    nulls = [f"{name} IS NULL" for name, _, nullable in typed if nullable]
    return _mixed(first), _mixed(["'runtimedb'", *nulls, *second])


def _mixed(arguments: Arguments) -> str:
    """SQL of a hash that may be summed up: of several arguments, the last one's bits are only laid over the others'."""
    return f"hash(hash({', '.join(arguments)}))"


def _plain(text: str, _kind: str) -> str:
    return text


def _salted(text: str, kind: str) -> str:
    """Text of which DuckDB makes another hash than of the value itself."""
    return f"'s' || {text}" if kind == "varchar" else f"'\\x73'::BLOB || {text}"


def _arguments(value: str, type_: DuckDBPyType, text: Callable[[str, str], str], depth: int = 0) -> Arguments:
    """SQL of what is hashed of `value`: different for different values of its type, NULL aside."""
    kind = str(type_.id)
    if kind in ("struct", "map", "list", "array"):
        return _of_nested(kind, value, type_, text, depth)
    if kind in ("float", "double"):
        return [value, f"signbit({value})"]
    if kind in ("hugeint", "uhugeint", "uuid") or (kind == "decimal" and _digits(type_) > FOLDED_FROM_DIGITS):
        return [text(f"CAST({value} AS VARCHAR)", "varchar")]
    if kind == "geometry":
        return [text(f"ST_AsWKB({value})", "blob")]
    return [text(value, kind) if kind in ("varchar", "blob") else value]


def _of_nested(kind: str, value: str, type_: DuckDBPyType, text: Callable[[str, str], str], depth: int) -> Arguments:
    if kind == "struct":
        return _of_struct(value, type_, text, depth)
    if kind == "map":
        entries = duckdb.list_type(duckdb.struct_type(dict(_parts(type_))))
        return _arguments(f"map_entries({value})", entries, text, depth)
    (_, element), *_ = _parts(type_)
    item = f"item{depth}"
    hashed = f"hash({', '.join([f'{item} IS NULL', *_arguments(item, element, text, depth + 1)])})"
    # The text of a list of numbers says how many there are, and in which order.
    return [text(f"CAST(list_transform({value}, lambda {item}: {hashed}) AS VARCHAR)", "varchar")]


def _of_struct(value: str, type_: DuckDBPyType, text: Callable[[str, str], str], depth: int) -> Arguments:
    arguments = [f"{value} IS NULL"]
    for name, part in _parts(type_):
        field = f"struct_extract({value}, {literal(name)})"
        arguments += [f"{field} IS NULL", *_arguments(field, part, text, depth)]
    return arguments


def _digits(type_: DuckDBPyType) -> int:
    return next(int(str(value)) for name, value in type_.children if name == "precision")


def _parts(type_: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, part) for name, part in type_.children if isinstance(part, DuckDBPyType)]

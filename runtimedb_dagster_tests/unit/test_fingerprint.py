"""Fingerprints: equal if and only if the rows are, whatever their types and their depth."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimedb_dagster.common.duck import connect
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.versions import Sums
from runtimedb_dagster.engine.fingerprint import content, is_comparable, scan

# Values that DuckDB's own hash takes for one another, among others: by type, as SQL.
ALIKE = {
    "VARCHAR[]": ["NULL", "[]", "[NULL]", "['']", "['NULL']", "['a', 'b']", "['a, b']", "['[a']", "[NULL, NULL]"],
    "INTEGER[]": ["NULL", "[]", "[NULL]", "[0]", "[0, NULL]", "[NULL, 0]"],
    "INTEGER[][]": ["NULL", "[]", "[[]]", "[NULL]", "[[1], [2]]", "[[1, 2]]", "[[1], NULL, [2]]", "[[1], [], [2]]"],
    "STRUCT(a INTEGER)": ["NULL", "{'a': NULL}", "{'a': 0}"],
    "STRUCT(a INTEGER[], b VARCHAR)": ["NULL", "{'a': NULL, 'b': NULL}", "{'a': [], 'b': NULL}", "{'a': [], 'b': ''}"],
    "MAP(VARCHAR, INTEGER)": ["NULL", "MAP {}", "MAP {'a': NULL}", "MAP {'a': 0}", "MAP {'': 0}"],
    "DOUBLE": ["NULL", "'0.0'", "'-0.0'", "'nan'", "'inf'", "'-inf'"],
    "FLOAT[]": ["['0.0'::FLOAT]", "['-0.0'::FLOAT]", "[NULL]"],
    "STRUCT(d DOUBLE)": ["{'d': '0.0'::DOUBLE}", "{'d': '-0.0'::DOUBLE}"],
    "DECIMAL(38,0)": ["NULL", "0", "1", "18446744073709551616", "-1", "79228162514264337593543950336"],
    "DECIMAL(38,0)[]": ["[1]", "[18446744073709551616]"],
    "DECIMAL(20,2)": ["1", "184467440737095516.16"],
    "UUID": [
        "'00000000-0000-0001-0000-000000000002'", "'00000000-0000-0002-0000-000000000001'",
        "'00000000-0000-0000-0000-000000000000'",
    ],
    "BLOB": ["NULL", "''", r"'\x00'", r"'\x00\x00'", "'s'"],
    "VARCHAR": ["NULL", "''", "'s'", "chr(0)", "chr(0) || chr(0)"],
    "BOOLEAN": ["NULL", "true", "false"],
    "TIMESTAMP": ["NULL", "'infinity'", "'-infinity'", "'1970-01-01'"],
    "GEOMETRY": ["NULL", "'POINT(1 2)'", "'POINT(2 1)'", "'POINT EMPTY'"],
    "STRUCT(g BLOB)": ["{'g': ''}", "{'g': NULL}", r"{'g': '\x01'}"],
}  # fmt: skip


def fingerprint(folder: Path, type_: str, values: list[str]) -> Sums:
    """Of a file whose one column holds values, given as SQL."""
    file = folder / f"{random.getrandbits(64):x}.parquet"
    rows = ", ".join(f"(({value})::{type_})" for value in values)
    with connect({}) as duck:
        duck.execute(f"COPY (SELECT * FROM (VALUES {rows}) AS t(v)) TO '{file}' (FORMAT parquet)")
        count, found = content(scan(duck, str(file)), [VersionColumn("v", type_)])
    assert count == len(values)
    return found


@pytest.mark.parametrize("type_", ALIKE)
def test_values_that_are_alike_to_a_hash_have_fingerprints_of_their_own(tmp_path: Path, type_: str) -> None:
    values = ALIKE[type_]
    found = {value: fingerprint(tmp_path, type_, [value]) for value in values}
    assert len(set(found.values())) == len(values), found
    assert fingerprint(tmp_path, type_, values) == fingerprint(tmp_path, type_, values[::-1]), "in any order"


def test_values_that_changed_places_between_rows_are_other_rows(tmp_path: Path) -> None:
    def of(rows: str) -> Sums:
        file = tmp_path / f"{random.getrandbits(64):x}.parquet"
        with connect({}) as duck:
            duck.execute(f"COPY (SELECT * FROM (VALUES {rows}) AS t(a, b)) TO '{file}' (FORMAT parquet)")
            return content(scan(duck, str(file)), [VersionColumn("a", "INTEGER"), VersionColumn("b", "INTEGER")])[1]

    assert (
        len({of("(1, 2), (3, 4)"), of("(1, 4), (3, 2)"), of("(2, 1), (4, 3)"), of("(1, 2), (1, 2)"), of("(3, 4)")}) == 5
    )
    assert of("(NULL, 1), (1, NULL)") != of("(NULL, NULL), (1, 1)")


def test_a_value_whose_hash_is_that_of_null_is_not_null(tmp_path: Path) -> None:
    with connect({}) as duck:
        ((of_null,),) = duck.execute("SELECT hash(NULL)").fetchall()
    assert fingerprint(tmp_path, "UBIGINT", [str(_with_hash(of_null))]) != fingerprint(tmp_path, "UBIGINT", ["NULL"])


def _with_hash(wanted: int) -> int:
    """The number whose hash DuckDB has: its finalizer of 64 bits taken back."""
    word, multiplier = (1 << 64) - 1, 0xD6E8FEB86659FD93
    inverse, value = pow(multiplier, -1, 1 << 64), wanted
    for _ in range(2):
        value ^= value >> 32
        value = value * inverse & word
    value ^= value >> 32
    with connect({}) as duck:
        assert duck.execute("SELECT hash(?::UBIGINT)", [value]).fetchone() == (wanted,)
    return value


def test_an_earlier_form_is_known() -> None:
    assert not is_comparable("0123456789abcdef0123456789abcdef")


# Generated values


@dataclass(frozen=True)
class Kind:
    """A type, and how to make a value of it."""

    name: str
    values: st.SearchStrategy[Any]


INTEGERS = Kind("BIGINT", st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)))
LEAVES = [
    INTEGERS,
    Kind("DOUBLE", st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0]))),
    Kind("VARCHAR", st.one_of(st.none(), st.text(max_size=20).filter(lambda text: "\0" not in text))),
    Kind("BOOLEAN", st.one_of(st.none(), st.booleans())),
    Kind("DECIMAL(38,0)", st.one_of(st.none(), st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal))),
]


@st.composite
def kinds(draw: st.DrawFn, depth: int = 3) -> Kind:
    """A type of any depth."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(LEAVES))
    parts = draw(st.lists(kinds(depth=depth - 1), min_size=1, max_size=3))
    if draw(st.booleans()):
        return Kind(f"{parts[0].name}[]", st.one_of(st.none(), st.lists(parts[0].values, max_size=3)))
    fields = {f"f{place}": part for place, part in enumerate(parts)}
    named = ", ".join(f"{name} {part.name}" for name, part in fields.items())
    values = st.fixed_dictionaries({name: part.values for name, part in fields.items()})
    return Kind(f"STRUCT({named})", st.one_of(st.none(), values))


def canonical(value: Any) -> Any:
    """A value in a form that Python compares as exactly as bits: -0.0 is not 0.0, and 1 not true."""
    if isinstance(value, dict):  # a struct's fields have their type's order, whatever order they were drawn in
        return ("struct", *((name, canonical(value[name])) for name in sorted(value)))
    if isinstance(value, list):
        return ("list", *map(canonical, value))
    if isinstance(value, float):
        return ("nan",) if math.isnan(value) else ("float", value, math.copysign(1, value))
    return (type(value).__name__, value)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, list[Any], list[Any]]:
    """A type, and rows of it twice: the same, some of them others, or in another order."""
    kind = draw(kinds())
    rows = draw(st.lists(kind.values, min_size=1, max_size=4))
    others = list(rows)
    for place in draw(st.lists(st.integers(0, len(rows) - 1), max_size=2)):
        others[place] = draw(kind.values)
    return kind.name, rows, draw(st.permutations(others))


@given(pairs())
@settings(max_examples=150, deadline=None)
def test_fingerprints_are_equal_if_and_only_if_the_rows_are(
    tmp_path_factory: pytest.TempPathFactory, pair: tuple[str, list[Any], list[Any]]
) -> None:
    type_, rows, others = pair
    folder = tmp_path_factory.mktemp("rows")
    with connect({}) as duck:
        found = [
            _of_values(duck, folder / f"{place}.parquet", type_, values) for place, values in enumerate((rows, others))
        ]
    same = sorted(map(repr, map(canonical, rows))) == sorted(map(repr, map(canonical, others)))
    assert (found[0] == found[1]) == same, (type_, rows, others)


def _of_values(duck: duckdb.DuckDBPyConnection, file: Path, type_: str, values: list[Any]) -> Sums:
    duck.execute(f"CREATE OR REPLACE TABLE t (v {type_})")
    for value in values:
        duck.execute("INSERT INTO t VALUES (?)", [value])
    duck.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    return content(scan(duck, str(file)), [VersionColumn("v", type_)])[1]

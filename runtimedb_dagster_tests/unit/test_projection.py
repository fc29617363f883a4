"""The type contract: every DuckDB type there and back, exact, declared or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.errors import TypeContractError
from runtimedb_dagster_tests.support.parts import Inside, SourceFile, current, path_of, refresh_one, rows

NINES = "9" * 38
PAST = "1" + "0" * 38


@dataclass(frozen=True)
class Kept:
    """A type, values at its edges as SQL, and what a version makes of it."""

    type: str
    values: tuple[str, ...]
    arrow: str
    declared: bool = False


def integers(name: str, bits: int, arrow: str, *, signed: bool = True) -> Kept:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return Kept(name, (str(low), "0", "1", str(high)), arrow)


KEPT = [
    Kept("BOOLEAN", ("true", "false"), "bool"),
    integers("TINYINT", 8, "int8"),
    integers("SMALLINT", 16, "int16"),
    integers("INTEGER", 32, "int32"),
    integers("BIGINT", 64, "int64"),
    integers("UTINYINT", 8, "uint8", signed=False),
    integers("USMALLINT", 16, "uint16", signed=False),
    integers("UINTEGER", 32, "uint32", signed=False),
    integers("UBIGINT", 64, "uint64", signed=False),
    Kept("FLOAT", ("'nan'", "'inf'", "'-inf'", "-0.0", "1.17549435e-38", "3.4028235e38", "0.1"), "float"),
    Kept("DOUBLE", ("'nan'", "'inf'", "'-inf'", "-0.0", "5e-324", "1.7976931348623157e308", "0.1"), "double"),
    Kept("DECIMAL(4,2)", ("-99.99", "0.01", "99.99"), "decimal128(4, 2)"),
    Kept("DECIMAL(18,9)", ("-999999999.999999999", "0.000000001"), "decimal128(18, 9)"),
    Kept("DECIMAL(38,0)", (NINES, "-" + NINES), "decimal128(38, 0)"),
    Kept("DECIMAL(38,38)", (f"'0.{NINES}'", f"'-0.{NINES}'"), "decimal128(38, 38)"),
    Kept("HUGEINT", (NINES, "-" + NINES, "0", str(2**63)), "decimal128(38, 0)", declared=True),
    Kept("UHUGEINT", (NINES, "0", str(2**64)), "decimal128(38, 0)", declared=True),
    Kept("BIGNUM", ("'" + "123456789" * 20 + "'", "'-1'", "'0'"), "string", declared=True),
    Kept(
        "VARCHAR",
        ("''", "'it''s'", "'日本語 🎉 e\u0301 é'", "chr(0) || 'x'", "'a' || chr(10) || 'b'", "repeat('x', 100000)"),
        "string",
    ),
    Kept("ENUM('small', 'it''s', '日本')", ("'small'", "'it''s'", "'日本'"), "string", declared=True),
    Kept("BIT", ("'0'", "'0101'", "'" + "10" * 100 + "'"), "string", declared=True),
    Kept("BLOB", ("''", r"'\x00\xFF'", "'text'", "repeat('x', 100000)::BLOB"), "binary"),
    Kept("UUID", ("'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"), "uuid"),
    Kept("JSON", ("""'{"a": [1, 2.50], "ü": null}'""", "'null'", "'[]'", "'1e400'"), "json"),
    Kept("DATE", ("'2024-02-29'", "'0044-03-15 (BC)'", "'infinity'", "'-infinity'"), "date32[day]"),
    Kept("TIME", ("'00:00:00'", "'23:59:59.999999'"), "time64[us]"),
    Kept(
        "TIME WITH TIME ZONE",
        ("'12:00:00+15:59:59'", "'00:00:00-15:59:59'", "'23:59:59.999999+00'", "'12:30:00+05:45'"),
        "string",
        declared=True,
    ),
    Kept("TIME_NS", ("'00:00:00'", "'23:59:59.999999999'"), "string", declared=True),
    Kept("TIMESTAMP_S", ("'1969-12-31 23:59:59'", "'290000-01-01'", "'infinity'"), "timestamp[us]"),
    Kept("TIMESTAMP_MS", ("'1969-12-31 23:59:59.999'", "'0044-03-15 (BC) 01:02:03'"), "timestamp[us]"),
    Kept(
        "TIMESTAMP",
        ("'1969-12-31 23:59:59.999999'", "'294247-01-10 04:00:54.775806'", "'0001-01-01 (BC)'", "'infinity'"),
        "timestamp[us]",
    ),
    Kept("TIMESTAMP_NS", ("'1677-09-22 00:00:00.000000001'", "'2262-04-11 23:47:16.854775806'"), "timestamp[ns]"),
    Kept(
        "TIMESTAMP WITH TIME ZONE",
        ("'2024-03-31 02:30:00+05:45'", "'0001-01-01 (BC) 00:00:00+00'", "'infinity'", "'-infinity'"),
        "timestamp[us, tz=UTC]",
    ),
    Kept(
        "INTERVAL",
        ("'-1 year -2 months -3 days -04:05:06.000007'", "'1 microsecond'", "'100 years 40 days 30 hours'", "'0 days'"),
        "string",
        declared=True,
    ),
    Kept("INTEGER[]", ("[]", "[1, NULL, 3]", "[NULL]"), "list<element: int32>"),
    Kept("VARCHAR[][]", ("[]", "[[], NULL, ['🎉', NULL]]"), "list<element: list<element: string>>"),
    Kept("INTEGER[3]", ("[1, 2, NULL]",), "list<element: int32>"),
    Kept("HUGEINT[]", (f"[{NINES}, NULL]", "[]"), "list<element: decimal128(38, 0)>", declared=True),
    Kept("INTERVAL[]", ("[INTERVAL '-1 day', NULL]", "[]"), "list<element: string>", declared=True),
    Kept("INTERVAL[2]", ("[INTERVAL '-1 day', INTERVAL '1 year']",), "list<element: string>", declared=True),
    Kept("JSON[]", ("""['{"a": 1}', NULL]""",), "list<element: json>"),
    Kept(
        'STRUCT(a INTEGER, "b c" VARCHAR)',
        ("{'a': 1, 'b c': 'x'}", "{'a': NULL, 'b c': NULL}"),
        "struct<a: int32, b c: string>",
    ),
    Kept(
        'STRUCT(h HUGEINT, "a ""b" INTERVAL[], t TIME WITH TIME ZONE)',
        ("""{'h': -1, 'a "b': [INTERVAL '-1 month'], 't': '12:00:00+05:45'}""",),
        'struct<h: decimal128(38, 0), a "b: list<element: string>, t: string>',
        declared=True,
    ),
    Kept("MAP(VARCHAR, INTEGER)", ("MAP {'a': 1, 'ü': NULL}", "MAP {}"), "map<string, int32>"),
    Kept(
        "MAP(HUGEINT, STRUCT(i INTERVAL)[])",
        ("MAP {7: [{'i': INTERVAL '-1 day'}]}", "MAP {}"),
        "map<decimal128(38, 0), list<element: struct<i: string>>>",
        declared=True,
    ),
    Kept('"NULL"', (), "int32"),
]


@pytest.fixture
def make_table(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> Callable[..., SourceFile]:
    """Make the source `s` with a table `t` of one column `v` and these values, in that order."""

    def make(column_type: str, *values: str) -> SourceFile:
        statements = [f"INSERT INTO t VALUES ({i}, {value})" for i, value in enumerate(values)]
        source = make_source("s", f"CREATE TABLE t (id INTEGER, v {column_type})", *statements)
        db.connect("s", source.url)
        return source

    return make


def footer_of(inside: Inside, db: RuntimeDB) -> Any:
    """The footer of the only version."""
    return pq.ParquetFile(inside.storage.location(path_of(current(db, "t", "s"))))


def arrow_type(inside: Inside, db: RuntimeDB) -> str:
    """The Arrow type of `v`, in one spelling for all releases of Arrow."""
    found = str(footer_of(inside, db).schema_arrow.field("v").type)
    return found.replace("extension<arrow.", "").replace("json>", "json").replace("uuid>", "uuid").replace(" ('v')", "")


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.type)
def test_a_type_survives_the_round_trip(
    db: RuntimeDB, inside: Inside, make_table: Callable[..., SourceFile], kept: Kept
) -> None:
    source = make_table(kept.type, *kept.values, "NULL")

    refresh_one(db, "t", "s")

    # Back in the source's own type: what is kept as text must cast back to what it was.
    original = source.run("DESCRIBE t")[1][1] if kept.type != '"NULL"' else "INTEGER"
    read = rows(db, f"SELECT CAST(CAST(v AS {original}) AS VARCHAR) FROM s.main.t ORDER BY id")
    assert read == source.run("SELECT CAST(v AS VARCHAR) FROM t ORDER BY id")
    assert read[-1] == (None,)
    assert arrow_type(inside, db) == kept.arrow
    column = current(db, "t", "s").columns[1]
    assert (column.declared is not None) is kept.declared
    if kept.declared:
        assert column.source_type == original


def test_exact_values_are_the_same_to_python(
    db: RuntimeDB, inside: Inside, make_table: Callable[..., SourceFile]
) -> None:
    make_table("DECIMAL(38,10)", "12345678901234567890.0123456789", "-0.0000000001")
    refresh_one(db, "t", "s")
    table = pq.read_table(inside.storage.location(path_of(current(db, "t", "s"))))
    assert {Decimal(str(value)) for value in table.column("v").to_pylist()} == {
        Decimal("-1e-10"),
        Decimal("12345678901234567890.0123456789"),
    }


def test_hugeints_are_the_same_to_arrow(db: RuntimeDB, inside: Inside, make_table: Callable[..., SourceFile]) -> None:
    make_table("HUGEINT", NINES, str(2**64 + 1))
    refresh_one(db, "t", "s")
    table = pq.read_table(inside.storage.location(path_of(current(db, "t", "s"))))
    assert {str(value) for value in table.column("v").to_pylist()} == {str(2**64 + 1), NINES}


@pytest.mark.parametrize(
    ("column_type", "value", "shown"),
    [
        ("HUGEINT", PAST, PAST),
        ("HUGEINT", "-" + PAST, "-" + PAST),
        ("HUGEINT", str(2**127 - 1), str(2**127 - 1)),
        ("UHUGEINT", str(2**128 - 1), str(2**128 - 1)),
        ("HUGEINT[]", f"[1, {PAST}]", PAST),
        ("STRUCT(h HUGEINT)", f"{{'h': {PAST}}}", PAST),
        ("MAP(VARCHAR, HUGEINT)", f"MAP {{'a': {PAST}}}", PAST),
        ("TIME", "'24:00:00'", "24:00:00"),
    ],
)
def test_a_value_without_an_exact_form_is_refused_by_name(
    db: RuntimeDB,
    inside: Inside,
    make_table: Callable[..., SourceFile],
    column_type: str,
    value: str,
    shown: str,
) -> None:
    make_table(column_type, "NULL", value)

    with pytest.raises(TypeContractError, match=r's\.main\.t: .*column "v"') as caught:
        refresh_one(db, "t", "s")

    assert shown in str(caught.value)
    assert inside.files() == inside.pending() == set()


@pytest.mark.parametrize(
    ("column_type", "value"),
    [
        ("TIME[]", "['24:00:00']"),
        ("TIME[1]", "['24:00:00']"),
        ("STRUCT(t TIME)", "{'t': '24:00:00'}"),
        ("MAP(VARCHAR, TIME)", "MAP {'a': '24:00:00'}"),
        ("STRUCT(t TIME[])[]", "[{'t': ['24:00:00']}]"),
    ],
)
def test_24_o_clock_inside_another_type_is_refused_or_declared(
    db: RuntimeDB, inside: Inside, make_table: Callable[..., SourceFile], column_type: str, value: str
) -> None:
    make_table(column_type, value)
    try:
        refresh_one(db, "t", "s")
    except TypeContractError as error:
        assert 'column "v"' in str(error)  # noqa: PT017 - to be refused is one of two good ends
    else:
        assert "time64" not in arrow_type(inside, db)
        assert current(db, "t", "s").columns[1].declared


def test_the_column_at_fault_is_the_one_that_is_named(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source(
        "s", "CREATE TABLE t (a HUGEINT, b HUGEINT, c TIME)", f"INSERT INTO t VALUES (1, {PAST}, '24:00:00')"
    )
    db.connect("s", source.url)
    with pytest.raises(TypeContractError, match=r'column "b" \(HUGEINT\)'):
        refresh_one(db, "t", "s")


@pytest.mark.parametrize(
    "column_type",
    ["UNION(a INTEGER, b VARCHAR)", "UNION(a INTEGER, b VARCHAR)[]", "STRUCT(u UNION(a INTEGER))"],
)
def test_a_union_is_refused_by_name(db: RuntimeDB, make_table: Callable[..., SourceFile], column_type: str) -> None:
    make_table(column_type)
    with pytest.raises(TypeContractError, match=r's\.main\.t: column "v" of type .*UNION\(.*no exact form'):
        refresh_one(db, "t", "s")


def test_a_variant_is_refused_by_name(db: RuntimeDB, tmp_path: Path) -> None:
    source = SourceFile(tmp_path / "s.duckdb")
    with duckdb.connect() as duck:
        duck.execute(f"ATTACH '{source.path}' AS s (STORAGE_VERSION 'v1.5.0')")
        duck.execute("CREATE TABLE s.t (id INTEGER, v VARIANT)")
    db.connect("s", source.url)
    with pytest.raises(TypeContractError, match=r's\.main\.t: column "v" of type VARIANT: no exact form'):
        refresh_one(db, "t", "s")


def test_json_is_json_in_the_footer(db: RuntimeDB, inside: Inside, make_table: Callable[..., SourceFile]) -> None:
    make_table("JSON", "'{}'")
    refresh_one(db, "t", "s")
    assert str(footer_of(inside, db).schema.column(1).logical_type) == "JSON"


def test_geometry_is_wkb_with_geoparquet_metadata(
    db: RuntimeDB, inside: Inside, make_table: Callable[..., SourceFile]
) -> None:
    source = make_table("GEOMETRY", "'POINT(1 2)'::GEOMETRY", "'LINESTRING(0 0, 1 1)'::GEOMETRY", "NULL")
    refresh_one(db, "t", "s")
    footer = footer_of(inside, db)
    assert json.loads(footer.metadata.metadata[b"geo"])["columns"]["v"]["encoding"] == "WKB"
    points = rows(db, "SELECT CAST(v AS VARCHAR) FROM s.main.t ORDER BY id")
    assert points == source.run("SELECT CAST(v AS VARCHAR) FROM t ORDER BY id")
    wkb = pq.read_table(inside.storage.location(path_of(current(db, "t", "s")))).column("v").to_pylist()
    assert bytes.fromhex("0101000000000000000000f03f0000000000000040") in wkb


def test_what_a_column_was_is_kept_in_the_file(
    db: RuntimeDB, inside: Inside, make_source: Callable[..., SourceFile]
) -> None:
    source = make_source("s", "CREATE TABLE t (id INTEGER NOT NULL, v INTERVAL)")
    db.connect("s", source.url)
    refresh_one(db, "t", "s")
    about = json.loads(footer_of(inside, db).metadata.metadata[b"runtimedb"])
    assert about["table"] == "s.main.t"
    columns = [VersionColumn(**column) for column in about["columns"]]
    assert tuple(columns) == current(db, "t", "s").columns
    assert columns == [
        VersionColumn("id", "INTEGER", nullable=False),
        VersionColumn("v", "VARCHAR", source_type="INTERVAL", declared="INTERVAL kept as VARCHAR"),
    ]


@pytest.mark.parametrize(
    "name", ["a b", 'q"uote', "it's", "ü", "select", "\U0001f600", "a.b", "x" * 200, "T", "%s", "$1", "{0}"]
)
def test_names_of_columns_are_kept_to_the_letter(
    db: RuntimeDB, inside: Inside, make_source: Callable[..., SourceFile], name: str
) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    for column_type in ("HUGEINT", "TIME"):
        source = make_source("s", f"CREATE OR REPLACE TABLE t ({quoted} {column_type})")
        if not db.connections():
            db.connect("s", source.url)
        refresh_one(db, "t", "s")
        assert footer_of(inside, db).schema_arrow.names == [name]


def test_a_table_of_every_type_at_once_keeps_every_row(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    simple = [kept for kept in KEPT if kept.values]
    columns = ", ".join(f"c{i} {kept.type}" for i, kept in enumerate(simple))
    values = ", ".join(kept.values[0] for kept in simple)
    source = make_source("s", f"CREATE TABLE t ({columns})", f"INSERT INTO t VALUES ({values})", "INSERT INTO t FROM t")
    db.connect("s", source.url)
    assert refresh_one(db, "t", "s").rows_synced == 2
    before = current(db, "t", "s")
    refresh_one(db, "t", "s")
    assert current(db, "t", "s").id == before.id

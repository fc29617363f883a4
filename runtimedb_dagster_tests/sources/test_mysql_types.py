"""The type contract for MySQL and MariaDB: what a version holds, against the source's own text."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.domain.errors import RefreshError, TypeContractError
from runtimedb_dagster.sources.attached.mysql.types import MySQLColumn, project
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import PASSWORD, Server

UTC = dt.timezone.utc
THIRTY_EIGHT = "9" * 38

# Type, values in SQL, the version's type, what pyarrow and DuckDB find, Arrow's type.
EXACT: list[tuple[str, list[str], str, list[Any], pa.DataType]] = [
    ("tinyint", ["-128", "127"], "TINYINT", [-128, 127], pa.int8()),
    ("tinyint unsigned", ["0", "255"], "UTINYINT", [0, 255], pa.uint8()),
    ("tinyint(1)", ["0", "1"], "BOOLEAN", [False, True], pa.bool_()),
    ("boolean", ["true", "false"], "BOOLEAN", [True, False], pa.bool_()),
    ("smallint", ["-32768", "32767"], "SMALLINT", [-32768, 32767], pa.int16()),
    ("smallint unsigned", ["65535"], "USMALLINT", [65535], pa.uint16()),
    ("mediumint", ["-8388608", "8388607"], "INTEGER", [-8388608, 8388607], pa.int32()),
    ("mediumint unsigned", ["16777215"], "UINTEGER", [16777215], pa.uint32()),
    ("int", ["-2147483648", "2147483647"], "INTEGER", [-(2**31), 2**31 - 1], pa.int32()),
    ("int unsigned zerofill", ["7", "4294967295"], "UINTEGER", [7, 2**32 - 1], pa.uint32()),
    ("bigint", ["-9223372036854775808", "9223372036854775807"], "BIGINT", [-(2**63), 2**63 - 1], pa.int64()),
    ("bigint unsigned", ["18446744073709551615"], "UBIGINT", [2**64 - 1], pa.uint64()),
    ("decimal(1,0)", ["-9"], "DECIMAL(1,0)", [Decimal(-9)], pa.decimal128(1, 0)),
    ("decimal(10,0)", ["-9999999999"], "DECIMAL(10,0)", [Decimal(-9999999999)], pa.decimal128(10, 0)),
    ("decimal(10,2) unsigned", ["99999999.99"], "DECIMAL(10,2)", [Decimal("99999999.99")], pa.decimal128(10, 2)),
    ("decimal(12,2) zerofill", ["7.5"], "DECIMAL(12,2)", [Decimal("7.50")], pa.decimal128(12, 2)),
    ("decimal(5,5)", ["-0.99999"], "DECIMAL(5,5)", [Decimal("-0.99999")], pa.decimal128(5, 5)),
    ("decimal(38,0)", [f"-{THIRTY_EIGHT}"], "DECIMAL(38,0)", [Decimal(f"-{THIRTY_EIGHT}")], pa.decimal128(38, 0)),
    ("decimal(38,38)", [f"0.{THIRTY_EIGHT}"], "DECIMAL(38,38)", [Decimal(f"0.{THIRTY_EIGHT}")], pa.decimal128(38, 38)),
    ("float", ["3.4028234e38", "-1.17549435e-38", "0.1"], "FLOAT",
     [3.4028234663852886e38, -1.1754943508222875e-38, 0.10000000149011612], pa.float32()),
    ("double", ["1.7976931348623157e308", "2.2250738585072014e-308", "0.1e0 + 0.2e0"], "DOUBLE",
     [1.7976931348623157e308, 2.2250738585072014e-308, 0.30000000000000004], pa.float64()),
    ("char(5)", ["'ab  '", "''"], "VARCHAR", ["ab", ""], pa.string()),
    ("varchar(20)", ["'  ab  '", "'Größe 漢字 😀'", "'a\\0b'"], "VARCHAR",
     ["  ab  ", "Größe 漢字 😀", "a\0b"], pa.string()),
    ("varchar(20) character set latin1", ["'Größe €'"], "VARCHAR", ["Größe €"], pa.string()),
    ("varchar(20) character set ucs2", ["'Größe 漢'"], "VARCHAR", ["Größe 漢"], pa.string()),
    ("varchar(20) character set utf8mb4 collate utf8mb4_bin", ["'é 😀'"], "VARCHAR", ["é 😀"], pa.string()),
    ("varchar(20) character set latin1 collate latin1_bin", ["'Größe'"], "VARCHAR", ["Größe"], pa.string()),
    ("tinytext", ["'a'"], "VARCHAR", ["a"], pa.string()),
    ("text", ["repeat('é', 63)", "repeat('é', 64)"], "VARCHAR", ["é" * 63, "é" * 64], pa.string()),
    ("mediumtext", ["'x'"], "VARCHAR", ["x"], pa.string()),
    ("longtext", ["''"], "VARCHAR", [""], pa.string()),
    ("json", ["'{\"a\": [1, \"é\"]}'"], "VARCHAR", ['{"a": [1, "é"]}'], pa.string()),
    ("date", ["'1000-01-01'", "'9999-12-31'", "'2024-02-29'"], "DATE",
     [dt.date(1000, 1, 1), dt.date(9999, 12, 31), dt.date(2024, 2, 29)], pa.date32()),
    ("datetime", ["'9999-12-31 23:59:59'"], "TIMESTAMP",
     [dt.datetime(9999, 12, 31, 23, 59, 59)], pa.timestamp("us")),  # noqa: DTZ001 - it has no zone
    ("datetime(6)", ["'1000-01-01 00:00:00.000001'"], "TIMESTAMP",
     [dt.datetime(1000, 1, 1, microsecond=1)], pa.timestamp("us")),  # noqa: DTZ001
    ("timestamp(6) null", ["'2038-01-19 03:14:07.999999'", "'1970-01-01 00:00:01'"], "TIMESTAMP WITH TIME ZONE",
     [dt.datetime(2038, 1, 19, 3, 14, 7, 999999, UTC), dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)],
     pa.timestamp("us", "UTC")),
    ("year", ["1901", "2155", "0"], "INTEGER", [1901, 2155, 0], pa.int32()),
    ("binary(4)", ["'ab'", "''"], "BLOB", [b"ab\0\0", b"\0\0\0\0"], pa.binary()),
    ("varbinary(9)", ["x'00ff27'", "''"], "BLOB", [b"\0\xff'", b""], pa.binary()),
    ("char(3) character set binary", ["x'c3'"], "BLOB", [b"\xc3\0\0"], pa.binary()),
    ("tinyblob", ["x'5c5c'"], "BLOB", [b"\\\\"], pa.binary()),
    ("blob", ["repeat(x'ff', 63)", "repeat(x'00', 65)"], "BLOB", [b"\xff" * 63, b"\0" * 65], pa.binary()),
    ("mediumblob", ["'\\\\xff'"], "BLOB", [rb"\xff"], pa.binary()),
    ("longblob", ["x'80'"], "BLOB", [b"\x80"], pa.binary()),
]  # fmt: skip

# Type, values in SQL, the text in the version.
DECLARED: list[tuple[str, list[str], list[str]]] = [
    ("decimal(39,0)", [f"-{THIRTY_EIGHT}9"], [f"-{THIRTY_EIGHT}9"]),
    ("decimal(65,30)", [f"{'1' * 35}.{'2' * 30}"], [f"{'1' * 35}.{'2' * 30}"]),
    ("bit(1)", ["1", "0"], ["1", "0"]),
    ("bit(12)", ["5"], ["000000000101"]),
    ("bit(64)", ["18446744073709551615", "1"], ["1" * 64, "1".rjust(64, "0")]),
    ("enum('a','it''s (b)')", ["'it''s (b)'", "1"], ["it's (b)", "a"]),
    ("enum('é') collate utf8mb4_bin", ["'é'"], ["é"]),
    ("set('x','y')", ["'y,x'", "''"], ["x,y", ""]),
    ("time(6)", ["'-838:59:59.999999'", "'838:59:59.999999'", "'00:00:00'"],
     ["-838:59:59.999999", "838:59:59.999999", "00:00:00.000000"]),
    ("time", ["'-00:00:01'"], ["-00:00:01"]),
    ("inet4", ["'1.2.3.4'"], ["1.2.3.4"]),
    ("inet6", ["'2001:db8::1'"], ["2001:db8::1"]),
]  # fmt: skip


def make(maria: Remote, name: str, column_type: str, values: Sequence[str]) -> None:
    """A table with a column of such a type: the values, and then NULL."""
    rows = ", ".join(f"({i}, {value})" for i, value in enumerate([*values, "NULL"]))
    maria.run(f"CREATE TABLE {name} (id int NOT NULL, v {column_type})", f"INSERT INTO {name} VALUES {rows}")


def fill(maria: Remote, column_type: str, values: Sequence[str]) -> None:
    """One such table, refreshed."""
    make(maria, "t", column_type, values)
    maria.connect()
    maria.refresh("t")


@pytest.fixture(scope="module")
def types(mariadb_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A table for each type, refreshed together."""
    home = tmp_path_factory.mktemp("types") / "home"
    with RuntimeDB(Settings(home=home, grace_period=0, threads=2)) as db, pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD_ENV, PASSWORD)
        mariadb_server.run(None, "CREATE DATABASE types")
        remote = Remote(db, mariadb_server, "types", "types")
        for i, (column_type, values, *_) in enumerate(EXACT):
            make(remote, f"exact{i}", column_type, values)
        for i, (column_type, values, _) in enumerate(DECLARED):
            make(remote, f"declared{i}", column_type, values)
        remote.connect()
        remote.refresh_all()
        yield remote
        mariadb_server.run(None, "DROP DATABASE types")


@pytest.mark.parametrize("number", range(len(EXACT)), ids=[case[0] for case in EXACT])
def test_a_type_is_kept_exactly(types: Remote, number: int) -> None:
    _, _, kept, expected, arrow_type = EXACT[number]
    name = f"exact{number}"
    column = types.version(name).columns[1]
    assert (column.type, column.declared, column.nullable) == (kept, None, True)
    table = types.arrow(name).sort_by("id")
    assert table.schema.field("v").type == arrow_type
    assert table["v"].to_pylist() == [*expected, None]
    assert [row[0] for row in types.query(name, "v", "ORDER BY id")] == [*expected, None]


@pytest.mark.parametrize("number", range(len(DECLARED)), ids=[case[0] for case in DECLARED])
def test_a_type_without_a_parquet_form_is_exact_text_and_declared(types: Remote, number: int) -> None:
    column_type, _, expected = DECLARED[number]
    name = f"declared{number}"
    column = types.version(name).columns[1]
    assert (column.type, column.declared) == ("VARCHAR", f"{types.table(name).columns[1].type} kept as text")
    assert types.arrow(name).sort_by("id")["v"].to_pylist() == [*expected, None]
    if not column_type.startswith("bit"):
        told = types.run(f"SELECT CAST(v AS CHAR) FROM {name} ORDER BY id")
        assert [row[0] for row in told] == [*expected, None], "as the source says it"


def test_uuids_are_uuids(maria: Remote) -> None:
    fill(maria, "uuid", ["'123e4567-e89b-12d3-a456-426655440000'"])
    assert maria.version("t").columns[1].type == "UUID"
    assert maria.query("t", "v", "WHERE id = 0") == [(uuid.UUID("123e4567-e89b-12d3-a456-426655440000"),)]


SHAPES = ["POINT(1.5 -2)", "POLYGON((0 0,1 0,1 1,0 0))", "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))"]


@pytest.mark.parametrize(
    ("column_type", "shapes"), [("geometry", SHAPES), ("polygon", SHAPES[1:2]), ("geometrycollection", SHAPES[2:])]
)
def test_geometries_are_wkb_and_lose_their_srid_by_declaration(
    maria: Remote, column_type: str, shapes: list[str]
) -> None:
    fill(maria, column_type, [f"ST_GeomFromText('{shape}', 4326)" for shape in shapes])
    column = maria.version("t").columns[1]
    assert (column.type, column.declared) == ("GEOMETRY", f"{column_type} kept as WKB without its SRID")
    wkb = [row[0] for row in maria.run("SELECT ST_AsBinary(v) FROM t ORDER BY id")]
    assert maria.arrow("t").sort_by("id")["v"].to_pylist() == wkb
    assert b"geo" in maria.arrow("t").schema.metadata, "GeoParquet"


def test_views_of_expressions_have_their_bytes_and_text(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE t (id int, g point, b blob, t varchar(9) COLLATE utf8mb4_bin)",
        "INSERT INTO t VALUES (1, POINT(1, 2), x'00ff', 'é')",
        "CREATE VIEW v AS SELECT ST_AsBinary(g) AS wkb, CONCAT(b, x'fe') AS bytes, CONCAT(t, '😀') AS words, "
        "id / 3 AS third, id > 0 AS yes, NULL AS nothing, SUM(id) AS total, g AS g FROM t GROUP BY id",
        "CREATE VIEW w AS SELECT ST_AsBinary(g) AS wkb, b, t FROM t",
    )
    maria.connect()
    assert maria.refresh_all().errors == []
    wkb = bytes.fromhex("0101000000000000000000f03f0000000000000040")
    assert maria.arrow("v").to_pylist() == [
        {"wkb": wkb, "bytes": b"\0\xff\xfe", "words": "é😀", "third": Decimal("0.3333"), "yes": 1, "nothing": None,
         "total": Decimal(1), "g": wkb}
    ]  # fmt: skip
    assert maria.arrow("w").to_pylist() == [{"wkb": wkb, "b": b"\0\xff", "t": "é"}]


def test_cells_larger_than_the_servers_packet_are_kept(maria: Remote) -> None:
    (limit,) = maria.run("SELECT @@max_allowed_packet")[0]
    size = limit * 3 // 4
    maria.run(
        "CREATE TABLE t (a longtext CHARACTER SET latin1, b longblob, j json)",
        f"INSERT INTO t VALUES (REPEAT(_latin1 x'e9', {size}), REPEAT(x'00ff', {size // 2}), "
        f"CONCAT('\"', REPEAT('x', {size}), '\"'))",
    )
    maria.connect()
    maria.refresh("t")
    assert maria.query("t", "strlen(a), octet_length(b), length(j)") == [(2 * size, size, size + 2)]
    assert 2 * size > limit, "in UTF-8 it is longer than the server's functions may return"


def test_not_null_and_the_types_are_kept_for_an_empty_table(maria: Remote) -> None:
    maria.run("CREATE TABLE t (id bigint unsigned NOT NULL, d decimal(10,0), ts timestamp(6) NULL, x uuid NOT NULL)")
    maria.connect()
    assert maria.refresh("t").rows_synced == 0
    assert [(c.name, c.type, c.nullable) for c in maria.version("t").columns] == [
        ("id", "UBIGINT", False), ("d", "DECIMAL(10,0)", True), ("ts", "TIMESTAMP WITH TIME ZONE", True),
        ("x", "UUID", False),
    ]  # fmt: skip
    assert maria.arrow("t").num_rows == 0


@pytest.mark.parametrize(
    ("column_type", "value", "message"),
    [
        ("tinyint(1)", "2", "it holds 2, which is neither true nor false; set the option tinyint1=int8"),
        ("tinyint(1)", "-1", "it holds -1, which"),
        ("date", "'0000-00-00'", 'out of range: "0000-00-00".*zero_dates=null'),
        ("date", "'2024-00-10'", 'out of range: "2024-00-10"'),
        ("datetime(6)", "'2024-10-00 01:02:03'", 'out of range: "2024-10-00 01:02:03.000000"'),
        ("timestamp", "0", 'out of range: "0000-00-00 00:00:00".*zero_dates=null'),
    ],
)
def test_a_value_without_an_exact_form_fails_by_name_and_the_old_version_serves(
    maria: Remote, column_type: str, value: str, message: str
) -> None:
    maria.run(f"CREATE TABLE t (id int, v {column_type} NULL)", "INSERT INTO t VALUES (1, NULL)")
    maria.connect()
    maria.refresh("t")
    maria.run("SET sql_mode = ''", f"INSERT INTO t VALUES (2, {value})")
    kept = maria.table("t").columns[1].type
    with pytest.raises(TypeContractError, match=message) as caught:
        maria.refresh("t")
    assert f'.t: column "v" ({kept}): ' in str(caught.value)
    assert maria.query("t") == [(1, None)]


def test_tinyint1_as_numbers_where_the_connection_asks(maria: Remote) -> None:
    maria.run("CREATE TABLE t (v tinyint(1) NOT NULL)", "INSERT INTO t VALUES (-128), (2), (127)")
    maria.connect(tinyint1="int8")
    maria.refresh("t")
    assert sorted(maria.query("t")) == [(-128,), (2,), (127,)]
    assert maria.version("t").columns[0].type == "TINYINT"


def test_zero_dates_as_null_where_the_connection_asks_and_declared(maria: Remote) -> None:
    maria.run(
        "SET sql_mode = ''",
        "CREATE TABLE t (d date NOT NULL, dt datetime(6), ts timestamp NOT NULL DEFAULT 0, other int)",
        "INSERT INTO t VALUES ('0000-00-00', '2024-00-10', 0, 1), ('2024-00-10', '0000-00-00', 0, 2), "
        "('2024-10-00', '2024-10-00 10:00:00', '2000-10-10', 3), "
        "('2000-10-10', '2010-10-20 00:00:00.000001', '2010-10-20 20:00:00', 4), ('0000-01-01', NULL, 0, 5)",
    )
    maria.connect(zero_dates="null")
    maria.refresh("t")
    assert maria.query("t", "d::VARCHAR, dt::VARCHAR, ts::VARCHAR", "ORDER BY other") == [
        (None, None, None),
        (None, None, None),
        (None, None, "2000-10-10 00:00:00+00"),
        ("2000-10-10", "2010-10-20 00:00:00.000001", "2010-10-20 20:00:00+00"),
        ("0001-01-01 (BC)", None, None),
    ]
    assert [(c.nullable, c.declared) for c in maria.version("t").columns] == [
        (True, "date kept as DATE, zero dates as NULL"),
        (True, "datetime(6) kept as TIMESTAMP, zero dates as NULL"),
        (True, "timestamp kept as TIMESTAMP WITH TIME ZONE, zero dates as NULL"),
        (True, None),
    ]


def test_timestamps_do_not_depend_on_the_servers_zone(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE t (v timestamp NULL)", "SET time_zone = '+02:00'", "INSERT INTO t VALUES ('2024-07-01 12:00')"
    )
    (zone,) = maria.run("SELECT @@GLOBAL.time_zone")[0]
    maria.run("SET GLOBAL time_zone = '-07:00'")
    try:
        maria.connect()
        maria.refresh("t")
    finally:
        maria.run(f"SET GLOBAL time_zone = '{zone}'")
    assert maria.query("t", "v::VARCHAR") == [("2024-07-01 10:00:00+00",)]


def test_the_servers_sql_mode_changes_nothing(maria: Remote) -> None:
    maria.run("CREATE TABLE `a\\b` (`c'\"d` char(5), e int)", "INSERT INTO `a\\b` VALUES ('ab', 1), ('cd', 2)")
    maria.run("SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'")
    try:
        maria.connect(where="*: e = 1")
        maria.refresh("a\\b")
    finally:
        maria.run("SET GLOBAL sql_mode = DEFAULT")
    assert maria.query("a\\b") == [("ab", 1)]


def test_generated_and_invisible_columns_are_columns(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE t (a int, b int AS (a + 1) VIRTUAL, c int AS (a + 2) STORED, d int INVISIBLE DEFAULT 4)",
        "INSERT INTO t (a) VALUES (1)",
    )
    maria.connect()
    maria.refresh("t")
    assert maria.query("t") == [(1, 2, 3, 4)]


def test_mysqls_own_json_is_json() -> None:
    for came, expression in (("VARCHAR", 'CAST("j" AS JSON) AS "j"'), ("BLOB", 'CAST(decode("j") AS JSON) AS "j"')):
        projected = project(MySQLColumn("j", "json", arrives=came))
        assert (projected.column.type, projected.column.declared, projected.remote) == ("JSON", None, None)
        assert projected.expression == expression


def test_an_unknown_type_is_refused_with_what_to_do() -> None:
    with pytest.raises(TypeContractError, match=r'column "v" of type vector\(3\).*cast it in a view.*exclude_columns'):
        project(MySQLColumn("v", "vector(3)"))


def test_a_table_whose_columns_are_all_left_out_is_refused(maria: Remote) -> None:
    maria.run("CREATE TABLE t (v int)")
    maria.connect(exclude_columns="v")
    with pytest.raises(RefreshError, match="the patterns leave it no columns"):
        maria.refresh("t")


def test_a_table_of_many_types_is_not_modified_by_its_own_refresh(maria: Remote) -> None:
    maria.run(
        "CREATE TABLE t (a int PRIMARY KEY, b tinyint(1), c datetime, d decimal(10,2), e varchar(9), f json)",
        "CREATE TABLE plain (a int)",
        "CREATE VIEW v AS SELECT * FROM t",
    )
    maria.connect(zero_dates="null", mask="e:redact")
    maria.refresh_all()
    assert [table.modified for table in maria.db.tables("maria")] == [False, False, False]
    modified = maria.db.configure("maria", options={"tinyint1": "int8"}).tables_modified
    assert [ref.table_name for ref in modified] == ["t", "v"]
    maria.refresh_all()
    assert [ref.table_name for ref in maria.db.configure("maria", unset=["zero_dates"]).tables_modified] == ["t", "v"]

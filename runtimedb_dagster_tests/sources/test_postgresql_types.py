"""The type contract on PostgreSQL: each type, with its edge values, by both ways of reading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.sources.attached.postgresql import dialect as postgresql
from runtimedb_dagster.sources.attached.postgresql import types as postgresql_types
from runtimedb_dagster.sources.attached.postgresql.types import Wishes
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote, same_text
from runtimedb_dagster_tests.support.servers import PASSWORD, Server

MAKE_TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'o''k', '😀')",
    "CREATE TYPE pair AS (a integer, b text)",
    "CREATE TYPE wide_pair AS (n numeric, m mood)",
    """CREATE TYPE many_fields AS (a smallint, b bigint, c boolean, d real, e double precision, f numeric(10,2), g date,
    h timestamp, i timestamptz, j time, k uuid, l bytea, m jsonb, "n {x}" text, o integer)""",
    "CREATE TYPE pair_of_numbers AS (a integer, b numeric(10,2))",
    "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
    "CREATE DOMAIN price AS numeric(12,2)",
    "CREATE DOMAIN cheap AS price CHECK (VALUE < 10)",
    "CREATE DOMAIN anything AS numeric",
    "CREATE DOMAIN tags AS text[]",
)


@dataclass(frozen=True)
class Kept:
    """A type and values of it: what becomes of them, and how either side writes them down."""

    type: str
    values: tuple[str, ...]
    arrow: str
    declared: bool = False
    by: tuple[str, str] = ("v::text", "v::VARCHAR")

    @property
    def theirs(self) -> str:
        """A value in the server's words."""
        return self.by[0]

    @property
    def ours(self) -> str:
        """A value in DuckDB's."""
        return self.by[1]


TEXT = ("''", "'héé 日本 😀'", r"E'a\\b\tc\n\'\"'", "repeat('x', 10 * 1024 * 1024)")
INSTANTS = (
    "'1969-12-31 23:59:59.999999'", "'2099-12-31 23:59:59.000001'", "'infinity'", "'-infinity'",
    "'0044-03-15 12:00 BC'",
    "'294247-01-10 04:00:54.775806'", "'0001-01-01'", "'4713-01-01 BC'",
)  # fmt: skip
IN_UTC = (
    "CASE WHEN isfinite(v) THEN (extract(epoch FROM v) * 1000000)::numeric(30,0)::text ELSE v::text END",
    "CASE WHEN isfinite(v) THEN epoch_us(v)::VARCHAR ELSE v::VARCHAR END",
)
FLOAT = ("v::text", r"regexp_replace(v::VARCHAR, '\.0$', '')")
BYTES = ("encode(v, 'hex')", "lower(hex(v))")
ELEMENTS = (
    "array_to_string(v, '|', '~')",
    "array_to_string(list_transform(v, lambda x: coalesce(x::VARCHAR, '~')), '|')",
)

MANY_FIELDS = r"""(
    -32768, 9223372036854775807, true, 1.5, 1e-300, -99999999.99, '2024-02-29', '2024-02-29 12:00:00.000001',
    '2024-02-29 12:00:00.000001+00', '23:59:59.999999', '00000000-0000-0000-0000-000000000001', '\x00ff',
    '{"a": "}, \"{x}"}', 'a "quoted\" {x}, '' (1,2)', NULL)"""
MANY_TYPES = (
    "struct<a: int16, b: int64, c: bool, d: float, e: double, f: decimal128(10, 2), g: date32[day], "
    "h: timestamp[us], i: timestamp[us, tz=UTC], j: time64[us], k: extension<arrow.uuid>, l: binary, "
    "m: extension<arrow.json>, n {x}: string, o: int32>"
)
PLAIN_FIELDS = ", ".join(f"(v).{name}" for name in "abdefghijk")
MANY_WORDS = (
    f"""concat_ws('|', {PLAIN_FIELDS}, (v).c::text, encode((v).l, 'hex'), (v).m, (v)."n {{x}}", (v).o)""",
    f"""concat_ws('|', {PLAIN_FIELDS}, (v).c, lower(hex((v).l)), (v).m, (v)."n {{x}}", (v).o)""",
)

KEPT = [
    Kept("boolean", ("true", "false"), "bool"),
    Kept("smallint", ("-32768", "32767", "0"), "int16"),
    Kept("integer", ("-2147483648", "2147483647", "0"), "int32"),
    Kept("bigint", ("-9223372036854775808", "9223372036854775807", "0"), "int64"),
    Kept("oid", ("0", "4294967295"), "uint32"),
    Kept(
        "real",
        ("'NaN'", "'Infinity'", "'-Infinity'", "1.1", "'-0'", "3.4028235e38", "1e-45"),
        "float",
        by=FLOAT,
    ),
    Kept(
        "double precision", ("'NaN'", "'Infinity'", "'-Infinity'", "0.1", "1.7976931348623157e308", "5e-324"), "double"
    ),
    Kept("numeric(10,2)", ("-99999999.99", "99999999.99", "0", "0.01"), "decimal128(10, 2)"),
    Kept("numeric(38,10)", ("1234567890123456789012345678.0123456789", "-0.0000000001"), "decimal128(38, 10)"),
    Kept("numeric(38,0)", ("99999999999999999999999999999999999999", "-1"), "decimal128(38, 0)"),
    Kept("numeric(5,-2)", ("9999900", "-100", "0"), "decimal128(7, 0)"),
    Kept(
        "numeric(2,5)",
        ("0.00099", "-0.00001"),
        "decimal128(5, 5)",
        by=("v::text", r"regexp_replace(v::VARCHAR, '^(-?)\.', '\10.')"),
    ),
    Kept("numeric", ("1e1000", "'NaN'", "'Infinity'", "'-Infinity'", "0.10", "0"), "string", declared=True),
    Kept("numeric(50,2)", ("1e47", "'NaN'", "0.10"), "string", declared=True),
    Kept("numeric(40,-3)", ("123456000",), "string", declared=True),
    Kept("money", ("12.5", "-92233720368547758.08"), "string", declared=True),
    Kept("text", TEXT, "string"),
    Kept("varchar(20)", ("''", "'日本😀'"), "string"),
    Kept("char(5)", ("'ab'", "'日本😀'"), "string"),
    Kept('"char"', ("'a'",), "string"),
    Kept("name", ("'a name'",), "string"),
    Kept("mood", ("'sad'", "'o''k'", "'😀'"), "string", declared=True),
    Kept("json", ("""'{"a":  1.0000000000000000000000001, "a": null}'""", "'[]'", "'null'"), "extension<arrow.json>"),
    Kept("jsonb", ("""'{"b": [1, "日本"], "a": 1e400}'""", "'{}'"), "extension<arrow.json>"),
    Kept("jsonpath", ("'$.a'",), "string", declared=True),
    Kept(
        "uuid",
        ("'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
        "extension<arrow.uuid>",
    ),
    Kept(
        "date",
        (
            "'1969-12-31'",
            "'2099-12-31'",
            "'0044-03-15 BC'",
            "'infinity'",
            "'-infinity'",
            "'5874897-12-31'",
            "'4713-01-01 BC'",
        ),
        "date32[day]",
    ),
    Kept("timestamp", INSTANTS, "timestamp[us]"),
    Kept("timestamp(0)", ("'2024-02-29 12:00:00'",), "timestamp[us]"),
    Kept("timestamptz", ("'2024-03-31 02:30+05:45'", *INSTANTS), "timestamp[us, tz=UTC]", by=IN_UTC),
    Kept("time", ("'00:00'", "'23:59:59.999999'"), "time64[us]"),
    Kept("timetz", ("'00:00+14'", "'24:00:00-12:30'", "'23:59:59.999999+00'"), "string", declared=True),
    Kept(
        "interval",
        ("'-1 mon +3 days -00:00:01.000001'", "'178000000 years'", "'infinity'", "'0'"),
        "string",
        declared=True,
    ),
    Kept("bytea", ("''", r"'\x00ff27'", "convert_to(repeat('x', 10 * 1024 * 1024), 'UTF8')"), "binary", by=BYTES),
    Kept("inet", ("'10.0.0.1/8'", "'::1'"), "string", declared=True),
    Kept("cidr", ("'10.0.0.0/8'",), "string", declared=True),
    Kept("macaddr", ("'08:00:2b:01:02:03'",), "string", declared=True),
    Kept("int4range", ("'[1,5)'", "'empty'", "'(,)'"), "string", declared=True),
    Kept("nummultirange", ("'{[1.5,2.5)}'",), "string", declared=True),
    Kept("bit(3)", ("'101'",), "string", declared=True),
    Kept("varbit", ("''", "'1'"), "string", declared=True),
    Kept("tsvector", ("'a:1 b'",), "string", declared=True),
    Kept("point", ("'(1.5,NaN)'",), "string", declared=True),
    Kept(
        "pair",
        ("(1, 'x')", "(NULL, NULL)"),
        "struct<a: int32, b: string>",
        by=("(v).a || ':' || (v).b", "v.a || ':' || v.b"),
    ),
    Kept(
        "wide_pair",
        ("(1.5, 'sad')",),
        "struct<n: string, m: string>",
        declared=True,
        by=("(v).n || ':' || (v).m", "v.n || ':' || v.m"),
    ),
    Kept("many_fields", (MANY_FIELDS,), MANY_TYPES, by=MANY_WORDS),
    Kept("positive", ("1", "2147483647"), "int32"),
    Kept("price", ("-9999999999.99",), "decimal128(12, 2)"),
    Kept("cheap", ("9.99",), "decimal128(12, 2)"),
    Kept("anything", ("1e100", "'NaN'"), "string", declared=True),
    Kept("tags", ("'{a,\"b c\"}'",), "string", declared=True),
    Kept("integer[]", ("'{1,NULL,-5}'", "'{}'"), "list<element: int32>", by=ELEMENTS),
    Kept("text[]", ("""'{a,NULL,"b c",""}'""", "'{}'"), "list<element: string>", by=ELEMENTS),
    Kept("double precision[]", ("'{0.1,NaN}'",), "list<element: double>", by=ELEMENTS),
    Kept("numeric(10,2)[]", ("'{1.25,-99999999.99}'",), "list<element: decimal128(10, 2)>", by=ELEMENTS),
    Kept("timestamptz[]", ("'{2024-01-01 00:00:00.000001+00}'",), "list<element: timestamp[us, tz=UTC]>", by=ELEMENTS),
    Kept("bytea[]", (r"""'{"\\x00ff"}'""",), "list<element: string>", declared=True, by=ELEMENTS),
    Kept("boolean[]", ("'{true,NULL}'",), "list<element: bool>", by=("v[1]::text", "v[1]::VARCHAR")),
    Kept("smallint[]", ("'{-32768}'",), "list<element: int16>", by=ELEMENTS),
    Kept("bigint[]", ("'{9223372036854775807}'",), "list<element: int64>", by=ELEMENTS),
    Kept("real[]", ("'{1.1}'",), "list<element: float>", by=ELEMENTS),
    Kept("varchar(9)[]", ("'{日本}'",), "list<element: string>", by=ELEMENTS),
    Kept("char(3)[]", ("'{a}'",), "list<element: string>", by=("v[1]::text", "v[1]")),
    Kept("name[]", ("'{a}'",), "list<element: string>", declared=True, by=ELEMENTS),
    Kept("uuid[]", ("'{00000000-0000-0000-0000-000000000001}'",), "list<element: extension<arrow.uuid>>", by=ELEMENTS),
    Kept("date[]", ("'{2024-02-29}'",), "list<element: date32[day]>", by=ELEMENTS),
    Kept("timestamp[]", ("'{2024-02-29 12:00:00.000001}'",), "list<element: timestamp[us]>", by=ELEMENTS),
    Kept("time[]", ("'{12:00:00.000001}'",), "list<element: time64[us]>", by=ELEMENTS),
    Kept("oid[]", ("'{4294967295}'",), "list<element: string>", declared=True, by=ELEMENTS),
    Kept("numeric[]", ("'{1e100,NaN,NULL}'",), "list<element: string>", declared=True, by=ELEMENTS),
    Kept("mood[]", ("'{sad,NULL}'",), "list<element: string>", declared=True, by=ELEMENTS),
    Kept("jsonb[]", ("""ARRAY['{"a": 1}'::jsonb]""",), "list<element: string>", declared=True, by=ELEMENTS),
    Kept("interval[]", ("'{-1 mon}'",), "list<element: string>", declared=True, by=ELEMENTS),
    Kept("pair[]", ("ARRAY[(1, 'x')::pair]",), "string", declared=True),
]


@dataclass(frozen=True)
class Refused:
    """A value that has no exact form, and what the refresh says of it."""

    type: str
    value: str
    says: str


REFUSED = [
    Refused("numeric(10,2)", "'NaN'", "numerics=text"),
    Refused("price", "'NaN'", "numerics=text"),
    Refused("numeric(10,2)[]", "'{1,NaN}'", "numerics=text"),
    Refused("pair_of_numbers", "(1, 'NaN')", "numerics=text"),
    Refused("time", "'24:00:00'", "the time 24:00:00 has no place"),
    Refused("time[]", "'{10:00,24:00}'", "the time 24:00:00 has no place"),
    Refused("timestamp", "'294276-12-31 23:59:59'", "after 294247-01-10"),
    Refused("timestamptz", "'294276-12-31 23:59:59+00'", "after 294247-01-10"),
    Refused("timestamp[]", "'{294276-12-31}'", "after 294247-01-10"),
]


@pytest.fixture(scope="module", params=["a query on the server", "DuckDB's parallel scan"])
def contract(
    request: pytest.FixtureRequest, postgres_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Remote, dict[str, str]]]:
    """A table per type, refreshed; and the errors by table."""
    home: Path = tmp_path_factory.mktemp("types")
    database = f"types_{os.urandom(4).hex()}"
    postgres_server.run(None, f"CREATE DATABASE {database}")
    with pytest.MonkeyPatch.context() as patch, RuntimeDB(Settings(home=home, threads=2)) as db:
        patch.setenv(PASSWORD_ENV, PASSWORD)
        remote = Remote(db, postgres_server, database, "pg")
        remote.run(*MAKE_TYPES)
        for number, kept in enumerate(KEPT):
            remote.run(f"CREATE TABLE kept_{number} (id integer, v {kept.type}, needed integer NOT NULL DEFAULT 1)")
            for place, value in enumerate((*kept.values, "NULL")):
                remote.run(f"INSERT INTO kept_{number} VALUES ({place}, {value})")
        for number, refused in enumerate(REFUSED):
            remote.run(f"CREATE TABLE refused_{number} AS SELECT 1 AS id, {refused.value}::{refused.type} AS v")
        remote.connect()
        # Undone before other tests run beside this fixture, which lives until the last of them.
        with pytest.MonkeyPatch.context() as forced:
            if request.param != "a query on the server":
                forced.setattr(postgresql, "PARALLEL_FROM_PAGES", 0)
            errors = {error["table_name"]: error["error"] for error in remote.refresh_all().errors}
        yield remote, errors
    postgres_server.run(None, f"DROP DATABASE {database} WITH (FORCE)")


@pytest.mark.parametrize("number", range(len(KEPT)), ids=[kept.type for kept in KEPT])
def test_values_arrive_as_the_server_writes_them(contract: tuple[Remote, dict[str, str]], number: int) -> None:
    kept, table = KEPT[number], f"kept_{number}"
    remote, errors = contract
    assert table not in errors, errors[table]
    theirs = remote.run(f"SELECT id, {kept.theirs} FROM {table} ORDER BY id")
    ours = remote.query(table, f"id, {kept.ours}", "ORDER BY id")
    assert [(place, same_text(value)) for place, value in ours] == [(p, same_text(value)) for p, value in theirs]
    assert len(ours) == len(kept.values) + 1

    column = next(column for column in remote.version(table).columns if column.name == "v")
    # Of a list, that its subscripts begin at 1; nothing else, unless its values are declared.
    told = (column.declared or "").removesuffix(postgresql_types.BOUNDS)
    assert bool((told and told != f"{column.source_type} kept as {column.type}") or kept.declared) == kept.declared
    assert bool(column.declared) == (kept.declared or column.type.endswith("[]"))
    schema = remote.arrow(table).schema
    assert str(schema.field("v").type) == kept.arrow
    assert [c.nullable for c in remote.version(table).columns] == [True, True, False]


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[f"{r.type} {r.value}" for r in REFUSED])
def test_a_value_without_an_exact_form_fails_by_the_columns_name(
    contract: tuple[Remote, dict[str, str]], number: int
) -> None:
    _, errors = contract
    assert f'pg.public.refused_{number}: column "v"' in errors[f"refused_{number}"]
    assert REFUSED[number].says in errors[f"refused_{number}"]


def test_numerics_as_text_keep_nan(pg: Remote) -> None:
    pg.run("CREATE TABLE t AS SELECT 'NaN'::numeric(10,2) AS v, '{NaN,1.50}'::numeric(10,2)[] AS a")
    pg.connect(numerics="text")
    pg.refresh("t")
    assert pg.query("t", "v, a") == [("NaN", ["NaN", "1.50"])]
    assert [column.declared for column in pg.version("t").columns] == [
        "numeric(10,2) kept as VARCHAR",
        f"numeric(10,2)[] kept as VARCHAR[]{postgresql_types.BOUNDS}",
    ]


def test_arrays_as_text_keep_any_dimensions(pg: Remote) -> None:
    pg.run("CREATE TABLE t (v integer[])", "INSERT INTO t VALUES ('{1,2}'), ('{{1,2},{3,4}}'), ('[0:1]={5,6}')")
    pg.connect()
    errors = pg.refresh_all().errors
    assert "arrays=text" in errors[0]["error"]
    pg.db.configure("pg", options={"arrays": "text"})
    pg.refresh("t")
    assert sorted(row[0] for row in pg.query("t")) == ["[0:1]={5,6}", "{1,2}", "{{1,2},{3,4}}"]


def test_a_table_without_rows_has_its_columns(pg: Remote) -> None:
    pg.run("CREATE TABLE t (a numeric(10,2) NOT NULL, b numeric, c timestamptz[], d jsonb)")
    pg.connect()
    assert pg.refresh("t").rows_synced == 0
    assert [(column.type, column.nullable) for column in pg.version("t").columns] == [
        ("DECIMAL(10,2)", False), ("VARCHAR", True), ("TIMESTAMP WITH TIME ZONE[]", True), ("JSON", True),
    ]  # fmt: skip
    assert pg.query("t") == []


def test_a_table_without_columns_is_listed_and_refused(pg: Remote) -> None:
    pg.run("CREATE TABLE t ()")
    pg.connect()
    (error,) = pg.refresh_all().errors
    assert error["error"] == "pg.public.t: it has no columns"


def test_a_type_that_arrives_otherwise_than_promised_fails_by_name(pg: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    pg.run("CREATE TABLE t AS SELECT 1::oid AS v, 2 AS other")
    pg.connect()
    # A query on the server yields `oid` as text; so would whatever DuckDB's next version maps otherwise.
    monkeypatch.setitem(postgresql_types.EXACT, "oid", "UINTEGER")
    monkeypatch.setattr(postgresql, "project", postgresql_types.project.__wrapped__)  # which remembers nothing
    (error,) = pg.refresh_all().errors
    assert 'pg.public.t: column "v" was to be UINTEGER, but v VARCHAR arrived' in error["error"]


@pytest.mark.parametrize(
    ("wishes", "type_", "concerns"),
    [
        (Wishes(numerics="text"), "numeric(10,2)", {"numerics": "text"}),
        (Wishes(numerics="text"), "integer", {}),
        (Wishes(numerics="text"), "character varying(20)", {}),
        (Wishes(numerics="text"), "a_domain_of_ones_own", {"numerics": "text"}),
        (Wishes(arrays="text"), "integer[]", {"arrays": "text"}),
        (Wishes(arrays="text"), "numeric(10,2)", {}),
        (Wishes(jsons="text"), "jsonb", {"jsons": "text"}),
        (Wishes(jsons="text"), "text", {}),
        (Wishes(), "numeric(10,2)", {}),
    ],
)
def test_options_concern_the_types_that_they_may_bear_on(wishes: Wishes, type_: str, concerns: dict[str, str]) -> None:
    assert wishes.concerning(type_) == concerns


def test_a_table_of_many_types_is_not_modified_by_its_own_refresh(pg: Remote) -> None:
    pg.run(
        "CREATE TYPE mood AS ENUM ('ok')",
        "CREATE DOMAIN cents AS numeric(10,2)",
        "CREATE TABLE t (a int NOT NULL, b numeric(10,2), c cents, d mood, e int[], f jsonb, g timestamptz, h text)",
        "CREATE VIEW v AS SELECT * FROM t",
    )
    pg.connect(numerics="text", mask="h:null", where="t: a > 0")
    pg.refresh_all()
    assert [table.modified for table in pg.db.tables("pg")] == [False, False]
    modified = pg.db.configure("pg", options={"arrays": "text"}).tables_modified
    assert {ref.table_name for ref in modified} == {"t", "v"}
    assert pg.db.configure("pg", options={"row_security": "apply"}).tables_modified == ()
    pg.refresh_all()
    assert {ref.table_name for ref in pg.db.configure("pg", unset=["row_security"]).tables_modified} == {"t", "v"}

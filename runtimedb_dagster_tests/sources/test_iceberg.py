"""Iceberg: discovery, one snapshot, types, evolved schemas and errors, on a real REST catalog over a real store.

AWS Glue can't be reached from a test: of it only the statements are looked at.
"""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from runtimedb_dagster import RefreshRequest, RuntimeDB, Table, Version
from runtimedb_dagster.common import extensions
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError, RefreshError, SourceError, SourceUnavailableError
from runtimedb_dagster.domain.requests import TableRefreshResult
from runtimedb_dagster.sources.attached import iceberg
from runtimedb_dagster.sources.registry import open_source
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster_tests.support.parts import output_of, path_of, reading_of, rediscover, refresh_all
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV
from runtimedb_dagster_tests.support.seaweed import KEY_SECRET, WAREHOUSE, Seaweed, seaweed

WRONG = "canary-wrong"


@pytest.fixture(scope="module")
def server() -> Iterator[Seaweed]:
    with seaweed() as running:
        yield running


@pytest.fixture
def lake(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seaweed]:
    """A warehouse with the empty namespace `shop`, whose secret key is in the environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY_SECRET)
    catalog = server.catalog()
    catalog.create_namespace("shop")
    yield server
    for namespace in catalog.list_namespaces():
        for name in catalog.list_tables(namespace):
            catalog.drop_table(name)
        catalog.drop_namespace(namespace)


@pytest.fixture
def connect(db: RuntimeDB, lake: Seaweed) -> Callable[..., None]:
    """Connect the warehouse as `ice`."""

    def connected(url: str | None = None, **options: Any) -> None:
        db.connect("ice", url or lake.url(), password_env=PASSWORD_ENV, options=options)

    return connected


def the_table(db: RuntimeDB, name: str) -> Table:
    (found,) = [table for table in db.tables("ice") if table.table_name == name]
    return found


def version(db: RuntimeDB, name: str) -> Version:
    found = the_table(db, name).version
    assert found is not None
    return found


def refresh(db: RuntimeDB, name: str) -> TableRefreshResult:
    ref = the_table(db, name).ref
    result = db.refresh(RefreshRequest("ice", ref.schema_name, ref.table_name, data=True))
    assert isinstance(result, TableRefreshResult)
    return result


def query(db: RuntimeDB, name: str, select: str = "*", tail: str = "") -> list[tuple[Any, ...]]:
    with db.query() as reader:
        return reader.execute(f"SELECT {select} FROM {the_table(db, name).ref} {tail}").fetchall()


def create(lake: Seaweed, name: str, *fields: NestedField, **schema: Any) -> IcebergTable:
    return lake.catalog().create_table(f"shop.{name}", Schema(*fields, **schema))


def test_tables_of_several_namespaces_are_refreshed_and_queried(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]
) -> None:
    lake.run(
        "CREATE SCHEMA lake.other",
        "CREATE TABLE lake.shop.orders AS SELECT i AS id, (i * 1.25)::DECIMAL(12, 2) AS total FROM range(1, 1001) r(i)",
        "CREATE TABLE lake.other.orders AS SELECT 'x' AS note",
    )
    connect()
    assert refresh_all(db, "ice").total_rows == 1001
    with db.query() as reader:
        assert reader.execute("SELECT count(*), sum(total)::VARCHAR FROM ice.shop.orders").fetchall() == [
            (1000, "625625.00")
        ]
        assert reader.execute("FROM ice.other.orders").fetchall() == [("x",)]


WITHOUT_MANIFESTS = """
import sys
from collections import Counter
from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster_tests.support.faulty import BODIES, Fault, faulty
from runtimedb_dagster_tests.support.parts import refresh_all
from runtimedb_dagster_tests.support.seaweed import Seaweed

home, catalog, store, variable = sys.argv[1:]
with faulty(f"http://127.0.0.1:{store}") as between, RuntimeDB(Settings(home=home)) as db:
    url = Seaweed(int(catalog), int(between.endpoint.rpartition(":")[2])).url()
    db.connect("ice", url, password_env=variable)
    for answer in (500, 404, "gone", "portal"):
        fault = Fault("GET", "", answer, body=BODIES.get(answer, b"<Error><Code>InternalError</Code></Error>"))
        between.draw = lambda _, target: fault if target.split("?")[0].endswith("-m0.avro") else None
        (error,) = refresh_all(db, "ice").errors
        assert error["error"].startswith("ice.shop.t: the source can't describe it: "), error
    asked = Counter()

    def only_once(_, target):
        path = target.split("?")[0]
        asked[path] += path.endswith("-m0.avro")
        return fault if asked[path] > 1 else None

    between.draw = only_once
    print(refresh_all(db, "ice").total_rows, sorted(asked[path] for path in asked if asked[path]))
"""


def test_manifests_that_can_not_be_read_are_an_error_and_the_process_lives(lake: Seaweed, tmp_path: Path) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT range AS i FROM range(10)", "INSERT INTO lake.shop.t VALUES (10)")
    home, ports = tmp_path / "home", (lake.catalog_port, lake.store_port)
    assert output_of(WITHOUT_MANIFESTS, home, *ports, PASSWORD_ENV, env=dict(os.environ)) == "11 [1, 1]\n"


def test_discovery_finds_what_the_metadata_tells(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    table = create(
        lake,
        "keyed",
        NestedField(1, "id", LongType(), required=True, doc="the key"),
        NestedField(2, "note", StringType()),
        identifier_field_ids=[1],
    )
    table.append(pa.table({"id": [1, 2, 3], "note": ["a", "b", None]}, schema=table.schema().as_arrow()))
    with table.transaction() as transaction:
        transaction.set_properties(comment="what it is")
    lake.run("DELETE FROM lake.shop.keyed WHERE id = 2")
    connect()
    found = the_table(db, "keyed")
    assert found.columns == (
        SourceColumn("id", "BIGINT", nullable=False, comment="the key"),
        SourceColumn("note", "VARCHAR"),
    )
    assert (found.primary_key, found.comment, found.estimated_rows) == (("id",), "what it is", 2)


def test_a_namespace_within_another_is_a_schema_with_a_dot(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]
) -> None:
    lake.catalog().create_namespace(("shop", "inner"))
    table = lake.catalog().create_table(
        ("shop", "inner", "deep"), Schema(NestedField(1, "i", LongType(), required=True))
    )
    table.append(pa.table({"i": [7]}, schema=table.schema().as_arrow()))
    connect()
    found = the_table(db, "deep")
    assert (found.schema_name, found.columns) == ("shop.inner", (SourceColumn("i", "BIGINT", nullable=False),))
    refresh(db, "deep")
    assert query(db, "deep") == [(7,)]


# Types


FIELDS = (
    NestedField(1, "id", IntegerType(), required=True),
    NestedField(2, "amount", DecimalType(38, 10)),
    NestedField(3, "key", UUIDType()),
    NestedField(4, "fixed", FixedType(4)),
    NestedField(5, "raw", BinaryType()),
    NestedField(6, "local", TimestampType()),
    NestedField(7, "instant", TimestamptzType()),
    NestedField(8, "day", DateType()),
    NestedField(9, "hour", TimeType()),
    NestedField(10, "tags", ListType(11, StringType(), element_required=False)),
    NestedField(12, "counts", MapType(13, StringType(), 14, DecimalType(9, 2), value_required=False)),
    NestedField(15, "pair", StructType(NestedField(16, "x", IntegerType()), NestedField(17, "y", DoubleType()))),
    NestedField(18, "single", FloatType()),
    NestedField(19, "double", DoubleType()),
    NestedField(20, "flag", BooleanType()),
    NestedField(21, "long", LongType()),
)

ROW = {
    "id": 1,
    "amount": Decimal("-1234567890123456789012345678.0123456789"),
    "key": uuid.UUID("12345678-1234-5678-1234-567812345678").bytes,
    "fixed": b"\x00\xff\x01\x02",
    "raw": b"\x00'\xff",
    "local": dt.datetime(1582, 10, 4, 23, 59, 59, 999999),  # noqa: DTZ001 - a local time
    "instant": dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.timezone.utc),
    "day": dt.date(1, 1, 1),
    "hour": dt.time(23, 59, 59, 999999),
    "tags": ["a", None, "ü"],
    "counts": [("k", Decimal("-0.01")), ("n", None)],
    "pair": {"x": None, "y": float("-inf")},
    "single": float("inf"),
    "double": 5e-324,
    "flag": False,
    "long": -(2**63),
}


def test_each_type_arrives_as_another_client_reads_it(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]
) -> None:
    table = create(lake, "types", *FIELDS)
    empty: dict[str, Any] = dict.fromkeys(ROW)
    table.append(pa.Table.from_pylist([ROW, {**empty, "id": 2}], schema=table.schema().as_arrow()))
    connect()
    refresh(db, "types")
    file = pq.read_table(db.settings.home / "storage" / path_of(version(db, "types")))
    assert file.sort_by("id").to_pylist() == table.scan().to_arrow().sort_by("id").to_pylist()
    assert file.schema.field("amount").type == pa.decimal128(38, 10)
    assert file.schema.field("instant").type == pa.timestamp("us", "UTC")
    assert not any(column.declared for column in version(db, "types").columns)
    with open_source(db.connection("ice"), {}) as source:
        types = {row[0]: row[1] for row in source._duck.execute("DESCRIBE iceberg.shop.types").fetchall()}  # type: ignore[attr-defined]
    assert {column.name: column.type for column in the_table(db, "types").columns} == types


def test_nan_is_kept(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE lake.shop.t (f FLOAT, d DOUBLE)", "INSERT INTO lake.shop.t VALUES ('NaN', '-inf')")
    connect()
    refresh(db, "t")
    assert query(db, "t", "isnan(f), d") == [(True, float("-inf"))]


def test_an_empty_table_keeps_its_columns(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    create(lake, "empty", *FIELDS)
    connect()
    assert the_table(db, "empty").estimated_rows == 0
    assert refresh(db, "empty").rows_synced == 0
    columns = version(db, "empty").columns
    assert [column.name for column in columns] == [field.name for field in FIELDS]
    assert [column.name for column in columns if not column.nullable] == ["id"]


# Rows and columns that change


def test_deleted_and_updated_rows(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT i, 'old' AS note FROM range(10000) r(i)")
    lake.run("DELETE FROM lake.shop.t WHERE i % 2 = 0", "UPDATE lake.shop.t SET note = 'new' WHERE i = 1")
    connect()
    assert refresh(db, "t").rows_synced == 5000
    assert query(db, "t", "note, count(*), min(i)", "GROUP BY note ORDER BY note") == [("new", 1, 1), ("old", 4999, 3)]


def test_a_schema_that_evolved_reads_old_files_too(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    fields = [NestedField(i + 1, name, IntegerType()) for i, name in enumerate(("id", "small", "old_name", "dropped"))]
    table = create(lake, "t", *fields)
    table.append(pa.table([[1], [2], [3], [4]], schema=table.schema().as_arrow()))
    with table.update_schema() as update:
        update.update_column("small", LongType())
        update.rename_column("old_name", "new_name")
        update.delete_column("dropped")
        update.add_column("added", StringType())
    with table.update_schema() as update:
        update.add_column("dropped", StringType())  # another column of the same name
    table.append(pa.table([[5], [2**40], [7], ["x"], ["y"]], schema=table.schema().as_arrow()))
    connect()
    refresh(db, "t")
    assert [(column.name, column.type) for column in version(db, "t").columns] == [
        ("id", "INTEGER"),
        ("small", "BIGINT"),
        ("new_name", "INTEGER"),
        ("added", "VARCHAR"),
        ("dropped", "VARCHAR"),
    ]
    assert query(db, "t", tail="ORDER BY id") == [(1, 2, 3, None, None), (5, 2**40, 7, "x", "y")]


def test_partitioned_rows_and_awkward_names(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    names = ["part", "a b", 'we"ird', "ü", "x.y"]
    schema = Schema(*[NestedField(i + 1, name, StringType()) for i, name in enumerate(names)])
    spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "part"))
    table = lake.catalog().create_table("shop.t", schema, partition_spec=spec)
    values = ["p1=/'", "p2", None]
    table.append(pa.table([values] * 5, schema=table.schema().as_arrow()))
    connect()
    refresh(db, "t")
    assert [column.name for column in version(db, "t").columns] == names
    assert query(db, "t", tail="ORDER BY ALL NULLS LAST") == [(value,) * 5 for value in values]


def test_a_new_column_is_found_by_the_next_refresh(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT 1 AS i")
    connect()
    refresh(db, "t")
    lake.run("ALTER TABLE lake.shop.t ADD COLUMN s VARCHAR", "INSERT INTO lake.shop.t VALUES (2, 'b')")
    refresh(db, "t")
    assert query(db, "t", tail="ORDER BY i") == [(1, None), (2, "b")]


def test_a_reading_sees_one_snapshot(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT i FROM range(1000) r(i)")
    connect()
    with open_source(db.connection("ice"), {}) as source, reading_of(source, the_table(db, "t").ref) as reading:
        lake.run(
            "INSERT INTO lake.shop.t SELECT i FROM range(500) r(i)",
            "DELETE FROM lake.shop.t WHERE i % 2 = 0",
            "ALTER TABLE lake.shop.t RENAME COLUMN i TO j",
        )
        for _ in range(2):
            assert reading.scan.duck.execute(f"SELECT count(*), sum(i) FROM ({reading.select})").fetchall() == [
                (1000, 499500)
            ]
        with reading_of(source, the_table(db, "t").ref) as later:
            assert later.scan.duck.execute(f"SELECT count(*), sum(j) FROM ({later.select})").fetchall() == [
                (750, 312500)
            ]


def test_rows_and_columns_that_are_not_wanted_stay_away(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]
) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT i, 'secret' AS ssn FROM range(10) r(i)")
    connect(where='{"t": "i >= 8"}', exclude_columns="ssn")
    refresh(db, "t")
    assert query(db, "t", tail="ORDER BY ALL") == [(8,), (9,)]


# Errors


def no_canary(text: object) -> None:
    assert KEY_SECRET not in str(text)
    assert "canary" not in str(text)


def test_a_wrong_secret_is_told_apart(connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, WRONG)
    with pytest.raises(SourceError, match=r"'ice' .*invalid_client.*; set the right client secret") as caught:
        connect()
    assert not isinstance(caught.value, SourceUnavailableError)
    no_canary(caught.value)


def test_a_catalog_that_is_away_may_come_back(db: RuntimeDB, lake: Seaweed) -> None:
    with pytest.raises(SourceUnavailableError, match=r"'away' .*Could not connect") as caught:
        db.connect("away", "iceberg+http://keeper@127.0.0.1:9/warehouse", password_env=PASSWORD_ENV)
    no_canary(caught.value)


def test_an_unknown_warehouse_is_no_empty_one(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    with pytest.raises(SourceError, match=r"'ice' .*NotFound_404.*; check the warehouse in the URL"):
        connect(lake.url("nowhere"))
    assert "NotFound_404" in str(db.check("ice").error)


def test_a_token_reads_and_a_refused_one_drops_no_table(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT 1 AS i")
    monkeypatch.setenv(PASSWORD_ENV, lake.token())
    connect(lake.url(user=None))
    refresh(db, "t")
    monkeypatch.setenv(PASSWORD_ENV, WRONG)
    with pytest.raises(SourceError, match=r"Unauthorized_401.*; set the right secret or token") as caught:
        rediscover(db, "ice", confirm=True)
    no_canary(caught.value)
    with pytest.raises(RefreshError, match=r"ice.shop.t: the source can't describe it: .*Unauthorized_401"):
        refresh(db, "t")
    assert query(db, "t") == [(1,)]


def test_a_user_without_a_password_is_asked_for_one(db: RuntimeDB, lake: Seaweed) -> None:
    with pytest.raises(SourceError, match=r"'ice' .*user keeper, but no password is set; name the variable"):
        db.connect("ice", lake.url())


def test_a_table_that_was_dropped_is_named(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT 1 AS i")
    connect()
    lake.catalog().drop_table("shop.t")
    with pytest.raises(RefreshError, match=r"ice.shop.t: the source no longer has it"):
        refresh(db, "t")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (WRONG, "HTTP 403.*; set the options s3_key_id and s3_key_env"),
        (None, "variable AWS_SECRET_ACCESS_KEY is not set"),
    ],
)
def test_a_wrong_key_of_the_data_is_named(
    db: RuntimeDB,
    lake: Seaweed,
    connect: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    key: str | None,
    message: str,
) -> None:
    lake.run("CREATE TABLE lake.shop.t AS SELECT 1 AS i")
    connect()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    if key:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
    with pytest.raises((RefreshError, SourceError), match=message) as caught:
        refresh(db, "t")
    no_canary(caught.value)


def test_a_table_that_can_not_be_loaded_leaves_the_others(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]
) -> None:
    lake.run("CREATE TABLE lake.shop.good AS SELECT 1 AS i")
    create(lake, "twins", NestedField(1, "a", LongType()), NestedField(2, "A", LongType()))
    connect()
    assert {table.table_name: len(table.columns) for table in db.tables("ice")} == {"good": 1, "twins": 0}
    with pytest.raises(RefreshError, match=r"DuckDB can't have such a table .*name A already exists"):
        refresh(db, "twins")
    assert refresh(db, "good").rows_synced == 1


def test_a_table_costs_discovery_two_requests(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.run("CREATE TABLE lake.shop.a AS SELECT 1 AS i", "CREATE TABLE lake.shop.b AS SELECT 1 AS i")
    monkeypatch.setattr(iceberg, "LOADED_AT_A_TIME", 1)
    connect()
    with open_source(db.connection("ice"), {}) as source:
        duck = source._duck  # type: ignore[attr-defined]
        monkeypatch.setattr(iceberg, "_list", lambda _, query: duck.execute(query).fetchall())
        duck.execute("CALL enable_logging('HTTP')")
        assert len(source.discover()) == 2
        asked = duck.execute("SELECT request.url FROM duckdb_logs_parsed('HTTP')").fetchall()
    catalog = f"{lake.endpoint}/v1/{WAREHOUSE}/namespaces"
    listed = [catalog, f"{catalog}/shop/tables"]
    assert [url for (url,) in asked] == [*listed, *[f"{listed[1]}/a"] * 2, *[f"{listed[1]}/b"] * 2]


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        ("HTTP Error: Request returned HTTP 503 for HTTP GET to 'http://host/v1/namespaces'", True),
        ("HTTP Error: GetTableInformation endpoint returned response code TooManyRequests_429", True),
        ("HTTP Error: GetTableInformation endpoint returned response code Forbidden_403 for table_500", False),
    ],
)
def test_a_catalog_that_has_too_much_to_do_is_asked_again(error: str, passing: bool) -> None:
    dialect = iceberg.Iceberg(SourceUrl.parse("iceberg+https://host/w"), iceberg.IcebergOptions(), None)
    assert dialect.is_transient(error) is passing


def test_a_missing_extension_is_named(
    connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extensions, "_in_wheel", lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"no extension 'avro'.*pip install duckdb-extension-avro==.*'ice'"):
        connect()


# Statements


def statements(url: str, password: str | None = KEY_SECRET) -> list[str]:
    parsed = SourceUrl.parse(url)
    return iceberg.Iceberg(parsed, iceberg.IcebergOptions.model_validate(parsed.options), password).statements()


def test_glue_is_attached_by_account_and_region() -> None:
    secret, attach = statements("iceberg+glue://AKIAX@123456789012?s3_region=eu-west-1", "canary'")
    assert secret == ("CREATE TEMPORARY SECRET source (TYPE s3, KEY_ID 'AKIAX', SECRET 'canary''', REGION 'eu-west-1')")
    assert attach == "ATTACH '123456789012' AS iceberg (TYPE iceberg, READ_ONLY, SECRET source, ENDPOINT_TYPE 'glue')"


def test_a_catalog_within_glue_follows_its_account() -> None:
    *_, attach = statements("iceberg+glue://AKIAX@123456789012/s3tablescatalog/b?s3_region=eu-west-1")
    assert "ATTACH '123456789012:s3tablescatalog/b' " in attach


@pytest.mark.parametrize("url", ["iceberg+https://me@host/w", "iceberg+https://host/w", "iceberg+glue://me@1/"])
def test_a_secret_is_never_in_the_attach_string(url: str) -> None:
    *secrets, attach = statements(url, "canary")
    assert ["canary" in secret for secret in secrets] == [True]
    assert "canary" not in attach


def test_the_options_of_a_catalog_are_in_the_attach_string() -> None:
    secret, attach = statements(
        "iceberg+https://me@polaris.example/s3://bucket/w?base_path=/api/catalog&oauth2_scope=all&nested_namespaces=true"
    )
    assert "OAUTH2_SERVER_URI 'https://polaris.example/api/catalog/v1/oauth/tokens', OAUTH2_SCOPE 'all'" in secret
    assert attach == (
        "ATTACH 's3://bucket/w' AS iceberg (TYPE iceberg, READ_ONLY, ENDPOINT 'https://polaris.example/api/catalog', "
        "SECRET source, SUPPORT_NESTED_NAMESPACES true)"
    )


def test_data_files_with_a_key_of_their_own_need_none_of_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_KEY", "canary-key")
    _, data, attach = statements(
        "iceberg+https://me@host/w?s3_key_id=k&s3_key_env=STORE_KEY&s3_region=r&s3_endpoint=http://store:9000"
    )
    assert data == (
        "CREATE TEMPORARY SECRET data (TYPE s3, KEY_ID 'k', SECRET 'canary-key', SESSION_TOKEN '', REGION 'r', "
        "ENDPOINT 'store:9000', URL_STYLE 'path', USE_SSL 'false')"
    )
    assert attach == (
        "ATTACH 'w' AS iceberg (TYPE iceberg, READ_ONLY, ENDPOINT 'https://host', SECRET source, "
        "ACCESS_DELEGATION_MODE 'none', DEFAULT_REGION 'r')"
    )


def test_an_error_that_repeats_the_key_of_the_data_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-key")
    options = iceberg.IcebergOptions(s3_key_id="k")
    dialect = iceberg.Iceberg(SourceUrl.parse("iceberg+https://host/w"), options, None)
    assert dialect.explain("IO Error: it is canary-key") == "it is ***"


def test_an_endpoint_is_a_url(db: RuntimeDB) -> None:
    with pytest.raises(ConfigurationError, match="option s3_endpoint is wrong"):
        db.connect("ice", "iceberg+https://host/w?s3_endpoint=store:9000")


def test_a_catalog_without_a_login() -> None:
    (attach,) = statements("iceberg+http://[::1]:8181/w", None)
    assert "ENDPOINT 'http://[::1]:8181', AUTHORIZATION_TYPE 'none')" in attach


@pytest.mark.parametrize("seconds", [-1, 3600])
def test_the_current_snapshot_is_read_whatever_the_writers_clock_said(
    db: RuntimeDB, lake: Seaweed, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """By a second writer's clock that is behind, or ahead, its snapshot would be the older one, or none yet."""
    table = create(lake, "t", NestedField(1, "i", LongType()))
    table.append(pa.table({"i": [1]}, schema=table.schema().as_arrow()))
    connect()
    clock = time.time
    with monkeypatch.context() as another:
        another.setattr(time, "time", lambda: clock() + seconds)
        table.append(pa.table({"i": [2]}, schema=table.schema().as_arrow()))
    refresh(db, "t")
    assert sorted(query(db, "t")) == [(1,), (2,)]


def test_a_table_without_a_snapshot_is_empty(db: RuntimeDB, lake: Seaweed, connect: Callable[..., None]) -> None:
    create(lake, "t", NestedField(1, "i", LongType(), required=True))
    connect()
    refresh(db, "t")
    assert query(db, "t") == []
    assert [column.nullable for column in version(db, "t").columns] == [False]

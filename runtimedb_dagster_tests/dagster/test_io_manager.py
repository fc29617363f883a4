"""Tables as arguments: every form, from one snapshot, under a lease that lives exactly as long as it must."""

# No `from __future__ import annotations`: Dagster reads the annotations of the assets.

import gc
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import psutil
import pyarrow as pa
import pytest

from runtimedb_dagster import RuntimeDB, RuntimeDBIOManager, table_input
from runtimedb_dagster.dagster.names import partitions_def
from runtimedb_dagster.domain.errors import RequestError, RuntimeDBError, TableNotCachedError, TableNotFoundError
from runtimedb_dagster_tests.dagster.conftest import UPSTREAM, Shop, leases
from runtimedb_dagster_tests.support.parts import Inside, await_that, current, path_of

ORDERS = [("main", "orders")]
BOTH = [("main", "orders"), ("crm", "customers")]
TOTAL = Decimal("499500.00")
READ_LATER = [pa.RecordBatchReader, pl.LazyFrame, duckdb.DuckDBPyRelation]

Sweep = Callable[[], set[str]]


def consumer(annotation: Any, use: Callable[[Any], Any], given: dg.AssetIn | None = None) -> dg.AssetsDefinition:
    """An asset `used` with the argument `given`, by default the orders, that returns what `use` makes of it."""

    def used(given: Any) -> Any:
        return use(given)

    used.__annotations__["given"] = annotation
    return dg.asset(ins={"given": given or table_input("shop", ORDERS)})(used)


def loaded(shop: Shop, annotation: Any, use: Callable[[Any], Any], given: dg.AssetIn | None = None) -> Any:
    """What such an asset makes of its argument."""
    return shop.run(consumer(annotation, use, given)).output_for_node("used")


def refused(shop: Shop, annotation: Any, given: dg.AssetIn | None = None) -> RuntimeDBError:
    """The error that loading an argument ends with."""
    with pytest.raises(RuntimeDBError) as caught:
        loaded(shop, annotation, lambda _: None, given)
    return caught.value


def by_hand(annotation: type) -> Any:
    """The orders outside of a run: nothing but the value itself keeps the lease."""
    with dg.build_input_context(
        name="orders",
        asset_key=UPSTREAM,
        dagster_type=dg.PythonObjectDagsterType(annotation),
        asset_partition_key_range=dg.PartitionKeyRange("main.orders", "main.orders"),
    ) as context:
        return RuntimeDBIOManager().load_input(context)


def rows(value: Any) -> int:
    """How many rows a value has that is read later."""
    if isinstance(value, pl.LazyFrame):
        return int(value.select(pl.len()).collect().item())
    if isinstance(value, pa.RecordBatchReader):
        return sum(batch.num_rows for batch in value)
    return len(value.fetchall())


# Forms


@pytest.mark.parametrize(
    ("annotation", "total"),
    [
        (pa.Table, lambda table: sum(table["amount"].to_pylist())),
        (pa.RecordBatchReader, lambda reader: sum(reader.read_all()["amount"].to_pylist())),
        (pl.DataFrame, lambda frame: frame["amount"].sum()),
        (pl.LazyFrame, lambda frame: frame.select(pl.col("amount").sum()).collect().item()),
        (pd.DataFrame, lambda frame: frame["amount"].sum()),
        (duckdb.DuckDBPyRelation, lambda relation: relation.aggregate("sum(amount)").fetchall()[0][0]),
    ],
)
def test_one_table_in_the_annotated_form(shop: Shop, annotation: Any, total: Callable[[Any], Any]) -> None:
    def checked(value: Any) -> Any:
        assert isinstance(value, annotation)
        return total(value)

    assert loaded(shop, annotation, checked) == TOTAL
    assert leases(shop.db) == 0


@pytest.mark.parametrize("annotation", [dict[tuple[str, str], pa.Table], Mapping[tuple[str, str], pa.Table]])
def test_tables_by_schema_and_name(shop: Shop, annotation: Any) -> None:
    def count(tables: Any) -> dict[str, int]:
        return {".".join(address): table.num_rows for address, table in tables.items()}

    both = loaded(shop, annotation, count, table_input("shop", BOTH))
    assert both == {"main.orders": 1000, "crm.customers": 10}
    # The annotation decides, not the number of tables.
    assert loaded(shop, annotation, count) == {"main.orders": 1000}


def test_relations_of_one_argument_can_be_joined(shop: Shop) -> None:
    def spent(tables: Any) -> Any:
        orders = tables["main", "orders"].filter("id < 100")
        return orders.join(tables["crm", "customers"], "customer").aggregate("name, sum(amount) AS amount")

    annotation = dict[tuple[str, str], duckdb.DuckDBPyRelation]
    found = loaded(shop, annotation, lambda tables: sorted(spent(tables).fetchall()), table_input("shop", BOTH))
    assert found[0] == ("customer 0", Decimal("450.00"))
    assert leases(shop.db) == 0


def test_a_relation_can_only_be_read(shop: Shop, inside: Inside) -> None:
    path = path_of(current(shop.db, "orders"))
    version = Path(inside.storage.location(path))
    before = version.read_bytes()
    copy = "COPY (SELECT 42 AS id) TO '{}' (FORMAT parquet, USE_TMP_FILE false)"

    def attack(relation: duckdb.DuckDBPyRelation) -> list[str]:
        attempts: list[Callable[[], object]] = [
            lambda: relation.write_parquet(str(version)),
            lambda: relation.write_csv(f"runtimedb://{path}"),
            lambda: relation.query("o", copy.format(version)),
            lambda: relation.query("o", copy.format(f"runtimedb://{path}")),
            lambda: relation.query("o", f"FROM read_blob('{version}')"),
            lambda: relation.query("o", "FROM read_text('/etc/passwd')"),
            lambda: relation.query("o", "SET lock_configuration = false"),
        ]
        refused = []
        for attempt in attempts:
            with pytest.raises(duckdb.Error) as caught:
                attempt()
            refused.append(type(caught.value).__name__)
        assert relation.aggregate("sum(amount)").fetchall()[0][0] == TOTAL
        return refused

    assert len(loaded(shop, duckdb.DuckDBPyRelation, attack)) == 7
    assert version.read_bytes() == before
    assert shop.db.verify(deep=True) == []


def test_readers_of_one_argument_can_be_read_in_turns(shop: Shop) -> None:
    def in_turns(tables: Any) -> list[int]:
        orders, customers = tables["main", "orders"], tables["crm", "customers"]
        return [next(orders).num_rows, next(customers).num_rows, rows(orders), rows(customers)]

    annotation = dict[tuple[str, str], pa.RecordBatchReader]
    assert loaded(shop, annotation, in_turns, table_input("shop", BOTH)) == [1000, 10, 0, 0]
    assert leases(shop.db) == 0


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_lazy_frame_is_scanned_several_times_in_one_query(shop: Shop, engine: Any) -> None:
    # DuckDB's own lazy frame fails or hangs here.
    def halves(orders: pl.LazyFrame) -> list[Any]:
        low, high = orders.filter(pl.col("id") < 400), orders.filter(pl.col("id") >= 400)
        both = pl.concat([low, high]).select(pl.len())
        crossed = low.select(pl.len()).join(high.select(pl.len().alias("high")), how="cross")
        top = high.sort("id", descending=True).select("id").head(2)
        return [query.collect(engine=engine).rows() for query in (both, crossed, top)]

    assert loaded(shop, pl.LazyFrame, halves) == [[(1000,)], [(400, 600)], [(999,), (998,)]]


def test_a_lazy_frame_shows_instants_in_utc(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    shop.source.run("CREATE OR REPLACE TABLE orders AS SELECT TIMESTAMPTZ '2024-01-01 12:00:00+00' AS moment")
    shop.refresh("main.orders")
    (moment,) = loaded(shop, pl.LazyFrame, lambda frame: frame.collect()["moment"].to_list())
    assert moment == datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
    assert moment.utcoffset() == timedelta(0)


def test_pandas_gets_exact_values(shop: Shop) -> None:
    shop.source.run(
        "CREATE OR REPLACE TABLE orders AS FROM (VALUES (9007199254740993, 0.1::DECIMAL(18, 1)), (NULL, NULL)) t(i, d)"
    )
    shop.refresh("main.orders")
    frame = loaded(shop, pd.DataFrame, lambda frame: frame)
    assert frame["i"][0] == 9007199254740993
    assert frame["d"][0] == Decimal("0.1")
    assert frame["i"].isna().tolist() == [False, True]


# The snapshot and its lease


@pytest.mark.parametrize("form", READ_LATER)
def test_what_is_read_later_is_of_the_snapshot(shop: Shop, replace_and_sweep: Sweep, form: Any) -> None:
    def replaced_meanwhile(tables: Any) -> tuple[int, int, int]:
        held = replace_and_sweep()
        return len(held), rows(tables["main", "orders"]), rows(tables["crm", "customers"])

    annotation = dict[tuple[str, str], form]
    assert loaded(shop, annotation, replaced_meanwhile, table_input("shop", BOTH)) == (1, 1000, 10)
    assert leases(shop.db) == 0
    assert replace_and_sweep() == set()


def test_a_whole_table_holds_no_lease(shop: Shop, replace_and_sweep: Sweep) -> None:
    held, count = loaded(shop, pa.Table, lambda table: [len(replace_and_sweep()), table.num_rows])
    assert (held, count) == (0, 1000)


@pytest.mark.parametrize("form", READ_LATER)
def test_the_lease_ends_when_the_value_is_dropped(db: RuntimeDB, shop: Shop, form: type) -> None:
    value = by_hand(form)
    assert leases(db) == 1
    del value
    gc.collect()
    await_that(lambda: leases(db) == 0, "the lease to end")
    assert shop.db.verify() == []


def test_what_a_lazy_frame_was_made_into_keeps_the_lease(db: RuntimeDB, shop: Shop, replace_and_sweep: Sweep) -> None:
    few = by_hand(pl.LazyFrame).filter(pl.col("id") < 5).select("amount")
    gc.collect()
    assert len(replace_and_sweep()) == 1
    assert few.collect().height == 5
    del few
    gc.collect()
    await_that(lambda: leases(db) == 0, "the lease to end")


def test_the_lease_of_a_reader_ends_with_the_last_batch(db: RuntimeDB, shop: Shop) -> None:
    reader = by_hand(pa.RecordBatchReader)
    assert reader.read_all().num_rows == 1000
    assert leases(db) == 0
    assert reader.schema.names == ["id", "customer", "amount"]


def test_the_lease_of_a_reader_ends_when_it_is_closed(db: RuntimeDB, shop: Shop) -> None:
    with by_hand(pa.RecordBatchReader) as reader:
        assert leases(db) == 1
    await_that(lambda: leases(db) == 0, "the lease to end")
    with pytest.raises(pa.ArrowException):
        reader.read_all()


def test_a_value_that_outlives_its_run_is_closed(shop: Shop) -> None:
    kept: list[Any] = []
    loaded(shop, duckdb.DuckDBPyRelation, kept.append)
    assert leases(shop.db) == 0
    with pytest.raises(duckdb.Error):
        kept[0].fetchall()


def test_a_step_that_fails_leaves_no_lease(shop: Shop) -> None:
    def fail(reader: pa.RecordBatchReader) -> None:
        reader.read_next_batch()
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        loaded(shop, pa.RecordBatchReader, fail)
    await_that(lambda: leases(shop.db) == 0, "the lease to end")


def test_a_reader_does_not_buffer_the_table(db: RuntimeDB, shop: Shop) -> None:
    count = 12_000_000
    shop.source.run(f"CREATE OR REPLACE TABLE orders AS SELECT range AS i, hash(range) AS h FROM range({count})")
    shop.refresh("main.orders")
    gc.collect()
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    most, seen = 0, 0
    for batch in by_hand(pa.RecordBatchReader):
        seen += batch.num_rows
        most = max(most, process.memory_info().rss - before)
    assert seen == count
    # The table is 192 MB.
    assert most < 100_000_000
    assert leases(db) == 0


# What it is attached to


def test_a_table_per_partition_of_a_downstream_asset(shop: Shop) -> None:
    @dg.asset(
        partitions_def=partitions_def(shop.db.settings, "shop"),
        ins={"table": dg.AssetIn(key=UPSTREAM, input_manager_key="runtimedb_io_manager")},
    )
    def counted(table: pa.Table) -> int:
        return int(table.num_rows)

    job = shop.definitions(counted).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=shop.instance, asset_selection=[counted.key], partition_key="crm.customers"
    )
    assert result.output_for_node("counted") == 10


def test_without_a_partition_mapping_it_is_every_table(shop: Shop) -> None:
    every = dg.AssetIn(key=UPSTREAM, input_manager_key="runtimedb_io_manager")
    shop.refresh("main.uncached")
    assert loaded(shop, dict[tuple[str, str], pa.Table], len, every) == 3


def test_a_table_without_a_version_is_named(shop: Shop) -> None:
    missing = table_input("shop", [*ORDERS, ("main", "uncached")])
    for form in (pa.Table, *READ_LATER):
        error = refused(shop, dict[tuple[str, str], form], missing)  # type: ignore[valid-type]
        assert isinstance(error, TableNotCachedError)
        assert "shop.main.uncached is discovered but has no version yet" in str(error)
    assert leases(shop.db) == 0


def test_a_table_without_a_version_is_fetched_if_wanted(shop: Shop) -> None:
    asset = consumer(pa.Table, lambda table: table.to_pylist(), table_input("shop", [("main", "uncached")]))
    result = shop.run(asset, runtimedb_io_manager=RuntimeDBIOManager(fetch_missing=True))
    assert result.output_for_node("used") == [{"x": 1}]


def test_an_unknown_table_is_named(shop: Shop) -> None:
    error = refused(shop, pa.Table, table_input("shop", [("main", "order")]))
    assert isinstance(error, TableNotFoundError)
    assert "did you mean 'shop.main.orders'" in str(error)


def test_an_annotation_for_one_table_takes_no_two(shop: Shop) -> None:
    error = refused(shop, pa.Table, table_input("shop", BOTH))
    assert isinstance(error, RequestError)
    assert "is 2 tables of 'runtimedb/shop'" in str(error)
    assert "dict[tuple[str, str], pyarrow.Table]" in str(error)


@pytest.mark.parametrize("annotation", [Any, list, dict, dict[str, pa.Table], dict[tuple[str, str], int]])
def test_other_annotations_are_refused(shop: Shop, annotation: Any) -> None:
    error = refused(shop, annotation)
    assert isinstance(error, RequestError)
    assert "annotate the argument as one of pyarrow.Table, polars.DataFrame" in str(error)


def test_other_assets_are_refused(shop: Shop) -> None:
    @dg.asset
    def other() -> int:
        return 1

    @dg.asset(ins={"other": dg.AssetIn(input_manager_key="runtimedb_io_manager")})
    def used(other: pa.Table) -> None: ...

    job = shop.definitions(other, used).resolve_implicit_global_asset_job_def()
    with pytest.raises(RequestError, match="'other' is not of a connection's asset"):
        job.execute_in_process(instance=shop.instance, asset_selection=[other.key, used.key])


def test_outputs_are_refused(shop: Shop) -> None:
    @dg.asset(io_manager_key="runtimedb_io_manager")
    def made() -> int:
        return 1

    with pytest.raises(RequestError, match="made by refreshes"):
        shop.run(made)

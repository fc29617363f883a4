"""The Dagster form over a storage in S3: what a materialization says, and every form of argument."""

# No `from __future__ import annotations`: Dagster reads the annotations of the assets.

from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from runtimedb_dagster import Settings, table_input
from runtimedb_dagster_tests.dagster.conftest import UPSTREAM, Shop, leases
from runtimedb_dagster_tests.dagster.test_io_manager import by_hand, consumer, rows
from runtimedb_dagster_tests.support.parts import current, path_of
from runtimedb_dagster_tests.support.s3 import BUCKET, Bucket


@pytest.fixture(autouse=True)
def settings(settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The versions are in the store."""
    assert settings.storage_url.startswith("file:")
    monkeypatch.setenv("RUNTIMEDB_STORAGE_URL", bucket.url())
    return Settings()


def test_a_materialization_says_where_its_version_is(shop: Shop, bucket: Bucket) -> None:
    path = path_of(current(shop.db, "orders"))
    assert {path} < bucket.keys()
    uris = {
        str(record.asset_materialization.metadata["dagster/uri"].value)
        for record in shop.instance.fetch_materializations(UPSTREAM, limit=10).records
        if record.asset_materialization
    }
    assert f"s3://{BUCKET}/{bucket.prefix}/{path}" in uris


@pytest.mark.parametrize("annotation", [pa.Table, pl.DataFrame, pd.DataFrame])
def test_a_table_is_loaded_at_once(shop: Shop, annotation: type) -> None:
    assert shop.run(consumer(annotation, len)).output_for_node("used") == 1000
    assert leases(shop.db) == 0


@pytest.mark.parametrize("annotation", [pa.RecordBatchReader, pl.LazyFrame, duckdb.DuckDBPyRelation])
def test_a_table_is_read_later(shop: Shop, bucket: Bucket, annotation: type) -> None:
    value: Any = by_hand(annotation)
    shop.source.run("INSERT INTO orders VALUES (-1, 0, 0)")
    shop.refresh("main.orders")
    shop.db.sweep()
    assert len(bucket.keys()) == 3  # the lease holds the old version
    assert rows(value) == 1000


def test_two_tables_are_joined(shop: Shop) -> None:
    def joined(given: dict[tuple[str, str], pl.LazyFrame]) -> int:
        orders, customers = given["main", "orders"], given["crm", "customers"]
        return len(orders.join(customers, on="customer").collect())

    both = table_input("shop", [("main", "orders"), ("crm", "customers")])
    asset = consumer(dict[tuple[str, str], pl.LazyFrame], joined, both)
    assert shop.run(asset).output_for_node("used") == 1000

"""A RuntimeDB with a connection `shop`, and a Dagster instance that knows its partitions."""

# No `from __future__ import annotations`: see the tests, which define assets.

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import func, select

from runtimedb_dagster import RuntimeDB, RuntimeDBIOManager, RuntimeDBResource, Settings
from runtimedb_dagster.catalog import schema
from runtimedb_dagster.dagster.assets import build_asset
from runtimedb_dagster.dagster.process import opened, runtimedb
from runtimedb_dagster_tests.support.parts import Inside, SourceFile

UPSTREAM = dg.AssetKey(["runtimedb", "shop"])


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """What the environment says, and nothing else does: a home of this test, and no grace period."""
    for name in os.environ:
        if name.startswith("RUNTIMEDB_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNTIMEDB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNTIMEDB_GRACE_PERIOD", "0")
    return Settings()


@pytest.fixture
def db(settings: Settings) -> Iterator[RuntimeDB]:
    """The process's RuntimeDB, as the definitions use it."""
    yield runtimedb(settings)
    opened.cache_clear()


@pytest.fixture
def inside(db: RuntimeDB) -> Inside:
    """Its catalog and storage."""
    return Inside.of(db)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@dataclass(frozen=True)
class Shop:
    """The connection `shop`: its source, its asset, and an instance to run assets on."""

    source: SourceFile
    db: RuntimeDB
    asset: dg.AssetsDefinition
    instance: dg.DagsterInstance

    def refresh(self, *keys: str) -> None:
        """Materialize partitions of the connection's asset, a run each."""
        for key in keys:
            assert dg.materialize([self.asset], partition_key=key, instance=self.instance).success

    def definitions(self, *assets: dg.AssetsDefinition, **resources: Any) -> dg.Definitions:
        """The connection's asset and some downstream of it, with RuntimeDB's two resources."""
        ours = {"runtimedb": RuntimeDBResource(), "runtimedb_io_manager": RuntimeDBIOManager()}
        return dg.Definitions(assets=[self.asset, *assets], resources=ours | resources, executor=dg.in_process_executor)

    def run(self, asset: dg.AssetsDefinition, **resources: Any) -> dg.ExecuteInProcessResult:
        """Materialize a downstream asset alone; its error is raised."""
        job = self.definitions(asset, **resources).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(instance=self.instance, asset_selection=[asset.key])


@pytest.fixture
def shop(db: RuntimeDB, tmp_path: Path, instance: dg.DagsterInstance) -> Shop:
    """A source of three tables, discovered, with a version of two of them."""
    source = SourceFile(tmp_path / "shop.duckdb")
    source.run(
        "CREATE TABLE orders AS SELECT range AS id, range % 10 AS customer, range::DECIMAL(18, 2) AS amount "
        "FROM range(1000)",
        "CREATE SCHEMA crm",
        "CREATE TABLE crm.customers AS SELECT range AS customer, 'customer ' || range AS name FROM range(10)",
        "CREATE TABLE uncached AS SELECT 1 AS x",
    )
    connection = db.connect("shop", source.url)
    instance.add_dynamic_partitions("runtimedb/shop", [table.ref.partition_key for table in db.tables("shop")])
    shop = Shop(source, db, build_asset(connection, db.settings), instance)
    shop.refresh("main.orders", "crm.customers")
    return shop


@pytest.fixture
def replace_and_sweep(shop: Shop, inside: Inside) -> Callable[[], set[str]]:
    """Publish other orders, and sweep: what is then in the storage without being pointed at is held by a lease."""

    def replaced() -> set[str]:
        shop.source.run("INSERT INTO orders VALUES (-1, 0, 0)")
        shop.refresh("main.orders")
        shop.db.sweep()
        return inside.files() - inside.live()

    return replaced


def leases(db: RuntimeDB) -> int:
    """How many leases are open."""
    with db.engine.catalog._database.read() as tx:
        return int(tx.execute(select(func.count()).select_from(schema.leases)).scalar_one())

"""Dependencies on single tables."""

# No `from __future__ import annotations`: Dagster reads the annotations of the assets.

import dagster as dg
import pyarrow as pa
import pytest

from runtimedb_dagster import TableRef, table_deps, table_input, tables_changed
from runtimedb_dagster.dagster.names import partitions_def
from runtimedb_dagster.domain.errors import ConfigurationError, RequestError, TableNotFoundError
from runtimedb_dagster_tests.dagster.conftest import UPSTREAM, Shop

MISSING = dg.AutomationCondition.any_deps_missing()


def keys_of(mapping: dg.PartitionMapping | None) -> list[str]:
    assert isinstance(mapping, dg.SpecificPartitionsPartitionMapping)
    return list(mapping.partition_keys)


def test_they_name_the_partitions_of_the_tables() -> None:
    tables = [("main", "orders"), ("a.b", "größe, €")]
    expected = [TableRef("shop", *table).partition_key for table in tables]
    (dep,) = table_deps("shop", tables)
    given = table_input("shop", tables)
    assert (dep.asset_key, keys_of(dep.partition_mapping)) == (UPSTREAM, expected)
    assert (given.key, keys_of(given.partition_mapping)) == (UPSTREAM, expected)
    assert given.input_manager_key == "runtimedb_io_manager"


def test_the_prefix_is_that_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIMEDB_ASSET_PREFIX", "lake")
    assert table_deps("shop", [("main", "orders")])[0].asset_key == dg.AssetKey(["lake", "shop"])
    assert table_input("shop", [("main", "orders")], prefix="runtimedb").key == UPSTREAM
    with pytest.raises(ConfigurationError):
        table_deps("shop", [("main", "orders")], prefix="a/b")


def test_no_table_is_refused() -> None:
    with pytest.raises(RequestError, match="'shop': name at least one table"):
        table_deps("shop", [])
    with pytest.raises(RequestError, match="'shop': name at least one table"):
        table_input("shop", [])


def evaluated(
    shop: Shop, asset: dg.AssetsDefinition, before: dg.EvaluateAutomationConditionsResult | None = None
) -> dg.EvaluateAutomationConditionsResult:
    return dg.evaluate_automation_conditions(
        shop.definitions(asset), shop.instance, cursor=before.cursor if before else None
    )


def test_an_unpartitioned_asset_depends_on_these_tables_alone(shop: Shop) -> None:
    @dg.asset(deps=table_deps("shop", [("main", "orders")]), automation_condition=tables_changed())
    def report() -> None: ...

    ticks = [evaluated(shop, report)]
    # Another table changes; then this one is refreshed and unchanged; then it has changed; then nothing happens.
    shop.source.run("INSERT INTO crm.customers VALUES (10, 'new')")
    shop.refresh("crm.customers")
    ticks.append(evaluated(shop, report, ticks[-1]))
    shop.refresh("main.orders")
    ticks.append(evaluated(shop, report, ticks[-1]))
    shop.source.run("INSERT INTO orders VALUES (-1, 0, 0)")
    shop.refresh("main.orders")
    ticks.append(evaluated(shop, report, ticks[-1]))
    assert shop.run(report).success
    ticks.append(evaluated(shop, report, ticks[-1]))
    assert [tick.total_requested for tick in ticks] == [0, 0, 0, 1, 0]


def test_two_tables_that_changed_make_one_request(shop: Shop) -> None:
    @dg.asset(
        deps=table_deps("shop", [("main", "orders"), ("crm", "customers")]), automation_condition=tables_changed()
    )
    def report() -> None: ...

    before = evaluated(shop, report)
    shop.source.run("INSERT INTO orders VALUES (-1, 0, 0)", "INSERT INTO crm.customers VALUES (10, 'new')")
    shop.refresh("main.orders", "crm.customers")
    assert evaluated(shop, report, before).total_requested == 1


def test_it_waits_for_a_table_without_a_version(shop: Shop) -> None:
    @dg.asset(
        deps=table_deps("shop", [("main", "orders"), ("main", "uncached")]), automation_condition=tables_changed()
    )
    def report() -> None: ...

    before = evaluated(shop, report)
    shop.source.run("INSERT INTO orders VALUES (-1, 0, 0)")
    shop.refresh("main.orders")
    waiting = evaluated(shop, report, before)
    shop.refresh("main.uncached")
    complete = evaluated(shop, report, waiting)
    assert (waiting.total_requested, complete.total_requested) == (0, 1)


def test_each_partition_of_a_downstream_asset_depends_on_them(shop: Shop) -> None:
    @dg.asset(
        ins={"orders": table_input("shop", [("main", "orders")])},
        partitions_def=dg.StaticPartitionsDefinition(["0", "1"]),
        automation_condition=tables_changed(),
    )
    def report(context: dg.AssetExecutionContext, orders: pa.Table) -> int:
        customers: list[int] = orders["customer"].to_pylist()
        return customers.count(int(context.partition_key))

    before = evaluated(shop, report)
    shop.source.run("INSERT INTO orders VALUES (-1, 1, 0)")
    shop.refresh("main.orders")
    changed = evaluated(shop, report, before)
    assert changed.get_requested_partitions(report.key) == {"0", "1"}
    job = shop.definitions(report).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=shop.instance, asset_selection=[report.key], partition_key="1")
    assert result.output_for_node("report") == 101


@pytest.mark.parametrize(("table", "missing"), [("orders", 0), ("uncached", 1), ("not_there_yet", 1)])
def test_a_partition_that_is_not_there_yet(shop: Shop, table: str, missing: int) -> None:
    """It counts as missing, whether it is discovered or not even that, and breaks nothing."""

    @dg.asset(deps=table_deps("shop", [("main", table)]), automation_condition=MISSING)
    def report() -> None: ...

    assert evaluated(shop, report).total_requested == missing
    assert shop.run(report).success


def test_an_input_that_is_not_there_yet_is_refused_by_name_and_then_loaded(shop: Shop) -> None:
    @dg.asset(ins={"items": table_input("shop", [("main", "items")])})
    def count(items: pa.Table) -> int:
        return int(items.num_rows)

    with pytest.raises(TableNotFoundError, match=r"shop\.main\.items"):
        shop.run(count)
    shop.source.run("CREATE TABLE items AS FROM range(3)")
    shop.db.discover("shop")
    shop.instance.add_dynamic_partitions(str(partitions_def(shop.db.settings, "shop").name), ["main.items"])
    shop.refresh("main.items")
    assert shop.run(count).output_for_node("count") == 3


def test_two_inputs_of_one_connection_are_refused_by_dagster() -> None:
    """Why `table_input` takes several tables."""

    def both(orders: pa.Table, customers: pa.Table) -> None: ...

    ins = {
        "orders": table_input("shop", [("main", "orders")]),
        "customers": table_input("shop", [("crm", "customers")]),
    }
    with pytest.raises(KeyError, match=r"orders|customers"):
        dg.asset(ins=ins)(both)

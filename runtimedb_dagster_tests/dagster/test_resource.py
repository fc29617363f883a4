"""RuntimeDB as a resource."""

import dagster as dg
import pytest

from runtimedb_dagster import RuntimeDB, RuntimeDBResource, Settings, table_deps
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster.domain.errors import ConfigurationError, TableNotCachedError
from runtimedb_dagster_tests.dagster.conftest import Shop

URL = "postgresql://someone:a-secret@db.example/catalog"


def test_what_is_not_given_comes_from_the_environment(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert RuntimeDBResource().settings() == settings
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    given = RuntimeDBResource(home=str(elsewhere), storage_url=f"file://{elsewhere}/versions").settings()
    assert given == Settings(home=elsewhere, storage_url=f"file://{elsewhere}/versions")
    assert given.grace_period == settings.grace_period


def test_it_is_the_database_that_the_definitions_use(db: RuntimeDB) -> None:
    build_definitions()
    assert RuntimeDBResource().runtimedb() is db


def test_a_wrong_value_is_named() -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        RuntimeDBResource(storage_url="nowhere://x").runtimedb()


def test_a_password_is_not_shown() -> None:
    resource = RuntimeDBResource(catalog_url=URL)
    assert resource.settings().catalog_url == URL
    assert "a-secret" not in repr(resource) + str(resource)
    # What the UI goes by.
    fields = resource.get_resource_definition().config_schema.config_type.fields  # type: ignore[union-attr]
    assert fields["catalog_url"].is_secret


def test_a_value_may_come_from_a_variable_at_run_time(
    shop: Shop, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = []

    @dg.asset
    def where(runtimedb: RuntimeDBResource) -> None:
        homes.append(runtimedb.settings().home)

    monkeypatch.setenv("ANOTHER_VARIABLE", str(settings.home))
    assert shop.run(where, runtimedb=RuntimeDBResource(home=dg.EnvVar("ANOTHER_VARIABLE"))).success
    assert homes == [settings.home]


def test_an_asset_joins_two_tables_of_one_snapshot(shop: Shop) -> None:
    @dg.asset(deps=table_deps("shop", [("main", "orders"), ("crm", "customers")]))
    def revenue(runtimedb: RuntimeDBResource) -> list[str]:
        with runtimedb.query() as query:
            shop.source.run("DELETE FROM orders")
            shop.refresh("main.orders")
            rows = query.sql(
                "SELECT name, sum(amount) FROM shop.main.orders JOIN shop.crm.customers USING (customer) "
                "GROUP BY ALL ORDER BY ALL LIMIT 1"
            ).fetchall()
        return [f"{name}: {amount}" for name, amount in rows]

    assert shop.run(revenue).output_for_node("revenue") == ["customer 0: 49500.00"]


def test_a_missing_table_is_named_or_fetched(shop: Shop) -> None:
    select = "SELECT x FROM shop.main.uncached"
    with RuntimeDBResource().query() as query, pytest.raises(TableNotCachedError, match=r"main\.uncached"):
        query.sql(select)
    with RuntimeDBResource().query(fetch_missing=True) as query:
        assert query.sql(select).fetchall() == [(1,)]

"""What a user does in the UI, done over GraphQL against a real webserver and daemon."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import pytest

from runtimedb_dagster_tests.support.deployment import (
    BIN,
    Deployment,
    environment,
    eventually,
    free_port,
    listening,
    new_instance,
    process,
    webserver,
)
from runtimedb_dagster_tests.support.parts import ENDLESS

KEYS = ["main.customers", "main.midnight", "main.orders", "sales.daily"]


@pytest.fixture(scope="module")
def shop(deployment: Deployment) -> Path:
    """A connection `shop` of four tables, one of which can't be refreshed; partitions come by the sensor."""
    path = deployment.directory / "shop.duckdb"
    with duckdb.connect(str(path)) as duck:
        duck.execute("CREATE TABLE orders AS SELECT i AS id, i % 10 AS customer FROM range(1000) t(i)")
        duck.execute("CREATE TABLE customers (id INTEGER NOT NULL, name VARCHAR)")
        duck.execute("INSERT INTO customers SELECT i, 'customer ' || i FROM range(10) t(i)")
        duck.execute("CREATE TABLE midnight AS SELECT TIME '24:00:00' AS closes")
        duck.execute(
            "CREATE SCHEMA sales; CREATE VIEW sales.daily AS SELECT customer, count(*) n FROM orders GROUP BY 1"
        )
    connected = deployment.runtimedb(
        "connect",
        "shop",
        f"duckdb://{path}",
        "--option",
        "discovery_interval=5",
        "--webserver",
        deployment.url,
    )
    assert connected.returncode == 0, connected.stderr
    eventually(lambda: deployment.partitions("shop") == KEYS)
    return path


def change(path: Path, statement: str) -> None:
    """Change the source, as soon as no discovery has it open."""

    def done() -> bool:
        try:
            with duckdb.connect(str(path)) as duck:
                duck.execute(statement)
        except duckdb.IOException:
            return False
        return True

    eventually(done)


def rows(deployment: Deployment, sql: str) -> Any:
    """A query's rows, by the command line."""
    answer = deployment.runtimedb("query", sql, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def metadata(run: dict[str, Any], partition: str) -> dict[str, dict[str, Any]]:
    """The metadata of a partition's materialization, by label."""
    (event,) = [event for event in run["assetMaterializations"] if event["partition"] == partition]
    return {entry["label"]: entry for entry in event["metadataEntries"]}


def test_one_partition(deployment: Deployment, shop: Path) -> None:
    run = deployment.materialize("shop", {"dagster/partition": "main.customers"})
    assert run["status"] == "SUCCESS"
    told = metadata(run, "main.customers")
    assert told["dagster/partition_row_count"]["intValue"] == 10
    columns = told["dagster/column_schema"]["schema"]["columns"]
    assert [(column["name"], column["type"], column["constraints"]["nullable"]) for column in columns] == [
        ("id", "INTEGER", False),
        ("name", "VARCHAR", True),
    ]
    assert Path(told["dagster/uri"]["text"].removeprefix("file://")).is_file()
    assert told["bytes"]["intValue"] > 0
    assert told["schema changes"]["text"] == "none"
    assert rows(deployment, "SELECT name FROM shop.main.customers WHERE id = 3") == [{"name": "customer 3"}]


def test_a_partly_failing_range_materializes_the_siblings(deployment: Deployment, shop: Path) -> None:
    run = deployment.materialize(
        "shop",
        {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]},
    )
    assert run["status"] == "FAILURE"
    assert {event["partition"] for event in run["assetMaterializations"]} == set(KEYS) - {"main.midnight"}
    assert deployment.partition_statuses("shop") == {"numMaterialized": 3, "numFailed": 1, "numPartitions": 4}
    assert rows(deployment, "SELECT count(*) AS n FROM shop.main.orders") == [{"n": 1000}]


def test_a_run_that_is_terminated_leaves_the_old_version(deployment: Deployment) -> None:
    path, storage = deployment.directory / "slow.duckdb", deployment.directory / ".runtimedb" / "storage"
    change(path, "CREATE VIEW slow AS SELECT 1 AS i, 2 AS h")
    connected = deployment.runtimedb("connect", "slow", f"duckdb://{path}", "--webserver", deployment.url)
    assert connected.returncode == 0, connected.stderr
    eventually(lambda: deployment.partitions("slow") == ["main.slow"])
    partition = {"dagster/partition": "main.slow"}
    assert deployment.materialize("slow", partition)["status"] == "SUCCESS"
    change(path, f"DROP VIEW slow; CREATE VIEW slow AS {ENDLESS}")

    run = deployment.launch("slow", partition)
    eventually(lambda: any(file.stat().st_size for file in storage.rglob("*.partial")))
    deployment.terminate(run)

    assert deployment.finished(run)["status"] == "CANCELED"
    assert rows(deployment, "SELECT * FROM slow.main.slow") == [{"i": 1, "h": 2}]
    eventually(lambda: not list(storage.rglob("*.partial")))
    assert deployment.runtimedb("verify").returncode == 0
    assert deployment.runtimedb("remove", "slow", "--yes").returncode == 0


def test_a_range_is_one_run(deployment: Deployment, shop: Path) -> None:
    run = deployment.materialize(
        "shop",
        {
            "dagster/asset_partition_range_start": "main.orders",
            "dagster/asset_partition_range_end": "sales.daily",
        },
    )
    assert run["status"] == "SUCCESS"
    assert {event["partition"] for event in run["assetMaterializations"]} == {"main.orders", "sales.daily"}


def test_all_by_a_backfill(deployment: Deployment, shop: Path) -> None:
    change(shop, "INSERT INTO orders VALUES (1000, 0)")
    deployment.backfill("shop", KEYS)
    assert rows(deployment, "SELECT count(*) AS n FROM shop.main.orders") == [{"n": 1001}]
    assert deployment.partition_statuses("shop")["numFailed"] == 1


def test_an_unchanged_table_keeps_its_data_version(deployment: Deployment, shop: Path) -> None:
    def version_after_run() -> tuple[Any, Any]:
        run = deployment.materialize("shop", {"dagster/partition": "main.customers"})
        told = metadata(run, "main.customers")
        return told["version"]["text"], told["changed"]["boolValue"]

    first, _ = version_after_run()
    assert version_after_run() == (first, False)
    change(shop, "INSERT INTO customers VALUES (10, 'new')")
    second, changed = version_after_run()
    assert second != first
    assert changed is True


def test_the_sensor_adds_and_deletes_partitions(deployment: Deployment, shop: Path) -> None:
    change(shop, 'CREATE TABLE "a,b...c" AS SELECT 1 AS one')
    eventually(lambda: "main.a%2Cb%2E%2E%2Ec" in deployment.partitions("shop"))
    run = deployment.materialize("shop", {"dagster/partition": "main.a%2Cb%2E%2E%2Ec"})
    assert run["status"] == "SUCCESS"
    assert rows(deployment, 'SELECT * FROM shop.main."a,b...c"') == [{"one": 1}]
    change(shop, 'DROP TABLE "a,b...c"')
    eventually(lambda: deployment.partitions("shop") == KEYS)
    # A tick is recorded after what it did.
    eventually(
        lambda: any(
            "1 deleted" in (tick["skipReason"] or "") for tick in deployment.ticks("sensor", "runtimedb_shop_discovery")
        )
    )


def test_the_sweep_runs_when_a_file_is_due_and_skips_otherwise(deployment: Deployment, shop: Path) -> None:
    run = deployment.materialize("shop", {"dagster/partition": "main.orders"})
    replaced = Path(metadata(run, "main.orders")["dagster/uri"]["text"].removeprefix("file://"))
    change(shop, "DELETE FROM orders WHERE id = 7")
    deployment.materialize("shop", {"dagster/partition": "main.orders"})
    eventually(lambda: not replaced.exists())
    assert any(tick["runIds"] for tick in deployment.ticks("schedule", "runtimedb_deletion_sweep"))
    eventually(lambda: deployment.ticks("schedule", "runtimedb_deletion_sweep")[0]["status"] == "SKIPPED")
    assert deployment.ticks("schedule", "runtimedb_deletion_sweep")[0]["skipReason"] == "No file is due for deletion"
    verified = deployment.runtimedb("verify")
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize(("kind", "reloads"), [(("api", "grpc"), False), (("code-server", "start"), True)])
def test_connect_tells_whether_a_code_server_reloads(tmp_path: Path, kind: tuple[str, str], reloads: bool) -> None:
    new_instance(tmp_path)
    source, port = tmp_path / "shop.duckdb", free_port()
    duckdb.connect(str(source)).execute("CREATE TABLE t AS SELECT 1 AS one").close()
    (tmp_path / "server.yaml").write_text(
        f"load_from: [{{grpc_server: {{host: 127.0.0.1, port: {port}, location_name: runtimedb}}}}]"
    )
    variables = environment(tmp_path)
    command = (
        str(BIN / "dagster"),
        *kind,
        "-m",
        "runtimedb_dagster.definitions",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    )
    with ExitStack() as stack:
        stack.enter_context(process(tmp_path, variables, *command))
        eventually(lambda: listening(port))
        deployment = stack.enter_context(webserver(tmp_path, variables, "server.yaml"))
        connected = deployment.runtimedb("connect", "shop", f"duckdb://{source}", "--webserver", deployment.url)
        assert (connected.returncode == 0) is reloads, connected.stderr
        assert "Connected 'shop': 1 table discovered" in connected.stdout
        assert ("dagster api grpc" in connected.stderr) is not reloads


def test_200_tables_of_which_3_fail_and_the_second_try(deployment: Deployment) -> None:
    path = deployment.directory / "big.duckdb"
    bad = {7, 77, 177}
    with duckdb.connect(str(path)) as duck:
        for number in range(200):
            time = "TIME '24:00:00'" if number in bad else "TIME '12:00:00'"
            duck.execute(f"CREATE TABLE t{number:03} AS SELECT {number} AS id, {time} AS closes")
    deployment.runtimedb("connect", "big", f"duckdb://{path}", "--webserver", deployment.url)
    eventually(lambda: len(deployment.partitions("big")) == 200)
    keys = deployment.partitions("big")
    run = deployment.materialize(
        "big", {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    )
    assert run["status"] == "FAILURE"
    assert deployment.partition_statuses("big") == {"numMaterialized": 197, "numFailed": 3, "numPartitions": 200}
    assert failures(deployment, "big") == {
        f'big.main.t{number:03}: column "closes" (TIME): the time 24:00:00 has no place in Parquet, '
        "whose days end before it; "
        "leave it out with exclude_columns, or cast it in a view on the source"
        for number in bad
    }
    change(path, "; ".join(f"UPDATE t{number:03} SET closes = TIME '13:00:00'" for number in bad))
    deployment.backfill("big", [f"main.t{number:03}" for number in sorted(bad)])
    assert deployment.partition_statuses("big") == {"numMaterialized": 200, "numFailed": 0, "numPartitions": 200}


def failures(deployment: Deployment, connection: str) -> set[str]:
    """The messages of a connection's tables that failed, as the events of its asset's partitions have them."""
    query = """query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
        assetObservations(limit: 100) { partition metadataEntries { label ... on TextMetadataEntry { text } } } } } }"""
    asset = deployment.ask(query, key={"path": ["runtimedb", connection]})["assetOrError"]
    entries = [entry for event in asset["assetObservations"] for entry in event["metadataEntries"]]
    return {entry["text"] for entry in entries if entry["label"] == "error"}

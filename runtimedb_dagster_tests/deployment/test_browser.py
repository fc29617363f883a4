"""What a user does and sees in the UI, by clicks in a real browser; what it shows is compared with what happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from runtimedb_dagster_tests.support.browser import RUN_TIMEOUT, Browser, DagsterPage, chromium, expect
from runtimedb_dagster_tests.support.deployment import Deployment, eventually

ROWS = {"main.artists": 12, "main.paintings": 250, "main.visits": 1000}
KEYS = ["main.artists", "main.closing", "main.paintings", "main.visits"]
SENSOR = "runtimedb_museum_discovery"
MESSAGE = 'museum.main.closing: column "at" (TIME): '


@pytest.fixture(scope="module")
def museum(deployment: Deployment) -> Iterator[None]:
    """A connection `museum` of three tables and one that can't be refreshed; removed at the end."""
    path = deployment.directory / "museum.duckdb"
    with duckdb.connect(str(path)) as duck:
        for key, rows in ROWS.items():
            duck.execute(f"CREATE TABLE {key} AS SELECT i AS id, 'number ' || i AS title FROM range({rows}) t(i)")
        duck.execute("CREATE TABLE closing AS SELECT TIME '24:00:00' AS at")
    connected = deployment.runtimedb(
        "connect",
        "museum",
        f"duckdb://{path}",
        "--option",
        "discovery_interval=5",
        "--webserver",
        deployment.url,
    )
    assert connected.returncode == 0, connected.stderr
    eventually(lambda: deployment.partitions("museum") == KEYS)
    yield
    removed = deployment.runtimedb("remove", "museum")
    assert removed.returncode == 0, removed.stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def ui(deployment: Deployment, museum: None, browser: Browser, pictures: Path) -> Iterator[DagsterPage]:
    """A new tab, with no memory of the ones before."""
    with browser.new_context(viewport={"width": 1400, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        yield DagsterPage(page, deployment.url, pictures)


def materialized_by(deployment: Deployment) -> dict[str, str]:
    """The latest run that materialized each partition."""
    query = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        assetMaterializations { partition runId } } } }"""
    node = deployment.ask(query, key={"path": ["runtimedb", "museum"]})["assetNodeOrError"]
    return {event["partition"]: event["runId"] for event in reversed(node["assetMaterializations"])}


def count(deployment: Deployment, key: str) -> int:
    """A table's rows, read by the command line."""
    answer = deployment.runtimedb("query", f"SELECT count(*) AS n FROM museum.{key}", "--json")
    assert answer.returncode == 0, answer.stderr
    return int(json.loads(answer.stdout)[0]["n"])


def instigation_status(deployment: Deployment, name: str) -> str:
    """Whether Dagster runs a sensor or a schedule."""
    query = """query ($selector: InstigationSelector!) { instigationStateOrError(instigationSelector: $selector) {
        ... on InstigationState { status } } }"""
    selector = {"repositoryLocationName": "runtimedb", "repositoryName": "__repository__", "name": name}
    return str(deployment.ask(query, selector=selector)["instigationStateOrError"]["status"])


def result(deployment: Deployment, run_id: str) -> Any:
    """What a job's run has told."""
    query = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { stepStats { expectationResults {
        metadataEntries { ... on JsonMetadataEntry { jsonString } } } } } } }"""
    steps = deployment.ask(query, id=run_id)["runOrError"]["stepStats"]
    (told,) = [result for step in steps for result in step["expectationResults"]]
    return json.loads(told["metadataEntries"][0]["jsonString"])


def shown_materialized(ui: DagsterPage, key: str) -> None:
    """Assert that a partition is shown as materialized, with its number of rows."""
    ui.choose(key)
    expect(ui.page.get_by_text("Materialized", exact=True)).to_be_visible()
    expect(ui.metadata("table")).to_have_text(f"museum.{key}")
    expect(ui.metadata("dagster/partition_row_count")).to_have_text(str(ROWS[key]))


def test_one_partition_is_materialized_by_clicks(deployment: Deployment, ui: DagsterPage) -> None:
    before = deployment.partition_statuses("museum")["numMaterialized"]
    assert "main.artists" not in materialized_by(deployment)
    ui.open_partitions("museum")
    ui.counted("Materialized", before)
    ui.materialize("main.artists", button="Launch 1 run")
    ui.counted("Materialized", before + 1)
    shown_materialized(ui, "main.artists")
    assert deployment.partition_statuses("museum")["numMaterialized"] == before + 1
    assert set(materialized_by(deployment)) >= {"main.artists"}
    assert count(deployment, "main.artists") == ROWS["main.artists"]


def test_a_selection_is_materialized_by_one_run(deployment: Deployment, ui: DagsterPage) -> None:
    chosen = ["main.paintings", "main.visits"]
    before = deployment.partition_statuses("museum")["numMaterialized"]
    assert not set(chosen) & set(materialized_by(deployment))
    ui.open_partitions("museum")
    ui.materialize(*chosen, button="Launch backfill")
    ui.counted("Materialized", before + 2)
    for key in chosen:
        shown_materialized(ui, key)
        assert count(deployment, key) == ROWS[key]
    ui.picture("partitions")
    runs = materialized_by(deployment)
    assert runs["main.paintings"] == runs["main.visits"]
    assert deployment.finished(runs["main.visits"])["status"] == "SUCCESS"


def test_a_failed_table_is_red_and_its_run_says_why(deployment: Deployment, ui: DagsterPage) -> None:
    ui.open_partitions("museum")
    ui.counted("Failed", 0)
    ui.materialize("main.closing", button="Launch 1 run")
    ui.counted("Failed", 1)
    ui.choose("main.closing")
    told = ui.page.get_by_text("failed, and did not materialize this asset.")
    expect(told).to_be_visible()
    ui.picture("failed_partition")
    told.get_by_role("link").click()
    run_id = ui.run_id()
    expect(ui.page.get_by_text("RUN_FAILURE", exact=True)).to_be_in_viewport()
    expect(ui.page.get_by_text(MESSAGE).last).to_be_in_viewport()
    ui.picture("run")
    run = deployment.finished(run_id)
    assert run["status"] == "FAILURE"
    assert {"key": "dagster/partition", "value": "main.closing"} in run["tags"]
    assert deployment.partition_statuses("museum")["numFailed"] == 1
    assert "main.closing" not in materialized_by(deployment)


def test_the_launchpad_explains_the_config_and_launches(deployment: Deployment, ui: DagsterPage) -> None:
    ui.open_launchpad("runtimedb_refresh")
    expect(ui.page.get_by_text("include_uncached: true")).to_be_visible()
    ui.write_config("ops:\n  runtimedb_refresh:\n    config:\n      connection: museum\n      ")
    for told in ("A connection's name or id. Empty: every connection.", "False discovers tables and columns"):
        expect(ui.page.get_by_role("code").filter(has_text=told)).to_be_visible()
    expect(ui.page.get_by_text("No errors", exact=True)).to_be_visible()
    launch = ui.page.get_by_role("button", name="Launch Run")
    expect(launch).to_be_enabled()
    ui.picture("launchpad")
    launch.click()
    run_id = ui.run_id()
    expect(ui.page.get_by_text("Success", exact=True)).to_be_visible(timeout=RUN_TIMEOUT)
    ui.picture("refresh_run")
    assert deployment.finished(run_id)["status"] == "SUCCESS"
    assert result(deployment, run_id)["tables_discovered"] == len(KEYS)


def test_the_sensor_shows_what_its_ticks_discovered(deployment: Deployment, ui: DagsterPage) -> None:
    ui.open(f"/locations/runtimedb/sensors/{SENSOR}")
    expect(ui.running()).to_be_checked()
    expect(ui.page.get_by_role("row", name="Latest tick")).to_contain_text("requested")
    ui.picture("sensor")
    tick = ui.tick()
    expect(tick).to_contain_text("4 tables discovered, 0 modified")
    ui.picture("sensor_tick")
    assert instigation_status(deployment, SENSOR) == "RUNNING"
    shown = tick.inner_text()
    assert any(each["skipReason"] and each["skipReason"] in shown for each in deployment.ticks("sensor", SENSOR))


def test_the_schedule_of_the_sweep_shows_its_ticks(deployment: Deployment, ui: DagsterPage) -> None:
    ticks = eventually(
        lambda: [t for t in deployment.ticks("schedule", "runtimedb_deletion_sweep") if t["status"] != "STARTED"]
    )
    assert {tick["status"] for tick in ticks} <= {"SKIPPED", "SUCCESS"}
    assert instigation_status(deployment, "runtimedb_deletion_sweep") == "RUNNING"
    ui.open("/locations/runtimedb/schedules/runtimedb_deletion_sweep")
    expect(ui.running()).to_be_checked()
    expect(ui.page.get_by_role("row", name="Latest tick")).to_contain_text("requested")
    expect(ui.page.get_by_role("button", name="View logs").first).to_be_visible()
    ui.picture("schedule")

"""The jobs, launched over GraphQL by the lines of docs/graphql.md and by the command line."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster_graphql import DagsterGraphQLClient

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.dagster.jobs.refresh import refresh_config
from runtimedb_dagster.definitions import build_definitions
from runtimedb_dagster_tests.support.deployment import ROOT, Deployment, eventually
from runtimedb_dagster_tests.support.parts import SourceFile

SECTION = (ROOT / "docs" / "graphql.md").read_text(encoding="utf-8")
SHELL, RESULT = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
(PYTHON,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture(scope="module", autouse=True)
def source(deployment: Deployment) -> Path:
    """A file where the page has the demo's, with tables of the same names."""
    path = deployment.directory / ".runtimedb" / "demo" / "flights.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as duck:
        duck.execute("CREATE TABLE flights AS SELECT i FROM range(100) t(i); CREATE TABLE weather AS SELECT 1 AS w")
        duck.execute("CREATE SCHEMA reference; CREATE VIEW reference.fleet AS SELECT 2 AS f")
    return path


def shell(deployment: Deployment, line: str) -> Any:
    """What a line of the page prints, after the functions that it defines."""
    functions = SHELL.partition("\nlaunch connect")[0] + "\n" + RESULT
    done = subprocess.run(
        ["bash", "-c", f"{functions}\n{line}"],
        env=deployment.environment | {"DAGSTER_URL": deployment.url},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert "errors" not in answer, answer
    return answer["data"]


def ended(deployment: Deployment, run_id: str) -> tuple[str, Any]:
    """A run's status and result, by the page's own query."""
    deployment.finished(run_id)
    run = shell(deployment, f"result {run_id}")["runOrError"]
    results = [each for step in run["stepStats"] for each in step["expectationResults"]]
    return run["status"], json.loads(results[0]["metadataEntries"][0]["jsonString"]) if results else None


def check_results_of_the_page(results: list[Any]) -> None:
    """What the page's eleven lines give, in either language; other modules' connections count too."""
    connected, everything, one, table, chosen, cached, whole, purged_one, purged, removed, swept = results
    assert connected["tables"] == 3
    assert everything["connections_refreshed"] >= 1
    assert everything["tables_discovered"] >= 3
    assert one["connections_refreshed"] == 1
    assert one["tables_discovered"] == 3
    assert table.items() >= {"schema_name": "main", "table_name": "weather", "rows_synced": 1}.items()
    assert chosen.items() >= {"tables_refreshed": 2, "total_rows": 101}.items()
    assert cached["tables_refreshed"] == 3
    assert whole.items() >= {"tables_refreshed": 3, "tables_failed": 0, "errors": []}.items()
    assert purged_one["tables_purged"] == 1
    assert purged["tables_purged"] == 2
    assert removed["tables_removed"] == 3
    assert swept["files_deleted"] >= 0


def test_the_shell_lines_of_the_page(deployment: Deployment) -> None:
    lines = [line for line in SHELL.splitlines() if line.startswith("launch ")]
    results = []
    for line in lines:
        launched = shell(deployment, line)["launchRun"]
        status, result = ended(deployment, launched["run"]["runId"])
        assert status == "SUCCESS", line
        results.append(result)
    check_results_of_the_page(results)


def client_of(deployment: Deployment) -> tuple[dict[str, Any], list[str]]:
    """The names that the page's Python defines, and its lines that launch."""
    names: dict[str, Any] = {}
    launches = []
    for statement in ast.parse(PYTHON.replace("port_number=3000", f"port_number={deployment.port}")).body:
        if isinstance(statement, ast.Expr):
            launches.append(ast.unparse(statement))
        else:
            exec(ast.unparse(statement), names)  # noqa: S102 - the page's own line
    assert isinstance(names["client"], DagsterGraphQLClient)
    return names, launches


def test_the_python_lines_of_the_page(deployment: Deployment) -> None:
    names, launches = client_of(deployment)
    results = []
    for line in launches:
        run_id = eval(line, names)  # noqa: S307 - the page's own line
        status, result = ended(deployment, run_id)
        assert status == "SUCCESS", line
        results.append(result)
    check_results_of_the_page(results)


def test_a_wrong_request_by_dagsters_client(deployment: Deployment) -> None:
    names, _ = client_of(deployment)
    run_id = names["launch"]("refresh", data=True)
    assert ended(deployment, run_id) == ("FAILURE", None)
    assert "data refresh requires connection_id" in why_it_failed(deployment, run_id)


@pytest.fixture
def shop(deployment: Deployment, source: Path) -> Any:
    """A connection of the page's source, removed at the end."""
    deployment.runtimedb("connect", "errands", f"duckdb://{source}")
    yield "errands"
    deployment.runtimedb("remove", "errands")


def launch(deployment: Deployment, config: dict[str, Any]) -> tuple[str, Any, str]:
    """A run of the refresh job: its status, its result, and why it failed."""
    line = f"launch refresh '{json.dumps({'config': config})}'"
    run_id = shell(deployment, line)["launchRun"]["run"]["runId"]
    status, result = ended(deployment, run_id)
    return status, result, why_it_failed(deployment, run_id)


def why_it_failed(deployment: Deployment, run_id: str) -> str:
    """The messages of a run's failed steps."""
    query = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
        ... on ExecutionStepFailureEvent { error { message } } } } } }"""
    events = deployment.ask(query, id=run_id)["logsForRun"]["events"]
    return "".join(event["error"]["message"] for event in events if event.get("error"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"schema_name": "main"}, "schema_name requires connection_id"),
        ({"connection": "errands", "table_name": "t"}, "table_name requires schema_name"),
        ({"data": True}, "data refresh requires connection_id"),
        (
            {"connection": "errands", "schema_name": "main"},
            "schema-level refresh not supported; omit schema_name to refresh entire connection",
        ),
        (
            {"connection": "errands", "schema_name": "main", "data": True},
            "data refresh with schema_name requires table_name",
        ),
        (
            {"connection": "errands", "schema_name": "main", "table_name": "weather"},
            "schema refresh cannot target specific table; use data: true for table data refresh",
        ),
        ({"connection": "x"}, "Connection 'x' not found"),
        (
            {"connection": "errands", "schema_name": "main", "table_name": "nope", "data": True},
            "Table 'errands.main.nope' not found",
        ),
        (
            {"connection": "errands", "data": True, "partition_keys": ["main.nope"]},
            "Table 'errands.main.nope' not found",
        ),
    ],
)
def test_a_request_without_meaning_fails_before_any_work(
    db: RuntimeDB, settings: Settings, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    source = SourceFile(tmp_path / "errands.duckdb")
    source.run("CREATE TABLE weather AS SELECT 1 AS x")
    db.connect("errands", source.url)
    job = build_definitions(settings).resolve_job_def("runtimedb_refresh")
    result = job.execute_in_process(run_config=refresh_config(settings, config), raise_on_error=False)
    (failure,) = [each for each in result.all_events if each.is_step_failure]
    assert message in str(failure.step_failure_data.error_display_string)
    assert [each for each in result.all_events if each.is_step_success or each.is_asset_observation] == []
    assert [table.cached for table in db.tables("errands")] == [False]


def test_why_a_run_failed_is_in_its_log(deployment: Deployment, shop: str) -> None:
    status, result, error = launch(deployment, {"connection": "x"})
    assert (status, result) == ("FAILURE", None)
    assert "Connection 'x' not found" in error


def test_a_connections_own_schedule_refreshes_its_cached_tables(deployment: Deployment, shop: str) -> None:
    assert deployment.runtimedb("refresh", shop, "main", "weather", "--data").returncode == 0
    configured = deployment.runtimedb(
        "configure", shop, "--option", "refresh_cron=* * * * *", "--webserver", deployment.url
    )
    assert configured.stdout == "Options of 'errands': refresh_cron=* * * * *\n", configured.stderr
    run_ids = eventually(
        lambda: [i for t in deployment.ticks("schedule", "runtimedb_errands_refresh") for i in t["runIds"]]
    )
    status, result = ended(deployment, run_ids[0])
    assert status == "SUCCESS"
    assert result.items() >= {"tables_refreshed": 1, "total_rows": 1}.items()
    deployment.runtimedb("configure", shop, "--unset", "refresh_cron", "--webserver", deployment.url)


def test_the_command_line_launches_and_prints_the_same_result(deployment: Deployment, shop: str) -> None:
    some = ["--data", "--key", "main.weather", "--key", "reference.fleet"]
    # From then on nothing changes.
    deployment.runtimedb("refresh", shop, "--data")
    for arguments in ([], ["main", "weather", "--data"], ["--data", "--only-cached"], some, ["--data"]):
        local = deployment.runtimedb("refresh", shop, *arguments, "--json")
        remote = deployment.runtimedb("refresh", shop, *arguments, "--json", "--webserver", deployment.url)
        assert remote.returncode == 0, remote.stderr
        without_times = [json.loads(each.stdout) | {"duration_ms": 0} for each in (local, remote)]
        assert without_times[0] == without_times[1]
    wrong = deployment.runtimedb("refresh", shop, "main", "nope", "--data", "--webserver", deployment.url)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("Error: Table 'errands.main.nope' not found")

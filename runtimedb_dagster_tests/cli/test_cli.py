"""The command line, as it is installed: what it prints, where, and with which exit status."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimedb_dagster import RuntimeDB, __version__
from runtimedb_dagster_tests.support.command import COMMAND, Ran
from runtimedb_dagster_tests.support.parts import ENDLESS, Inside, SourceFile, current, path_of, refresh_all, the_table

Run = Callable[..., Ran]


def fails(ran: Ran, message: str, status: int = 1) -> None:
    """It failed with exactly one line, which says this."""
    assert ran.status == status
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_a_first_table_is_queryable_in_three_commands(run: Run, make_source: Callable[..., SourceFile]) -> None:
    source = make_source("shop", "CREATE TABLE orders AS SELECT 42 AS id, 'Ada' AS customer")

    connected = run("connect", "shop", source.url)
    assert (connected.status, connected.err) == (0, "")
    assert "Connected 'shop': 1 table discovered, none cached yet" in connected.out
    assert "runtimedb refresh shop --data" in connected.out

    refreshed = run("refresh", "shop", "--data")
    assert (refreshed.status, refreshed.err) == (0, "")
    assert "tables_refreshed: 1" in refreshed.out

    queried = run("query", "SELECT * FROM shop.main.orders")
    assert (queried.status, queried.err) == (0, "")
    header, *_, last = queried.out.strip().splitlines()
    assert header.split() == ["id", "customer"]
    assert last.split() == ["42", "Ada"]


def test_connecting_prints_the_connection_as_json(run: Run, make_source: Callable[..., SourceFile]) -> None:
    source = make_source("shop", "CREATE TABLE orders AS SELECT 42 AS id")
    ran = run("connect", "shop", source.url, "--option", "discovery_interval=30", "--json")
    assert ran.status == 0
    assert (ran.json["name"], ran.json["tables"], ran.json["options"]) == (
        "shop",
        1,
        {"discovery_interval": "30"},
    )


@pytest.mark.usefixtures("shop")
def test_listings_as_text_and_as_json(db: RuntimeDB, run: Run) -> None:
    refresh_all(db)
    db.purge("shop", "main", "orders")
    connection = db.connections()[0]

    (listed,) = run("connections", "--json").json
    assert (listed["id"], listed["name"], listed["url"]) == (connection.id, "shop", connection.url)
    assert connection.url in run("connections").out

    customers, orders = run("tables", "shop", "--json").json
    assert customers["partition_key"] == "main.customers"
    assert customers["version"]["rows"] == 10
    assert orders["version"] is None
    lines = {line.split()[0]: line for line in run("tables").out.splitlines() if "shop." in line}
    assert set(lines) == {"shop.main.customers", "shop.main.orders"}
    assert "not cached" in lines["shop.main.orders"]
    assert " 10 " in lines["shop.main.customers"]


@pytest.mark.usefixtures("shop")
def test_refreshing_as_json(db: RuntimeDB, run: Run) -> None:
    connection = db.connections()[0].id

    assert run("refresh", "--json").json == {
        "connections_refreshed": 1,
        "connections_failed": 0,
        "tables_discovered": 2,
        "tables_added": 0,
        "tables_removed": 0,
        "tables_modified": 0,
    }
    one = run("refresh", "shop", "main", "orders", "--data", "--json").json
    assert (one["connection_id"], one["table_name"], one["rows_synced"]) == (connection, "orders", 100)
    cached = run("refresh", "shop", "--data", "--only-cached", "--json").json
    assert (cached["tables_refreshed"], cached["total_rows"], cached["errors"]) == (1, 100, [])
    assert not the_table(db, "customers").cached


def test_how_a_table_was_read_as_json(db: RuntimeDB, run: Run, shop: SourceFile) -> None:
    told = {"rows_inserted": None, "rows_updated": None, "rows_deleted": None}
    for facts in (
        {"mode": "full", "reason": "it has no version yet", "rows_read": 100},
        {"mode": "unchanged", "rows_read": 0},
        {"mode": "full", "reason": "that was asked for", "rows_read": 100},
    ):
        arguments = ["--full"] if "asked" in str(facts.get("reason")) else []
        one = run("refresh", "shop", "main", "orders", "--data", *arguments, "--json").json
        assert one.items() >= (facts | told).items()
        assert ("reason" in one) == ("reason" in facts)
    whole = run("refresh", "shop", "--data", "--json").json
    assert (whole["tables_unchanged"], whole["rows_read"]) == (1, 10)
    listed = {table["table_name"]: table for table in run("tables", "shop", "--json").json}
    assert listed["orders"]["refreshed"]["mode"] == "unchanged"
    assert listed["orders"]["version"]["trusts"] is None
    assert "position" not in listed["orders"]["version"]
    shop.run("DELETE FROM orders WHERE id < 10")
    assert run("refresh", "shop", "main", "orders", "--data", "--json").json["reason"] == "the source was written since"
    assert current(db, "orders").rows == 90


def test_auditing_a_source(db: RuntimeDB, run: Run, shop: SourceFile) -> None:
    refresh_all(db)
    ran = run("verify", "--source", "shop")
    assert (ran.status, ran.out) == (0, "shop.main.customers: same\nshop.main.orders: same\n")
    shop.run("UPDATE orders SET amount = 0")
    (one,) = run("verify", "--source", "shop", "main", "orders", "--json").json
    assert one["result"] == "not compared"
    assert one["message"] == "its next refresh reads it whole: the source was written since"
    shop.run("DROP TABLE orders")
    gone = run("verify", "--source", "shop", "main", "orders")
    assert gone.status == 1
    assert gone.out.startswith("shop.main.orders: failed: shop.main.orders")
    assert run("verify", "main", "orders").err == "Error: verify takes a table with --source only\n"


def test_the_files_of_a_version_and_one_of_them_all(db: RuntimeDB, run: Run, shop: SourceFile, tmp_path: Path) -> None:
    shop.run("SELECT 1")
    refresh_all(db)
    (file,) = run("files", "shop", "main", "orders", "--json").json
    assert (file["rows"], file["deletes"]) == (100, None)
    assert Path(file["location"]).stat().st_size == file["bytes"]
    assert file["location"] in run("files", "shop", "main", "orders").out
    target = tmp_path / "orders.parquet"
    assert run("export", "shop", "main", "orders", str(target), "--json").json == {"file": str(target), "rows": 100}
    again = run("export", "shop", "main", "orders", str(target))
    assert (again.status, again.err) == (1, f"Error: {target} is there already, and nothing is overwritten\n")
    db.purge("shop", "main", "orders")
    assert "has no version yet" in run("files", "shop", "main", "orders").err


@pytest.mark.usefixtures("shop")
def test_some_tables_by_their_keys(db: RuntimeDB, run: Run) -> None:
    some = run("refresh", "shop", "--data", "--key", "main.orders", "--json").json
    assert (some["tables_refreshed"], some["total_rows"]) == (1, 100)
    assert not the_table(db, "customers").cached
    fails(run("refresh", "shop", "--data", "--key", "main.nope"), "Table 'shop.main.nope' not found")


def test_a_refresh_with_a_failed_table_says_which_and_fails(db: RuntimeDB, shop: SourceFile, run: Run) -> None:
    shop.run("DROP TABLE orders")
    failed = run("refresh", "shop", "--data", "--json")
    assert failed.status == 1
    assert (failed.json["tables_refreshed"], failed.json["tables_failed"]) == (1, 1)
    assert failed.json["errors"][0]["table_name"] == "orders"
    as_text = run("refresh", "shop", "--data")
    assert as_text.status == 1
    assert "tables_failed: 1" in as_text.out
    assert len(as_text.err.splitlines()) == 1
    assert "shop.main.orders" in as_text.err
    assert the_table(db, "customers").cached


def test_a_drastic_discovery_needs_to_be_confirmed(shop: SourceFile, run: Run) -> None:
    shop.run("DROP TABLE orders", "DROP TABLE customers", "CREATE TABLE other (i INTEGER)")
    fails(run("refresh", "shop"), "--confirm")
    assert run("refresh", "shop", "--confirm", "--json").json["tables_removed"] == 2


@pytest.mark.usefixtures("shop")
def test_querying_as_json(db: RuntimeDB, run: Run) -> None:
    fails(run("query", "SELECT 1 FROM shop.main.orders"), "runtimedb refresh shop main orders --data")
    query = "SELECT id, NULL AS n, DATE '2024-02-29' AS d, 1.5::DECIMAL(9,2) AS x, '日本' AS t FROM shop.main.orders"
    fetched = run("query", f"{query} LIMIT 1", "--fetch-missing", "--json")
    assert (fetched.status, fetched.err) == (0, "")
    assert fetched.json == [{"id": 0, "n": None, "d": "2024-02-29", "x": "1.50", "t": "日本"}]
    assert the_table(db, "orders").cached


@pytest.mark.usefixtures("shop")
def test_rows_are_printed_whole_into_a_pipe(db: RuntimeDB, run: Run) -> None:
    assert db.tables()
    printed = run("query", "SELECT repeat('x', 500) AS long, '[bold]b' AS markup, NULL AS nothing").out
    assert "x" * 500 in printed
    assert "[bold]b" in printed
    assert "NULL" in printed


def test_sweeping_and_verifying(db: RuntimeDB, shop: SourceFile, inside: Inside, run: Run) -> None:
    refresh_all(db)
    old = path_of(current(db, "orders"))
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    refresh_all(db)

    assert "All is well" in run("verify").out
    assert run("sweep", "--json").json == {"files_deleted": 1, "files_failed": 0}
    assert old not in inside.files()

    inside.place.put("orphan", b"")
    found = run("verify", "--json")
    assert found.status == 1
    assert [(each["invariant"], each["subject"]) for each in found.json] == [("I2", "orphan")]
    assert "I2 orphan" in run("verify").out


def test_verifying_in_depth(db: RuntimeDB, shop: SourceFile, inside: Inside, run: Run) -> None:
    refresh_all(db)
    assert "All is well" in run("verify", "--deep").out
    orders = Path(inside.storage.location(path_of(current(db, "orders"))))
    content = orders.read_bytes()
    orders.write_bytes(content[:40] + b"\xff" * 20 + content[60:])
    assert run("verify").status == 0
    found = run("verify", "--deep", "--json")
    assert found.status == 1
    assert [(each["invariant"], each["subject"]) for each in found.json] == [("I1", "shop.main.orders")]


@pytest.mark.usefixtures("shop")
def test_a_sweep_that_fails_says_so(db: RuntimeDB, inside: Inside, run: Run) -> None:
    inside.schedule("/etc/x", db.tables()[0].discovered_at)
    ran = run("sweep", "--json")
    assert ran.status == 1
    assert ran.json["files_failed"] == 1


def test_moving_a_catalog(db: RuntimeDB, shop: SourceFile, run: Run, tmp_path: Path) -> None:
    refresh_all(db)
    target = {"RUNTIMEDB_CATALOG_URL": f"sqlite:///{tmp_path}/new.db"}
    old = db.settings.catalog_url
    assert run("migrate", "--from", old, "--json", **target).json["copied"]["versions"] == 2
    assert run("query", "SELECT count(*) AS n FROM shop.main.orders", "--json", **target).json == [{"n": 100}]
    fails(run("migrate", "--from", old, **target), "This catalog was moved to")
    assert "up to date" in run("migrate").out


@pytest.mark.usefixtures("shop")
def test_options_are_set_and_taken_back(db: RuntimeDB, run: Run) -> None:
    before = db.connection("shop").given
    done = run("configure", "shop", "--option", "max_age=3600", "--option", "materialize_new=true", "--json")
    assert done.json["options"] == {**before, "max_age": "3600", "materialize_new": "true"}
    assert run("configure", "shop", "--unset", "max_age", "--unset", "materialize_new").status == 0
    assert db.connection("shop").given == before
    fails(run("configure", "shop", "--option", "max_age=soon"), "The option max_age is wrong")
    fails(run("configure", "shop", "--option", "colour=red"), "The option 'colour' is unknown to 'duckdb'")
    fails(run("configure", "shop", "--unset", "max_ago"), "there is no option 'max_ago' to take back")


def test_checking(shop: SourceFile, run: Run) -> None:
    healthy = run("check", "shop", "--json")
    assert (healthy.status, healthy.json["healthy"]) == (0, True)
    shop.path.unlink()
    sick = run("check", "shop", "--json")
    assert (sick.status, sick.json["healthy"]) == (1, False)
    assert "no such file" in sick.json["error"]


@pytest.mark.usefixtures("shop")
def test_purging_and_removing(db: RuntimeDB, run: Run) -> None:
    refresh_all(db)
    assert run("purge", "shop", "main", "orders", "--yes", "--json").json["tables_purged"] == 1
    assert run("purge", "shop", "--yes", "--json").json["tables_purged"] == 1
    assert not any(table.cached for table in db.tables())
    fails(run("purge", "shop", "main", "--yes"), "schema_name and table_name")
    assert run("remove", "shop", "--yes", "--json").json["tables_removed"] == 2
    assert db.connections() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refresh", "shop", "main", "nothing", "--data"], "Table 'shop.main.nothing' not found"),
        (["refresh", "shop", "main"], "schema-level refresh not supported"),
        (["connect", "shop", "duckdb:///x"], "'shop' exists"),
        (["connect", "other", "duckdb:///x", "--option", "nonsense"], "KEY=VALUE"),
        (["query", "COPY (SELECT 1) TO 'x.csv'"], "exactly one SELECT"),
        (["query", "SELECT 1/[1]"], "query failed"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_an_error_is_one_line(run: Run, arguments: list[str], message: str) -> None:
    fails(run(*arguments), message)


def test_a_misspelt_command_is_a_usage_error(run: Run) -> None:
    ran = run("refrsh")
    assert ran.status == 2
    assert ran.out == ""
    assert "refrsh" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.usefixtures("shop")
def test_only_debug_shows_a_traceback(run: Run) -> None:
    ran = run("--debug", "refresh", "nothing")
    assert ran.status == 1
    assert "Traceback" in ran.err
    assert "ConnectionNotFoundError" in ran.err


@pytest.mark.parametrize("arguments", [["connections"], ["verify"]])
def test_without_a_home_it_says_so_and_makes_none(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    fails(run(*arguments), f"There is no RuntimeDB at {tmp_path / 'home'}")
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("shop")
def test_the_home_may_be_an_argument(run: Run, tmp_path: Path) -> None:
    assert [each["name"] for each in run("--home", tmp_path / "home", "connections", "--json", home=None).json] == [
        "shop"
    ]


def test_a_wrong_setting_is_one_line(run: Run) -> None:
    fails(run("connections", RUNTIMEDB_GRACE_PERIOD="a while"), "Setting 'grace_period' is wrong")


def test_the_version(run: Run) -> None:
    assert __version__ in run("--version").out


def test_every_command_has_help(run: Run) -> None:
    shown = run("--help").out
    commands = [
        "check",
        "connect",
        "connections",
        "purge",
        "query",
        "refresh",
        "remove",
        "sweep",
        "tables",
        "verify",
    ]
    listed = shown.partition("Commands:")[2].split()
    assert [command for command in commands if command not in listed] == []


# On a terminal


def on_a_terminal(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command with a terminal for its errors only: status, output, what the terminal shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *arguments],
        env={**os.environ, "RUNTIMEDB_HOME": str(tmp_path / "home"), "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := _read(ours):
            shown += chunk
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(ours)
    return process.returncode, out, shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed
        return b""


def test_a_terminal_shows_progress_and_a_pipe_does_not(shop: SourceFile, run: Run, tmp_path: Path) -> None:
    shop.run(f"CREATE VIEW many AS SELECT * FROM ({ENDLESS.replace('20000000000', '3000000')})")
    status, out, shown = on_a_terminal(tmp_path, "refresh", "shop", "--data")
    assert status == 0
    assert "tables_refreshed: 2" in out
    assert "2/2 tables" in shown
    assert "rows/s" in shown

    piped = run("refresh", "shop", "--data")
    assert (piped.status, piped.err) == (0, "")


def test_a_table_is_one_word_or_three(db: RuntimeDB, run: Run, shop: SourceFile, tmp_path: Path) -> None:
    shop.run('CREATE TABLE "odd.""name" AS SELECT 1 AS i')
    db.discover("shop")
    assert run("refresh", "shop.main.orders", "--data", "--json").json["rows_synced"] == 100
    assert run("refresh", 'shop.main."odd.""name"', "--data", "--json").json["table_name"] == 'odd."name'
    assert run("files", "shop.main.orders", "--json").json == run("files", "shop", "main", "orders", "--json").json
    assert run("export", "shop.main.orders", str(tmp_path / "x.parquet")).status == 0
    assert run("verify", "--source", "shop.main.orders").out == "shop.main.orders: same\n"
    assert run("purge", "shop.main.orders", "--yes").status == 0
    assert not next(table for table in db.tables() if table.table_name == "orders").cached
    for wrong in (("shop.main",), ("shop.main.orders", "main"), ("shop..orders",)):
        said = run("refresh", *wrong, "--data")
        assert (said.status, "is no table's address" in said.err) == (1, True)
    assert "is no table's address" in run("files", "shop", "main").err

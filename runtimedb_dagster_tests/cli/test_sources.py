"""The README's two commands against a server, with a table of mixed types."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtimedb_dagster_tests.support.command import Ran, run_command
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import PASSWORD

MIXED = {
    "pg": "CREATE TABLE mixed (id bigint PRIMARY KEY, price numeric(10,2), wide numeric, at timestamptz, day date, "
    "tags text[], data jsonb, raw bytea, took interval, note text)",
    "maria": "CREATE TABLE mixed (id bigint PRIMARY KEY, price decimal(10,2), wide decimal(65,20), at timestamp(6), "
    "day date, tags set('a','b'), data json, raw blob, took time(6), note text)",
}
ROW = {
    "pg": "(1, 1.10, 1e50, '2024-01-01 00:00:00.000001+00', '0044-03-15', '{a,b}', '{\"a\": 1}', '\\x00ff', "
    "'-01:00', '日本😀')",
    "maria": "(1, 1.10, 12345678901234567890123456789012345678901234.5, '2024-01-01 00:00:00.000001', '0044-03-15', "
    "'a,b', '{\"a\": 1}', x'00ff', '-838:59:59', '日本😀')",
}

READ = {
    "pg": ("1" + "0" * 50, "-01:00:00"),
    "maria": ("12345678901234567890123456789012345678901234.5" + "0" * 19, "-838:59:59.000000"),
}


def runtimedb(home: Path, *arguments: str) -> Ran:
    """Run the command; its password is in the environment."""
    return run_command(*arguments, env={"RUNTIMEDB_HOME": str(home), PASSWORD_ENV: PASSWORD})


@pytest.mark.parametrize("source", ["pg", "maria"])
def test_connect_and_refresh(request: pytest.FixtureRequest, source: str, tmp_path: Path) -> None:
    remote: Remote = request.getfixturevalue(source)
    if source == "maria":
        remote.run("SET time_zone = '+00:00'")
    remote.run(MIXED[source], f"INSERT INTO mixed VALUES {ROW[source]}, (2{', NULL' * 9})")
    home, url = tmp_path / "cli", remote.server.url(remote.database)

    connected = runtimedb(home, "connect", "shop", url, "--password-env", PASSWORD_ENV)
    assert (connected.status, connected.err) == (0, "")
    refreshed = runtimedb(home, "refresh", "shop", "--data", "--json")
    assert (refreshed.status, refreshed.err) == (0, "")
    assert refreshed.json["total_rows"] == 2

    schema = "public" if source == "pg" else remote.database
    read = runtimedb(
        home, "query", f"SELECT price, wide, day, took, note FROM shop.{schema}.mixed WHERE id = 1", "--json"
    )
    (row,) = read.json
    assert row["price"] == "1.10"
    assert row["day"] == "0044-03-15"
    assert row["note"] == "日本😀"
    assert (row["wide"], row["took"]) == READ[source]
    assert PASSWORD not in connected.out + refreshed.out + read.out
    assert runtimedb(home, "check", "shop", "--json").status == 0
    assert runtimedb(home, "verify").status == 0

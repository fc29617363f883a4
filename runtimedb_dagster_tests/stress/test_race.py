"""Refreshes by changes against whatever can happen between two of them; `make race` goes on for as long as told."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster_tests.support.following import Follower
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV
from runtimedb_dagster_tests.support.servers import PASSWORD, Server


@pytest.fixture
def database(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"machine_{os.urandom(4).hex()}"
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    postgres_server.run(None, f"CREATE DATABASE {name}")
    yield name
    postgres_server.run(None, f"DROP DATABASE {name} WITH (FORCE)")


# More of them by hand: each takes four seconds.
EXAMPLES = int(os.environ.get("EXAMPLES", "3"))
KEYS = st.integers(1, 60)
DDL = st.sampled_from(
    [
        "ALTER TABLE t ADD COLUMN c int DEFAULT 7", "ALTER TABLE t DROP COLUMN IF EXISTS c",
        "ALTER TABLE t ALTER v SET NOT NULL", "ALTER TABLE t ALTER v DROP NOT NULL",
        "ALTER TABLE t ALTER v TYPE varchar", "ALTER TABLE t ALTER v TYPE text",
        "COMMENT ON COLUMN t.v IS 'a'", "COMMENT ON COLUMN t.v IS NULL",
        "TRUNCATE t", "VACUUM FULL t", "VACUUM FREEZE t", "CLUSTER t USING t_pkey",
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "ALTER TABLE t ADD PRIMARY KEY (k)", "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
        "ALTER TYPE mood RENAME VALUE 'fine' TO 'ok'", "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'new'",
        "CREATE TABLE u (LIKE t INCLUDING ALL); INSERT INTO u SELECT * FROM t; DROP TABLE t; ALTER TABLE u RENAME TO t",
        "ALTER TABLE t SET UNLOGGED", "ALTER TABLE t SET LOGGED", "ANALYZE t",
        "UPDATE t SET v = v || 'x'", "DELETE FROM t WHERE k % 3 = 0",
    ]
)  # fmt: skip


class Source(RuleBasedStateMachine):
    """A table that suffers DDL, and transactions of which two are open at a time; refreshed now and then."""

    server: Server
    database: str
    directory: Path

    def __init__(self) -> None:
        super().__init__()
        self.home = self.directory / os.urandom(4).hex()
        self.run("DROP TABLE IF EXISTS t", "DROP TYPE IF EXISTS mood", "CREATE TYPE mood AS ENUM ('sad', 'ok')")
        self.run("CREATE TABLE t (k int PRIMARY KEY, v text, m mood)")
        self.run("INSERT INTO t SELECT i, 'v', 'ok' FROM generate_series(1, 40) i")
        self.db = RuntimeDB(Settings(home=self.home, fold_below=0, grace_period=0, threads=2))
        self.db.connect("pg", self.server.url(self.database), password_env=PASSWORD_ENV)
        self.follower = Follower(self.db, "pg", self.directory)
        self.open: list[Any] = []

    def run(self, *statements: str) -> None:
        self.server.run(self.database, "SET lock_timeout = '50ms'", *statements)

    def execute(self, connection: Any, statement: str) -> None:
        """A statement that may come at the wrong time."""
        try:
            with connection.cursor() as cursor:
                cursor.execute("SAVEPOINT one; SET LOCAL lock_timeout = '50ms'")
                cursor.execute(statement)
        except Exception:  # noqa: BLE001 - a lock, a key that is there, a label that is not
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK TO one")

    @precondition(lambda self: len(self.open) < 2)
    @rule()
    def begin(self) -> None:
        self.open.append(self.server.begin(self.database))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1), key=KEYS, what=st.sampled_from(["insert", "update", "delete", "move", "lock"]))
    def write(self, which: int, key: int, what: str) -> None:
        statement = {
            "insert": f"INSERT INTO t (k, v) VALUES ({key}, 'new') ON CONFLICT (k) DO UPDATE SET v = 'newer'",
            "update": f"UPDATE t SET v = v || 'u' WHERE k = {key}",
            "delete": f"DELETE FROM t WHERE k = {key}",
            "move": f"UPDATE t SET k = k + 1000 WHERE k = {key}",
            "lock": f"SELECT FROM t WHERE k = {key} FOR UPDATE",
        }[what]
        self.execute(self.open[which % len(self.open)], statement)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 1), how=st.sampled_from(["COMMIT", "ROLLBACK"]))
    def end(self, which: int, how: str) -> None:
        connection = self.open.pop(which % len(self.open))
        with connection.cursor() as cursor:
            cursor.execute(how)
        connection.close()

    @rule(statements=DDL)
    def alter(self, statements: str) -> None:
        with suppress(Exception):  # as in `execute`
            self.run(*statements.split("; "))
        self.server.run(self.database, "DROP TABLE IF EXISTS u")

    @rule()
    def refresh(self) -> None:
        # Compares with a full read of the same snapshot.
        self.follower.refresh("t")

    @rule()
    def survey(self) -> None:
        self.follower.survey()

    @rule()
    def sweep(self) -> None:
        self.db.sweep()

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.db.verify(deep=True) == []

    def teardown(self) -> None:
        for connection in self.open:
            connection.close()
        self.follower.refresh("t")
        self.db.close()


def test_a_table_that_suffers_everything(postgres_server: Server, database: str, tmp_path: Path) -> None:
    machine = type("Machine", (Source,), {"server": postgres_server, "database": database, "directory": tmp_path})
    settings = hypothesis.settings(
        max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    run_state_machine_as_test(machine, settings=settings)


def test_a_short_race() -> None:
    """Some seconds of `make race`, on a server of its own."""
    seed = random.randrange(1 << 32)  # noqa: S311 - no secrets
    command = [sys.executable, "-W", "ignore", "-m", "runtimedb_dagster_tests.stress.race", "--seconds", "10"]
    ended = subprocess.run([*command, "--seed", str(seed)], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " 0 wrong, 0 findings of verify" in ended.stdout

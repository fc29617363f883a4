"""Failpoints: what the variable may say, and that nothing happens while it says nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import duckdb
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.common import failpoints
from runtimedb_dagster.domain.errors import ConfigurationError, RefreshError
from runtimedb_dagster_tests.support.parts import SourceFile, output_of, refresh_one

Arm = Callable[[str], None]


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Arm]:
    """Order faults, until the test ends."""

    def arm(text: str) -> None:
        monkeypatch.setenv(failpoints.VARIABLE, text)
        failpoints.arm()

    yield arm
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    failpoints.arm()


def test_a_fault_comes_at_its_turn_and_once(arm: Arm) -> None:
    arm("after_close=raise:2, before_commit=raise")
    failpoints.hit("after_close")
    with pytest.raises(OSError, match="failpoint after_close"):
        failpoints.hit("after_close")
    failpoints.hit("after_close")
    with pytest.raises(OSError, match="failpoint before_commit"):
        failpoints.hit("before_commit")


def test_a_lost_answer_is_the_callers_own_error(arm: Arm) -> None:
    arm("after_commit=drop")
    with pytest.raises(KeyError):
        failpoints.hit("after_commit", KeyError)


def test_a_kill_may_come_while_the_process_goes_on() -> None:
    program = """if True:
        import os, signal, sys, threading
        from runtimedb_dagster.common import failpoints
        killed = threading.Event()
        os.kill = lambda pid, number: (print(pid == os.getpid(), number == signal.SIGKILL), killed.set())
        os.environ[failpoints.VARIABLE] = "after_close=kill@0.01"
        failpoints.arm()
        failpoints.hit("after_close")
        print("goes on")
        killed.wait(30)
    """
    assert sorted(output_of(program).splitlines()) == ["True True", "goes on"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("after_close", "'after_close' is not a fault; write point=action"),
        ("after_close=raise:0", "is not a fault"),
        ("after_close=delay@x", "is not a fault"),
        ("after_lunch=raise", "there is no point 'after_lunch'; there are after_reserve, "),
        ("after_close=explode", "after_close takes no 'explode'; it takes kill, raise, delay"),
        ("after_close=drop", "after_close takes no 'drop'"),
    ],
)
def test_what_is_not_a_fault_is_refused(arm: Arm, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        arm(f"after_reserve=raise,{text}")
    failpoints.hit("after_reserve")


def test_a_database_is_not_opened_with_a_wrong_one(make_db: Callable[..., RuntimeDB], arm: Arm) -> None:
    with pytest.raises(ConfigurationError, match="RUNTIMEDB_FAILPOINTS"):
        arm("nonsense")
    with pytest.raises(ConfigurationError, match="RUNTIMEDB_FAILPOINTS"):
        make_db()


@pytest.mark.usefixtures("shop")
def test_nothing_happens_and_nothing_is_counted_unless_it_is_ordered(db: RuntimeDB) -> None:
    refresh_one(db, "orders")
    assert not failpoints._armed.passed
    with duckdb.connect() as duck:
        assert failpoints.passed_by_rows("after_first_rows", duck, "SELECT 1") == "SELECT 1"


def test_rows_pass_a_point(db: RuntimeDB, shop: SourceFile, arm: Arm) -> None:
    arm("after_first_rows=raise")
    with pytest.raises(RefreshError, match=r"shop\.main\.orders: .*failpoint after_first_rows"):
        refresh_one(db, "orders")
    assert refresh_one(db, "orders").rows_synced == 100

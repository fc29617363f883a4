"""The cursor: what is exact of it, what is trusted, and what can't be one. On PostgreSQL and on MariaDB."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runtimedb_dagster import RefreshError
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.engine import narrowing
from runtimedb_dagster_tests.support.following import Follower
from runtimedb_dagster_tests.support.remote import Remote

TIMES = "id INT PRIMARY KEY, v VARCHAR(20), at TIMESTAMP NULL"
ROWS = "INSERT INTO t VALUES (1, 'a', '2024-01-01 00:00:00'), (2, 'b', '2024-01-02 00:00:00'), (3, 'n', NULL)"


@pytest.fixture(params=["pg", "maria"])
def remote(request: pytest.FixtureRequest) -> Remote:
    """A database on either server."""
    found: Remote = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def follow(remote: Remote, tmp_path: Path) -> Callable[..., Follower]:
    """Make tables, connect with a cursor, and refresh `t`."""

    def begin(*statements: str, cursor: str = "t.at", **options: str) -> Follower:
        remote.run(*(statements or (f"CREATE TABLE t ({TIMES})", ROWS)))
        remote.connect(changes="cursor", cursor=cursor, **options)
        follower = Follower(remote.db, remote.name, tmp_path)
        follower.refresh("t")
        return follower

    return begin


def test_inserts_updates_deletes_and_rows_without_a_cursor(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    assert follower.version("t").trusts is None, "it was read whole"
    remote.run("INSERT INTO t VALUES (4, 'd', '2024-01-03 00:00:00')")
    facts = follower.refresh("t")
    # The last one's ties, and rows without a cursor, come again.
    assert (facts.mode, facts.rows_read, facts.rows_inserted, facts.rows_updated) == ("changes", 3, 1, 0)
    assert follower.version("t").trusts == "the cursor at"
    remote.run("UPDATE t SET v = 'x', at = '2024-01-04 00:00:00' WHERE id = 1", "UPDATE t SET v = 'm' WHERE id = 3")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_updated, facts.rows_deleted) == ("changes", 2, 0)
    remote.run("DELETE FROM t WHERE id IN (2, 3)")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_deleted) == ("changes", 2)


def test_what_commits_late_is_found_within_the_lookback(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(lookback="PT12H")
    remote.run("INSERT INTO t VALUES (4, 'late', '2024-01-01 13:00:00')")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_inserted) == ("changes", 1)


def test_more_rows_than_the_cursor_knows_of_are_no_success(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    remote.run("INSERT INTO t VALUES (4, 'too late', '2023-01-01 00:00:00')")
    facts = follower.refresh("t")
    assert facts.mode == "full"
    assert facts.reason == "the source has 4 rows, of which only 3 are known by what changed"


@pytest.mark.parametrize("type_", ["BIGINT", "NUMERIC(20, 0)", "DATE"])
def test_cursors_without_a_key(remote: Remote, follow: Callable[..., Follower], type_: str) -> None:
    values = ["'2024-01-01'", "'2024-01-02'", "'2024-01-03'"] if type_ == "DATE" else ["1", "2", "30000000000"]
    follower = follow(
        f"CREATE TABLE t (v VARCHAR(20), s {type_})",
        f"INSERT INTO t VALUES ('a', {values[0]}), ('b', {values[1]}), ('b', {values[1]})", cursor="*.s",
    )  # fmt: skip
    assert follower.refresh("t").mode == "changes"
    remote.run(f"INSERT INTO t VALUES ('c', {values[1]}), ('d', {values[2]})")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_read, facts.rows_inserted) == ("changes", 4, 2)
    remote.run("DELETE FROM t WHERE v = 'd'")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_deleted) == ("changes", 1), "within the range"
    remote.run("DELETE FROM t WHERE v = 'a'")
    assert follower.refresh("t").reason == "rows of it were deleted, and it has no key to tell which"


def test_a_row_that_came_unseen_where_another_went_is_noticed(
    remote: Remote, follow: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys are read: counts by their ranges would be right."""
    for name, value in {"FEWEST_ROWS": 0, "ROWS_PER_RANGE": 1, "MOST_DIFFERENT": 1}.items():
        monkeypatch.setattr(narrowing, name, value)
    monkeypatch.setattr(narrowing, "MOST_GONE", 100)
    remote.run(f"CREATE TABLE t ({TIMES})", ROWS)
    follower = follow("INSERT INTO t VALUES (20, 'c', '2024-01-01 00:00:00'), (40, 'd', '2024-01-03 00:00:00')")
    remote.run("DELETE FROM t WHERE id IN (1, 20)", "INSERT INTO t VALUES (5, 'unseen', '2023-01-03 00:00:00')")
    assert follower.refresh("t").mode == "full"


def test_rows_that_are_only_added(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(append="true")
    remote.run("INSERT INTO t VALUES (4, 'd', '2024-01-03 00:00:00')")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_read, facts.rows_inserted) == ("changes", 3, 1)
    assert follower.version("t").trusts == "the cursor at, and that rows are only added"


def test_what_the_cursor_does_not_tell_is_found_by_the_whole(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    remote.run("INSERT INTO t VALUES (4, 'd', '2024-01-03 00:00:00')")
    follower.refresh("t")
    remote.run("UPDATE t SET v = 'hidden' WHERE id = 1")
    with pytest.raises(AssertionError):
        follower.refresh("t")
    remote.db.configure(remote.name, options={"full_every": "1"})
    audited_at = follower.table("t").audited_at
    assert audited_at is not None
    while utc_now() < audited_at + timedelta(seconds=1):
        threading.Event().wait(0.05)
    facts = follower.refresh("t")
    assert facts.mode == "full"
    assert facts.drift == "4 rows there, 4 here; different are 1"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"cursor": "t.f"}, r'column "f" can\'t be its cursor: it is double'),
        ({"cursor": "t.v"}, r'column "v" can\'t be its cursor: it is .*char'),
        ({"cursor": "t.at,t.id"}, r'the option cursor names several of its columns, "id", "at"; name one'),
        ({"cursor": "t.at", "mask": "t.at:null"}, r'column "at" can\'t be its cursor: it is masked by null'),
    ],
)
def test_what_can_t_be_a_cursor(remote: Remote, tmp_path: Path, options: dict[str, str], error: str) -> None:
    remote.run(f"CREATE TABLE t ({TIMES}, f DOUBLE PRECISION)")
    remote.connect(changes="cursor", **options)
    with pytest.raises(RefreshError, match=error):
        Follower(remote.db, remote.name, tmp_path).refresh("t")
    assert not remote.table("t").cached


def test_a_cursor_ahead_of_the_clock(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    remote.run("INSERT INTO t VALUES (4, 'future', '2037-01-01 00:00:00')")
    with pytest.raises(RefreshError, match="in the future of the source's clock; correct it there"):
        follower.refresh("t")
    assert follower.version("t").rows == 3


def test_a_key_that_is_none(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow("CREATE TABLE t (id INT, s BIGINT)", "INSERT INTO t VALUES (1, 1)", cursor="t.s", key="t.id")
    before = follower.version("t")
    remote.run("INSERT INTO t VALUES (2, 2), (2, 3)")
    with pytest.raises(RefreshError, match=r'"id" is no key of it: 2 is there more than once; nothing was published'):
        follower.refresh("t")
    assert follower.version("t").id == before.id


def test_a_table_whose_cursor_holds_nothing_is_read_whole(remote: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(f"CREATE TABLE t ({TIMES})", "INSERT INTO t VALUES (1, 'a', NULL)")
    assert follower.refresh("t").reason == "the source has not said how to tell later what changed"


def test_tables_without_the_cursor_are_asked_as_they_can_be(pg: Remote, tmp_path: Path) -> None:
    pg.run("CREATE TABLE u (k INT PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    pg.connect(changes="cursor", cursor="t.at")
    follower = Follower(pg.db, "pg", tmp_path)
    follower.refresh("u")
    assert follower.refresh("u").mode == "unchanged"
    assert follower.version("u").trusts is None

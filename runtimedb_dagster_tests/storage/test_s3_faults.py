"""What a store or the network can do to a version: whatever it is, nothing is torn, lost or left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import StorageError
from runtimedb_dagster.storage.s3 import store as s3_store
from runtimedb_dagster_tests.support.faulty import FORBIDDEN, Fault, Faulty, faulty
from runtimedb_dagster_tests.support.parts import SourceFile, long_after, path_of, refresh_all, refresh_one, rows
from runtimedb_dagster_tests.support.s3 import Bucket

LOOK = "GET"  # at the marker, once per request and sweep
PART, COMPLETE, BEGIN = ("PUT", "partNumber"), ("POST", "uploadId"), ("POST", "uploads")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits a minute for a test."""
    monkeypatch.setitem(s3_store.BOUNDS, "read_timeout", 1)
    monkeypatch.setitem(s3_store.BOUNDS, "retries", {"mode": "standard", "total_max_attempts": 3})


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[Faulty]:
    with faulty(bucket.store.endpoint) as running:
        yield running


@pytest.fixture
def db(make_db: Callable[..., RuntimeDB], bucket: Bucket, proxy: Faulty) -> RuntimeDB:
    """A database whose versions are in the store behind the server that fails."""
    return make_db(grace_period=0, storage_url=bucket.url(endpoint=proxy.endpoint))


@pytest.fixture
def changed(db: RuntimeDB, shop: SourceFile) -> SourceFile:
    """Both tables are cached; then `orders` got a row."""
    refresh_all(db)
    shop.run("INSERT INTO orders VALUES (1000, 0.5)")
    return shop


def kept(db: RuntimeDB) -> set[str]:
    return {path_of(table.version) for table in db.tables() if table.version}


def clean(db: RuntimeDB, bucket: Bucket) -> bool:
    """Whether after a sweep past every lease there is exactly what is kept."""
    db.engine.sweeper.sweep(long_after(db.settings))
    return (bucket.keys(), bucket.uploads(), db.pending_deletions(), db.verify()) == (kept(db), set(), [], [])


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("where", [PART, COMPLETE, BEGIN, ("GET", "")], ids=["part", "complete", "begin", "compare"])
@pytest.mark.parametrize("answer", [500, 503, "lost", "stalled"])
def test_a_passing_fault_is_tried_again(
    db: RuntimeDB, proxy: Faulty, bucket: Bucket, where: tuple[str, str], answer: int | str
) -> None:
    proxy.faults.append(Fault(*where, answer, times=1))
    refresh_one(db, "orders")
    assert proxy.faults[0].times == 0
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(101,)]
    assert clean(db, bucket)


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("where", [PART, COMPLETE, BEGIN], ids=["part", "complete", "begin"])
@pytest.mark.parametrize("answer", [500, 403, "lost"])
def test_a_lasting_fault_leaves_the_old_version(
    db: RuntimeDB, proxy: Faulty, bucket: Bucket, where: tuple[str, str], answer: int | str
) -> None:
    before = kept(db)
    proxy.faults.append(Fault(*where, answer))
    with pytest.raises(StorageError, match="can't be written"):
        refresh_one(db, "orders")
    proxy.faults.clear()
    assert kept(db) == before
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]
    assert clean(db, bucket)


@pytest.mark.usefixtures("changed")
def test_a_completion_that_says_200_and_means_an_error(db: RuntimeDB, proxy: Faulty, bucket: Bucket) -> None:
    proxy.faults.append(Fault(*COMPLETE, 200))
    with pytest.raises(StorageError, match="it broke"):
        refresh_one(db, "orders")
    proxy.faults.clear()
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]
    assert clean(db, bucket)


@pytest.mark.usefixtures("changed")
def test_an_answer_without_a_word_is_told_with_what_to_look_at(db: RuntimeDB, proxy: Faulty, bucket: Bucket) -> None:
    proxy.faults.append(Fault(*BEGIN, 301, body=b""))
    with pytest.raises(StorageError, match=r"status 301 and without a word.*is there a proxy"):
        refresh_one(db, "orders")
    proxy.faults.clear()
    assert clean(db, bucket)


@pytest.mark.usefixtures("changed")
def test_a_forbidden_deletion_is_tried_again_and_shown(db: RuntimeDB, proxy: Faulty, bucket: Bucket) -> None:
    refresh_one(db, "orders")
    proxy.faults.append(Fault("DELETE", "", 403, body=FORBIDDEN))
    (error,) = db.sweep().errors
    assert "it is forbidden (the access key needs to" in error["error"]
    (pending,) = db.pending_deletions()
    assert pending.attempts == 1
    assert len(bucket.keys()) == 3
    proxy.faults.clear()
    db.engine.sweeper.sweep(utc_now() + timedelta(hours=2))
    assert clean(db, bucket)


@pytest.mark.usefixtures("changed")
def test_a_sweep_asks_a_store_that_is_away_once(db: RuntimeDB, proxy: Faulty, bucket: Bucket) -> None:
    db.remove("shop")
    proxy.requests.clear()
    proxy.faults.append(Fault("GET", "uploads", "gone"))
    assert db.sweep().files_failed == 2
    assert proxy.requests == [LOOK, *["GET uploads&prefix"] * 3], "the tries of one deletion"
    assert [deletion.attempts for deletion in db.pending_deletions()] == [1, 1]
    proxy.faults.clear()
    db.engine.sweeper.sweep(long_after(db.settings))
    assert bucket.keys() == set()


@pytest.mark.usefixtures("changed")
def test_an_abort_that_fails_is_the_sweeps(db: RuntimeDB, proxy: Faulty, bucket: Bucket) -> None:
    proxy.faults += [Fault(*PART, 403), Fault("DELETE", "uploadId", 403, body=FORBIDDEN)]
    with pytest.raises(StorageError):
        refresh_one(db, "orders")
    assert len(bucket.uploads()) == 1
    assert db.verify() == []
    proxy.faults.clear()
    assert clean(db, bucket)


@pytest.mark.usefixtures("shop")
def test_a_small_table_costs_four_requests(db: RuntimeDB, proxy: Faulty) -> None:
    refresh_one(db, "customers")
    proxy.requests.clear()
    refresh_one(db, "orders")
    assert proxy.requests == [LOOK, "POST uploads", "PUT uploadId", "POST uploadId", "GET"]

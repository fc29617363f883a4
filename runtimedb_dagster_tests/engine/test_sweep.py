"""Sweep: what is due goes, what is crafted or still in use stays, and no row is ever dropped."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.requests import SweepResult
from runtimedb_dagster.storage.paths import MARKER
from runtimedb_dagster_tests.support.parts import Inside, SourceFile, current, path_of, refresh_all, refresh_one, rows
from runtimedb_dagster_tests.support.places import everywhere


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file outside the storage root."""
    path = tmp_path / "precious.parquet"
    path.write_text("precious")
    return path


def pending_attempts(db: RuntimeDB) -> dict[str, int]:
    return {deletion.path: deletion.attempts for deletion in db.pending_deletions()}


CRAFTED = [
    "/etc/x", "{precious}", "../precious.parquet", "..", ".", "a/../../x", "a//b", "*", "", "a/*", "file:///etc/x",
    "file://{precious}", "s3://plain/x", "a/b\\c", "a\n", "{root}", "{root}/x",
]  # fmt: skip


@everywhere
@pytest.mark.usefixtures("shop")
def test_crafted_paths_are_refused_reported_and_kept(db: RuntimeDB, inside: Inside, precious: Path) -> None:
    refresh_all(db)
    files, now = inside.files(), utc_now()
    crafted = {path.format(precious=precious, root=inside.storage.location("x").removesuffix("/x")) for path in CRAFTED}
    for path in crafted:
        inside.schedule(path, now)

    result = db.sweep(now)

    assert (result.files_deleted, result.files_failed) == (0, len(crafted))
    assert {error["path"] for error in result.errors if "not touched" in error["error"]} == crafted
    errors = {error["path"]: error["error"] for error in result.errors}
    assert {each.path: (each.attempts, each.last_error) for each in db.pending_deletions()} == {
        path: (1, errors[path]) for path in crafted
    }
    assert all(each.delete_after > now for each in db.pending_deletions())
    assert precious.read_text() == "precious"
    assert inside.files() == files


@pytest.mark.parametrize("linked", ["file", "directory"])
def test_a_symlink_is_refused_and_its_target_is_untouched(
    db: RuntimeDB, inside: Inside, precious: Path, linked: str
) -> None:
    root = inside.root
    root.mkdir(parents=True, exist_ok=True)
    link = root / ("link" if linked == "directory" else "link.parquet")
    link.symlink_to(precious.parent if linked == "directory" else precious)
    path = "link/precious.parquet" if linked == "directory" else "link.parquet"
    inside.schedule(path, utc_now())

    assert db.sweep().files_failed == 1

    assert link.is_symlink()
    assert precious.read_text() == "precious"
    assert pending_attempts(db) == {path: 1}


@everywhere
@pytest.mark.usefixtures("shop")
def test_the_file_of_a_current_version_is_refused(db: RuntimeDB, inside: Inside) -> None:
    refresh_one(db, "orders")
    path = path_of(current(db, "orders"))
    inside.schedule(path, utc_now())

    result = db.sweep()

    assert (result.files_deleted, result.files_failed) == (0, 1)
    assert "current version" in result.errors[0]["error"]
    assert rows(db, "SELECT count(*) FROM shop.main.orders") == [(100,)]
    assert pending_attempts(db) == {path: 1}


def test_what_a_killed_takeover_left_is_removed(db: RuntimeDB, inside: Inside, shop: SourceFile) -> None:
    refresh_all(db)
    left = inside.root / f"{MARKER}.0123"
    left.touch()
    db.sweep()
    assert not left.exists()
    assert db.verify() == []


def test_a_failed_deletion_backs_off_is_retried_for_ever_and_never_dropped(db: RuntimeDB, inside: Inside) -> None:
    now = utc_now()
    inside.schedule("/etc/x", now)
    pauses = []
    for _ in range(15):
        assert db.sweep(now).files_failed == 1
        (deletion,) = db.pending_deletions()
        pauses.append(deletion.delete_after - now)
        assert db.sweep(deletion.delete_after - timedelta(seconds=1)) == SweepResult()
        now = deletion.delete_after
    assert pauses == sorted(pauses)
    assert pauses[0] == timedelta(seconds=30)
    assert pauses[-1] == pauses[-2] == timedelta(hours=1)
    assert pending_attempts(db) == {"/etc/x": 15}


@everywhere
def test_a_failure_stops_no_other_deletion(db: RuntimeDB, inside: Inside) -> None:
    now = utc_now()
    inside.schedule("/etc/x", now - timedelta(hours=1))
    inside.storage.prepare("c/s/t/t_v1.parquet")
    inside.schedule("c/s/t/t_v1.parquet", now)
    result = db.sweep(now)
    assert (result.files_deleted, result.files_failed) == (1, 1)
    assert inside.files() == set()


def test_a_deletion_that_can_be_done_again_is_done(db: RuntimeDB, inside: Inside) -> None:
    now, path = utc_now(), "c/s/t/t_v1.parquet"
    (inside.root / path).mkdir(parents=True)
    inside.schedule(path, now)
    assert db.sweep(now).files_failed == 1
    (inside.root / path).rmdir()
    assert db.sweep(now + timedelta(minutes=1)).files_deleted == 1
    assert db.pending_deletions() == []


@everywhere
def test_a_file_that_is_already_gone_is_done(db: RuntimeDB, inside: Inside) -> None:
    inside.schedule("c/s/t/t_v1.parquet", utc_now())
    assert db.sweep().files_deleted == 1
    assert db.pending_deletions() == []


@everywhere
def test_what_is_not_due_stays(db: RuntimeDB, inside: Inside) -> None:
    inside.storage.prepare("c/s/t/t_v1.parquet")
    due = utc_now() + timedelta(hours=1)
    inside.schedule("c/s/t/t_v1.parquet", due)
    assert db.engine.deletions_due() == 0
    assert db.sweep() == SweepResult()
    assert inside.catalog.deletions.count_due(due) == 1
    assert db.sweep(due).files_deleted == 1


@everywhere
def test_many_sweeps_at_once_delete_each_file_once(db: RuntimeDB, inside: Inside) -> None:
    now = utc_now()
    for number in range(60):
        path = f"c/s/t/t_v{number}.parquet"
        inside.storage.prepare(path)
        inside.schedule(path, now)

    def sweep(at: datetime) -> int:
        return db.sweep(at).files_deleted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sweep, [now] * 4)) == 60
    assert inside.files() == set()
    assert db.pending_deletions() == []


@everywhere
def test_purge_and_remove_leave_the_files_to_the_sweep(
    db: RuntimeDB, shop: SourceFile, inside: Inside, make_db: Callable[..., RuntimeDB]
) -> None:
    refresh_all(db)
    orders, customers = path_of(current(db, "orders")), path_of(current(db, "customers"))

    assert make_db(grace_period=60).purge("shop", "main", "orders").tables_purged == 1
    assert inside.files() == {orders, customers}
    assert db.sweep() == SweepResult()
    assert db.sweep(utc_now() + timedelta(seconds=61)).files_deleted == 1
    assert inside.files() == {customers}

    assert db.remove("shop").tables_removed == 2
    assert inside.files() == {customers}
    assert db.sweep().files_deleted == 1
    assert inside.files() == set()
    assert db.connections() == []
    assert shop.run("SELECT count(*) FROM orders") == [(100,)]

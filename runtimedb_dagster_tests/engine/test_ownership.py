"""The storage knows its catalog: copies, backups, moved homes, lost mounts and catalogs that were moved."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog.lake import LakeCatalog
from runtimedb_dagster.common import failpoints
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import (
    CatalogMovedError,
    ConfigurationError,
    ForeignStorageError,
    StorageUnavailableError,
)
from runtimedb_dagster.engine.ownership import Owner
from runtimedb_dagster_tests.support.parts import Inside, SourceFile, current, path_of, refresh_all, rows, the_table
from runtimedb_dagster_tests.support.places import everywhere

COUNT = "SELECT count(*) FROM shop.main.orders"


@pytest.fixture
def apart(tmp_path: Path) -> str:
    """A storage beside the home."""
    return f"file://{tmp_path}/store"


@pytest.fixture
def original(make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile], apart: str) -> RuntimeDB:
    """A home with a version, over that storage."""
    db = make_db(storage_url=apart, grace_period=0)
    db.connect("shop", make_source("shop", "CREATE TABLE orders AS SELECT range AS id FROM range(100)").url)
    refresh_all(db)
    return db


def copied(home: Path, to: Path) -> Path:
    """A copy of a home's catalog, as a backup makes it."""
    to.mkdir()
    with closing(sqlite3.connect(home / "catalog.db")) as here, closing(sqlite3.connect(to / "catalog.db")) as there:
        here.backup(there)
    return to


def everything_refused(db: RuntimeDB, error: type[Exception], match: str) -> None:
    """Whatever reads or writes the storage for its own sake is refused."""
    for attempt in (lambda: refresh_all(db), db.sweep, db.verify):
        with pytest.raises(error, match=match):
            attempt()


@everywhere
def test_the_first_use_marks_the_storage_and_later_ones_know_it(db: RuntimeDB, shop: SourceFile) -> None:
    storage = Inside.of(db).storage
    assert storage.read_marker() is None
    refresh_all(db)
    marker = storage.read_marker()
    assert marker is not None
    assert json.loads(marker)["catalog"] == db.engine.catalog.lake.get().catalog_id
    assert db.verify() == []
    assert db.sweep().files_failed == 0
    assert storage.read_marker() == marker


def test_a_copy_of_a_home_touches_nothing_of_the_originals(
    original: RuntimeDB, make_db: Callable[..., RuntimeDB], apart: str, tmp_path: Path
) -> None:
    copy = make_db(home=copied(original.settings.home, tmp_path / "copy"), storage_url=apart, grace_period=0)
    everything_refused(
        copy, ForeignStorageError, "belongs to the catalog that this one is a copy of.*RUNTIMEDB_STORAGE_URL"
    )
    assert rows(copy, COUNT) == [(100,)], "to read does no harm"
    assert original.verify() == []
    assert rows(original, COUNT) == [(100,)]


def test_a_copy_takes_over_when_told_to_and_the_original_is_refused_then(
    original: RuntimeDB, make_db: Callable[..., RuntimeDB], apart: str, tmp_path: Path
) -> None:
    copy = make_db(home=copied(original.settings.home, tmp_path / "copy"), storage_url=apart, grace_period=0)
    copy.adopt_storage()
    assert copy.verify() == []
    refresh_all(copy)
    everything_refused(original, ForeignStorageError, "belongs to another catalog.*runtimedb adopt")


def test_a_home_that_was_moved_and_one_restored_in_its_place_go_on(
    make_source: Callable[..., SourceFile], tmp_path: Path
) -> None:
    source = make_source("shop", "CREATE TABLE orders AS SELECT range AS id FROM range(100)")
    settings = {"storage_url": f"file://{tmp_path}/store", "grace_period": 0}
    with RuntimeDB(Settings(home=tmp_path / "home", **settings)) as db:
        db.connect("shop", source.url)
        refresh_all(db)
    backup = copied(tmp_path / "home", tmp_path / "backup")
    (tmp_path / "home").rename(tmp_path / "moved")
    with RuntimeDB(Settings(home=tmp_path / "moved", **settings)) as db:
        assert db.verify() == []
    shutil.rmtree(tmp_path / "moved")
    shutil.copytree(backup, tmp_path / "moved")
    with RuntimeDB(Settings(home=tmp_path / "moved", **settings)) as db:
        assert db.verify() == []
        assert rows(db, COUNT) == [(100,)]


def test_of_a_home_moved_aside_and_its_copy_in_its_place_only_one_goes_on(
    make_source: Callable[..., SourceFile], tmp_path: Path
) -> None:
    source = make_source("shop", "CREATE TABLE orders AS SELECT range AS id FROM range(100)")
    settings = {"storage_url": f"file://{tmp_path}/store", "grace_period": 0}
    with RuntimeDB(Settings(home=tmp_path / "home", **settings)) as db:
        db.connect("shop", source.url)
        refresh_all(db)
    (tmp_path / "home").rename(tmp_path / "aside")
    copied(tmp_path / "aside", tmp_path / "home")
    with RuntimeDB(Settings(home=tmp_path / "home", **settings)) as db:
        assert db.verify() == []
    with RuntimeDB(Settings(home=tmp_path / "aside", **settings)) as aside:
        everything_refused(aside, ForeignStorageError, "this one is a copy of")


def test_a_takeover_that_ends_before_the_catalog_knows_of_it_holds(
    original: RuntimeDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(original.settings.home, tmp_path / "copy")

    def end(*_: object) -> None:
        raise OSError("it ended")

    monkeypatch.setattr(LakeCatalog, "mark", end)
    with pytest.raises(OSError, match="it ended"):
        original.adopt_storage()
    monkeypatch.undo()
    assert original.verify() == []
    refresh_all(original)
    original.adopt_storage()
    assert original.verify() == []
    with RuntimeDB(Settings(home=home, storage_url=original.settings.storage_url)) as copy:
        everything_refused(copy, ForeignStorageError, "belongs to another catalog")
        copy.adopt_storage()
        assert copy.verify() == []
    everything_refused(original, ForeignStorageError, "belongs to another catalog")


def test_a_catalog_is_not_moved_away_from_its_storage(
    original: RuntimeDB, make_db: Callable[..., RuntimeDB], tmp_path: Path
) -> None:
    new = make_db(home=tmp_path / "new")
    with pytest.raises(ForeignStorageError, match=r"is not that of the catalog to be moved.*nothing was moved"):
        new.copy_catalog(original.settings.catalog_url)
    assert original.verify() == []


def test_a_backup_that_is_older_than_its_storage_is_told_what_is_left_over_and_what_is_lost(
    original: RuntimeDB, make_db: Callable[..., RuntimeDB], tmp_path: Path, make_source: Callable[..., SourceFile]
) -> None:
    """What docs/backup.md says: restore the catalog in its place, verify, refresh what is lost, delete what is left."""
    home = original.settings.home
    backup = copied(home, tmp_path / "backup")
    before = path_of(current(original, "orders"))
    make_source("shop", "CREATE OR REPLACE TABLE orders AS SELECT range AS id FROM range(50)")
    refresh_all(original)
    after = path_of(current(original, "orders"))
    original.sweep(utc_now() + timedelta(minutes=1))
    original.close()
    for file in home.glob("catalog.db*"):
        file.unlink()
    shutil.copy(backup / "catalog.db", home / "catalog.db")
    restored = make_db(storage_url=original.settings.storage_url, grace_period=0)
    findings = {(finding.invariant, finding.subject) for finding in restored.verify()}
    assert findings == {("I1", "shop.main.orders"), ("I2", after)}
    assert before != after
    refresh_all(restored)
    assert rows(restored, COUNT) == [(50,)]
    assert {finding.invariant for finding in restored.verify()} == {"I2"}


def test_a_volume_that_is_not_mounted_is_noticed_even_with_a_stray_file_beneath_it(
    original: RuntimeDB, tmp_path: Path
) -> None:
    (tmp_path / "store").rename(tmp_path / "volume")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".gitkeep").touch()
    everything_refused(original, StorageUnavailableError, "Is it mounted, and the right one")
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".gitkeep"]
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "volume").rename(tmp_path / "store")
    assert original.verify() == []


def test_another_catalogs_storage_is_refused(
    original: RuntimeDB,
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    apart: str,
    tmp_path: Path,
) -> None:
    other = make_db(home=tmp_path / "other", storage_url=apart)
    other.connect("shop", make_source("else", "CREATE TABLE t AS SELECT 1 AS i").url)
    everything_refused(other, ForeignStorageError, "belongs to another catalog.*nothing was touched")
    assert original.verify() == []


def test_a_storage_of_a_release_without_markers_is_marked_if_it_is_the_one(original: RuntimeDB, tmp_path: Path) -> None:
    with original._catalog._database.write() as tx:
        tx.exec_driver_sql("UPDATE lake SET storage_marked = 0")
    marker = tmp_path / "store" / ".runtimedb-catalog"
    marker.unlink()
    assert original.verify() == []
    assert marker.exists()
    marker.unlink()
    with original._catalog._database.write() as tx:
        tx.exec_driver_sql("UPDATE lake SET storage_marked = 0")
    (tmp_path / "store" / path_of(current(original, "orders"))).unlink()
    everything_refused(original, StorageUnavailableError, "Is it mounted")


# A catalog that is moved


@pytest.fixture
def moved(original: RuntimeDB, make_db: Callable[..., RuntimeDB], apart: str, tmp_path: Path) -> RuntimeDB:
    """A new catalog, into which the original was moved."""
    new = make_db(catalog_url=f"sqlite:///{tmp_path}/new.db", storage_url=apart, grace_period=0)
    new.copy_catalog(original.settings.catalog_url)
    return new


def test_who_still_uses_a_moved_catalog_changes_nothing_and_is_told_where_it_went(
    original: RuntimeDB, moved: RuntimeDB, tmp_path: Path
) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: refresh_all(original),
        original.sweep,
        original.verify,
        lambda: original.connect("again", f"duckdb:///{tmp_path}/shop.duckdb"),
        lambda: original.purge("shop"),
        lambda: original.configure("shop", options={"mask": "orders.id:null"}),
        lambda: original.remove("shop"),
        lambda: original.query().__enter__(),
    ]
    for attempt in attempts:
        with pytest.raises(CatalogMovedError, match=rf"moved to sqlite:///{tmp_path}/new\.db.*RUNTIMEDB_CATALOG_URL"):
            attempt()
    assert moved.verify() == []
    assert rows(moved, COUNT) == [(100,)]


def test_a_refresh_that_began_before_the_move_publishes_nothing_after_it(
    original: RuntimeDB, make_db: Callable[..., RuntimeDB], apart: str, tmp_path: Path
) -> None:
    inside = Inside.of(original)
    table = inside.catalog.tables.list()[0]
    new = make_db(catalog_url=f"sqlite:///{tmp_path}/new.db", storage_url=apart, grace_period=0)
    real, catalog = inside.storage.finalize, inside.catalog
    with pytest.MonkeyPatch.context() as patch:

        def move_in_between(path: str) -> None:
            real(path)
            new.copy_catalog(original.settings.catalog_url)

        patch.setattr(inside.storage, "finalize", move_in_between)
        with pytest.raises(CatalogMovedError):
            inside.publish(table, "SELECT 1 AS i")
    assert catalog is inside.catalog
    assert new.verify() == []
    new.sweep(utc_now() + timedelta(days=1))
    assert inside.place.keys() == {path_of(current(new, "orders"))}


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("point", ["before_commit=raise:1", "before_commit=raise:2", "adopt", "mark"])
def test_a_move_that_ends_in_the_middle_can_be_called_again(
    original: RuntimeDB,
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    monkeypatch: pytest.MonkeyPatch,
    apart: str,
    tmp_path: Path,
    point: str,
    marked: bool,
) -> None:
    """Before the old catalog is given up; before the new one has the rows; before the storage knows its name."""
    old, generation = original.settings.catalog_url, the_table(original, "orders").checked_sequence
    new = make_db(catalog_url=f"sqlite:///{tmp_path}/new.db", storage_url=apart, grace_period=0)

    def end(*_: object) -> None:
        raise OSError("it ended")

    if marked:  # by an earlier start with another storage
        with make_db(catalog_url=new.settings.catalog_url, storage_url=f"file://{tmp_path}/default") as earlier:
            earlier.sweep()
    if point in ("adopt", "mark"):
        monkeypatch.setattr(*{"adopt": (Owner, "adopt"), "mark": (LakeCatalog, "mark")}[point], end)
    else:
        monkeypatch.setenv(failpoints.VARIABLE, point)
        failpoints.arm()
    with pytest.raises(OSError, match=r"it ended|failpoint before_commit"):
        new.copy_catalog(old)
    monkeypatch.undo()
    failpoints.arm()
    if point == "before_commit=raise:2":
        elsewhere = make_db(catalog_url=f"sqlite:///{tmp_path}/new.db", storage_url=f"file://{tmp_path}/else")
        with pytest.raises(ForeignStorageError, match="is not that of the catalog to be moved"):
            elsewhere.copy_catalog(old)
        with pytest.raises(ForeignStorageError, match=r"migrate --from` into this one ended before .* give it again"):
            new.verify()
    copied = new.copy_catalog(old)
    assert (copied["connections"], copied["versions"]) == (1, 1)
    assert new.verify() == []
    assert generation is not None
    assert new.engine.next_sequence() > generation
    make_source("shop", "CREATE OR REPLACE TABLE orders AS SELECT range AS id FROM range(7)")
    refresh_all(new)
    assert rows(new, COUNT) == [(7,)]
    with pytest.raises(CatalogMovedError, match=rf"moved to sqlite:///{tmp_path}/new\.db"):
        new.copy_catalog(old)
    with pytest.raises(CatalogMovedError, match=rf"moved to sqlite:///{tmp_path}/new\.db"):
        make_db(catalog_url=f"sqlite:///{tmp_path}/third.db", storage_url=apart).copy_catalog(old)


def test_readers_that_are_open_across_a_move_keep_their_files(
    original: RuntimeDB,
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    apart: str,
    tmp_path: Path,
) -> None:
    with original.query() as query:
        assert query.sql(COUNT).fetchall() == [(100,)]
        new = make_db(catalog_url=f"sqlite:///{tmp_path}/new.db", storage_url=apart, grace_period=0)
        new.copy_catalog(original.settings.catalog_url)
        make_source("shop", "CREATE OR REPLACE TABLE orders AS SELECT range AS id FROM range(7)")
        refresh_all(new)
        assert new.sweep().files_deleted == 0
        assert query.sql(COUNT).fetchall() == [(100,)]
    assert new.sweep(utc_now() + 2 * new.settings.reader_lease).files_deleted == 1


def test_a_catalog_that_holds_something_takes_in_no_other(
    original: RuntimeDB,
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    apart: str,
    tmp_path: Path,
) -> None:
    other = make_db(home=tmp_path / "other", storage_url=apart)
    other.connect("shop", make_source("else", "CREATE TABLE t AS SELECT 1 AS i").url)
    with pytest.raises(ConfigurationError, match="holds connections already; nothing was copied"):
        other.copy_catalog(original.settings.catalog_url)
    assert original.verify() == []


def test_a_move_that_ended_does_not_go_on_over_what_the_new_catalog_got_meanwhile(
    original: RuntimeDB,
    make_db: Callable[..., RuntimeDB],
    make_source: Callable[..., SourceFile],
    monkeypatch: pytest.MonkeyPatch,
    apart: str,
    tmp_path: Path,
) -> None:
    old = original.settings.catalog_url
    new = make_db(catalog_url=f"sqlite:///{tmp_path}/new.db", storage_url=apart, grace_period=0)
    monkeypatch.setenv(failpoints.VARIABLE, "before_commit=raise:2")
    failpoints.arm()
    with pytest.raises(OSError, match="failpoint before_commit"):
        new.copy_catalog(old)
    monkeypatch.undo()
    failpoints.arm()
    new.connect("other", make_source("else", "CREATE TABLE t AS SELECT 1 AS i").url)
    with pytest.raises(ConfigurationError, match="holds connections already; nothing was copied; `runtimedb remove`"):
        new.copy_catalog(old)
    new.remove("other")
    assert new.copy_catalog(old)["versions"] == 1
    assert new.verify() == []
    assert rows(new, COUNT) == [(100,)]


def test_a_catalog_without_connections_is_moved_with_what_is_to_be_deleted(
    original: RuntimeDB, make_db: Callable[..., RuntimeDB], monkeypatch: pytest.MonkeyPatch, apart: str, tmp_path: Path
) -> None:
    original.remove("shop")
    new = make_db(catalog_url=f"sqlite:///{tmp_path}/new.db", storage_url=apart, grace_period=0)
    with monkeypatch.context() as patch:

        def end(*_: object) -> None:
            raise OSError("it ended")

        patch.setattr(Owner, "adopt", end)
        with pytest.raises(OSError, match="it ended"):
            new.copy_catalog(original.settings.catalog_url)
    assert new.copy_catalog(original.settings.catalog_url)["pending_deletions"] == 1
    assert new.sweep(utc_now() + timedelta(days=1)).files_deleted == 1


@pytest.mark.parametrize("there", [False, True])
def test_a_catalog_that_is_not_there_is_not_made_by_a_typo(
    make_db: Callable[..., RuntimeDB], tmp_path: Path, there: bool
) -> None:
    typo = tmp_path / "typo" / "catalgo.db"
    if there:
        typo.parent.mkdir()
        typo.touch()
    with pytest.raises(ConfigurationError, match=r"There is no catalog at .*nothing was copied"):
        make_db().copy_catalog(f"sqlite:///{typo}")
    assert typo.exists() == there
    assert not there or typo.stat().st_size == 0

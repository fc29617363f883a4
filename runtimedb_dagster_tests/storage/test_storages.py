"""What every storage does alike: one contract, over files and over two object stores that are not alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from runtimedb_dagster.common.duck import connect
from runtimedb_dagster.domain.errors import StorageError, UnsafePathError
from runtimedb_dagster.storage import Storage, open_storage
from runtimedb_dagster_tests.storage.test_storage import PATH, UNSAFE
from runtimedb_dagster_tests.support.moto import moto_running
from runtimedb_dagster_tests.support.s3 import Bucket, ObjectStore

OTHER = "c1/main/orders~0a/orders~0a_v2.parquet"
Open = Callable[[], Storage]


@pytest.fixture(scope="module")
def moto() -> Iterator[ObjectStore]:
    with moto_running() as running:
        yield running


@pytest.fixture(params=["files", "s3", "moto"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open the storage of this test, as another process would."""
    if request.param == "files":
        return lambda: open_storage(f"file://{tmp_path}/storage", tmp_path / "staging")
    bucket: Bucket = request.getfixturevalue("bucket")
    if request.param == "moto":
        bucket = Bucket(request.getfixturevalue("moto"), bucket.prefix)
    return lambda: open_storage(bucket.url(), tmp_path / "staging")


@pytest.fixture
def storage(reopen: Open) -> Storage:
    return reopen()


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def written(storage: Storage, path: str = PATH, rows: int = 10) -> str:
    fill(storage.prepare(path), rows)
    storage.finalize(path)
    return path


def fill(local: Path, rows: int) -> None:
    duckdb.sql(f"SELECT range AS i, hash(range) AS h FROM range({rows})").write_parquet(str(local))


def rows_of(storage: Storage, path: str = PATH) -> int:
    with connect({}) as duck:
        storage.make_readable(duck)
        ((rows,),) = duck.execute(f"SELECT num_rows FROM parquet_file_metadata('{storage.location(path)}')").fetchall()
        return int(rows)


def test_a_version_is_written_and_read(storage: Storage, duck: duckdb.DuckDBPyConnection) -> None:
    written(storage, OTHER)
    storage.make_readable(duck)
    assert duck.execute(f"SELECT count(*), max(i) FROM '{storage.location(OTHER)}'").fetchone() == (10, 9)
    assert rows_of(storage, OTHER) == 10
    assert list(storage.list()) == [OTHER]
    assert storage.exists(OTHER)


def test_a_version_being_written_is_listed_and_can_not_be_read(storage: Storage) -> None:
    fill(storage.prepare(PATH), 10)
    assert list(storage.list()) == [PATH]
    assert storage.exists(PATH)
    with pytest.raises(duckdb.Error):
        rows_of(storage)


def test_a_version_being_written_is_empty_and_private(storage: Storage) -> None:
    local = storage.prepare(PATH)
    assert local.read_bytes() == b""
    assert (local.stat().st_mode & 0o777, local.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_nothing_is_left_of_the_file_it_was_written_into(storage: Storage) -> None:
    local = storage.prepare(PATH)
    fill(local, 10)
    storage.finalize(PATH)
    assert not local.exists()


def test_nothing_is_there_at_first(storage: Storage) -> None:
    assert list(storage.list()) == []
    assert not storage.exists(PATH)
    with pytest.raises(duckdb.Error):
        rows_of(storage)


def test_a_version_is_never_overwritten(storage: Storage, reopen: Open) -> None:
    written(storage)
    other = reopen()
    fill(other.prepare(PATH), 20)
    with pytest.raises(StorageError, match="can't be written"):
        other.finalize(PATH)
    assert rows_of(storage) == 10


def test_a_version_being_written_is_not_begun_again(storage: Storage) -> None:
    fill(storage.prepare(PATH), 10)
    with pytest.raises(StorageError, match="can't be written"):
        storage.prepare(PATH)
    storage.finalize(PATH)
    assert rows_of(storage) == 10


def test_deleting_takes_the_version_and_no_other(storage: Storage) -> None:
    # One path is the beginning of the other, as keys are.
    longer = written(storage, PATH + "x")
    written(storage)
    storage.delete(PATH)
    assert list(storage.list()) == [longer]
    assert not storage.exists(PATH)


def test_deleting_takes_an_unfinished_version_and_no_other(storage: Storage) -> None:
    local = storage.prepare(PATH)
    fill(storage.prepare(PATH + "x"), 10)
    storage.delete(PATH)
    assert not local.exists()
    assert not storage.exists(PATH)
    storage.finalize(PATH + "x")
    assert list(storage.list()) == [PATH + "x"]


def test_what_is_already_gone_is_deleted(storage: Storage) -> None:
    storage.delete(PATH)
    written(storage)
    storage.delete(PATH)
    storage.delete(PATH)
    assert list(storage.list()) == []


def test_a_crash_leaves_what_another_process_can_delete(storage: Storage, reopen: Open) -> None:
    fill(storage.prepare(PATH), 10)
    other = reopen()
    assert list(other.list()) == [PATH]
    other.delete(PATH)
    assert list(other.list()) == []


def test_a_writer_that_comes_back_after_its_sweep_can_not_finish(storage: Storage, reopen: Open) -> None:
    fill(storage.prepare(PATH), 10)
    reopen().delete(PATH)
    with pytest.raises(StorageError, match="can't be written"):
        storage.finalize(PATH)
    assert list(storage.list()) == []


def test_finishing_what_was_not_begun_is_an_error(storage: Storage) -> None:
    with pytest.raises(StorageError, match="can't be written"):
        storage.finalize(PATH)


@pytest.mark.parametrize("operation", ["prepare", "finalize", "delete", "location"])
def test_an_unsafe_path_is_refused(storage: Storage, operation: str) -> None:
    """Which paths are unsafe is a matter of `unit/test_paths.py`."""
    act: Callable[[str], object] = getattr(storage, operation)
    with pytest.raises(UnsafePathError, match="not touched"):
        act(UNSAFE)

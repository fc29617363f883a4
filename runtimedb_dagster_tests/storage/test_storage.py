"""Storage: files that are private, durable, never overwritten, and never outside the root."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from runtimedb_dagster.domain.errors import ConfigurationError, StorageError, UnsafePathError
from runtimedb_dagster.storage import FileStorage, Storage, filesystem, open_storage
from runtimedb_dagster.storage.paths import MARKER

PATH = "c1/main/orders/orders_v1.parquet"

UNSAFE = "c1/../../outside/file"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def storage(root: Path) -> Storage:
    return open_storage(f"file://{root}", root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory with a file, which nothing may touch."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "orders_v1.parquet").write_text("precious")
    return directory


def written(storage: Storage, path: str = PATH, content: str = "content") -> str:
    storage.prepare(path).write_text(content)
    storage.finalize(path)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_a_writer_of_the_marker_left_is_tidied_and_not_what_one_is_writing(
    storage: Storage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_marker(b"one")
    (root / f"{MARKER}.left").write_bytes(b"half")
    written(storage)
    writing, tidied, real = threading.Event(), threading.Event(), os.fsync

    def fsync(descriptor: int) -> None:
        writing.set()
        assert tidied.wait(30)
        real(descriptor)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(os, "fsync", fsync)
        writer = pool.submit(storage.write_marker, b"two")
        assert writing.wait(30)
        storage.tidy()  # it does not wait for who may be suspended
        tidied.set()
        writer.result(30)
    storage.tidy()
    assert [path.name for path in root.glob(f"{MARKER}*")] == [MARKER]
    assert storage.read_marker() == b"two"
    assert storage.exists(PATH)


def test_a_writer_that_wakes_up_in_the_middle_of_a_deletion_leaves_nothing(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.prepare(PATH).write_text("late")
    real, woken = filesystem._unlink, list[str]()

    def unlink(directory: int, name: str, path: str) -> bool:
        gone = real(directory, name, path)
        if not woken:
            woken.append(name)
            with suppress(StorageError):
                storage.finalize(PATH)
        return gone

    monkeypatch.setattr(filesystem, "_unlink", unlink)
    storage.delete(PATH)
    assert woken
    assert not storage.exists(PATH)


def test_a_file_is_written_and_then_has_its_name(storage: Storage, root: Path) -> None:
    local = storage.prepare(PATH)
    assert local.read_bytes() == b""
    assert not (root / PATH).exists()
    assert storage.exists(PATH)
    local.write_text("content")

    storage.finalize(PATH)

    assert Path(storage.location(PATH)).read_text() == "content"
    assert storage.location(PATH) == str(root / PATH)
    assert not local.exists()
    assert list(storage.list()) == [PATH]


def test_an_unfinished_file_is_listed_by_the_path_it_would_get(storage: Storage) -> None:
    storage.prepare(PATH)
    assert list(storage.list()) == [PATH]


def test_nothing_is_there_at_first(storage: Storage) -> None:
    assert list(storage.list()) == []
    assert not storage.exists(PATH)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read(storage: Storage, root: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        written(storage)
    finally:
        os.umask(before)
    assert mode(root / PATH) == 0o600
    directories = [root, *(path for path in root.rglob("*") if path.is_dir())]
    assert [mode(path) for path in directories] == [0o700] * 4


def test_a_file_is_never_overwritten(storage: Storage) -> None:
    written(storage, content="first")
    storage.prepare(PATH).write_text("second")
    with pytest.raises(StorageError, match=r"orders_v1\.parquet can't be written"):
        storage.finalize(PATH)
    assert Path(storage.location(PATH)).read_text() == "first"


def test_a_file_being_written_is_not_started_again(storage: Storage) -> None:
    storage.prepare(PATH).write_text("first")
    with pytest.raises(StorageError, match="File exists"):
        storage.prepare(PATH)
    storage.finalize(PATH)
    assert Path(storage.location(PATH)).read_text() == "first"


def test_deleting_takes_the_file_and_its_empty_directories(storage: Storage, root: Path) -> None:
    written(storage)
    neighbour = written(storage, "c1/main/other/other_v1.parquet")

    storage.delete(PATH)

    assert list(storage.list()) == [neighbour]
    assert not (root / "c1/main/orders").exists()
    storage.delete(neighbour)
    assert list(root.iterdir()) == []


def test_deleting_takes_an_unfinished_file(storage: Storage, root: Path) -> None:
    storage.prepare(PATH).write_text("half")
    storage.delete(PATH)
    assert not storage.exists(PATH)
    assert list(root.iterdir()) == []


def test_what_is_already_gone_is_deleted(storage: Storage, root: Path) -> None:
    storage.delete(PATH)
    written(storage)
    storage.delete(PATH)
    storage.delete(PATH)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("path", ["../outside/file", "/etc/passwd", UNSAFE])
@pytest.mark.parametrize("operation", ["prepare", "finalize", "delete", "location"])
def test_an_unsafe_path_is_refused(storage: Storage, outside: Path, operation: str, path: str) -> None:
    act: Callable[[str], object] = getattr(storage, operation)
    with pytest.raises(UnsafePathError, match="not touched"):
        act(path)
    assert (outside / "orders_v1.parquet").read_text() == "precious"


@pytest.mark.parametrize("linked", ["c1", "c1/main", "c1/main/orders"])
def test_a_symlinked_directory_is_not_followed_to_delete(
    storage: Storage, root: Path, outside: Path, linked: str
) -> None:
    below = Path(PATH).relative_to(linked)
    target = outside / below
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("precious")
    (root / linked).parent.mkdir(parents=True)
    (root / linked).symlink_to(outside)

    with pytest.raises(UnsafePathError, match="symlink"):
        storage.delete(PATH)

    assert target.read_text() == "precious"
    assert (root / linked).is_symlink()


@pytest.mark.parametrize("suffix", ["", ".partial"])
def test_a_symlink_in_place_of_a_file_is_not_touched(storage: Storage, root: Path, outside: Path, suffix: str) -> None:
    link = root / (PATH + suffix)
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "orders_v1.parquet")

    with pytest.raises(UnsafePathError, match="not a regular file"):
        storage.delete(PATH)

    assert link.is_symlink()
    assert (outside / "orders_v1.parquet").read_text() == "precious"


def test_a_symlink_is_not_written_through(storage: Storage, root: Path, outside: Path) -> None:
    link = root / (PATH + ".partial")
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / "new")
    with pytest.raises(StorageError, match="can't be written"):
        storage.prepare(PATH)
    assert not (outside / "new").exists()


def test_a_symlinked_directory_is_not_written_into(storage: Storage, root: Path, outside: Path) -> None:
    root.mkdir()
    (root / "c1").symlink_to(outside)
    with pytest.raises(UnsafePathError, match="symlink"):
        storage.prepare(PATH)
    assert [path.name for path in outside.iterdir()] == ["orders_v1.parquet"]


def test_a_symlink_is_listed_and_never_descended(storage: Storage, root: Path, outside: Path) -> None:
    root.mkdir()
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(outside / "nothing")
    assert sorted(storage.list()) == ["dangling", "link"]
    assert storage.exists("dangling")


def test_a_directory_in_place_of_a_file_is_not_touched(storage: Storage, root: Path) -> None:
    (root / PATH).mkdir(parents=True)
    with pytest.raises(UnsafePathError, match="not a regular file"):
        storage.delete(PATH)
    assert (root / PATH).is_dir()


@pytest.mark.parametrize("blocked", ["", "c1", "c1/main/orders"])
def test_a_place_that_can_not_be_written_is_named(storage: Storage, root: Path, blocked: str) -> None:
    (root / blocked).parent.mkdir(parents=True, exist_ok=True)
    (root / blocked).write_text("a file where a directory should be")
    with pytest.raises(StorageError, match=r"storage/c1/main/orders/orders_v1\.parquet can't be written"):
        storage.prepare(PATH)


def test_finishing_what_was_not_begun_is_an_error(storage: Storage) -> None:
    with pytest.raises(StorageError, match="can't be written"):
        storage.finalize(PATH)


@pytest.mark.parametrize("character", list("*?[]{}"))
def test_a_root_that_is_a_pattern_is_refused(tmp_path: Path, character: str) -> None:
    with pytest.raises(ConfigurationError, match="pattern"):
        FileStorage(tmp_path / f"a{character}b")


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://host/x", "file://host/x"])
def test_an_unknown_storage_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="scheme"):
        open_storage(url, tmp_path)


def test_a_plain_or_encoded_path_is_a_storage_too(tmp_path: Path) -> None:
    plain, encoded = (open_storage(url, tmp_path) for url in (str(tmp_path / "a b"), f"file://{tmp_path}/a%20b"))
    assert plain.location(PATH) == encoded.location(PATH) == str(tmp_path / "a b" / PATH)


def test_a_file_is_begun_while_sweeps_take_its_empty_directories_away(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, sweeps = filesystem._fsync, iter(range(8))

    def swept(path: Path) -> None:
        """After a directory was made, which is when a sweep may find it empty."""
        fsync(path)
        if next(sweeps, None) is not None:
            for emptied in ("c1/main/orders/gone.parquet", "c1/main/gone.parquet", "c1/gone.parquet"):
                storage.delete(emptied)

    monkeypatch.setattr(filesystem, "_fsync", swept)
    assert storage.prepare(PATH).exists()
    assert next(sweeps, None) is None

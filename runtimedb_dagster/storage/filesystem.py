"""Versions as files under one directory."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import duckdb

from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.domain.errors import ConfigurationError, StorageError, UnsafePathError
from runtimedb_dagster.storage.paths import MARKER, is_safe

__all__ = ["FileStorage"]

PARTIAL = ".partial"
ATTEMPTS = 10


class FileStorage:
    """The storage protocol on a local or mounted file system.

    Directories are made for their owner only, and so are files. No symlink below the root is followed; the root itself
    may be one when it is opened, and not become one later.
    """

    def __init__(self, root: Path) -> None:
        """Keep versions under `root`.

        Raises:
            ConfigurationError: DuckDB would read the path as a pattern, or it is none.
        """
        if set("*?[]{}\0") & set(str(root)):
            raise ConfigurationError(
                f"The storage can't be at {str(root)!r}: a path with any of *?[]{{}} is a pattern to DuckDB, "
                "and one with a NUL is none"
            )
        self.root = root.resolve()

    def prepare(self, path: str) -> Path:
        """An empty file to write a version into, under a name that is not yet its own.

        Raises:
            UnsafePathError, StorageError
        """
        target = self._inside(path)
        for attempt in range(ATTEMPTS):
            with _named_errors(target, "written"):
                try:
                    self._make_directories(target.parent)
                    os.close(os.open(_partial(target), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                except FileNotFoundError:
                    # A sweep found a directory empty and took it away.
                    if attempt == ATTEMPTS - 1:
                        raise
                else:
                    break
        return _partial(target)

    def finalize(self, path: str) -> None:
        """Make the written file durable, under its final name.

        Raises:
            StorageError: the disk would not take it.
        """
        target = self._inside(path)
        with _named_errors(target, "written"):
            if target.exists():
                raise FileExistsError(errno.EEXIST, "a version is never overwritten", str(target))
            _fsync(_partial(target))
            hit("after_fsync")
            _partial(target).rename(target)
            hit("after_rename")
            _fsync(target.parent)

    def delete(self, path: str) -> None:
        """Delete a version, finished or not; already gone is fine. Directories left empty go too.

        Raises:
            UnsafePathError: the path leads outside the root or through a symlink; nothing was touched.
            StorageError: the file system refused.
        """
        self._require_safe(path)
        *parents, name = path.split("/")
        with _named_errors(self.root / path, "deleted"), self._directory(parents) as directory:
            if directory is not None:
                # In the order in which a writer that wakes up now would rename it.
                gone = [_unlink(directory, each, path) for each in (name + PARTIAL, name)]
                if any(gone):
                    # A deletion that is lost with the power would bring back a file that no row names.
                    os.fsync(directory)
        self._prune(parents)

    def location(self, path: str) -> str:
        """What DuckDB reads a version from."""
        return str(self._inside(path))

    def make_readable(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Nothing to do: DuckDB reads files."""

    def open(self, path: str) -> BinaryIO:
        """A version's content.

        Raises:
            StorageError: it is not there, or can't be read.
        """
        target = self._inside(path)
        with _named_errors(target, "read"):
            return target.open("rb")

    def list(self) -> Iterator[str]:
        """The path of whatever is under the root, unfinished versions by the path they would get."""
        for directory, subdirectories, names in os.walk(self.root):
            links = [name for name in subdirectories if (Path(directory) / name).is_symlink()]
            for name in [*names, *links]:
                if name.startswith(MARKER) and Path(directory) == self.root:
                    continue
                yield (Path(directory) / name).relative_to(self.root).as_posix().removesuffix(PARTIAL)

    def exists(self, path: str) -> bool:
        """Whether anything is at the path, finished or not."""
        target = self.root / path
        return os.path.lexists(target) or os.path.lexists(_partial(target))

    def sizes(self, paths: Sequence[str]) -> dict[str, int]:
        """The sizes of finished files; those that are not there are missing.

        Raises:
            UnsafePathError
        """
        found = {}
        for path in paths:
            self._require_safe(path)
            try:
                found[path] = os.stat(os.path.join(self.root, path), follow_symlinks=False).st_size  # noqa: PTH116, PTH118 - as in `_prune`
            except OSError:
                continue
        return found

    def read_marker(self) -> bytes | None:
        """What the storage says of the catalog whose it is.

        Raises:
            StorageError
        """
        target = self.root / MARKER
        with _named_errors(target, "read"):
            try:
                return target.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write_marker(self, content: bytes) -> None:
        """Have the storage say whose it is, durably and at once.

        Raises:
            StorageError
        """
        target = self.root / MARKER
        new = target.with_name(f"{MARKER}.{uuid.uuid4().hex}")
        with _named_errors(target, "written"):
            self._make_directories(self.root)
        with _named_errors(target, "written"), self._locked(fcntl.LOCK_SH):
            descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                os.write(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.rename(target)
            _fsync(self.root)

    def tidy(self) -> None:
        """Remove what writers of the marker have left that were ended.

        Raises:
            StorageError
        """
        left = list(self.root.glob(f"{MARKER}.*"))
        if left:
            with _named_errors(self.root / MARKER, "tidied"), self._locked(fcntl.LOCK_EX) as alone:
                for path in left if alone else []:
                    path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, how: int) -> Iterator[bool]:
        """Lock the root against others that write the marker or tidy; whether that could be done.

        Nobody waits: who holds the lock may be suspended.
        """
        directory = os.open(self.root, os.O_RDONLY)
        try:
            try:
                fcntl.flock(directory, how | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(directory)

    def _require_safe(self, path: str) -> None:
        if not is_safe(path):
            raise UnsafePathError(
                f"The path '{path}' does not lie under the storage root {self.root}; it was not touched"
            )

    def _inside(self, path: str) -> Path:
        self._require_safe(path)
        target = self.root / path
        for parent in target.parents:
            if parent.is_symlink():
                raise UnsafePathError(f"The path '{path}' leads through the symlink {parent}; it was not touched")
            if parent == self.root:
                break
        return target

    def _make_directories(self, directory: Path) -> None:
        missing = [parent for parent in (directory, *directory.parents) if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)
            _fsync(parent.parent)

    @contextmanager
    def _directory(self, parts: Sequence[str]) -> Iterator[int | None]:
        """A descriptor of a directory under the root, reached without following a link; None if it is gone."""
        descriptor: int | None = None
        try:
            descriptor = os.open(self.root, os.O_DIRECTORY | os.O_NOFOLLOW)
            for part in parts:
                below = os.open(part, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except FileNotFoundError:
            if descriptor is not None:
                os.close(descriptor)
            yield None
            return
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                path = "/".join(parts)
                raise UnsafePathError(f"The path '{path}' leads through a symlink; it was not touched") from error
            raise
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _prune(self, parts: Sequence[str]) -> None:
        for depth in range(len(parts), 0, -1):
            try:
                os.rmdir(os.path.join(self.root, *parts[:depth]))  # noqa: PTH106, PTH118 - a third of a sweep, as Path
            except OSError:  # in use, or gone already
                return


def _partial(target: Path) -> Path:
    return target.with_name(target.name + PARTIAL)


def _unlink(directory: int, name: str, path: str) -> bool:
    """Whether the file was there."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise UnsafePathError(f"The path '{path}' is not a regular file; it was not touched")
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _named_errors(target: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"The file {target} can't be {verb}: {error.strerror or error}") from error

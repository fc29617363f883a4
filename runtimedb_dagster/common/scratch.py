"""Files of this machine that live no longer than the process that needs them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import uuid
import weakref
from pathlib import Path

from runtimedb_dagster.domain.errors import StorageError

__all__ = ["Scratch"]


class Scratch:
    """Private local files, in a directory per process that a lock marks as in use.

    The lock ends with the process, however it ends: a directory whose lock can be taken is a leftover.
    """

    def __init__(self, root: Path) -> None:
        """Keep the directories under `root`; nothing is made before the first file."""
        self.root = root
        self._own: tuple[Path, int] | None = None  # with the process that it is of
        self._making = threading.Lock()

    def create(self) -> Path:
        """An empty file, for its owner only.

        Raises:
            StorageError: the disk refused.
        """
        path = self._new("parquet")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise self._refused(error) from error
        return path

    def directory(self) -> Path:
        """Where a directory may be made, which goes with this one.

        Raises:
            StorageError: the disk refused.
        """
        return self._new("spill")

    def _new(self, suffix: str) -> Path:
        try:
            return self._directory() / f"{uuid.uuid4().hex}.{suffix}"
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"No file can be written in {self.root}, which RuntimeDB needs for what does not fit into memory and for "
            f"versions before they are uploaded: {error.strerror or error}"
        )

    def clean(self) -> None:
        """Remove what processes left that are gone."""
        with contextlib.suppress(FileNotFoundError):
            for directory in list(self.root.iterdir()):
                with contextlib.suppress(OSError):
                    _remove_if_left(directory)

    def _directory(self) -> Path:
        with self._making:
            if self._own is None or self._own[1] != os.getpid() or not self._own[0].exists():
                # One by one: those that `parents` makes would be open to all.
                for directory in (self.root.parent, self.root):
                    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.clean()
                self._own = self._make(), os.getpid()
            return self._own[0]

    def _make(self) -> Path:
        """A new directory, locked for as long as this is there; once more if a cleaning came in between."""
        while True:
            directory = self.root / uuid.uuid4().hex
            directory.mkdir(mode=0o700)
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(directory, os.O_DIRECTORY)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if directory.exists():
                    weakref.finalize(self, _leave, directory, descriptor, os.getpid())
                    return directory
                os.close(descriptor)


def _leave(directory: Path, descriptor: int, process: int) -> None:
    """Give the lock up; the directory goes if it is empty, and not when a fork of its process ends."""
    os.close(descriptor)
    if os.getpid() == process:
        with contextlib.suppress(OSError):
            directory.rmdir()


def _remove_if_left(directory: Path) -> None:
    descriptor = os.open(directory, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory)
    finally:
        os.close(descriptor)

"""Reading the beginning of files in a process of its own.

A process that closes a file loses all locks that it has on it, whoever in it took them: POSIX would have it so. SQLite
and DuckDB lock the files that they have open, so nobody else in this process may open and close one of these.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

__all__ = ["beginning_of"]

# Asked with a path and a number, each after its length; answers with bytes after theirs, or with -1 and why not.
READER = """
import os, struct, sys
take, give = sys.stdin.buffer, sys.stdout.buffer
while head := take.read(8):
    length, count = struct.unpack('<II', head)
    try:
        with open(os.fsdecode(take.read(length)), 'rb') as file:
            content = file.read(count)
        give.write(struct.pack('<i', len(content)) + content)
    except OSError as error:
        give.write(struct.pack('<ii', -1, error.errno or 0))
    give.flush()
"""


class _Reader:
    """The process that reads; made at its first use, and by each fork anew. It ends with the one that made it."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._made_by = 0

    def end(self) -> None:
        """Have the process end, if it is this one's."""
        if self._process is not None and self._made_by == os.getpid() and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def read(self, path: Path, count: int) -> bytes:
        with self._asking:
            process = self._running()
            if process.stdin is None or process.stdout is None:
                raise OSError("the process that reads has no pipes")
            name = os.fsencode(path)
            process.stdin.write(struct.pack("<II", len(name), count) + name)
            process.stdin.flush()
            (length,) = struct.unpack("<i", process.stdout.read(4))
            if length < 0:
                (number,) = struct.unpack("<i", process.stdout.read(4))
                raise OSError(number, os.strerror(number), str(path))
            return process.stdout.read(length)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._made_by != os.getpid() or self._process.poll() is not None:
            # In a session of its own: an interrupt of this process is none of its.
            self._process = subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, "-I", "-S", "-c", READER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            self._made_by = os.getpid()
        return self._process


_readers = [_Reader()]
# In a fork a lock may be held by a thread that is not there; and the reader is its parent's.
os.register_at_fork(after_in_child=lambda: _readers.append(_Reader()))


def _end() -> None:
    _readers[-1].end()


atexit.register(_end)


def beginning_of(path: Path, count: int) -> bytes:
    """The first bytes of a file, at most so many, without opening it in this process.

    Raises:
        OSError: it can't be read, or is no regular file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    try:
        return _readers[-1].read(path.absolute(), count)
    except (struct.error, BrokenPipeError) as error:
        raise OSError(f"the process that reads files has ended: {error}") from error

"""A file that is read by ranges, so that a footer costs no more than a footer."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

from typing_extensions import Buffer

__all__ = ["RangedFile"]


class RangedFile(io.RawIOBase):
    """Reads `size` bytes through `fetch(start, length)`, only those that are asked for."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._fetch = fetch
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._position)
        if length <= 0:
            return 0
        content = self._fetch(self._position, length)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

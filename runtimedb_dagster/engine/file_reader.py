"""The DuckDB of a process that reads versions: files just written on this machine, and those of the storage."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import duckdb

from runtimedb_dagster.common.duck import connect
from runtimedb_dagster.storage import Storage

__all__ = ["FileReader"]

# Each version is read back once: with the cache 10,000 small tables took 676 MB.
CONFIG: dict[str, Any] = {"preserve_insertion_order": False, "enable_external_file_cache": False}
# An access key that a role has lent ends some time.
ACCESS_SECONDS = 300.0


@dataclass
class _Made:
    duck: duckdb.DuckDBPyConnection
    process: int
    accessed: float | None = None


class FileReader:
    """One DuckDB for all tables of this process, made at its first use: to make one costs more than a small table."""

    def __init__(self, storage: Storage, config: Mapping[str, Any]) -> None:
        """With DuckDB's `config`; nothing is made yet."""
        self._storage = storage
        self._config = {**CONFIG, **config}
        self._making = threading.Lock()
        self._made: _Made | None = None
        self._of_parents: list[_Made] = []

    @contextmanager
    def local(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own that reads files of this machine."""
        with self._making:
            duck = self._of_this_process().duck
        with duck.cursor() as cursor:
            yield cursor

    @contextmanager
    def stored(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of one's own that reads the storage.

        Raises:
            StorageError: the storage gives no access.
        """
        with self._making:
            made = self._of_this_process()
            if made.accessed is None or monotonic() - made.accessed > ACCESS_SECONDS:
                self._storage.make_readable(made.duck)
                made.accessed = monotonic()
        with made.duck.cursor() as cursor:
            yield cursor

    def close(self) -> None:
        """Let go of it; the next use makes another one."""
        with self._making:
            if self._made is not None and self._made.process == os.getpid():
                self._made.duck.close()
                self._made = None

    def _of_this_process(self) -> _Made:
        if self._made is not None and self._made.process != os.getpid():
            # A fork has none of its threads, without which it can't even be closed.
            self._of_parents.append(self._made)
            self._made = None
        if self._made is None:
            self._made = _Made(connect(self._config), os.getpid())
        return self._made

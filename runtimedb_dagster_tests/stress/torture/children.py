"""Processes that may die: a server that has imported everything forks one for each job.

A fork costs milliseconds, where a new interpreter takes a second to import DuckDB, SQLAlchemy and boto3.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

from runtimedb_dagster import RefreshRequest, RuntimeDB, Settings, TableRefreshResult
from runtimedb_dagster.common import failpoints

__all__ = ["Child", "Children", "children"]


@dataclass
class Child:
    """A process at work.

    Attributes:
        fired: the faults that it met.
        killed: whether SIGKILL ended it.
        error: what its job failed with, once it has ended.
    """

    pid: int
    _said: IO[str]
    fired: list[str] = field(default_factory=list)
    ended: bool = False
    killed: bool = False
    error: str | None = None

    def await_fault(self) -> None:
        """Wait until it meets its next fault, or ends."""
        met = len(self.fired)
        while not self.ended and len(self.fired) == met:
            self._hear()

    def wait(self) -> Child:
        """Wait until it ends."""
        while not self.ended:
            self._hear()
        return self

    def _hear(self) -> None:
        line = self._said.readline()
        if not line:
            raise RuntimeError("the server of processes has ended")
        said = json.loads(line)
        if "fired" in said:
            self.fired.append(said["fired"])
        elif "error" in said:
            self.error = said["error"]
        else:
            self.ended, self.killed = True, said["signal"] == signal.SIGKILL


@dataclass(frozen=True)
class Children:
    """The server, which has one child at a time."""

    _process: subprocess.Popen[str]

    def start(self, job: str, settings: Mapping[str, str], faults: str, now: datetime | None = None) -> Child:
        """Have a process do a job: `refresh` a table, one by `changes`, or `sweep` as of a time."""
        order = {"job": job, "settings": dict(settings), "faults": faults, "now": now.isoformat() if now else ""}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return Child(json.loads(self._process.stdout.readline())["pid"], self._process.stdout)


@contextmanager
def children(environment: Mapping[str, str]) -> Iterator[Children]:
    """Start the server, and end it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RUNTIMEDB_", "AWS_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**own, **environment},
    )
    with process:
        try:
            yield Children(process)
        finally:
            process.kill()


def _serve() -> None:
    import boto3  # noqa: F401, PLC0415
    import psycopg  # noqa: F401, PLC0415

    for line in sys.stdin:
        heard, told = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(heard)
            _work(json.loads(line), os.fdopen(told, "w"))
            os._exit(0)  # what a fork inherits is not its own to tear down
        os.close(told)
        _say(sys.stdout, pid=pid)
        with os.fdopen(heard) as lines:
            for each in lines:
                sys.stdout.write(each)
                sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        _say(sys.stdout, signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)


def _work(order: dict[str, Any], out: IO[str]) -> None:
    os.environ[failpoints.VARIABLE] = order["faults"]
    _tell_faults(out)
    error = None
    try:
        with RuntimeDB(Settings(**order["settings"])) as db:
            if order["job"] == "sweep":
                db.sweep(datetime.fromisoformat(order["now"]))
            elif order["job"] == "changes":
                _refresh_by_changes(db)
            else:
                db.refresh(RefreshRequest("shop", "main", "t", data=True))
    except Exception as failure:  # noqa: BLE001 - it is told
        error = f"{type(failure).__name__}: {failure}"
    _say(out, error=error)
    out.close()


def _refresh_by_changes(db: RuntimeDB) -> None:
    result = db.refresh(RefreshRequest("log", "main", "c", data=True))
    if not isinstance(result, TableRefreshResult) or result.mode != "changes":
        raise AssertionError(f"it was not read by changes: {result}")


def _tell_faults(out: IO[str]) -> None:
    handler = logging.Handler()
    handler.emit = lambda record: _say(out, fired=record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(failpoints.__name__).addHandler(handler)
    logging.getLogger("runtimedb_dagster").addHandler(logging.NullHandler())


def _say(out: IO[str], **what: object) -> None:
    print(json.dumps(what), file=out, flush=True)


if __name__ == "__main__":
    _serve()

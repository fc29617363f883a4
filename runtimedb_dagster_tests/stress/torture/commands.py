"""Command lines as processes that may be stopped, interrupted and killed: forks of one that has imported everything.

A fork costs milliseconds, where a new interpreter takes a second to import DuckDB, SQLAlchemy and boto3.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from time import monotonic, sleep

__all__ = ["Command", "preload", "start"]

CONTEXT = multiprocessing.get_context("forkserver")
# Whoever starts a process asks after all others, and a status can be had but once.
ONE_AT_A_TIME = threading.Lock()


@dataclass
class Command:
    """A process that carries out a command line.

    Attributes:
        arguments: of `runtimedb`.
        signals: what it was sent.
        seconds: how long it took, once it has ended.
    """

    arguments: Sequence[str]
    files: Path
    _process: ForkServerProcess
    _began: Connection
    signals: list[str] = field(default_factory=list)
    started: float = field(default_factory=monotonic)
    seconds: float = 0.0

    def await_beginning(self) -> None:
        """Wait until it is about to run the command, and no more part of the server."""
        with suppress(EOFError):
            self._began.recv()
        self.started = monotonic()

    def signal(self, number: int) -> bool:
        """Send it a signal, unless it has ended."""
        if self._exitcode() is not None:
            return False
        with suppress(ProcessLookupError):
            os.kill(self._process.pid or 0, number)
            return True
        return False

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; whether it did in time."""
        until = monotonic() + seconds
        while self._exitcode() is None:
            if monotonic() >= until:
                return False
            sleep(0.005)
        if not self.seconds:
            self.seconds = monotonic() - self.started
        return True

    @property
    def status(self) -> int:
        """As a shell has it; a signal's number as a negative."""
        status = self._exitcode()
        assert status is not None
        return status

    def _exitcode(self) -> int | None:
        with ONE_AT_A_TIME:
            return self._process.exitcode

    @property
    def out(self) -> str:
        """What it wrote to its standard output."""
        return self.files.with_suffix(".out").read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """What it wrote to its standard error."""
        return self.files.with_suffix(".err").read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End it for sure, and forget its files."""
        with ONE_AT_A_TIME:
            self._process.kill()
            self._process.join()
        self._began.close()
        for suffix in (".out", ".err"):
            self.files.with_suffix(suffix).unlink(missing_ok=True)


def preload() -> None:
    """Have the server import everything."""
    CONTEXT.set_forkserver_preload(["boto3", "psycopg", "runtimedb_dagster.cli.main", __name__])


def start(arguments: Sequence[str], environment: Mapping[str, str], files: Path) -> Command:
    """Start a command line; what it writes goes to `files` with the endings `.out` and `.err`."""
    heard, told = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(list(arguments), dict(environment), str(files), told))
    with ONE_AT_A_TIME:
        process.start()
    told.close()
    return Command(arguments, files, process, heard)


def _run(arguments: list[str], environment: dict[str, str], files: str, told: Connection) -> None:
    from runtimedb_dagster.cli.main import main  # noqa: PLC0415 - the server has imported it

    for number, ending in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(files + ending, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
    os.environ.update(environment)
    status = 0
    told.send(True)
    try:
        if arguments[0] == READ_TWICE:
            _read_twice(arguments[1:])
        else:
            sys.argv = ["runtimedb", *arguments]
            main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except KeyboardInterrupt:
        status = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # what a fork inherits is not its own to tear down


READ_TWICE = "read-twice"
"""In place of a command: each statement is run twice in one block, with a pause, and must give the same rows."""


def _read_twice(statements: Sequence[str]) -> None:
    from runtimedb_dagster import RuntimeDB  # noqa: PLC0415
    from runtimedb_dagster.domain.errors import RuntimeDBError  # noqa: PLC0415

    try:
        with RuntimeDB() as db, db.query() as query:
            looks: list[Callable[[], list[tuple[object, ...]]]] = [
                lambda each=each: query.sql(each).fetchall()  # type: ignore[misc]
                for each in statements
            ]
            first = [look() for look in looks]
            sleep(0.05)
            if first != (second := [look() for look in looks]):
                sys.stderr.write(f"Torn: {first}, then {second}\n")
                sys.exit(3)
    except RuntimeDBError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(1)

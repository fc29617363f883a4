"""Faults to order, at the moments of a refresh and a sweep where they could do the most harm; for tests.

`RUNTIMEDB_FAILPOINTS=after_reserve=kill,before_commit=raise:2` kills the process after it has reserved, and fails its
second commit. A fault is `point=action`, then perhaps `@seconds`, then perhaps `:n` for the n-th time that the point is
passed (default: the first). Without the variable, to pass a point is to find that there are no faults.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import duckdb
from duckdb.func import PythonUDFType
from duckdb.sqltypes import BOOLEAN

from runtimedb_dagster.domain.errors import ConfigurationError

__all__ = ["ACTIONS", "POINTS", "VARIABLE", "arm", "hit", "passed_by_rows"]

logger = logging.getLogger(__name__)

VARIABLE = "RUNTIMEDB_FAILPOINTS"
FAULT = re.compile(r"(\w+)=(\w+)(?:@(\d+(?:\.\d+)?))?(?::([1-9]\d*))?")
DEFAULT_DELAY_SECONDS = 1.0

ACTIONS = ("kill", "raise", "delay", "drop")
"""SIGKILL to this process (after some seconds, if any are given, while it goes on); an I/O error; waiting; or losing
the answer: what was asked for was done, and the caller gets its driver's error for a lost connection."""

POINTS = {
    "after_reserve": ACTIONS[:3],
    "after_first_rows": ACTIONS[:3],  # passed by every 2,048 rows, roughly
    "after_close": ACTIONS[:3],
    # Of a version of several files: when rows of the base were written again, when the first of the new files is in
    # the storage and the next is not, and after each deletes file.
    "after_fold": ACTIONS[:3],
    "between_files": ACTIONS[:3],
    "after_deletes_file": ACTIONS[:3],
    "after_fsync": ACTIONS[:3],
    "after_rename": ACTIONS[:3],
    "after_upload_part": ACTIONS,
    "after_complete": ACTIONS,
    # Those of every transaction that writes. Inside, the commit has been asked for: a lost connection leaves it open
    # whether it took place. Here it did not; in `after_commit` it did.
    "before_commit": ACTIONS[:3],
    "inside_commit": ACTIONS,
    "after_commit": ACTIONS,
    "after_delete_file": ACTIONS[:3],
    "after_delete_row": ACTIONS[:3],
}
"""Which actions a point takes."""


@dataclass(frozen=True)
class _Fault:
    point: str
    action: str
    seconds: float | None
    turn: int


@dataclass
class _Armed:
    """The faults that are set, and how often each point was passed since."""

    text: str = ""
    faults: tuple[_Fault, ...] = ()
    passed: Counter[str] = field(default_factory=Counter)
    counting: threading.Lock = field(default_factory=threading.Lock)


_armed = _Armed()


def arm() -> None:
    """Take the faults that the environment orders. Counting starts when it orders others than before.

    Raises:
        ConfigurationError: a fault is malformed, or names what is not there.
    """
    global _armed  # noqa: PLW0603 - as the environment is, it is of the whole process
    text = os.environ.get(VARIABLE, "")
    if text != _armed.text:
        _armed = _Armed(text, tuple(_parsed(fault) for fault in text.split(",") if fault))


def hit(point: str, lost: Callable[[], Exception] | None = None) -> None:
    """Pass a point.

    Args:
        point: one of `POINTS`.
        lost: makes the error that a lost connection would raise here.
    """
    if not _armed.faults:
        return
    with _armed.counting:
        _armed.passed[point] += 1
        turn = _armed.passed[point]
    for fault in _armed.faults:
        if (fault.point, fault.turn) == (point, turn):
            _inject(fault, lost)


def passed_by_rows(point: str, duck: duckdb.DuckDBPyConnection, select: str) -> str:
    """A statement whose rows pass a point; the statement as it is, where no fault is ordered there."""
    if not any(fault.point == point for fault in _armed.faults):
        return select

    def passing(rows: Any) -> Any:
        hit(point)
        return rows

    name = f"runtimedb_failpoint_{uuid.uuid4().hex}"
    duck.create_function(name, passing, [BOOLEAN], BOOLEAN, type=PythonUDFType.ARROW, side_effects=True)
    return f"SELECT * FROM ({select}) WHERE {name}(true)"


def _parsed(text: str) -> _Fault:
    found = FAULT.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(
            f"{VARIABLE}: '{text}' is not a fault; write point=action, point=action@seconds or point=action:n, "
            "with commas in between"
        )
    point, action, seconds, turn = found.groups()
    if point not in POINTS:
        raise ConfigurationError(f"{VARIABLE}: there is no point '{point}'; there are {', '.join(POINTS)}")
    if action not in POINTS[point]:
        raise ConfigurationError(f"{VARIABLE}: {point} takes no '{action}'; it takes {', '.join(POINTS[point])}")
    return _Fault(point, action, float(seconds) if seconds else None, int(turn or 1))


def _inject(fault: _Fault, lost: Callable[[], Exception] | None) -> None:
    logger.warning("failpoint %s: %s", fault.point, fault.action)
    if fault.action == "kill":
        _kill(fault.seconds)
    elif fault.action == "delay":
        time.sleep(DEFAULT_DELAY_SECONDS if fault.seconds is None else fault.seconds)
    elif fault.action == "drop" and lost is not None:
        raise lost()
    else:
        raise OSError(errno.EIO, f"failpoint {fault.point}")


def _kill(seconds: float | None) -> None:
    if seconds is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()

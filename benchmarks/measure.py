"""Run sides alternately, each in a process of its own, and measure seconds, CPU seconds and peak memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import psutil

__all__ = ["Goal", "Result", "Section", "Side", "Trial", "alternate"]

SAMPLE_SECONDS = 0.02
MEGABYTE = 1 << 20
LONGEST_SECONDS = 1800


@dataclass(frozen=True)
class Side:
    """One of those that are compared: a command.

    Its last line of output, if that is JSON, says how many `seconds` the work took, which leaves out what comes before
    it, such as imports; else the whole command counts. What it has as `said` takes the place of `wrong`,
    and `figures` are numbers by name.

    Attributes:
        at_most: rounds that it takes part in, for the slow ones.
        missing: why it can't run, if so.
        wrong: what it makes of values that are hard to keep exact.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    at_most: int = 1_000
    missing: str | None = None
    wrong: str | None = None


@dataclass
class Result:
    """What was measured of one side, a list entry per round."""

    name: str
    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    failed: str | None = None
    wrong: str | None = None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Seconds; not a number if it never succeeded."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def peak(self) -> float:
        """Megabytes, of the worst round."""
        return max(self.megabytes, default=float("nan"))


@dataclass
class Trial:
    """Sides that did the same work; the first is the floor.

    Attributes:
        amount: how many things were done, where the time of each is of interest.
        wrong: what it is called that is wrong of each.
    """

    name: str
    results: list[Result]
    amount: int = 0
    wrong: str = "hard values"

    def of(self, name: str) -> Result:
        """The result of one side."""
        return next(result for result in self.results if result.name == name)

    def ratio(self, name: str, floor: str | None = None) -> float:
        """How many times as long as the floor one side took."""
        return self.of(name).median / (self.of(floor) if floor else self.results[0]).median


@dataclass(frozen=True)
class Goal:
    """A goal, what came of it, and whether it was met. The reasons where not are in reasons.json, by `id`."""

    id: str
    goal: str
    figure: str
    met: bool

    @classmethod
    def at_most(cls, name: str, what: str, figure: float, limit: float, unit: str) -> Goal:
        """A goal that a figure must not exceed."""
        return cls(name, f"{what}: ≤ {limit:g} {unit}", f"{_rounded(figure)} {unit}", figure <= limit)

    @classmethod
    def at_least(cls, name: str, what: str, figure: float, limit: float, unit: str) -> Goal:
        """A goal that a figure must reach."""
        return cls(name, f"{what}: ≥ {limit:,} {unit}", f"{_rounded(figure)} {unit}", figure >= limit)


@dataclass
class Section:
    """What one module measured."""

    title: str
    about: str
    trials: list[Trial]
    goals: list[Goal]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As results.json keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Section:
        """From results.json."""
        trials = [
            Trial(each.pop("name"), [Result(**result) for result in each.pop("results")], **each)
            for each in kept["trials"]
        ]
        return cls(kept["title"], kept["about"], trials, [Goal(**goal) for goal in kept["goals"]], kept["notes"])


def alternate(name: str, sides: Sequence[Side], repeat: int, amount: int = 0, wrong: str = "hard values") -> Trial:
    """Run all sides once, then all again, so that what the machine does besides hits them alike.

    A side that fails is not asked again.
    """
    results = [Result(side.name, failed=side.missing, wrong=side.wrong) for side in sides]
    for turn in range(repeat):
        for side, result in zip(sides, results, strict=True):
            if turn < side.at_most and result.failed is None:
                _measure(side, result)
        print(f"{name}: {turn + 1} of {repeat}", flush=True)
    return Trial(name, results, amount, wrong)


def _measure(side: Side, result: Result) -> None:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = perf_counter()
        process = subprocess.Popen(
            side.command, env={**os.environ, **side.environment}, stdout=out, stderr=err, stdin=subprocess.DEVNULL
        )
        memory = _Memory(process.pid)
        killer = threading.Timer(LONGEST_SECONDS, process.kill)
        killer.start()
        # wait4 tells the CPU time of this process and of the children that it waited for.
        _, status, usage = os.wait4(process.pid, 0)
        wall = perf_counter() - started
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = memory.stop()
        out.seek(0)
        err.seek(0)
        if process.returncode:
            result.failed = _last_line(err.read()) or f"it ended with {process.returncode}"
            return
        said = _last_line(out.read())
    told = _told(said)
    result.seconds.append(round(float(told.get("seconds", wall)), 4))
    result.wrong = told.get("said", result.wrong)
    result.figures = told.get("figures", result.figures)
    result.megabytes.append(round(peak / MEGABYTE, 1))
    result.cpu.append(round(usage.ru_utime + usage.ru_stime, 3))


def _told(said: str) -> dict[str, Any]:
    with suppress(ValueError):
        if isinstance(told := json.loads(said), dict):
            return told
    return {}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


class _Memory:
    """Samples the memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> int:
        """Bytes at the peak."""
        self._done.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            with suppress(psutil.Error):
                top = psutil.Process(self._pid)
                self._peak = max(self._peak, sum(map(_resident, [top, *top.children(recursive=True)])))


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _rounded(figure: float) -> str:
    """To the digit that a limit may hang on."""
    if abs(figure) >= 100:  # noqa: PLR2004
        return f"{figure:,.0f}"
    return f"{figure:.3f}" if abs(figure) < 0.1 else f"{figure:.2f}"  # noqa: PLR2004


def peers_home() -> Path:
    """Where the peers' environments are."""
    return Path(os.environ.get("RUNTIMEDB_HOME", ".runtimedb")).absolute() / "bench-peers"

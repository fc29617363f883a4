"""The faults of a refresh and of a sweep, each with what must serve afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from runtimedb_dagster.common.failpoints import POINTS

__all__ = ["SWAP", "Case", "cases", "late", "short"]

# What a refresh of one table commits, in this order.
ENTER, RESERVE, SWAP, LEAVE = 1, 2, 3, 4
# What a sweep does.
CLAIM, FINISH = 1, 2
# What a refresh of a table that did not change commits in place of the swap.
KEEP, FORGET = 3, 4
# What a refresh by changes commits: a number before the source is asked, a lease on the base, then as above.
NUMBER, LEASE, RESERVE_FILES, SWAP_FILES, END_LEASE, LEAVE_CHANGES = 2, 3, 4, 5, 6, 7
# By then one of two threads has written a row group.
FIRST_ROWS = 130

Serves = Literal["old", "new", "either"]


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        serves: which version, the one before or the one that is being made.
        job: what is done meanwhile; `unchanged` is a refresh of what the table holds already, `changes` one of a table
            that keeps a data file, and gets another one and a deletes file.
        seconds: after how long it kills, or for how long it delays.
        turn: at which passage of the point.
        swept: while it is delayed, a sweep past the write lease comes by.
        fails: whether the job ends with an error, unless it is killed.
        more: other faults beside it.
    """

    point: str
    action: str
    serves: Serves
    job: Literal["refresh", "sweep", "unchanged", "changes"] = "refresh"
    turn: int = 1
    seconds: float | None = None
    swept: bool = False
    fails: bool = True
    more: str = ""

    @property
    def timed(self) -> bool:
        """Whether it depends on time how the job ends."""
        return self.action == "kill" and self.seconds is not None

    @property
    def fault(self) -> str:
        """As the variable has it."""
        # Not as 3e-05, which is how small numbers print themselves.
        seconds = "" if self.seconds is None else f"@{self.seconds:.6f}".rstrip("0").rstrip(".")
        return f"{self.point}={self.action}{seconds}:{self.turn}"

    @property
    def faults(self) -> str:
        """With those beside it."""
        return f"{self.fault},{self.more}" if self.more else self.fault

    @property
    def name(self) -> str:
        """For a table: the same whatever was drawn by lot."""
        fault = replace(self, seconds=None if self.seconds is None else 0).fault.replace("@0", "@…")
        return f"{self.job}: {fault}" + (", swept meanwhile" if self.swept else "")


def at(storage: str) -> list[Case]:
    """The points of a refresh and of a sweep, each with its turn and with what serves after a kill there."""
    names = ("after_fsync", "after_rename") if storage == "files" else ("after_upload_part", "after_complete")
    return [
        Case("after_reserve", "", "old"),
        Case("after_first_rows", "", "old", turn=FIRST_ROWS),
        Case("after_close", "", "old"),
        *(Case(name, "", "old") for name in names),
        *(_commit("before_commit", turn, SWAP) for turn in range(ENTER, LEAVE + 1)),
        *(_commit("inside_commit", turn, SWAP) for turn in range(ENTER, LEAVE + 1)),
        *(_commit("after_commit", turn, SWAP - 1) for turn in range(ENTER, LEAVE + 1)),
        Case("after_delete_file", "", "new", "sweep"),
        Case("after_delete_file", "", "new", "sweep", turn=2),
        Case("after_delete_row", "", "new", "sweep"),
        *(Case(f"{when}_commit", "", "new", "sweep", turn) for when in ("before", "after") for turn in (CLAIM, FINISH)),
        *(Case(f"{when}_commit", "", "old", "unchanged", KEEP) for when in ("before", "inside", "after")),
        Case("after_delete_file", "", "old", "unchanged"),
        *(Case(name, "", "old", "changes") for name in ("after_reserve", "after_fold", "after_close")),
        *(Case(name, "", "old", "changes", turn) for name in names for turn in (1, 2)),
        *(Case(name, "", "old", "changes") for name in ("between_files", "after_deletes_file")),
        *(_of_changes(turn, "before") for turn in range(NUMBER, LEAVE_CHANGES + 1)),
        *(_of_changes(turn, "inside") for turn in range(NUMBER, LEAVE_CHANGES + 1)),
        *(_of_changes(turn, "after") for turn in range(NUMBER, LEAVE_CHANGES + 1)),
    ]


def _of_changes(turn: int, when: str) -> Case:
    last_of_old = SWAP_FILES - 1 if when == "after" else SWAP_FILES
    # Neither a lease that can't be ended nor a turn is a reason to fail.
    fails = turn not in (END_LEASE, LEAVE_CHANGES)
    return Case(f"{when}_commit", "", "old" if turn <= last_of_old else "new", "changes", turn, fails=fails)


def _commit(point: str, turn: int, last_of_old: int) -> Case:
    # When the turn on the connection can't be given up, the table has been refreshed all the same.
    return Case(point, "", "old" if turn <= last_of_old else "new", turn=turn, fails=turn != LEAVE)


def short(storage: str, *actions: str) -> Iterator[Case]:
    """Each point once, with these actions: of the commits, those which swap."""
    seen = set()
    for place in at(storage):
        by_changes = place.job == "changes"
        name = (place.point, by_changes)
        swaps = place.turn == (SWAP_FILES if by_changes else SWAP)
        if name not in seen and (swaps or "commit" not in place.point):
            seen.add(name)
            yield from _with(place, actions)


def cases(storage: str) -> Iterator[Case]:
    """Every point with every action."""
    for place in at(storage):
        yield from _with(place, ("kill", "raise", "drop"))
        yield replace(place, action="delay", seconds=0.05, serves="new", fails=False)
    for turn in range(ENTER, LEAVE + 1):
        yield Case("inside_commit", "kill", "old" if turn < SWAP else "either", turn=turn, seconds=0.0005)
    yield from (Case(f"{when}_commit", "kill", "old", "unchanged", FORGET) for when in ("before", "inside", "after"))
    yield from late()


def late() -> Iterator[Case]:
    """A refresh that sleeps through a sweep past its write lease, and then wants to go on."""
    for point in ("after_reserve", "after_close"):
        yield Case(point, "delay", "old", seconds=2, swept=True)


def _with(place: Case, actions: Iterable[str]) -> Iterator[Case]:
    for action in actions:
        if action in POINTS[place.point]:
            yield replace(place, action=action)

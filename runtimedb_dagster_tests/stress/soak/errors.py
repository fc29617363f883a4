"""Which errors a worker may meet, and when."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Met", "Outage", "sort"]

SKEWED = "clock off"
# After a restart, until every pool has noticed, every retry is over, and a slow machine has caught up.
AFTERMATH_SECONDS = 15


@dataclass(frozen=True)
class Outage:
    """From when until when a server was away."""

    server: str
    start: float
    end: float


@dataclass(frozen=True)
class Met:
    """An error that a worker met."""

    process: str
    at: float
    role: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.role} ({self.process}): {self.kind}: {self.text}"


@dataclass(frozen=True)
class Expected:
    """Errors that are part of a soak.

    Attributes:
        role, process: who may meet it; the others may not.
        outage: while, and shortly after, that server is away only.
    """

    name: str
    kinds: str
    text: str = ""
    role: str = ""
    process: str = ""
    outage: Literal["", "source", "catalog"] = ""

    def covers(self, met: Met, outages: Sequence[Outage]) -> bool:
        return (
            met.role != "long reader"
            and re.fullmatch(self.kinds, met.kind) is not None
            and re.search(self.text, met.text) is not None
            and self.role in met.role
            and self.process in met.process
            and (not self.outage or any(_within(met.at, each) for each in outages if each.server == self.outage))
        )


# What libpq and DuckDB say of a server that goes away.
AWAY = (
    "terminating connection|server closed the connection|is shutting down|Connection refused|the database system is"
    "|onnection to .* lost|no connection to the server|could not (receive|send) data"
    "|during SSL exchange|does not answer"
)
EXPECTED = (
    Expected("superseded by a later refresh", "SupersededError"),
    Expected("its clock is an hour behind: its file was swept", "ReservationLostError", process=SKEWED),
    Expected("dropped meanwhile", "RefreshError", "was dropped while it was refreshed|the source no longer has it"),
    Expected("altered meanwhile", "RefreshError", "may have changed meanwhile"),
    Expected("not there yet or no longer", "TableNotFoundError", r"(public|other)\."),
    Expected("not there yet or no longer", "ConnectionNotFoundError", "other"),
    Expected("no version yet", "TableNotCachedError", r"\.public\."),
    Expected("the source is away", "SourceUnavailableError|TableUnavailableError", outage="source"),
    Expected("the source is away", "SourceError|RefreshError", AWAY, outage="source"),
    Expected("the source is away", "OperationalError|AdminShutdown|CannotConnectNow", outage="source", role="mutator"),
    Expected(
        "the source is away", "OperationalError|AdminShutdown|CannotConnectNow", outage="source", role="pair refresher"
    ),
    Expected("the catalog is away", "CatalogUnavailableError", outage="catalog"),
    Expected("a commit of unknown outcome", "CatalogError", "outcome is unknown", outage="catalog"),
)


@dataclass
class Sorted:
    """Errors that were expected, counted, and those that were not."""

    expected: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unexpected: list[Met] = field(default_factory=list)


def sort(errors: Sequence[Met], outages: Sequence[Outage]) -> Sorted:
    """Which of the errors were expected."""
    found = Sorted()
    for met in errors:
        name = next((rule.name for rule in EXPECTED if rule.covers(met, outages)), None)
        if name is None:
            found.unexpected.append(met)
        else:
            found.expected[met.process, met.role, name] += 1
    return found


def _within(at: float, outage: Outage) -> bool:
    return outage.start <= at <= outage.end + AFTERMATH_SECONDS

"""The one place that decides how a table is refreshed: not at all, by what changed, or whole; and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from runtimedb_dagster.domain.errors import RowsGoneError
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.domain.tables import Table
from runtimedb_dagster.domain.versions import Version
from runtimedb_dagster.sources.base import Base, Changed, Reading, Same, Unknown

__all__ = [
    "Changes",
    "Full",
    "Keep",
    "Strategy",
    "audit_due",
    "base_of",
    "decide",
    "may_be_surveyed",
    "require_rows",
    "why_full",
]

# From there on to read the table whole costs no more.
MOST_CANDIDATES = 0.5
# How often what is trusted is looked at.
FULL_EVERY = timedelta(days=7)


@dataclass(frozen=True)
class Full:
    """The whole table is read.

    Attributes:
        reason: why, in words.
    """

    reason: str


@dataclass(frozen=True)
class Changes:
    """Only what may have changed is read; the rest is kept from the base."""

    base: Version
    changed: Changed


@dataclass(frozen=True)
class Keep:
    """Nothing is read: the source says that the base is its content.

    Attributes:
        trusts: what is trusted for that; None if it proved it.
    """

    base: Version
    trusts: str | None = None


Strategy = Full | Changes | Keep


def why_full(table: Table, *, full: bool) -> str | None:
    """Why a table has to be read whole, as far as that is known without its source; None if it is not known."""
    version = table.version
    if full:
        return "that was asked for"
    if version is None:
        return "it has no version yet"
    if table.distrusted:
        return table.distrusted
    if version.position is None:
        return "the source has not said how to tell later what changed"
    if version.recipe is None or version.hashed_by is None:
        return "its version is of an earlier release"
    return None


def may_be_surveyed(table: Table) -> bool:
    """Whether a table's version is all that a source has to be asked about: it would be made in the same way today."""
    version = table.version
    return version is not None and table.recipe == version.recipe and why_full(table, full=False) is None


def audit_due(table: Table, options: ConnectionOptions, now: datetime) -> bool:
    """Whether a refresh has to compare what changes make of a table with the whole of it."""
    audited, every = table.audited_at, options.audit_every
    if table.version is not None and table.version.trusts:
        often = options.full_every or FULL_EVERY
        every = often if every is None else min(every, often)
    return every is not None and (audited is None or now - audited >= every)


def require_rows(table: Table, rows: int, options: ConnectionOptions, *, confirm: bool) -> None:
    """Refuse a version that lacks more rows than the option max_delete_ratio allows, unless that is confirmed.

    Raises:
        RowsGoneError
    """
    most, before = options.max_delete_ratio, table.version.rows if table.version else 0
    if most is None or confirm or before - rows <= most * before:
        return
    raise RowsGoneError(
        f"{table.ref}: the source has {rows} rows, the version that serves has {before}, and the option "
        f"max_delete_ratio allows {most:g} of them to go; nothing was published. If that is right, confirm it: "
        f"`runtimedb refresh {table.connection} … --data --confirm`."
    )


def base_of(version: Version) -> Base:
    """What a source has to know of a version; of one for which `why_full` knows no reason.

    Raises:
        ValueError: it has no position or recipe.
    """
    if version.position is None or version.recipe is None:
        raise ValueError(f"version {version.id} is no base")
    return Base(version.position, version.rows, version.recipe, version.columns)


def decide(base: Version, reading: Reading) -> Strategy:
    """How to refresh a table that has a base, by what its source says."""
    match reading.delta:
        case Same(trusts):
            return Keep(base, trusts)
        case Unknown(reason):
            return Full(reason)
        case Changed(candidates, count) as changed:
            if candidates is not None and count is not None and candidates > max(count, base.rows) * MOST_CANDIDATES:
                return Full(f"{candidates} of its {count} rows may have changed")
            return Changes(base, changed)

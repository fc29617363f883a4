"""Where rows of a base are gone, before any key is read.

Rows are counted by even ranges of a whole number of the key, here and in the source. All rows that the source holds are
known here, so a range with as many of them has the same; the keys of the others alone are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import duckdb

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.sources.base import Ranges, Reading

__all__ = ["Keys", "KeysOf", "Narrowed", "differing", "ranges_over", "usable", "worth_counting"]

# Below, all keys are read as fast.
FEWEST_ROWS = 100_000
# So many rows to a range, as long as the source has no more than so many ranges to tell.
ROWS_PER_RANGE, MOST_RANGES = 100, 50_000
# With more rows gone than this part of the ranges, all keys are read, and counts would be for nothing.
MOST_GONE = 0.05
# From this part of the ranges on, all keys are read.
MOST_DIFFERENT = 0.5
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
# So that no difference of two is too large for 64 bits.
FARTHEST = 2**62


class Keys(Protocol):
    """The keys that the source has, in the snapshot of a reading."""

    def count(self, ranges: Ranges) -> dict[int | None, int] | None:
        """How many rows each range has, those without rows left out; None if the source is not asked such things."""

    def write(self, narrowed: Narrowed | None) -> tuple[Path, int]:
        """Write all keys, or those of some ranges, to a file; how many there are."""


class Narrowed:
    """Ranges that have other rows here than in the source."""

    def __init__(self, ranges: Ranges, numbers: Sequence[int], rows: int) -> None:
        """Those of some numbers, in which the source has so many rows."""
        self.ranges, self.numbers, self.rows = ranges, numbers, rows


def usable(key: Sequence[str], columns: Sequence[VersionColumn], rows: int) -> str | None:
    """The column of a key by whose values rows can be counted; None if there is none, or too few rows."""
    if rows < FEWEST_ROWS:
        return None
    whole = {each.name for each in columns if each.type in WHOLE and each.mask is None}
    return next((name for name in key if name in whole), None)


def ranges_over(duck: duckdb.DuckDBPyConnection, column: str, scans: Sequence[str], rows: int) -> Ranges | None:
    """Even ranges over all values of a column."""
    union = " UNION ALL ".join(f"SELECT {identifier(column)} AS v FROM {scan}" for scan in scans)
    ((lowest, highest),) = duck.execute(f"SELECT min(v), max(v) FROM ({union})").fetchall()
    if lowest is None or lowest <= -FARTHEST or highest >= FARTHEST:
        return None
    count = min(max(rows // ROWS_PER_RANGE, 1), MOST_RANGES)
    return Ranges(column, int(lowest), (int(highest) - int(lowest)) // count + 1)


def worth_counting(gone: int, known: dict[int | None, int]) -> bool:
    """Whether few enough rows are gone; each may be in a range of its own, all of which is read then."""
    return gone <= len(known) * MOST_GONE


def differing(known: dict[int | None, int], there: dict[int | None, int], ranges: Ranges) -> Narrowed | None:
    """The ranges of which the source has fewer rows than are known here; None if all keys are to be read."""
    numbers = [number for number in known.keys() | there.keys() if known.get(number, 0) != there.get(number, 0)]
    if None in numbers or len(numbers) > len(known) * MOST_DIFFERENT:
        return None
    found = sorted(number for number in numbers if number is not None)
    return Narrowed(ranges, found, sum(there.get(number, 0) for number in found))


class KeysOf:
    """The keys of a reading, in files of a directory."""

    def __init__(self, reading: Reading, key: Sequence[str], file: Path) -> None:
        """Those of some columns."""
        self._reading, self._key, self._file = reading, key, file

    def count(self, ranges: Ranges) -> dict[int | None, int] | None:
        """See `Keys`."""
        return self._reading.count_by(ranges)

    def write(self, narrowed: Narrowed | None) -> tuple[Path, int]:
        """See `Keys`."""
        self._file.touch(mode=0o600)
        if narrowed is None:
            return self._file, self._reading.write_keys(self._file, self._key)
        return self._file, self._reading.write_keys(self._file, self._key, narrowed.ranges, narrowed.numbers)

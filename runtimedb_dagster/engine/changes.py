"""What a refresh by changes makes of its base: which of its rows went, which came, and what is folded.

The rows that may have changed were written to a file. Those of the base that they replace are found by key, or are all
those of a range; those that the source has deleted are found by the keys that it still has, which are asked for only
if the count of the source's rows says that some are gone. What comes out must have as many rows as the source: since
none of those that the source holds can be missing, equal counts prove that none is left over either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from runtimedb_dagster.common.sql import identifier
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import NO_SUMS, DataFile, Sums, Version
from runtimedb_dagster.engine.fingerprint import content, fingerprint, row_hashes, scan
from runtimedb_dagster.engine.folding import folded_of
from runtimedb_dagster.engine.matching import Matching, NotMergedError
from runtimedb_dagster.engine.narrowing import Keys
from runtimedb_dagster.query.live import POSITION, live_rows, scan_of
from runtimedb_dagster.sources.base import Changed

__all__ = ["Kept", "Merge", "Merged", "differences", "merge"]

# Of rows that differ.
MOST_SHOWN = 20


@dataclass(frozen=True)
class Kept:
    """A data file of the base that the new version has, too.

    Attributes:
        number: its place in the base.
        gone: how many of its rows go now.
        sums: of those.
    """

    file: DataFile
    number: int
    gone: int
    sums: Sums

    @property
    def left(self) -> int:
        """How many of its rows stay."""
        return self.file.live_rows - self.gone

    @property
    def left_sums(self) -> Sums:
        """Over those.

        Raises:
            NotMergedError: those of the file are not known.
        """
        if self.file.live_sums is None:
            raise NotMergedError("the sums of a file of its version are not known")
        return self.file.live_sums - self.sums


@dataclass(frozen=True)
class Merged:
    """What the new version is made of.

    Attributes:
        rows: how many it has.
        fingerprint: of it.
        new_rows: how many its new data file has; 0: it has none.
        new_sums: over those.
        select: SQL that yields them; None if that is just all that came.
        kept: the data files of the base that it keeps, the oldest first.
        folded: how many rows are written again.
        rows_read: of the source: rows that came, and keys.
    """

    rows: int
    fingerprint: str
    new_rows: int
    new_sums: Sums
    select: str | None
    kept: Sequence[Kept]
    folded: int
    inserted: int
    updated: int
    deleted: int
    rows_read: int


@dataclass
class Merge:
    """The merge of what came into a base, in temporary tables of a connection of DuckDB's.

    Attributes:
        duck: reads the storage and files of this machine.
        locate: what DuckDB reads a file of the storage from.
        base: the version.
        came: the file of the rows that may have changed, and how many there are.
        changed: what the source said.
        keys: those that the source has.
        fold_below: a version of at most so many rows is kept in one data file.
    """

    ref: TableRef
    duck: duckdb.DuckDBPyConnection
    locate: Callable[[str], str]
    base: Version
    came: Path
    came_rows: int
    changed: Changed
    keys: Keys
    fold_below: int
    _files: list[DataFile] = field(default_factory=list)
    _hashes: tuple[str, str] = ("", "")

    def result(self) -> Merged:
        """What comes out.

        Raises:
            NotMergedError: the table has to be read whole.
            RefreshError: the key is none.
        """
        came = scan(self.duck, str(self.came))
        self._hashes = row_hashes(came, self.base.columns)
        self._files = self._with_sums()
        matching = Matching(
            self.ref,
            self.duck,
            self.locate,
            self.base,
            self._files,
            self.came,
            self.came_rows,
            self.changed,
            self._hashes,
            self.keys,
        )
        inserted, updated, same = matching.match()
        deleted = matching.delete()
        gone = matching.gone()
        dropped, dropped_sums = matching.dropped(same)
        _, came_sums = content(came, self.base.columns)
        kept, folded = self._fold([self._kept(number, gone) for number in range(len(self._files))], inserted + updated)
        new_sums = sum((each.left_sums for each in folded), came_sums - dropped_sums)
        new_rows = self.came_rows - dropped + sum(each.left for each in folded)
        total = sum((each.left_sums for each in kept), new_sums)
        rows = new_rows + sum(each.left for each in kept)
        return Merged(
            rows=rows,
            fingerprint=fingerprint(came, self.base.columns, rows, total),
            new_rows=new_rows,
            new_sums=new_sums,
            select=self._select(folded, dropped),
            kept=kept,
            folded=sum(each.left for each in folded),
            inserted=inserted,
            updated=updated,
            deleted=deleted,
            rows_read=matching.rows_read,
        )

    def differences(self, merged: Merged, whole: Path, key: Sequence[str]) -> list[str]:
        """Keys, or whole rows where there is no key, of which one side alone has just such a row; not all of many.

        Args:
            merged: what came out.
            whole: a file of what the source holds.
            key: the columns that are shown.
        """
        parts = [self._live(each) for each in merged.kept]
        parts += [merged.select or f"SELECT * FROM {scan_of([str(self.came)])}"] if merged.new_rows else []
        return differences(self.duck, parts, whole, self._hashes, key or [each.name for each in self.base.columns])

    def hashes(self) -> tuple[str, str]:
        """SQL of the two hashes of a row."""
        return self._hashes

    def positions(self, kept: Kept) -> str:
        """SQL that yields all positions of a kept file that are no longer part of the version."""
        before = kept.file.deletes
        earlier = f"SELECT pos FROM {scan_of([self.locate(before.path)])} UNION ALL " if before else ""
        return f"{earlier}SELECT pos FROM gone WHERE file = {kept.number}"

    def _with_sums(self) -> list[DataFile]:
        """The base's files, with sums of this DuckDB."""
        if self.base.hashed_by == duckdb.__version__ and all(file.live_sums for file in self.base.files):
            return list(self.base.files)
        return [self._summed(file) for file in self.base.files]

    def _summed(self, file: DataFile) -> DataFile:
        rows, sums = content(scan(self.duck, self.locate(file.path)), self.base.columns)
        if file.deletes is None:
            return self._require(file, rows, replace(file, sums=sums))
        (live,) = live_rows([file], self.locate)
        _, left = content(self.duck.sql(live), self.base.columns)
        return self._require(file, rows, replace(file, sums=sums, deletes=replace(file.deletes, sums=sums - left)))

    def _require(self, file: DataFile, rows: int, summed: DataFile) -> DataFile:
        if rows != file.rows:
            raise NotMergedError(f"a file of its version, {self.locate(file.path)}, does not hold what it should")
        return summed

    def _kept(self, number: int, gone: dict[int, tuple[int, Sums]]) -> Kept:
        return Kept(self._files[number], number, *gone.get(number, (0, NO_SUMS)))

    def _fold(self, files: Sequence[Kept], coming: int) -> tuple[list[Kept], list[Kept]]:
        """Which files are kept, and which are written again with what comes; empty ones are neither."""
        left = [each for each in files if each.left]
        folded = folded_of([(each.left, each.file.rows) for each in left], coming, self.fold_below)
        touched = coming or any(each.gone for each in files)
        if not touched:
            folded = set()
        return (
            [each for place, each in enumerate(left) if place not in folded],
            [each for place, each in enumerate(left) if place in folded],
        )

    def _select(self, folded: Sequence[Kept], dropped: int) -> str | None:
        if not folded and not dropped:
            return None
        parts = [self._live(each) for each in folded]
        if dropped < self.came_rows:
            without = f"ANTI JOIN same ON live.{POSITION} = same.pos" if dropped else ""
            parts.append(f"SELECT live.* FROM {scan_of([str(self.came)])} live {without}")
        return " UNION ALL ".join(parts)

    def _live(self, kept: Kept) -> str:
        location = scan_of([self.locate(kept.file.path)])
        if not kept.gone and not kept.file.deletes:
            return f"SELECT * FROM {location}"
        return f"SELECT live.* FROM {location} live ANTI JOIN ({self.positions(kept)}) out ON live.{POSITION} = out.pos"


def differences(
    duck: duckdb.DuckDBPyConnection, parts: Sequence[str], whole: Path, hashes: tuple[str, str], shown: Sequence[str]
) -> list[str]:
    """Some columns of rows that are among the rows of `parts`, SQL, or in the file `whole`, and not among both."""
    listed = ", ".join(map(identifier, shown))
    hashed = f"SELECT {hashes[0]} AS a, {hashes[1]} AS b, concat_ws(', ', {listed}) AS shown FROM"
    empty = f"SELECT * FROM {scan_of([str(whole)])} LIMIT 0"
    sides = [f"{hashed} ({' UNION ALL '.join(parts) or empty})", f"{hashed} {scan_of([str(whole)])}"]
    found = {
        text
        for one, other in (sides, reversed(sides))
        for (text,) in duck.execute(
            f"SELECT DISTINCT shown FROM (({one}) EXCEPT ALL ({other})) LIMIT {MOST_SHOWN // 2}"
        ).fetchall()
    }
    return sorted(found)


def merge(work: Merge) -> Merged:
    """What comes of a merge.

    Raises:
        NotMergedError: the table has to be read whole.
        RefreshError: the key is none.
    """
    try:
        return work.result()
    except duckdb.Error as error:
        raise NotMergedError(f"its version can't be read: {str(error).splitlines()[0]}") from error

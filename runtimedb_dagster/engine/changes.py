"""What a refresh by changes makes of its base: which of its rows went, which came, and what is folded.

The rows that may have changed were written to a file. Those of the base that they replace are found by key, or are all
those of a range; those that the source has deleted are found by the keys that it still has, which are asked for only
if the count of the source's rows says that some are gone. What comes out must have as many rows as the source: since
none of those that the source holds can be missing, equal counts prove that none is left over either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.errors import RefreshError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import NO_SUMS, DataFile, Sums, Version
from runtimedb_dagster.engine.fingerprint import content, fingerprint, row_hashes, scan
from runtimedb_dagster.query.live import POSITION, live_rows, scan_of
from runtimedb_dagster.sources.base import Changed

__all__ = ["Kept", "Merge", "Merged", "NotMergedError", "differences", "folded_of", "merge"]

MOST_FILES = 16
# Of rows that differ.
MOST_SHOWN = 20
# A data file of which more than this part is deleted is folded.
MOST_DELETED = 0.25


class NotMergedError(Exception):
    """What came does not make the base what the source holds: the table has to be read whole."""

    def __init__(self, reason: str, drift: str = "") -> None:
        """For a reason in words; `drift` is what an audit found."""
        super().__init__(reason)
        self.drift = drift


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
        write_keys: writes the keys that the source has to a file, by name, and says how many there are.
        fold_below: a version of at most so many rows is kept in one data file.
    """

    ref: TableRef
    duck: duckdb.DuckDBPyConnection
    locate: Callable[[str], str]
    base: Version
    came: Path
    came_rows: int
    changed: Changed
    write_keys: Callable[[], tuple[Path, int]]
    fold_below: int
    _files: list[DataFile] = field(default_factory=list)
    _hashes: tuple[str, str] = ("", "")
    _read: int = 0

    def result(self) -> Merged:
        """What comes out.

        Raises:
            NotMergedError: the table has to be read whole.
            RefreshError: the key is none.
        """
        self._read = self.came_rows
        came = scan(self.duck, str(self.came))
        self._hashes = row_hashes(came, self.base.columns)
        self._files = self._with_sums()
        self.duck.execute("CREATE TEMP TABLE gone (file INTEGER, pos BIGINT, a UBIGINT, b UBIGINT)")
        inserted, updated, same = self._match()
        deleted = self._delete()
        gone = self._gone()
        dropped, dropped_sums = self._dropped(same)
        _, came_sums = content(came, self.base.columns)
        kept, folded = self._fold([self._kept(number, gone) for number in range(len(self._files))], inserted + updated)
        new_sums = sum((each.file.live_sums - each.sums for each in folded), came_sums - dropped_sums)  # type: ignore[operator]
        new_rows = self.came_rows - dropped + sum(map(_left, folded))
        total = sum((each.file.live_sums - each.sums for each in kept), new_sums)  # type: ignore[operator]
        rows = new_rows + sum(map(_left, kept))
        return Merged(
            rows=rows,
            fingerprint=fingerprint(came, self.base.columns, rows, total),
            new_rows=new_rows,
            new_sums=new_sums,
            select=self._select(folded, dropped),
            kept=kept,
            folded=sum(map(_left, folded)),
            inserted=inserted,
            updated=updated,
            deleted=deleted,
            rows_read=self._read,
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

    # Which rows of the base go

    def _match(self) -> tuple[int, int, bool]:
        """Have the rows of the base go that are replaced; how many rows are new, how many replaced, any the same."""
        if self.changed.range is None and self.base.rows + self.came_rows == self.changed.count:
            return self.came_rows, 0, False
        if not self.came_rows and self.changed.range is None:
            return 0, 0, False
        self._require_positions()
        if self.changed.range is not None:
            self._find("gone", f"WHERE {self.changed.range}")
        if not self.changed.key:
            return self._match_range()
        return self._match_keys()

    def _match_range(self) -> tuple[int, int, bool]:
        """Without a key, a range goes as a whole and comes again."""
        if self.changed.range is None:
            raise NotMergedError("rows of it have changed, and it has no key to tell which")
        ((gone, first, second),) = self.duck.execute(
            "SELECT count(*), coalesce(sum(a::HUGEINT), 0), coalesce(sum(b::HUGEINT), 0) FROM gone"
        ).fetchall()
        rows, sums = content(scan(self.duck, str(self.came)), self.base.columns)
        if gone == rows and sums == Sums(first, second):
            self.duck.execute("DELETE FROM gone")
            self._mark_all_the_same()
            return 0, 0, True
        return max(rows - gone, 0), min(rows, gone), False

    def _mark_all_the_same(self) -> None:
        self.duck.execute(
            f"CREATE TEMP TABLE same AS SELECT {POSITION} AS pos, 0::UBIGINT AS a, 0::UBIGINT AS b "
            f"FROM {scan_of([str(self.came)])}"
        )

    def _match_keys(self) -> tuple[int, int, bool]:
        keys, (first, second) = self._keys(), self._hashes
        listed = ", ".join(f"{identifier(name)} AS {alias}" for name, alias in keys.items())
        self.duck.execute(
            f"CREATE TEMP TABLE came AS SELECT {POSITION} AS pos, {first} AS a, {second} AS b, {listed} "
            f"FROM {scan_of([str(self.came)])}"
        )
        self._require_unique(keys.values())
        self.duck.execute("CREATE TEMP TABLE hit AS SELECT *, 0 AS file FROM came LIMIT 0")
        on = " AND ".join(f"live.{identifier(name)} = came.{alias}" for name, alias in keys.items())
        self._find("hit", f"SEMI JOIN came ON {on}", listed)
        equal = " AND ".join(f"hit.{alias} = came.{alias}" for alias in keys.values())
        self.duck.execute(
            f"CREATE TEMP TABLE same AS SELECT came.pos, came.a, came.b, hit.file, hit.pos AS place FROM came JOIN hit "
            f"ON {equal} WHERE came.a = hit.a AND came.b = hit.b"
        )
        self.duck.execute("DELETE FROM gone USING same WHERE gone.file = same.file AND gone.pos = same.place")
        self.duck.execute(
            "INSERT INTO gone SELECT file, pos, a, b FROM hit "
            "ANTI JOIN same ON hit.file = same.file AND hit.pos = same.place "
            "ANTI JOIN gone ON hit.file = gone.file AND hit.pos = gone.pos"
        )
        ((hits, same),) = self.duck.execute("SELECT (SELECT count(*) FROM hit), (SELECT count(*) FROM same)").fetchall()
        return self.came_rows - hits, hits - same, bool(same)

    def _delete(self) -> int:
        """Have the rows of the base go that the source has no more, if there are any; how many."""
        ((gone,),) = self.duck.execute("SELECT count(*) FROM gone").fetchall()
        ranged = 0
        if self.changed.range is not None:
            ranged = gone - self._replaced() if self.changed.key else max(gone - self.came_rows, 0)
        rows = self.base.rows - gone + self._coming()
        count = self.changed.count
        if count is None or rows == count:
            return ranged
        if rows < count:
            raise NotMergedError(f"the source has {count} rows, of which only {rows} are known by what changed")
        if not self.changed.key:
            raise NotMergedError("rows of it were deleted, and it has no key to tell which")
        self._require_positions()
        file, keys = self.write_keys()
        self._read += keys
        if keys != count:
            raise NotMergedError(f"the source has {count} rows and {keys} keys")
        names = self._keys()
        on = " AND ".join(f"live.{identifier(name)} = kept.{identifier(name)}" for name in names)
        self.duck.execute(
            "CREATE TEMP TABLE missing (file INTEGER, pos BIGINT); "
            "CREATE TEMP TABLE deleted (file INTEGER, pos BIGINT, a UBIGINT, b UBIGINT)"
        )
        # First by their keys alone: whole rows are read of those that are missing.
        self._find("missing", f"ANTI JOIN {scan_of([str(file)])} kept ON {on}", places=True)
        self._find("deleted", f"SEMI JOIN missing ON missing.file = {{number}} AND live.{POSITION} = missing.pos")
        self.duck.execute(
            "DELETE FROM deleted USING gone WHERE deleted.file = gone.file AND deleted.pos = gone.pos; "
            "INSERT INTO gone SELECT * FROM deleted"
        )
        ((deleted,),) = self.duck.execute("SELECT count(*) FROM deleted").fetchall()
        if rows - deleted != count:
            raise NotMergedError(f"the source has {count} rows, but what it was made into has {rows - deleted}")
        return ranged + int(deleted)

    def _coming(self) -> int:
        """How many of the rows that came are not in the base already."""
        if not self._has("same"):
            return self.came_rows
        return self.came_rows - int(self.duck.execute("SELECT count(*) FROM same").fetchall()[0][0])

    def _replaced(self) -> int:
        """How many of the rows that go come again, with other values."""
        if not self._has("hit"):
            return 0
        query = "SELECT count(*) FROM hit ANTI JOIN same ON hit.file = same.file AND hit.pos = same.place"
        return int(self.duck.execute(query).fetchall()[0][0])

    def _has(self, table: str) -> bool:
        found = self.duck.execute(f"SELECT 1 FROM duckdb_tables() WHERE temporary AND table_name = {literal(table)}")
        return found.fetchone() is not None

    def _find(self, table: str, which: str, more: str = "", *, places: bool = False) -> None:
        """Note the live rows of the base that a clause leaves: where they are, their hashes, and more of them.

        Args:
            table: where to.
            which: the clause; `{number}` in it is that of the file.
            more: columns besides.
            places: only note where they are.
        """
        first, second = self._hashes
        for number, file in enumerate(self._files):
            deletes = file.deletes and scan_of([self.locate(file.deletes.path)])
            without = f"ANTI JOIN {deletes} before ON live.{POSITION} = before.pos" if deletes else ""
            columns = "file, pos, a, b" if not more else "pos, a, b, " + ", ".join(self._keys().values()) + ", file"
            values = f"{POSITION}, {first}, {second}"
            values = f"{number}, {values}" if not more else f"{values}, {more}, {number}"
            if places:
                columns, values = "file, pos", f"{number}, {POSITION}"
            self.duck.execute(
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM {scan_of([self.locate(file.path)])} live "
                f"{without} {which.replace('{number}', str(number))}"
            )

    def _keys(self) -> dict[str, str]:
        """The columns of the key, with names for them that nothing else has."""
        return {name: f"key_{number}" for number, name in enumerate(self.changed.key)}

    def _require_unique(self, aliases: Iterable[str]) -> None:
        listed = ", ".join(aliases)
        twin = self.duck.execute(f"SELECT {listed} FROM came GROUP BY {listed} HAVING count(*) > 1 LIMIT 1").fetchone()
        if twin is not None:
            names = ", ".join(map(identifier, self.changed.key))
            raise RefreshError(
                f"{self.ref}: {names} is no key of it: {', '.join(map(repr, twin))} is there more than once; nothing "
                "was published; name another key, or set the option changes=full"
            )

    def _require_positions(self) -> None:
        if any(column.name.lower() == POSITION for column in self.base.columns):
            raise NotMergedError(f"it has a column called {POSITION}, the name by which DuckDB knows a row's place")

    # What is kept, and what is written again

    def _gone(self) -> dict[int, tuple[int, Sums]]:
        rows = self.duck.execute(
            "SELECT file, count(*), sum(a::HUGEINT), sum(b::HUGEINT) FROM gone GROUP BY file"
        ).fetchall()
        return {file: (count, Sums(first, second)) for file, count, first, second in rows}

    def _kept(self, number: int, gone: dict[int, tuple[int, Sums]]) -> Kept:
        return Kept(self._files[number], number, *gone.get(number, (0, NO_SUMS)))

    def _dropped(self, same: bool) -> tuple[int, Sums]:
        """How many of the rows that came are in the base already, and the sums over them."""
        if not same:
            return 0, NO_SUMS
        ((rows,),) = self.duck.execute("SELECT count(*) FROM same").fetchall()
        if rows == self.came_rows:
            return rows, content(scan(self.duck, str(self.came)), self.base.columns)[1]
        ((first, second),) = self.duck.execute("SELECT sum(a::HUGEINT), sum(b::HUGEINT) FROM same").fetchall()
        return rows, Sums(first, second) if rows else NO_SUMS

    def _fold(self, files: Sequence[Kept], coming: int) -> tuple[list[Kept], list[Kept]]:
        """Which files are kept, and which are written again with what comes; empty ones are neither."""
        left = [each for each in files if _left(each)]
        folded = folded_of([(_left(each), each.file.rows) for each in left], coming, self.fold_below)
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


def folded_of(files: Sequence[tuple[int, int]], coming: int, fold_below: int) -> set[int]:
    """Which data files are written again, by their places.

    From the newest on while the next older one is less than twice the size of what is folded, so that sizes grow
    geometrically and each row is written again O(log n) times; each of which more than a quarter is deleted; as many
    as there are too many; and all of a small table.

    Args:
        files: live rows and all rows of each, the oldest first.
        coming: rows that come besides.
        fold_below: see `Merge`.
    """
    live = [rows for rows, _ in files]
    if coming + sum(live) <= fold_below:
        return set(range(len(files)))
    folded = {place for place, (rows, all_rows) in enumerate(files) if all_rows - rows > MOST_DELETED * all_rows}
    size = coming + sum(live[place] for place in folded)
    for place in reversed(range(len(files))):
        if place in folded:
            continue
        others = len(files) - len(folded) + bool(size)
        if size and live[place] >= 2 * size and others <= MOST_FILES:
            break
        if not size and others <= MOST_FILES:
            break
        folded.add(place)
        size += live[place]
    return folded


def _left(kept: Kept) -> int:
    return kept.file.live_rows - kept.gone


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

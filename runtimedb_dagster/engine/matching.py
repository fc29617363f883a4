"""Which rows of a base go when others come: those of the same key or range, and those that the source has no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.errors import RefreshError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import NO_SUMS, DataFile, Sums, Version
from runtimedb_dagster.engine.fingerprint import content, scan
from runtimedb_dagster.engine.narrowing import Keys, Narrowed, differing, ranges_over, usable, worth_counting
from runtimedb_dagster.query.live import POSITION, scan_of
from runtimedb_dagster.sources.base import Changed, Ranges

__all__ = ["Matching", "NotMergedError"]

# So many keys are looked for at once, which takes less memory than to read the table does.
KEYS_AT_ONCE = 2_000_000


class NotMergedError(Exception):
    """What came does not make the base what the source holds: the table has to be read whole."""

    def __init__(self, reason: str, drift: str = "") -> None:
        """For a reason in words; `drift` is what an audit found."""
        super().__init__(reason)
        self.drift = drift


@dataclass
class Matching:
    """The rows of a base that go, noted in temporary tables of a connection of DuckDB's.

    Attributes:
        duck: reads the storage and files of this machine.
        locate: what DuckDB reads a file of the storage from.
        base: the version.
        files: its data files.
        came: the file of the rows that may have changed, and how many there are.
        changed: what the source said.
        hashes: SQL of the two hashes of a row.
        keys: those that the source has.
        rows_read: of the source, rows and keys.
    """

    ref: TableRef
    duck: duckdb.DuckDBPyConnection
    locate: Callable[[str], str]
    base: Version
    files: Sequence[DataFile]
    came: Path
    came_rows: int
    changed: Changed
    hashes: tuple[str, str]
    keys: Keys
    rows_read: int = 0

    def __post_init__(self) -> None:
        """Note nothing yet."""
        self.rows_read = self.came_rows
        self.duck.execute("CREATE TEMP TABLE gone (file INTEGER, pos BIGINT, a UBIGINT, b UBIGINT)")

    def match(self) -> tuple[int, int, bool]:
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
        keys, (first, second) = self._keys(), self.hashes
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

    def delete(self) -> int:
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
        self._find_missing(count, rows - count)
        # First by their keys alone: whole rows are read of those that are missing.
        self.duck.execute("CREATE TEMP TABLE deleted (file INTEGER, pos BIGINT, a UBIGINT, b UBIGINT)")
        self._find("deleted", f"SEMI JOIN missing ON missing.file = {{number}} AND live.{POSITION} = missing.pos")
        self.duck.execute(
            "DELETE FROM deleted USING gone WHERE deleted.file = gone.file AND deleted.pos = gone.pos; "
            "INSERT INTO gone SELECT * FROM deleted"
        )
        ((deleted,),) = self.duck.execute("SELECT count(*) FROM deleted").fetchall()
        if rows - deleted != count:
            raise NotMergedError(f"the source has {count} rows, but what it was made into has {rows - deleted}")
        return ranged + int(deleted)

    def _find_missing(self, count: int, gone: int) -> None:
        """Note where rows of the base are whose keys the source has no more.

        Raises:
            NotMergedError: it has other keys than it counted.
        """
        narrowed = self._narrowed(gone)
        file, read = self.keys.write(narrowed)
        self.rows_read += read
        if read != (count if narrowed is None else narrowed.rows):
            raise NotMergedError(f"the source has {count} rows, but {read} keys where it should have another number")
        inside = self._in_ranges(narrowed) if narrowed else ""
        names = self._keys()
        on = " AND ".join(f"live.{identifier(name)} = kept.{identifier(name)}" for name in names)
        self.duck.execute("CREATE TEMP TABLE missing (file INTEGER, pos BIGINT)")
        turns = max(-(-read // KEYS_AT_ONCE), 1)
        for turn in range(turns):
            mine = f"WHERE hash({{}}) % {turns} = {turn}" if turns > 1 else ""
            kept, live = (", ".join(f"{side}{identifier(name)}" for name in names) for side in ("", "live."))
            some = f"(SELECT * FROM {scan_of([str(file)])} {mine.format(kept)})"
            self._find("missing", f"{inside} ANTI JOIN {some} kept ON {on} {mine.format(live)}", places=True)

    def _narrowed(self, gone: int) -> Narrowed | None:
        """The ranges of the key that have other rows here than in the source; None if all keys are to be read."""
        column = usable(self.changed.key, self.base.columns, self.base.rows)
        # Where something is trusted, a row may have come unseen, in the range of one that went.
        if column is None or self.changed.trusts is not None:
            return None
        scans = [*(scan_of([self.locate(file.path)]) for file in self.files), scan_of([str(self.came)])]
        ranges = ranges_over(self.duck, column, scans, self.base.rows)
        known = self._known(ranges) if ranges else {}
        if ranges is None or not worth_counting(gone, known):
            return None
        there = self.keys.count(ranges)
        return None if there is None else differing(known, there, ranges)

    def _known(self, ranges: Ranges) -> dict[int | None, int]:
        """How many rows are known in each range: those of the base that are not gone, and those that came."""
        counted = f"SELECT {_number(ranges)} AS number, count(*) AS rows FROM"
        parts = [
            f"{counted} {scan_of([self.locate(file.path)])} live {self._without(file)} "
            f"ANTI JOIN (SELECT pos FROM gone WHERE file = {number}) going ON live.{POSITION} = going.pos GROUP BY 1"
            for number, file in enumerate(self.files)
        ]
        dropped = f"ANTI JOIN same ON live.{POSITION} = same.pos" if self._has("same") else ""
        parts.append(f"{counted} {scan_of([str(self.came)])} live {dropped} GROUP BY 1")
        query = f"SELECT number, sum(rows)::BIGINT FROM ({' UNION ALL '.join(parts)}) GROUP BY 1"
        return dict(self.duck.execute(query).fetchall())

    def _in_ranges(self, narrowed: Narrowed) -> str:
        """A clause that leaves the rows of some ranges."""
        self.duck.execute("CREATE TEMP TABLE ranged (number BIGINT)")
        if narrowed.numbers:
            # As a parameter a list takes a hundred times as long.
            self.duck.execute(f"INSERT INTO ranged SELECT unnest([{', '.join(map(str, narrowed.numbers))}])")
        return f"SEMI JOIN ranged ON ranged.number = {_number(narrowed.ranges)}"

    def _without(self, file: DataFile) -> str:
        """A clause that leaves the live rows of a file."""
        deletes = file.deletes and scan_of([self.locate(file.deletes.path)])
        return f"ANTI JOIN {deletes} before ON live.{POSITION} = before.pos" if deletes else ""

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
        first, second = self.hashes
        for number, file in enumerate(self.files):
            without = self._without(file)
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

    def gone(self) -> dict[int, tuple[int, Sums]]:
        """How many rows of each file go, and the sums over them, by the place of the file."""
        rows = self.duck.execute(
            "SELECT file, count(*), sum(a::HUGEINT), sum(b::HUGEINT) FROM gone GROUP BY file"
        ).fetchall()
        return {file: (count, Sums(first, second)) for file, count, first, second in rows}

    def dropped(self, same: bool) -> tuple[int, Sums]:
        """How many of the rows that came are in the base already, and the sums over them."""
        if not same:
            return 0, NO_SUMS
        ((rows,),) = self.duck.execute("SELECT count(*) FROM same").fetchall()
        if rows == self.came_rows:
            return rows, content(scan(self.duck, str(self.came)), self.base.columns)[1]
        ((first, second),) = self.duck.execute("SELECT sum(a::HUGEINT), sum(b::HUGEINT) FROM same").fetchall()
        return rows, Sums(first, second) if rows else NO_SUMS


def _number(ranges: Ranges) -> str:
    """The number of a row's range, in SQL of DuckDB."""
    return f"((live.{identifier(ranges.column)}::BIGINT - ({ranges.lowest})) // {ranges.width})"

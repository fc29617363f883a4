"""Versions of several files: what is folded, what is merged, who wins, and what is kept of whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimedb_dagster import RefreshFacts, RuntimeDB, StorageError
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.claims import Publication
from runtimedb_dagster.domain.columns import VersionColumn
from runtimedb_dagster.domain.errors import BaseReplacedError
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.versions import DataFile, DeletesFile, Version
from runtimedb_dagster.engine import narrowing
from runtimedb_dagster.engine.changes import Merge, merge
from runtimedb_dagster.engine.fingerprint import content, fingerprint, scan
from runtimedb_dagster.engine.folding import MOST_FILES, folded_of
from runtimedb_dagster.engine.matching import NotMergedError
from runtimedb_dagster.engine.narrowing import Narrowed
from runtimedb_dagster.query.live import live_rows
from runtimedb_dagster.sources.base import Changed, Ranges
from runtimedb_dagster_tests.support.parts import (
    Inside,
    SourceFile,
    current,
    refresh_all,
    refresh_one,
    reserve,
    version_of,
)

# What is folded


@pytest.mark.parametrize(
    ("files", "coming", "folded"),
    [
        ([(1000, 1000)], 10, set()),
        ([(1000, 1000), (10, 10)], 10, {1}),
        ([(1000, 1000), (30, 30), (15, 15)], 10, {1, 2}),
        ([(1000, 1000), (30, 30), (20, 20)], 10, set()),
        ([(9000, 9000), (400, 600), (900, 900)], 1, {1}),
        ([(9000, 9000), (400, 600), (300, 300)], 1, {1, 2}),
        ([(749, 1000), (10, 10)], 0, {0, 1}),
        ([(751, 1000), (10, 10)], 0, set()),
        ([(100, 100), (10, 10)], 6, {1}),
    ],
)
def test_from_the_newest_while_the_next_is_small_and_what_is_mostly_deleted(
    files: list[tuple[int, int]], coming: int, folded: set[int]
) -> None:
    assert folded_of(files, coming, 0) == folded


def test_a_small_table_stays_one_file() -> None:
    assert folded_of([(90, 90), (9, 9)], 1, 100) == {0, 1}
    assert folded_of([(91, 91), (9, 9)], 1, 100) == set()


@given(st.lists(st.integers(1, 10_000), max_size=400))
def test_files_stay_few_and_rows_are_written_again_seldom(arriving: list[int]) -> None:
    files: list[int] = []
    written = 0
    for coming in arriving:
        folded = folded_of([(rows, rows) for rows in files], coming, 0)
        new = coming + sum(files[place] for place in folded)
        files = [rows for place, rows in enumerate(files) if place not in folded] + [new]
        written += new
        assert len(files) <= MOST_FILES
    assert sum(files) == sum(arriving)
    # Each row is written once, and again each time its file at least grows by half.
    assert written <= sum(arriving) * (2 + 2 * max(1, sum(arriving)).bit_length())


# What is merged: a version and changes, against the rows themselves

COLUMNS = (VersionColumn("k", "INTEGER"), VersionColumn("v", "VARCHAR"))
Rows = dict[int, str | None]


class Files:
    """Versions of a table with a key, as files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.number = directory, 0
        self.duck = duckdb.connect()

    def locate(self, path: str) -> str:
        return str(self.directory / path)

    def write(self, rows: Rows) -> Path:
        self.number += 1
        file = self.directory / f"{self.number}.parquet"
        self.duck.execute("CREATE OR REPLACE TABLE written (k INTEGER, v VARCHAR)")
        if rows:
            self.duck.executemany("INSERT INTO written VALUES (?, ?)", [list(row) for row in rows.items()])
        self.duck.execute(f"COPY written TO '{file}' (FORMAT parquet)")
        return file

    def fingerprint(self, rows: Rows) -> str:
        held = scan(self.duck, str(self.write(rows)))
        count, sums = content(held, COLUMNS)
        return fingerprint(held, COLUMNS, count, sums)

    def version(self, *parts: tuple[Rows, set[int]]) -> Version:
        """A version of data files, each with the keys of its rows that are deleted."""
        files = []
        for rows, deleted in parts:
            file = self.write(rows)
            _, sums = content(scan(self.duck, str(file)), COLUMNS)
            data = DataFile(file.name, len(rows), file.stat().st_size, sums)
            if deleted:
                self.number += 1
                target = self.directory / f"{self.number}.deletes.parquet"
                places = [place for place, key in enumerate(rows) if key in deleted]
                listed = ", ".join(f"({place})" for place in places)
                positions = f"SELECT '{file}' AS file_path, pos::BIGINT AS pos FROM (VALUES {listed}) t(pos)"
                self.duck.execute(f"COPY ({positions}) TO '{target}' (FORMAT parquet)")
                (live,) = live_rows([replace(data, deletes=DeletesFile(target.name, len(places), 0))], self.locate)
                _, left = content(self.duck.sql(live), COLUMNS)
                data = replace(data, deletes=DeletesFile(target.name, len(places), 1, sums - left))
            files.append(data)
        live_now = {k: v for rows, deleted in parts for k, v in rows.items() if k not in deleted}
        return Version(
            "v", tuple(files), len(live_now), COLUMNS, self.fingerprint(live_now), "r", utc_now(), 0,
            {"by": "test"}, duckdb.__version__,
        )  # fmt: skip

    def merge(self, base: Version, came: Rows, truth: Rows, fold_below: int, key: tuple[str, ...] = ("k",)) -> Merge:
        file = self.write(came)
        changed = Changed(len(came), len(truth), key)
        return Merge(
            TableRef("c", "s", "t"),
            self.duck.cursor(),
            self.locate,
            base,
            file,
            len(came),
            changed,
            Truth(self, truth),
            fold_below,
        )


@dataclass(frozen=True)
class Truth:
    """What the source has."""

    files: Files
    rows: Rows

    def count(self, ranges: Ranges) -> dict[int | None, int] | None:
        return dict(Counter((key - ranges.lowest) // ranges.width for key in self.rows))

    def write(self, narrowed: Narrowed | None) -> tuple[Path, int]:
        rows = self.rows
        if narrowed is not None:
            ranges = narrowed.ranges
            rows = {k: v for k, v in rows.items() if (k - ranges.lowest) // ranges.width in narrowed.numbers}
        return self.files.write(rows), len(rows)


KEYS = st.integers(-15, 15)
VALUES = st.one_of(st.none(), st.sampled_from(["a", "b", "ä", ""]))


@settings(max_examples=60)  # each writes files, and merges them
@given(
    st.lists(st.tuples(st.dictionaries(KEYS, VALUES, min_size=1), st.sets(KEYS)), min_size=1, max_size=4),
    st.dictionaries(KEYS, VALUES), st.sets(KEYS), st.sets(KEYS), st.sampled_from([0, 20, 1000]),
    st.sampled_from([1, 3, 99]),
)  # fmt: skip
def test_what_is_merged_is_what_a_full_read_makes(
    tmp_path_factory: pytest.TempPathFactory,
    parts: list[tuple[Rows, set[int]]],
    changed: Rows,
    deleted: set[int],
    again: set[int],
    fold_below: int,
    range_rows: int,
) -> None:
    """Whether all keys are read, or those in ranges of so many rows that differ."""
    files = Files(tmp_path_factory.mktemp("merge"))
    # A key is live in one file at most: the newest that has it.
    newest = {key: place for place, (rows, _) in enumerate(parts) for key in rows}
    parts = [
        (rows, {key for key in rows if key in gone or newest[key] != place}) for place, (rows, gone) in enumerate(parts)
    ]
    base = files.version(*parts)
    before = {k: v for rows, gone in parts for k, v in rows.items() if k not in gone}
    truth = {k: v for k, v in {**before, **changed}.items() if k not in deleted}
    # All that changed is among what came, and some that did not.
    came = {k: v for k, v in truth.items() if k in changed or k in again or before.get(k, object()) != v}
    work = files.merge(base, came, truth, fold_below)
    with (
        patch.object(narrowing, "FEWEST_ROWS", 0 if range_rows < 99 else 1_000),
        patch.object(narrowing, "ROWS_PER_RANGE", range_rows),
        patch.object(narrowing, "MOST_DIFFERENT", 1),
        patch.object(narrowing, "MOST_GONE", 100),
    ):
        merged = merge(work)
    assert (merged.rows, merged.fingerprint) == (len(truth), files.fingerprint(truth))
    assert work.differences(merged, files.write(truth), ["k"]) == []
    changes = {k for k in truth if k not in before or before[k] != truth[k]}
    assert merged.inserted == len([k for k in truth if k not in before])
    assert merged.inserted + merged.updated == len(changes)
    assert merged.deleted == len([k for k in before if k not in truth])
    work.duck.close()


def test_what_came_twice_or_not_at_all_is_not_published(tmp_path: Path) -> None:
    files = Files(tmp_path)
    base = files.version(({1: "a", 2: "b"}, set()))
    with pytest.raises(NotMergedError, match="the source has 4 rows, of which only 3 are known"):
        merge(files.merge(base, {3: "c"}, {1: "a", 2: "b", 3: "c", 4: "d"}, 0))
    with pytest.raises(NotMergedError, match="has no key to tell which"):
        merge(files.merge(base, {}, {1: "a"}, 0, key=()))


def test_sums_of_another_duckdb_are_made_anew(tmp_path: Path) -> None:
    files = Files(tmp_path)
    base = replace(files.version(({1: "a", 2: "b", 3: "c"}, {2})), hashed_by="0.0.1", fingerprint="old")
    truth: Rows = {1: "z", 3: "c"}
    merged = merge(files.merge(base, {1: "z"}, truth, 0))
    assert merged.fingerprint == files.fingerprint(truth)


# Who wins


def test_a_version_whose_base_is_gone_is_not_published(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    refresh_all(db)
    base = current(db, "orders")
    table = next(table for table in db.tables("shop") if table.table_name == "orders")
    slow = reserve(inside.catalog, table)
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    refresh_one(db, "orders")
    late = reserve(inside.catalog, table)
    with pytest.raises(BaseReplacedError, match="another refresh has replaced the version"):
        inside.catalog.publications.publish([Publication(late, version_of(late), base)], utc_now())
    assert slow.sequence < late.sequence
    assert current(db, "orders").rows == 101


def test_a_base_that_is_not_to_be_relied_on_is_none(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    refresh_all(db)
    table = next(table for table in db.tables("shop") if table.table_name == "orders")
    assert table.version is not None
    inside.catalog.publications.distrust(table, table.version, "an audit found something else")
    reservation = reserve(inside.catalog, table)
    with pytest.raises(BaseReplacedError):
        inside.catalog.publications.publish(
            [Publication(reservation, version_of(reservation), table.version)], utc_now()
        )
    result = refresh_one(db, "orders")
    assert (result.mode, result.reason) == ("full", "an audit found something else")
    assert next(t for t in db.tables("shop") if t.table_name == "orders").distrusted is None


def test_what_is_found_unchanged_late_takes_nothing_back(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    refresh_all(db)
    table = next(table for table in db.tables("shop") if table.table_name == "orders")
    early = inside.catalog.publications.next_sequence()
    refresh_one(db, "orders")
    before = next(t for t in db.tables("shop") if t.table_name == "orders")
    inside.catalog.publications.mark_checked([(table, None)], early, utc_now(), RefreshFacts("unchanged"))
    after = next(t for t in db.tables("shop") if t.table_name == "orders")
    assert (after.checked_at, after.checked_sequence) == (before.checked_at, before.checked_sequence)


# What is handed out


def test_a_version_is_exported_as_one_file(db: RuntimeDB, shop: SourceFile, tmp_path: Path) -> None:
    refresh_all(db)
    file = tmp_path / "orders.parquet"
    assert db.export("shop", "main", "orders", file) == 100
    with duckdb.connect() as duck:
        assert duck.execute(f"SELECT count(*), sum(id) FROM '{file}'").fetchall() == [(100, 4950)]
    with pytest.raises(StorageError, match="is there already, and nothing is overwritten"):
        db.export("shop", "main", "orders", file)
    version, locations = db.files("shop", "main", "orders")
    assert list(locations) == list(version.paths)
    assert Path(locations[version.files[0].path]).exists()

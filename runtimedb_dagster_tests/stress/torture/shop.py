"""A connection `shop` whose tables tell by their rows whether a version is whole, and what must hold of it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import delete

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog import schema
from runtimedb_dagster_tests.stress.torture.report import Row
from runtimedb_dagster_tests.stress.torture.system import Verdict
from runtimedb_dagster_tests.support.parts import Inside, SourceFile, long_after, refresh_all

__all__ = ["LOOK", "SIZES", "Shop"]

SIZES = {"t0": 200_000, "t1": 1000, "t2": 1000, "t3": 0}
LOOK = "SELECT count(*), min(round), max(round) FROM shop.main."


@dataclass
class Shop:
    """Tables whose rows all hold the round in which the source got them, and what came of what they suffered.

    Attributes:
        round: what the source holds.
        served: the round that each table was seen to serve.
        longest: seconds that the longest of what had to end in time has taken.
    """

    name: str
    directory: Path
    settings: dict[str, str]
    lots: random.Random
    round: int = 0
    served: dict[str, int] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    longest: float = 0.0
    source: SourceFile = field(init=False)

    def __post_init__(self) -> None:
        """Have a first version of every table."""
        self.directory.mkdir(exist_ok=True)
        self.source = SourceFile(self.directory / "shop.duckdb")
        self.change()
        with self.open() as db:
            db.connect("shop", self.source.url, options={"parallel_refresh": 64})
            refresh_all(db)

    def open(self) -> RuntimeDB:
        """Open it anew, knowing nothing."""
        return RuntimeDB(Settings(**self.settings))

    def change(self) -> None:
        """Give the source other rows, and a table that comes and goes."""
        self.round += 1
        self.source.run(
            *(
                f"CREATE OR REPLACE TABLE {name} AS SELECT range AS id, hash(range) AS h, {self.round} AS round "
                f"FROM range({size})"
                for name, size in SIZES.items()
            ),
            "CREATE OR REPLACE TABLE x AS SELECT 1 AS i" if self.round % 2 else "DROP TABLE IF EXISTS x",
        )

    def look(self, verdict: Verdict) -> None:
        """I1 to I4, of what serves now."""
        with self.open() as db:
            verdict.require("I1, I2, I3", [str(each) for each in db.verify(deep=True)], [])
            cached = {each.table_name for each in db.tables("shop") if each.version}
            with db.query() as query:
                for name in sorted(cached & SIZES.keys()):
                    self.judge(name, query.sql(LOOK + name).fetchall(), verdict)

    def judge(self, name: str, rows: list[tuple[int, ...]], verdict: Verdict) -> None:
        """That a table is whole, and neither older than it was nor newer than it can be."""
        ((count, first, last),) = rows
        verdict.require(f"{name} is whole", (count, first), (SIZES[name], last))
        if last is not None:
            verdict.require(f"{name} serves a round", self.served.get(name, 0) <= last <= self.round, True)
            self.served[name] = last

    def rest(self) -> None:
        """I5, and that everything goes on."""
        verdict = Verdict()
        with self.open() as db:
            inside = Inside.of(db)
            # By then a claim of a sweep that died has run out, and so has the turn of a refresh.
            db.sweep(long_after(db.settings))
            with db.engine.catalog._database.write() as tx:
                tx.execute(delete(schema.refresh_slots))
            verdict.require("I5, files", inside.files() ^ inside.live(), set())
            verdict.require("I5, pending deletions", inside.pending(), set())
            self.change()
            db.discover("shop", confirm=True)
            verdict.require("the next refresh", [str(error) for error in refresh_all(db).errors], [])
            staged = [str(path) for path in (Path(self.settings["home"]) / "staging").rglob("*") if path.is_file()]
            verdict.require("I5, staging", staged, [])
        self.look(verdict)
        verdict.require("what is served", {self.served[name] for name in SIZES if SIZES[name]}, {self.round})
        self.note("at rest", ["at rest"], verdict)

    def note(self, what: str, names: Sequence[str], verdict: Verdict) -> None:
        """Count what was suffered, and what did not hold then."""
        for name in names:
            self.rows[name].injected += 1
        self.rows[names[0]].checked += verdict.checked
        if verdict.broken:
            self.rows[names[0]].failures.append(f"{self.name}, {what}: {'; '.join(verdict.broken)}")

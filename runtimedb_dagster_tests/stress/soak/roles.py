"""What the workers of a soak do. A step yields words to count and errors that it met."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import ClassVar

from runtimedb_dagster import RuntimeDB, Table
from runtimedb_dagster.domain.errors import RuntimeDBError, StorageError
from runtimedb_dagster.domain.outcomes import Failed, Published, Unchanged
from runtimedb_dagster_tests.stress.soak.readers import LongReader, Reader
from runtimedb_dagster_tests.stress.soak.role import Role, Setting
from runtimedb_dagster_tests.stress.soak.source import OTHER, SHOP, Mutator, refill_pair

__all__ = ["PASSWORD_ENV", "ROLES"]

PASSWORD_ENV = "SOAK_PASSWORD"
SKEWS = (timedelta(minutes=1), timedelta(0), timedelta(hours=-1))


@dataclass
class Changer:
    setting: Setting
    pause: ClassVar[float] = 0.2

    def step(self) -> Iterator[str | Exception]:
        yield from Mutator(self.setting.source, self.setting.lots).step()


@dataclass
class Refresher:
    """Refreshes a few tables, or the other connection."""

    setting: Setting
    pause: ClassVar[float] = 0.1

    def step(self) -> Iterator[str | Exception]:
        db, lots = self.setting.db, self.setting.lots
        connection = OTHER if lots.random() < 0.1 else SHOP
        # The pair's own refresher keeps them in order.
        tables = [table for table in db.tables(connection) if table.schema_name != "pair"]
        yield from refreshed(db, connection, lots.sample(tables, min(len(tables), lots.choice((1, 3, 8)))))


@dataclass
class PairRefresher:
    """Gives both tables of the pair a number, and refreshes first `a`, then `b`.

    So a reader's snapshot has the same number in both, or one more in `a`.
    """

    setting: Setting
    number: int = 1
    pause: ClassVar[float] = 0.1

    def step(self) -> Iterator[str | Exception]:
        refill_pair(self.setting.source, self.number + 1)
        self.number += 1
        for name in ("a", "b"):
            while not self.setting.stop.is_set():
                (met,) = self._refreshed(name)
                yield met
                if isinstance(met, str):
                    break

    def _refreshed(self, name: str) -> list[str | Exception]:
        db = self.setting.db
        try:
            tables = [each for each in db.tables(SHOP) if (each.schema_name, each.table_name) == ("pair", name)]
            return list(refreshed(db, SHOP, tables))
        except RuntimeDBError as error:
            # Whatever it is, `b` must not be passed over.
            return [error]


@dataclass
class Discoverer:
    setting: Setting
    pause: ClassVar[float] = 0.3

    def step(self) -> Iterator[str | Exception]:
        connection = SHOP if self.setting.lots.random() < 0.9 else OTHER
        found = self.setting.db.discover(connection)
        changed = found.tables_added + found.tables_removed + found.tables_modified
        yield "tables differ" if changed else "no difference"


@dataclass
class Sweeper:
    setting: Setting
    pause: ClassVar[float] = 0.3

    def step(self) -> Iterator[str | Exception]:
        swept = self.setting.db.sweep()
        yield from ["file deleted"] * swept.files_deleted
        yield from (StorageError(str(error)) for error in swept.errors)


@dataclass
class Purger:
    """Purges tables, and removes and connects the other connection."""

    setting: Setting
    pause: ClassVar[float] = 2

    def step(self) -> Iterator[str | Exception]:
        db, lots = self.setting.db, self.setting.lots
        if OTHER not in {connection.name for connection in db.connections()}:
            connect(self.setting, OTHER)
            yield "connected"
        elif lots.random() < 0.2:
            db.remove(OTHER)
            yield "removed"
        elif lots.random() < 0.2:
            db.purge(OTHER)
            yield "connection purged"
        else:
            table = lots.choice([table for table in db.tables(SHOP) if table.schema_name == "public"])
            db.purge(SHOP, table.schema_name, table.table_name)
            yield "table purged"


@dataclass
class Verifier:
    setting: Setting
    pause: ClassVar[float] = 10

    def step(self) -> Iterator[str | Exception]:
        yield from (AssertionError(str(finding)) for finding in self.setting.db.verify(deep=True))
        yield "verified"


@dataclass
class Clock:
    """Sets the clock of its process wrong, now this way and now that."""

    setting: Setting
    pause: ClassVar[float] = 5

    def step(self) -> Iterator[str | Exception]:
        skew = self.setting.lots.choice(SKEWS)

        def utc_now() -> datetime:
            return datetime.now(timezone.utc) + skew

        for name, module in list(sys.modules.items()):
            if name.startswith("runtimedb_dagster.") and hasattr(module, "utc_now"):
                setattr(module, "utc_now", utc_now)  # noqa: B010 - of any module
        yield f"set off by {skew.total_seconds():+.0f} s"


def connect(setting: Setting, database: str) -> None:
    """Register a database of the source under its own name."""
    setting.db.connect(database, setting.source.url(database), password_env=PASSWORD_ENV)


def refreshed(db: RuntimeDB, connection: str, tables: list[Table]) -> Iterator[str | Exception]:
    """Refresh tables."""
    for event in db.engine.refresh(db.connection(connection), tables):
        match event:
            case Failed():
                yield event.error
            case Published():
                yield "new version"
            case Unchanged():
                yield "unchanged"


ROLES: dict[str, Callable[[Setting], Role]] = {
    "mutator": Changer,
    "refresher": Refresher,
    "pair refresher": PairRefresher,
    "discoverer": Discoverer,
    "sweeper": Sweeper,
    "purger": Purger,
    "verifier": Verifier,
    "clock": Clock,
    "reader": Reader,
    "long reader": LongReader,
}

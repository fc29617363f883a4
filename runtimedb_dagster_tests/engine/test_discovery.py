"""Discovery: its number is taken before the source is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.engine.discovery import Discoverer
from runtimedb_dagster.sources.attached.duckdb_file import DuckDBFile, NoOptions
from runtimedb_dagster.sources.attached.source import AttachedSource
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster_tests.support.parts import Inside, SourceFile
from runtimedb_dagster_tests.support.places import every_catalog


class Slow(AttachedSource):
    """A source whose listing is overtaken: the database changes and is discovered again before it returns."""

    overtaking: RuntimeDB
    path: Path

    def discover(self) -> Sequence[DiscoveredTable]:
        listed = super().discover()
        self.close()
        duckdb.connect(str(self.path)).execute("CREATE TABLE newer AS SELECT 1 AS x").close()
        assert self.overtaking.discover("shop").tables_added == 1
        return listed


@every_catalog
def test_a_discovery_that_is_overtaken_removes_nothing(
    db: RuntimeDB, inside: Inside, make_source: Callable[..., SourceFile]
) -> None:
    source = make_source("shop", "CREATE TABLE a AS SELECT 1 AS x", "CREATE TABLE b AS SELECT 1 AS x")
    shop = db.connect("shop", source.url)
    dialect = DuckDBFile(SourceUrl.parse(shop.url), NoOptions(), None)
    slow = Slow(shop, dialect, {}, str)
    slow.overtaking, slow.path = db, source.path
    changes = Discoverer(inside.catalog, db.settings).compare(shop, slow)
    assert changes.removed == ()
    assert {table.table_name for table in db.tables("shop")} == {"a", "b", "newer"}

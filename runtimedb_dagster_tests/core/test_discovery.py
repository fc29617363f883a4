"""Discovery: its generation is taken before the source is asked."""

from __future__ import annotations

from pathlib import Path

import duckdb

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.discovery import Discoverer
from runtimedb_dagster.model import DiscoveredTable
from runtimedb_dagster.sources import SourceUrl
from runtimedb_dagster.sources.adapter import AttachedSource
from runtimedb_dagster.sources.duckdb_file import DuckDBFile, NoOptions
from runtimedb_dagster.sources.shape import Shape


class Slow(AttachedSource):
    """A source whose listing is overtaken: the database changes and is discovered again before it returns."""

    overtaking: RuntimeDB
    path: Path

    def discover(self) -> list[DiscoveredTable]:
        listed = super().discover()
        self.close()
        duckdb.connect(str(self.path)).execute("CREATE TABLE newer AS SELECT 1 AS x").close()
        assert self.overtaking.discover("shop").tables_added == 1
        return listed


def test_a_discovery_that_is_overtaken_removes_nothing(tmp_path: Path) -> None:
    path, settings = tmp_path / "shop.duckdb", Settings(home=tmp_path / "home")
    duckdb.connect(str(path)).execute("CREATE TABLE a AS SELECT 1 AS x; CREATE TABLE b AS SELECT 1 AS x").close()
    catalog = Catalog(settings.effective_catalog_url)
    with RuntimeDB(settings) as db:
        shop = db.connect("shop", f"duckdb://{path}")
        dialect = DuckDBFile(SourceUrl.parse(shop.url), NoOptions(), None)
        slow = Slow(shop, dialect, Shape(), {}, str)
        slow.overtaking, slow.path = db, path
        changes = Discoverer(catalog, settings).discover(shop, slow)
        assert changes.removed == ()
        assert {table.table_name for table in db.tables("shop")} == {"a", "b", "newer"}
    catalog.close()

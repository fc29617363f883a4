"""How a catalog is opened and brought to the newest schema, by one process or by several at once."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from runtimedb_dagster.catalog import Catalog, engines, migrations, schema
from runtimedb_dagster.domain.errors import (
    CatalogError,
    ConfigurationError,
)
from runtimedb_dagster_tests.catalog.steps import (
    NOW,
)
from runtimedb_dagster_tests.support.parts import (
    python,
)


def script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return ScriptDirectory.from_config(config)


def test_the_head_is_the_newest_revision() -> None:
    assert script().get_heads() == [migrations.HEAD]


def ask(url: str, *statements: str) -> list[Any]:
    """Run statements on a catalog's database beside the catalog; the rows of the last."""
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(sqlalchemy.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def revision(url: str) -> str:
    ((number,),) = ask(url, "select version_num from alembic_version")
    return str(number)


@pytest.mark.usefixtures("catalog")
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migrations_make_what_the_schema_says(url: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, schema.metadata)
        assert context.get_current_revision() == migrations.HEAD
    engine.dispose()
    # An index on an expression is no matter of the schema's columns, and two tables stop who knows the old ones only.
    allowed = {("remove_index", "uq_connections_name_folded"), ("remove_table", "clock"), ("remove_table", "identity")}
    assert [each for each in differences if (each[0], each[1].name) not in allowed] == []


def test_opening_again_changes_nothing(url: str) -> None:
    first = Catalog(url)
    connection = first.connections.add("shop", "duckdb", "duckdb:///shop", {"a": "b"}, "VAR", NOW)
    first.close()
    second = Catalog(url)
    assert second.connections.list() == [connection]
    second.close()


def test_the_catalog_is_private(file: Path) -> None:
    Catalog(f"sqlite:///{file}").close()
    assert file.stat().st_mode & 0o777 == 0o600


OPEN = """if True:
    import sys
    from runtimedb_dagster.catalog import Catalog
    print("ready", flush=True)
    sys.stdin.readline()
    catalog = Catalog(sys.argv[1])
    print(len(catalog.connections.list()))
    catalog.close()
"""


def test_four_processes_open_an_empty_catalog_at_once(url: str) -> None:
    processes = [python(OPEN, url) for _ in range(4)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) for process in processes] == [("0\n", "")] * 4
    assert revision(url) == migrations.HEAD


def test_a_new_catalog_is_opened_while_another_process_has_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def wait(seconds: float) -> None:
            waits.append(seconds)
            other.execute("ROLLBACK")

        monkeypatch.setattr(engines, "sleep", wait)
        monkeypatch.setattr(engines, "BUSY_TIMEOUT_SECONDS", 0.1)
        Catalog(f"sqlite:///{tmp_path}/catalog.db").close()
    assert waits == [engines.LOCKED_SECONDS]


def test_threads_open_different_new_catalogs_at_once(tmp_path: Path) -> None:
    """Alembic itself can't: one got the other's tables."""
    together = threading.Barrier(8)

    def tables(number: int) -> list[str]:
        together.wait()
        url = f"sqlite:///{tmp_path}/{number}.db"
        with closing(Catalog(url)):
            pass
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as opened:
            return [name for (name,) in opened.execute("SELECT name FROM sqlite_master ORDER BY name")]

    with ThreadPoolExecutor(8) as pool:
        first, *others = pool.map(tables, range(8))
    assert "versions" in first
    assert others == [first] * 7


DIE_AFTER_THE_FIRST_REVISION = """if True:
    import os, sys
    from sqlalchemy import Engine, event
    from runtimedb_dagster.catalog import Catalog

    @event.listens_for(Engine, "before_cursor_execute")
    def die(connection, cursor, statement, parameters, context, executemany):
        if "CREATE TABLE pending_deletions" in statement:
            os._exit(9)

    Catalog(sys.argv[1])
"""


def test_a_migration_killed_in_the_middle_leaves_the_catalog_whole(url: str) -> None:
    process = python(DIE_AFTER_THE_FIRST_REVISION, url)
    process.communicate(timeout=60)
    assert process.returncode == 9
    listed = "information_schema.tables where table_schema = 'public'" if "postgresql" in url else "sqlite_master"
    assert ask(url, f"select * from {listed}") == []

    catalog = Catalog(url)

    assert catalog.connections.list() == []
    catalog.close()
    assert revision(url) == migrations.HEAD


def test_a_catalog_of_a_newer_release_is_refused(url: str) -> None:
    Catalog(url).close()
    ask(url, "update alembic_version set version_num = '9999'")
    with pytest.raises(CatalogError, match=rf"reads up to {migrations.HEAD}.*Upgrade RuntimeDB"):
        Catalog(url)
    assert revision(url) == "9999"


def test_what_is_no_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_text("no database at all" * 100)
    with pytest.raises(CatalogError, match=r"The catalog at sqlite:////.*junk\.db failed"):
        Catalog(f"sqlite:///{tmp_path}/junk.db")
    with pytest.raises(CatalogError, match=r"can't be made at .*junk\.db/catalog\.db"):
        Catalog(f"sqlite:///{tmp_path}/junk.db/catalog.db")


@pytest.mark.parametrize("wrong", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:hidden@host/db"])
def test_a_url_of_no_file_is_refused_without_its_secret(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="atalog") as caught:
        Catalog(wrong)
    assert "hidden" not in str(caught.value)

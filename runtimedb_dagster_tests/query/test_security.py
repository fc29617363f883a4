"""What comes from outside is data: no name, option or row acts as SQL, as a path, or beyond the storage."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtimedb_dagster import RefreshRequest, RuntimeDB
from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.errors import (
    ConfigurationError,
    QueryError,
    RequestError,
    SourceError,
    TableNotFoundError,
    UnsafePathError,
)
from runtimedb_dagster.storage.paths import MARKER
from runtimedb_dagster_tests.support.parts import (
    Inside,
    SourceFile,
    current,
    long_after,
    path_of,
    rediscover,
    refresh_all,
    refresh_one,
    rows,
    the_table,
)
from runtimedb_dagster_tests.support.places import every_catalog, every_storage, everywhere

ATTACKS = [
    "../../../../precious", "/etc/passwd", "..", "a/../../precious", "~/precious", "file:///etc/passwd",
    "'; DROP TABLE orders; --", '"; DROP TABLE orders; --', "x' OR '1'='1", "orders); DELETE FROM orders; --",
    "' || (SELECT content FROM read_text('/etc/passwd')) || '", "{0}", "%s", "%(x)s", ":x", "?", "$1", "\\", "`id`",
    "$(id)", "*", "[a-z]*", "year=2024", "a\nb", "\u202e", "x" * 300,
]  # fmt: skip


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Path]:
    """A file beside the storage, which must be the same in the end."""
    path = tmp_path / "precious"
    path.write_text("precious")
    before = set(tmp_path.iterdir())
    yield path
    assert path.read_text() == "precious"
    assert {each.name for each in set(tmp_path.iterdir()) - before} <= {"home", "shop.duckdb", "shop.duckdb.wal"}


@every_storage
@pytest.mark.usefixtures("precious")
def test_names_and_values_of_a_source_are_data(
    db: RuntimeDB, make_source: Callable[..., SourceFile], inside: Inside
) -> None:
    source = make_source("shop", "CREATE TABLE orders AS SELECT 1 AS i")
    for attack in ATTACKS:
        name, value = identifier(attack), literal(attack)
        source.run(
            f"CREATE SCHEMA IF NOT EXISTS {name}",
            f"CREATE TABLE {name}.{name} AS SELECT {value} AS {name}",
            f"COMMENT ON TABLE {name}.{name} IS {value}",
        )
    db.connect("shop", source.url)
    result = refresh_all(db)
    assert (result.tables_refreshed, result.errors) == (len(ATTACKS) + 1, [])
    for attack in ATTACKS:
        name = identifier(attack)
        assert rows(db, f"SELECT {name} FROM shop.{name}.{name}") == [(attack,)]
    assert source.run("SELECT count(*) FROM orders") == [(1,)]
    db.purge("shop")
    assert db.sweep(long_after(db.settings)).files_failed == 0
    assert inside.files() == set()


@every_catalog
@pytest.mark.usefixtures("precious")
def test_no_field_of_a_request_does_more_than_to_be_looked_up(db: RuntimeDB, shop: SourceFile, inside: Inside) -> None:
    refresh_all(db)
    before = (db.connections(), db.tables(), db.pending_deletions(), inside.files())
    for attack in ATTACKS:
        requests = [
            RefreshRequest(attack),
            RefreshRequest(attack, data=True),
            RefreshRequest("shop", attack, "orders", data=True),
            RefreshRequest("shop", "main", attack, data=True),
            RefreshRequest("shop", data=True, partition_keys=["main.orders", attack]),
        ]
        for request in requests:
            with pytest.raises(RequestError, match="not found"):
                db.refresh(request)
        for act in (db.purge, db.remove, db.discover, db.check, db.connection):
            with pytest.raises(RequestError, match="not found"):
                act(attack)
        with pytest.raises(RequestError, match="not found"):
            db.purge("shop", "main", attack)
        with pytest.raises(ConfigurationError, match="connection name"):
            db.connect(attack, shop.url)
        with pytest.raises(TableNotFoundError, match="not found"):
            rows(db, f"FROM shop.main.{identifier(attack)}")
    assert (db.connections(), db.tables(), db.pending_deletions(), inside.files()) == before


@pytest.mark.usefixtures("precious")
@pytest.mark.parametrize("attack", ATTACKS)
def test_patterns_and_masks_are_patterns(db: RuntimeDB, shop: SourceFile, attack: str) -> None:
    db.connect(
        "other",
        shop.url,
        options={"exclude": [f"no.{attack}"], "exclude_columns": [f"no.{attack}"], "mask": {f"no.{attack}": "null"}},
    )
    assert refresh_all(db, "other").errors == []
    assert rows(db, "SELECT count(*), count(amount) FROM other.main.orders") == [(100, 100)]
    db.connect("third", shop.url, options={"include": [f"no.{attack}", "main.orders"]})
    assert [table.table_name for table in db.tables("third")] == ["orders"]


@pytest.mark.usefixtures("precious")
@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack != ".."])
def test_the_path_of_a_source_is_a_path(db: RuntimeDB, tmp_path: Path, attack: str) -> None:
    with pytest.raises(SourceError):
        db.connect("shop", f"duckdb://{tmp_path}/nothing/{attack.replace('?', '').replace('%', '%25')}")


# Files


@everywhere
def test_files_and_directories_are_for_their_owner_only(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile], tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        db = make_db(home=tmp_path / "new" / "home", grace_period=0)
        source = make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id")
        db.connect("shop", source.url)
        refresh_one(db, "orders")
        local = Inside.of(db).storage.prepare("c/s/t/t_v1.parquet")
        with db.query() as query:
            query.execute("SELECT * FROM shop.main.orders").fetchall()
            modes = modes_of(db.settings.home) | modes_of(query._temporary)
    finally:
        os.umask(before)
    assert local in modes
    assert {path for path, mode in modes.items() if mode not in (stat.S_IFDIR | 0o700, stat.S_IFREG | 0o600)} == set()


def modes_of(root: Path) -> dict[Path, int]:
    """The kinds and permissions of a directory and of all in it."""
    return {path: path.lstat().st_mode for path in [root, *root.rglob("*")]}


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("step", ["delete", "prepare", "finalize", "location"])
def test_a_root_that_was_swapped_for_a_symlink_is_not_followed(
    db: RuntimeDB, inside: Inside, tmp_path: Path, step: str
) -> None:
    refresh_all(db)
    path = path_of(current(db, "orders"))
    other = tmp_path / "other"
    (other / path).parent.mkdir(parents=True)
    (other / path).write_text("precious")
    inside.root.rename(tmp_path / "moved")
    inside.root.symlink_to(other)

    with pytest.raises(UnsafePathError, match="symlink"):
        getattr(inside.storage, step)(path)

    assert [each.read_text() for each in other.rglob("*") if each.is_file()] == ["precious"]


def test_a_root_that_is_a_symlink_from_the_beginning_is_used(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile], tmp_path: Path
) -> None:
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "storage").symlink_to("large-disk")
    db = make_db(storage_url=str(tmp_path / "storage"), grace_period=0)
    db.connect("shop", make_source("shop", "CREATE TABLE orders AS SELECT 1 AS id").url)
    refresh_one(db, "orders")
    assert rows(db, "FROM shop.main.orders") == [(1,)]
    assert (tmp_path / "large-disk" / path_of(current(db, "orders"))).is_file()
    db.purge("shop")
    db.sweep()
    assert [path.name for path in (tmp_path / "large-disk").iterdir()] == [MARKER]


# Queries that want too much


def test_a_query_that_needs_more_memory_than_it_has_fails_alone(
    make_db: Callable[..., RuntimeDB], make_source: Callable[..., SourceFile]
) -> None:
    db = make_db(memory_limit="100MB", grace_period=0)
    db.connect("shop", make_source("shop", "CREATE TABLE orders AS SELECT range AS id FROM range(100)").url)
    refresh_one(db, "orders")
    with db.query() as query:
        with pytest.raises(QueryError, match="Out of Memory"):
            query.execute("SELECT list(i) FROM range(1000000000) t(i)").fetchall()
        assert query.execute("SELECT count(*) FROM shop.main.orders").fetchall() == [(100,)]
    assert the_table(db, "orders").cached
    assert rediscover(db).tables_discovered == 1

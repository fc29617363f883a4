"""Connections that files declare: made, changed, released or removed, and left alone by hand."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from runtimedb_dagster import ConfigurationError, ConnectionNotFoundError, Declaration, RuntimeDB
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster_tests.support.parts import SourceFile, refresh_all, refresh_one
from runtimedb_dagster_tests.support.places import every_catalog

FILE = "defs/shop/defs.yaml"


@pytest.fixture
def declaration(make_source: Callable[..., SourceFile]) -> Declaration:
    source = make_source("declared", "CREATE TABLE t AS SELECT 1 AS id")
    return Declaration("declared", source.url, {"include": "main.*"})


@every_catalog
def test_what_is_declared_is_made_changed_and_then_left_alone(db: RuntimeDB, declaration: Declaration) -> None:
    assert db.declare([declaration], FILE).added == ["declared"]
    made = db.connection("declared")
    assert (made.url, made.declared_in) == (str(SourceUrl.parse(declaration.url)), FILE)
    assert made.given == {"include": "main.*"}
    assert (made.discovered_at, db.tables("declared")) == (None, []), "nothing is discovered"
    assert not db.declare([declaration], FILE)
    changed = replace(declaration, options={"exclude": "main.x"}, password_env="SECRET")
    assert db.declare([changed], FILE).changed == ["declared"]
    now = db.connection("declared")
    assert (now.id, now.given, now.password_env) == (made.id, {"exclude": "main.x"}, "SECRET")


def test_options_that_change_make_versions_modified(db: RuntimeDB, declaration: Declaration) -> None:
    db.declare([declaration], FILE)
    db.discover("declared")
    refresh_all(db, "declared")
    db.declare([replace(declaration, options={"where": "*.t: id > 5"})], FILE)
    (table,) = db.tables("declared")
    assert table.modified


def test_one_that_was_registered_by_hand_becomes_declared_and_keeps_its_versions(
    db: RuntimeDB, shop: SourceFile
) -> None:
    refresh_all(db)
    before = {table.table_name: table.version for table in db.tables("shop")}
    assert db.declare([Declaration("shop", shop.url)], FILE).changed == ["shop"]
    assert {table.table_name: table.version for table in db.tables("shop")} == before
    assert refresh_one(db, "orders").mode == "unchanged"


def test_what_is_declared_is_not_changed_by_hand(db: RuntimeDB, declaration: Declaration) -> None:
    db.declare([declaration], FILE)
    for by_hand in (lambda: db.configure("declared", options={"exclude": "x"}), lambda: db.remove("declared")):
        with pytest.raises(ConfigurationError, match=f"'declared' is declared in {FILE}, and can't be .* by hand"):
            by_hand()
    assert db.connection("declared").given == {"include": "main.*"}


def test_what_is_no_longer_declared_is_released_or_removed(db: RuntimeDB, declaration: Declaration) -> None:
    other = replace(declaration, name="other")
    db.declare([declaration, other], FILE)
    assert db.declare([other], FILE).released == ["declared"]
    db.configure("declared", options={"exclude": "x"})
    assert not db.declare([other], FILE), "a released one is nobody's any more"
    assert db.declare([], FILE, remove_undeclared=True).removed == ["other"]
    with pytest.raises(ConnectionNotFoundError):
        db.connection("other")
    assert db.connection("declared").declared_in is None


def test_two_files_do_not_declare_the_same(db: RuntimeDB, declaration: Declaration) -> None:
    db.declare([declaration], FILE)
    with pytest.raises(ConfigurationError, match=f"declared in defs/b.yaml and in {FILE}; leave it in one"):
        db.declare([declaration], "defs/b.yaml")
    with pytest.raises(ConfigurationError, match="declares a connection twice"):
        db.declare([declaration, declaration], FILE)


def test_a_name_that_is_taken_in_another_case_is_told(db: RuntimeDB, declaration: Declaration) -> None:
    db.declare([replace(declaration, name="DECLARED")], "defs/b.yaml")
    with pytest.raises(ConfigurationError, match="'declared' can't be added: 'DECLARED' exists"):
        db.declare([declaration], FILE)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "no-name"}, "can't be used"),
        ({"url": "oracle://x/y"}, "unknown"),
        ({"options": {"inclde": "x"}}, "'inclde' is unknown"),
        ({"options": {"refresh_cron": "hourly"}}, "five fields"),
    ],
)
def test_a_wrong_declaration_changes_nothing(
    db: RuntimeDB, declaration: Declaration, wrong: dict[str, str], says: str
) -> None:
    bad = replace(declaration, **{"name": "bad", **wrong})  # type: ignore[arg-type]  # of any of its fields
    with pytest.raises(ConfigurationError, match=f"Connection '{bad.name}': .*{says}"):
        db.declare([declaration, bad], FILE)
    assert db.connections() == []


@every_catalog
def test_many_processes_declare_at_once(make_db: Callable[..., RuntimeDB], declaration: Declaration) -> None:
    opened = [make_db() for _ in range(6)]
    with ThreadPoolExecutor(len(opened)) as pool:
        done = list(pool.map(lambda each: each.declare([declaration], FILE), opened))
    assert sum(len(each.added) for each in done) >= 1
    assert [each.name for each in opened[0].connections()] == ["declared"]
    assert not opened[0].declare([declaration], FILE)

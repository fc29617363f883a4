"""Recipes: a version that would be made in another way today is modified, everywhere, until it is refreshed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runtimedb_dagster import Failed, Outcome, Published, RefreshRequest, RuntimeDB, Unchanged
from runtimedb_dagster.sources.attached.source import AttachedSource
from runtimedb_dagster_tests.support.parts import SourceFile, current, refresh_all, refresh_one, rows, the_table


@pytest.fixture
def people(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> SourceFile:
    """A source of two tables, refreshed."""
    source = make_source(
        "people",
        "CREATE TABLE users AS SELECT range AS id, 'u' || range || '@x' AS email, 'secret' AS ssn FROM range(3)",
        "CREATE TABLE orders AS SELECT range AS id FROM range(3)",
    )
    db.connect("shop", source.url)
    refresh_all(db)
    return source


def modified(db: RuntimeDB) -> list[str]:
    return [table.table_name for table in db.tables("shop") if table.modified]


def outcomes(db: RuntimeDB) -> dict[str, type[Outcome]]:
    events = db.events(RefreshRequest("shop", data=True))
    return {event.ref.table_name: type(event) for event in events if isinstance(event, Outcome)}


CHANGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"mask": "email:sha256"}, ["users"]),
    ({"mask": "users.id:null"}, ["users"]),
    ({"exclude_columns": "*.ssn"}, ["users"]),
    ({"columns": "users.id"}, ["users"]),
    ({"where": "*: id > 0"}, ["orders", "users"]),
    ({"where": "orders: true"}, ["orders"]),
    ({"mask": "nothing:null", "exclude_columns": "nothing", "where": "nothing: false"}, []),
    ({"discovery_interval": 60, "read_timeout": 60, "exclude": "nothing"}, []),
]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(("options", "expected"), CHANGES)
def test_configuring_says_which_tables_it_makes_modified(
    db: RuntimeDB, options: dict[str, Any], expected: list[str]
) -> None:
    assert [ref.table_name for ref in db.configure("shop", options=options).tables_modified] == expected
    assert modified(db) == expected
    assert db.discover("shop").tables_modified == len(expected), "it stays so until it is refreshed"
    assert db.discover("shop").tables_modified == len(expected)
    found = outcomes(db)
    assert [name for name in sorted(found) if found[name] is Published] == expected, "the others have not changed"
    assert modified(db) == []
    assert db.discover("shop").tables_modified == 0


@pytest.mark.usefixtures("people")
def test_a_discovery_that_began_before_does_not_take_that_back(db: RuntimeDB, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AttachedSource.discover

    def configured_meanwhile(source: AttachedSource) -> Any:
        monkeypatch.undo()
        db.configure("shop", options={"where": "orders: id = 2"})
        return real(source)

    monkeypatch.setattr(AttachedSource, "discover", configured_meanwhile)
    assert db.discover("shop").tables_modified == 1
    assert modified(db) == ["orders"]
    refresh_all(db)
    assert (modified(db), rows(db, "SELECT id FROM shop.main.orders")) == ([], [(2,)])


def test_a_view_over_a_table_that_was_altered_is_modified_until_it_is_read(db: RuntimeDB, people: SourceFile) -> None:
    people.run(
        "CREATE VIEW everyone AS FROM users",
        "CREATE VIEW broken AS SELECT ssn FROM users",
        "COMMENT ON VIEW everyone IS 'all of them'",
    )
    db.discover("shop")
    refresh_all(db)
    people.run("ALTER TABLE users ADD COLUMN age INTEGER", "ALTER TABLE users DROP COLUMN ssn")
    assert db.discover("shop").tables_modified == 2
    assert modified(db) == ["everyone", "users"]
    assert [column.name for column in the_table(db, "everyone").columns] == ["id", "email", "age"]
    assert outcomes(db) == {"broken": Failed, "everyone": Published, "orders": Unchanged, "users": Published}
    assert (db.discover("shop").tables_modified, modified(db)) == (0, [])


@pytest.mark.usefixtures("people")
def test_an_option_that_is_taken_back_before_a_refresh_modifies_nothing(db: RuntimeDB) -> None:
    db.configure("shop", options={"mask": "email:null"})
    assert db.configure("shop", unset=["mask"]).tables_modified == ()
    assert modified(db) == []
    assert outcomes(db) == {"users": Unchanged, "orders": Unchanged}


@pytest.mark.usefixtures("people")
def test_a_version_of_another_recipe_is_not_kept_although_it_holds_the_same(db: RuntimeDB) -> None:
    before = current(db, "orders")
    db.configure("shop", options={"where": "orders: id >= 0"})
    refresh_one(db, "orders")
    after = current(db, "orders")
    assert (after.fingerprint, after.rows) == (before.fingerprint, before.rows)
    assert (after.id, after.recipe) != (before.id, before.recipe)


def test_a_column_that_changed_in_the_source_is_modified_until_it_is_read(db: RuntimeDB, people: SourceFile) -> None:
    people.run("ALTER TABLE orders ADD COLUMN day DATE")
    assert modified(db) == []
    assert db.discover("shop").tables_modified == 1
    assert modified(db) == ["orders"]
    assert db.discover("shop").tables_modified == 1, "nobody has refreshed it"
    refresh_one(db, "orders")
    assert modified(db) == []
    assert db.discover("shop").tables_modified == 0


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("options", [{"mask": "email:sha256"}, {"exclude_columns": "users.email"}])
def test_values_that_are_to_be_hidden_are_found_until_they_are(db: RuntimeDB, options: dict[str, str]) -> None:
    assert db.verify() == []
    db.configure("shop", options=options)
    (finding,) = db.verify()
    assert (finding.invariant, finding.subject) == ("R6", "shop.main.users")
    assert "column email" in finding.message
    assert "refresh the table" in finding.message
    assert rows(db, "SELECT email FROM shop.main.users WHERE id = 1") == [("u1@x",)]
    refresh_one(db, "users")
    assert db.verify() == []


@pytest.mark.usefixtures("people")
def test_a_mask_that_hides_less_is_replaced_by_one_that_hides_more(db: RuntimeDB) -> None:
    db.configure("shop", options={"mask": "email:sha256"})
    refresh_one(db, "users")
    db.configure("shop", options={"mask": "email:null"})
    assert [finding.subject for finding in db.verify()] == ["shop.main.users"]
    refresh_one(db, "users")
    assert db.verify() == []
    assert the_table(db, "users").modified is False

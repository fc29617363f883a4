"""Patterns: which tables, rows and columns are wanted, and what is masked, from a DuckDB file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError, TypeContractError
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.domain.selection import Selection
from runtimedb_dagster.sources.attached.projection import project, select_list
from runtimedb_dagster_tests.support.parts import SourceFile, current, refresh_all, rows


def selection(**options: str) -> Selection:
    return ConnectionOptions.of(options).selection


def names(selected: Selection, *columns: str) -> list[str]:
    listed = select_list(selected.of("Sales", "Orders"), [SourceColumn(name, "VARCHAR") for name in columns], project)
    return [each.column.name for each in listed]


def where(**options: str) -> str | None:
    return selection(**options).of("Sales", "Orders").where


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, True),
        ({"include": "sales.*"}, True),
        ({"include": "orders"}, True),
        ({"include": "other.*,SALES.ORD*"}, True),
        ({"include": "order"}, False),
        ({"exclude": "*.orders"}, False),
        ({"include": "*", "exclude": "sales.*"}, False),
        ({"exclude": '["a,b", "Sales.Orders"]'}, False),
    ],
)
def test_tables_are_chosen_by_patterns(options: dict[str, str], wanted: bool) -> None:
    assert selection(**options).wants("Sales", "Orders") is wanted


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ["id", "Email", "note"]),
        ({"columns": "orders.id,orders.note"}, ["id", "note"]),
        ({"columns": "other.id"}, ["id", "Email", "note"]),
        ({"exclude_columns": "*mail*"}, ["id", "note"]),
        ({"exclude_columns": "sales.orders.id,NOTE"}, ["Email"]),
        ({"columns": "orders.*", "exclude_columns": "other.note"}, ["id", "Email", "note"]),
    ],
)
def test_columns_are_chosen_by_patterns(options: dict[str, str], left: list[str]) -> None:
    assert names(selection(**options), "id", "Email", "note") == left


def test_nothing_left_and_twins_are_refused_by_name() -> None:
    with pytest.raises(TypeContractError, match="the patterns leave it no columns"):
        names(selection(exclude_columns="*"), "id")
    with pytest.raises(TypeContractError, match="it has no columns"):
        names(selection())
    with pytest.raises(TypeContractError, match='columns "id" and "ID" differ by case only'):
        names(selection(), "id", "ID")
    assert names(selection(exclude_columns='["*.nope"]'), "id") == ["id"]


def test_conditions_of_several_patterns_all_hold() -> None:
    both = where(where='{"sales.*": "a > 1 OR b", "orders": "c -- d", "other": "e"}')
    assert both == "(a > 1 OR b\n) AND (c -- d\n)"
    assert where(where="sales.orders: a::date > '2020-01-01'") == "(a::date > '2020-01-01'\n)"
    assert where(where="nope: a") is None


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("where", "no colon", "pattern: SQL"),
        ("where", ": x", "pattern: SQL"),
        ("mask", "email", "pattern:mask"),
        ("mask", "email:rot13", "sha256, null, redact"),
        ("mask", "{", "The option mask is wrong"),
        ("include", "[1", "The option include is wrong"),
    ],
)
def test_what_means_nothing_is_refused(option: str, value: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        selection(**{option: value})


def test_masks_reach_every_type_and_leave_null_alone(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source(
        "people",
        "CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a@x', 1.5, [1, 2]), (2, NULL, NULL, NULL)) "
        "v(id, email, pay, marks)",
        "ALTER TABLE t ALTER id SET NOT NULL",
    )
    db.connect(
        "shop",
        source.url,
        options={"mask": {"email": "sha256", "*.pay": "redact", "main.t.marks": "null", "id": "null"}},
    )
    assert refresh_all(db).errors == []
    (hashed,) = source.run("SELECT sha256('a@x')")[0]
    assert rows(db, "SELECT id, email, pay, marks FROM shop.main.t ORDER BY email") == [
        (None, hashed, "***", None), (None, None, None, None),
    ]  # fmt: skip
    assert [(column.type, column.nullable, column.mask) for column in current(db, "t").columns] == [
        ("INTEGER", True, "null"),
        ("VARCHAR", True, "sha256"),
        ("VARCHAR", True, "redact"),
        ("INTEGER[]", True, "null"),
    ]


def test_a_masked_column_needs_no_exact_form(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source("s", "CREATE TABLE t AS SELECT 170141183460469231731687303715884105727 AS big, 1 AS i")
    db.connect("shop", source.url, options={"mask": "big:null", "where": "t: i = 1"})
    assert refresh_all(db).errors == []
    assert rows(db, "SELECT * FROM shop.main.t") == [(None, 1)]


def test_tables_that_are_no_longer_included_go(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source("s", *(f"CREATE TABLE {name} (i INTEGER)" for name in "abc"))
    db.connect("shop", source.url)
    db.configure("shop", options={"exclude": ["b"]})
    assert db.discover("shop").tables_removed == 1
    assert [table.table_name for table in db.tables()] == ["a", "c"]


def test_a_masked_value_that_can_not_be_read_is_not_told(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source(
        "s", "CREATE VIEW t AS SELECT CAST(v AS HUGEINT) AS v FROM (VALUES ('1' || repeat('7', 38))) x(v)"
    )
    db.connect("shop", source.url, options={"mask": "v:sha256"})
    (error,) = refresh_all(db).errors
    assert 'column "v"' in error["error"]
    assert "is masked" in error["error"]
    assert "777" not in error["error"]

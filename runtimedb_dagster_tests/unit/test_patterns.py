"""Patterns of names: `*` stands for anything, nothing else has a meaning; names are compared as people read them."""

from __future__ import annotations

import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.domain.patterns import alike, matches
from runtimedb_dagster_tests.support.parts import SourceFile, rediscover, refresh_all, rows


@pytest.mark.parametrize("name", ["contact[email]", "a?b", "[!x]", "a.b", "a+b", "(a)", "a\\b", "a^b$", "{a}", "a\nb"])
def test_a_name_is_its_own_pattern_and_that_of_no_other(name: str) -> None:
    assert matches(name, name)
    assert not matches(name, name.replace(name[-2:], "zz"))


@given(st.text(), st.text())
def test_a_star_stands_for_anything(before: str, after: str) -> None:
    assert matches("*", before)
    assert matches(
        before.replace("*", "") + "*" + after.replace("*", ""), before.replace("*", "") + " 1 " + after.replace("*", "")
    )


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("EMAIL", "email"), ("straße", "STRASSE"), ("caf\u00e9", "CAFE\u0301"), ("İ", "i\u0307"), ("ΣΑΣ", "σας")],
)
def test_neither_case_nor_composition_matters(pattern: str, name: str) -> None:
    assert matches(pattern, name)
    assert matches(name, pattern)


@given(st.text())
def test_names_are_alike_in_every_case_and_form(name: str) -> None:
    for form in ("NFC", "NFD"):
        assert alike(unicodedata.normalize(form, name)) == alike(name)
    assert alike(alike(name)) == alike(name)


def test_brackets_in_a_columns_name_hide_it_from_no_mask(db: RuntimeDB, shop: SourceFile) -> None:
    shop.run(
        'CREATE TABLE answers ("contact[email]" VARCHAR, "contact[phone]" VARCHAR, "E\u0301mail" VARCHAR)',
        "INSERT INTO answers VALUES ('ann@example.org', '555', 'ann@example.org')",
    )
    db.configure("shop", options={"mask": "contact[email]:redact,é*:redact", "exclude_columns": "contact[phone]"})
    rediscover(db)
    refresh_all(db)
    assert rows(db, "SELECT * FROM shop.main.answers") == [("***", "***")]


def test_a_pattern_that_is_of_nothing_is_told(
    db: RuntimeDB, shop: SourceFile, caplog: pytest.LogCaptureFixture
) -> None:
    db.configure(
        "shop", options={"mask": "*emial*:sha256,name:redact", "exclude": "ordres", "where": "customers: id > 0"}
    )
    with caplog.at_level(logging.WARNING):
        rediscover(db)
    (logged,) = [record.getMessage() for record in caplog.records if "nothing matches" in record.getMessage()]
    assert logged == "connection 'shop': nothing matches exclude 'ordres', mask '*emial*'"

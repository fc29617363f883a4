"""Table addresses and the partition keys that stand for them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtimedb_dagster import TableRef

TEXT = st.text(st.characters(exclude_categories=["Cs"]))

ODD = [
    "",
    ",",
    "...",
    ".",
    "/",
    '"',
    "'",
    "\n",
    "\x00",
    "%",
    "%2E",
    " ",
    "a b",
    "a.b",
    "T1",
    "t1",
    "\U0001f600",
    "日本語",
    "\u00e9",
    "e\u0301",
    "\u0301",
    "\ufb01",
    "fi",
    "Ⅷ",
    "²",
    "ﾊﾟ",
    "\u212b",
    "\u00c5",
    "-_",
]


def key(schema_name: str, table_name: str) -> str:
    return TableRef("shop", schema_name, table_name).partition_key


def is_plain(char: str) -> bool:
    return char.isalnum() or char in "_-.%"


def test_plain_names_stay_readable() -> None:
    assert key("main", "Order_items-2") == "main.Order_items-2"
    assert key("Größe", "日本語") == "Größe.日本語"


@given(TEXT, TEXT)
@example("a.b", "c")
@example("", ".")
def test_a_key_is_reversible(schema_name: str, table_name: str) -> None:
    ref = TableRef("shop", schema_name, table_name)
    assert TableRef.from_partition_key("shop", ref.partition_key) == ref


@given(TEXT, TEXT, TEXT, TEXT)
@example("a.b", "c", "a", "b.c")
@example("a", "%2E", "a", ".")
@example("m", "\u00e9", "m", "e\u0301")
@example("m", "T1", "m", "t1")
def test_distinct_tables_have_distinct_keys(s1: str, t1: str, s2: str, t2: str) -> None:
    assert (key(s1, t1) == key(s2, t2)) is ((s1, t1) == (s2, t2))


@given(TEXT, TEXT)
def test_a_key_has_plain_characters_only(schema_name: str, table_name: str) -> None:
    made = key(schema_name, table_name)
    assert all(map(is_plain, made))
    assert made.count(".") == 1


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_a_key_and_back(name: str) -> None:
    for ref in (TableRef("shop", name, "t"), TableRef("shop", "main", name), TableRef("shop", name, name)):
        assert all(map(is_plain, ref.partition_key))
        assert TableRef.from_partition_key("shop", ref.partition_key) == ref


def test_odd_names_have_distinct_keys() -> None:
    keys = {key(schema_name, table_name) for schema_name in ODD for table_name in ODD}
    assert len(keys) == len(ODD) ** 2


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        (",", "%2C"),
        ("...", "%2E%2E%2E"),
        ("a b", "a%20b"),
        ("%", "%25"),
        ("\U0001f600", "%F0%9F%98%80"),
        ("e\u0301", "e%CC%81"),
    ],
)
def test_what_is_not_plain_is_percent_encoded(name: str, encoded: str) -> None:
    assert key("main", name) == f"main.{encoded}"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "orders",
        "main.a.b",
        "main.a b",
        "main.a,b",
        "main.%2c",
        "main.%41",
        "main.%",
        "main.%zz",
        "main.%FF",
        "main.%F0%9F",
        "main.e\u0301",
        "main.\U0001f600",
        "main.%C3%A9",
        "main...orders",
        "main.orders\n",
    ],
)
def test_a_key_that_was_never_made_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        TableRef.from_partition_key("shop", wrong)


@given(TEXT)
def test_a_key_is_taken_only_if_it_would_be_made(text: str) -> None:
    try:
        ref = TableRef.from_partition_key("shop", text)
    except ValueError:
        return
    assert ref.partition_key == text


@given(TEXT, TEXT)
def test_the_full_name_quotes_what_sql_must_quote(schema_name: str, table_name: str) -> None:
    written = str(TableRef("shop", schema_name, table_name))
    parts = re.findall(r'"((?:[^"]|"")*)"|([A-Za-z_][A-Za-z0-9_]*)', written)
    assert [quoted.replace('""', '"') or plain for quoted, plain in parts] == [
        "shop",
        schema_name,
        table_name,
    ]

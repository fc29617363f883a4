"""Version paths: safe characters, bounded, and never two names in one place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimedb_dagster.storage.paths import is_safe, version_path

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
UNSAFE = [
    "/etc/passwd",
    "..",
    "../outside/file",
    "c1/../../outside/file",
    "c1/./file",
    "c1//file",
    "",
    "c1/",
    "/",
    "c1/*/file",
    "c1/fil?",
    "c1/[a]",
    "c1/{a,b}",
    "file:///etc/passwd",
    "s3://bucket/key",
    "c1/year=2024/file",
    "c1/a b",
    "c1\\file",
    "c1/file\n",
    "c1/file\x00",
    "c1/ü",
    "~root/.bashrc\n",
    ".hidden",
    "c1/" + "x" * 256,
]
CONNECTION, VERSION = "c" * 32, "f" * 32


def directory(schema_name: str, table_name: str) -> str:
    """The directory of a table's versions."""
    return version_path(CONNECTION, schema_name, table_name, VERSION).rpartition("/")[0]


def test_plain_names_stay_readable() -> None:
    assert version_path("c1", "main", "order_items-2", "v1") == "c1/main/order_items-2/order_items-2_vv1.parquet"


@given(NAMES, NAMES)
def test_every_path_is_safe_and_bounded(schema_name: str, table_name: str) -> None:
    path = version_path(CONNECTION, schema_name, table_name, VERSION)
    assert is_safe(path)
    assert re.fullmatch(r"[A-Za-z0-9_.~/-]+", path)
    assert len(path.split("/")) == 4
    assert all(len(part.encode()) <= 255 - len(".partial") for part in path.split("/"))
    assert not any(part in ("", ".", "..") or part.startswith(".") for part in path.split("/"))


@given(NAMES, NAMES, NAMES, NAMES)
def test_distinct_tables_have_distinct_directories_in_any_case(s1: str, t1: str, s2: str, t2: str) -> None:
    same = (s1, t1) == (s2, t2)
    assert (directory(s1, t1).lower() == directory(s2, t2).lower()) is same


@given(NAMES)
def test_names_that_differ_by_case_only_stay_distinct(name: str) -> None:
    variants = {name, name.upper(), name.lower(), name.title(), name.swapcase()}
    assert len({directory("main", variant).lower() for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("T1", "t1"),
        ("a b", "a-b"),
        ("a/b", "a-b"),
        ("a*b", "aXb"),
        ("..", "."),
        ("é", "e\u0301"),
        ("\U0001f600", "\U0001f601"),
        ("x" * 300, "x" * 301),
        ("x" * 63, "x" * 64),
        ("year=2024", "year-2024"),
        ("\n", "\t"),
    ],
)
def test_names_that_look_alike_stay_distinct(one: str, other: str) -> None:
    assert directory("main", one).lower() != directory("main", other).lower()
    assert directory(one, "t").lower() != directory(other, "t").lower()


def test_a_name_that_looks_like_an_encoded_one_is_not_taken_for_it() -> None:
    encoded = directory("main", "T1").rpartition("/")[2]
    assert directory("main", encoded) != directory("main", "T1")


@pytest.mark.parametrize("path", UNSAFE)
def test_what_is_not_safe(path: str) -> None:
    assert not is_safe(path)

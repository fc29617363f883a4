"""What the pages say of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runtimedb_dagster_tests.support.pages import PAGES

TESTS = Path(__file__).parents[1]
TESTING = (TESTS.parent / "docs" / "testing.md").read_text(encoding="utf-8")


def are_in(tests: list[str], files: set[str]) -> None:
    """Each test is defined in one of the files."""
    text = "".join((TESTS / file).read_text(encoding="utf-8") for file in files)
    for test in tests:
        assert f"def {test}(" in text, f"{test} is not in {files}"


def test_each_test_that_it_names_is_in_the_file_that_it_names() -> None:
    table = TESTING.partition("## Every entrance")[2].partition("\n## ")[0]
    named = 0
    for row in table.splitlines():
        entrance, *cells = row.strip("| ").split(" | ")
        default = set(re.findall(r"`([\w/]+\.py)`", entrance))
        for cell in cells:
            files = set(re.findall(r"\(`([\w/]+\.py)`\)", cell)) or default
            tests = re.findall(r"`(test_\w+)`", cell)
            are_in(tests, files | default)
            named += len(tests)
    assert named > 30


def page_of(name: str) -> str:
    if name == "testing.md":
        return TESTING.partition("## What it promises")[2].partition("\n## ")[0]
    return (TESTS.parent / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "least"), [("testing.md", 12), ("faults.md", 80)])
def test_each_test_that_a_page_names_is_in_the_file_that_it_names(name: str, least: int) -> None:
    page = re.sub(r"\s+", " ", page_of(name))
    groups = re.findall(r"((?:`test_\w+`, )*`test_\w+`) \(`([\w/]+\.py)`\)", page)
    for tests, file in groups:
        are_in(re.findall(r"`(test_\w+)`", tests), {file})
    named = sum(tests.count("`test_") for tests, _ in groups)
    assert named == len(re.findall(r"`test_\w+`", page)) > least, "each stands before the name of its file"


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_those_of_the_code(name: str) -> None:
    written = (TESTS.parent / "docs" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "make docs writes it again"


def test_each_test_that_the_page_of_security_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py): (test_\w+)`", page_of("security.md"))
    for file, test in named:
        are_in([test], {file})
    assert len(named) > 15

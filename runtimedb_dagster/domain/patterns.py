"""Patterns of names, in which `*` stands for anything and nothing else has a meaning.

Names are compared as people read them: whatever the case of their letters, and however an accent is composed. A pattern
that protects a column must not miss it for that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

__all__ = ["Matcher", "alike", "matches", "names_of_column", "names_of_table"]

V = TypeVar("V")


class Matcher(Generic[V]):
    """Values by pattern, in the order in which they were given."""

    def __init__(self, entries: Mapping[str, V] | Iterable[tuple[str, V]]) -> None:
        """Of patterns with their values."""
        self._entries = dict(entries)

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Matcher[bool]:
        """Of patterns alone."""
        return Matcher((pattern, True) for pattern in patterns)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._entries)

    def __iter__(self) -> Iterator[str]:
        """The patterns."""
        return iter(self._entries)

    def all(self, names: Sequence[str]) -> list[V]:
        """The values of all patterns that are one of the names."""
        return [value for pattern, value in self._entries.items() if any(matches(pattern, name) for name in names)]

    def first(self, names: Sequence[str]) -> V | None:
        """The value of the first pattern that is one of the names; None if there is none."""
        return next(iter(self.all(names)), None)

    def unmatched(self, listed: Sequence[Sequence[str]]) -> list[str]:
        """The patterns that are of nothing that is listed, each by its names."""
        return [
            pattern
            for pattern in self._entries
            if not any(matches(pattern, name) for names in listed for name in names)
        ]


def alike(name: str) -> str:
    """What is the same of names that differ by case or composition only."""
    # Folding may take a name apart, and composing may need folding again: the form of Unicode's caseless matching.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


@lru_cache(4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, alike(pattern).split("*"))), re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern is one of a name."""
    return _compiled(pattern).fullmatch(alike(name)) is not None


def names_of_table(schema_name: str, table_name: str) -> tuple[str, ...]:
    """What a pattern of tables is held against."""
    return f"{schema_name}.{table_name}", table_name


def names_of_column(schema_name: str, table_name: str, column: str) -> tuple[str, ...]:
    """What a pattern of columns is held against."""
    return (*(f"{table}.{column}" for table in names_of_table(schema_name, table_name)), column)

"""Patterns of names, in which `*` stands for anything and nothing else has a meaning.

Names are compared as people read them: whatever the case of their letters, and however an accent is composed. A pattern
that protects a column must not miss it for that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

__all__ = ["alike", "matches", "matches_any", "names_of_column", "names_of_table"]


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


def matches_any(patterns: Iterable[str], names: Sequence[str]) -> bool:
    """Whether one of the patterns is one of the names."""
    return any(matches(pattern, name) for pattern in patterns for name in names)


def names_of_table(schema_name: str, table_name: str) -> tuple[str, ...]:
    """What a pattern of tables is held against."""
    return f"{schema_name}.{table_name}", table_name


def names_of_column(schema_name: str, table_name: str, column: str) -> tuple[str, ...]:
    """What a pattern of columns is held against."""
    return (*(f"{table}.{column}" for table in names_of_table(schema_name, table_name)), column)

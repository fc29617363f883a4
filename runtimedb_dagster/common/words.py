"""Words that agree with a number."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """A number with what it is of, in the plural unless it is one.

    >>> counted(1, "table"), counted(2, "table")
    ('1 table', '2 tables')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""Quoting for the SQL that is composed, the only two ways in which text enters a statement; and how names compare."""

from __future__ import annotations

__all__ = ["create_secret", "fold", "identifier", "literal", "qualified"]


def identifier(name: str) -> str:
    """`name` as a quoted identifier: `we"ird` becomes `"we""ird"`."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as a string literal: `it's` becomes `'it''s'`."""
    return "'" + text.replace("'", "''") + "'"


def qualified(*names: str) -> str:
    """A dotted name, each part quoted."""
    return ".".join(identifier(name) for name in names)


def create_secret(name: str, kind: str, **given: str | None) -> str:
    """The statement that makes a secret that ends with the process."""
    parameters = [f"{key} {literal(value)}" for key, value in given.items() if value is not None]
    return f"CREATE TEMPORARY SECRET {name} ({', '.join([f'TYPE {kind}', *parameters])})"


def fold(name: str) -> str:
    """A name as DuckDB and the catalog compare it: only ASCII letters have a case."""
    return "".join(char.lower() if char.isascii() else char for char in name)

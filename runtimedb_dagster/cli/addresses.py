"""A table's address as users type it: three words, or one with dots, quoted as in SQL where a part has a dot."""

from __future__ import annotations

import re

from runtimedb_dagster.domain.errors import RequestError

__all__ = ["addressed"]

PART = r'(?:"(?:[^"]|"")+"|[^."]+)'
DOTTED = re.compile(rf"({PART})\.({PART})\.({PART})")


def addressed(
    connection: str | None, schema_name: str | None = None, table_name: str | None = None
) -> tuple[str | None, str | None, str | None]:
    """Connection, schema and table, taken apart if the first word has all three.

    >>> addressed('shop.sales."odd.name"')
    ('shop', 'sales', 'odd.name')

    Raises:
        RequestError: it has some of them.
    """
    if connection is None or "." not in connection:
        # No connection's name has a dot.
        return connection, schema_name, table_name
    found = DOTTED.fullmatch(connection)
    if found is None or schema_name is not None:
        raise RequestError(f"'{connection}' is no table's address: that is CONNECTION.SCHEMA.TABLE, or three words")
    one, two, three = (_bare(part) for part in found.groups())
    return one, two, three


def _bare(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part

"""Where a RuntimeDB keeps what it has, in a test: every catalog, and every storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest

from runtimedb_dagster.catalog import Catalog, new_id
from runtimedb_dagster_tests.support.servers import Server

__all__ = ["TEMPLATE", "a_database", "every_catalog", "every_storage", "everywhere", "make_template", "with_postgresql"]

CATALOGS, STORAGES = ("sqlite", "postgresql"), ("files", "s3")
TEMPLATE = "catalog_template"


def _over(*places: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", places, indirect=True, ids="-".join)


everywhere = _over(*zip(CATALOGS, STORAGES, strict=True))
"""For a test of what needs both; only one that goes through the fixture `make_db` or `db`.

Both catalogs and both storages, but not each with each: they know nothing of each other. The kill points have all four.
"""

every_catalog = _over(*product(CATALOGS, STORAGES[:1]))
every_storage = _over(*product(CATALOGS[:1], STORAGES))
with_postgresql = _over(*product(CATALOGS[1:], STORAGES))


def make_template(server: Server) -> None:
    """Make an empty catalog, once: to copy a database is quicker than to migrate one."""
    server.run(None, f"CREATE DATABASE {TEMPLATE}")
    Catalog(server.catalog_url(TEMPLATE)).close()


@contextmanager
def a_database(server: Server, template: str = "template1") -> Iterator[str]:
    """The name of a database of one's own."""
    name = f"catalog_{new_id()[:8]}"
    server.run(None, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield name
    server.run(None, f"DROP DATABASE {name} WITH (FORCE)")

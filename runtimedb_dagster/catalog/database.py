"""The catalog's database: an engine, and the two kinds of transaction on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from runtimedb_dagster.catalog.migrations import migrate
from runtimedb_dagster.catalog.schema import clock
from runtimedb_dagster.errors import CatalogError, ConfigurationError

__all__ = ["Database", "new_id", "next_sequence"]

BUSY_TIMEOUT_SECONDS = 30


def new_id() -> str:
    """A random id that is never used again, not even after its row is gone."""
    return uuid.uuid4().hex


def next_sequence(tx: Connection) -> int:
    """The number of this transaction among all that readers and refreshes must be able to order.

    The clock's row stays locked until the transaction ends, so numbers become visible in their order.
    """
    tx.execute(update(clock).values(value=clock.c.value + 1))
    return int(tx.execute(select(clock.c.value)).scalar_one())


class Database:
    """One catalog database, migrated when it is opened."""

    def __init__(self, url: str) -> None:
        """Open `url` and bring its schema up to date.

        Raises:
            ConfigurationError: the URL is malformed, or of a database the catalog can't be kept in.
            CatalogError: it can't be reached, or a newer release wrote it.
        """
        self._url = _parsed(url)
        self._engine = _engine(url)
        with self._named_errors():
            migrate(self._engine)

    def dispose(self) -> None:
        """Close all its connections."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the catalog."""
        with self._named_errors(), self._engine.begin() as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that changes the catalog, wholly or not at all."""
        writer = self._engine.execution_options(runtimedb_begin="BEGIN IMMEDIATE")
        with self._named_errors(), writer.begin() as tx:
            yield tx

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise CatalogError(f"The catalog at {self._url} failed: {error.orig}") from error


def _parsed(url: str) -> str:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("The catalog URL is malformed; write it like sqlite:////path/catalog.db") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigurationError(f"The catalog is kept in a SQLite file, not in '{parsed.render_as_string()}'")
    return parsed.render_as_string(hide_password=True)


def _engine(url: str) -> Engine:
    path = Path(str(make_url(url).database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        raise CatalogError(f"The catalog can't be made at {path}: {error.strerror}") from error
    engine = create_engine(url, pool_size=8, max_overflow=56, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own; _begin does
    connection.execute("PRAGMA journal_mode=WAL")
    # A commit must be on disk before the sweep deletes what it replaced: NORMAL would lose it in a power cut.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    # A read transaction that turns into a write fails at once when another writer came between.
    connection.exec_driver_sql(connection.get_execution_options().get("runtimedb_begin", "BEGIN"))

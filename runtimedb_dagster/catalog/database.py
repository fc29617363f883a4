"""The catalog's database, SQLite or PostgreSQL: an engine, and the two kinds of transaction on it."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from typing_extensions import ParamSpec

from runtimedb_dagster.catalog.migrations import migrate
from runtimedb_dagster.catalog.schema import clock
from runtimedb_dagster.errors import CatalogError, CatalogUnavailableError, ConfigurationError
from runtimedb_dagster.failpoints import hit

__all__ = ["Database", "new_id", "next_sequence", "transition"]

P = ParamSpec("P")
R = TypeVar("R")

BUSY_TIMEOUT_SECONDS = 30
LOCKED_SECONDS = 0.01
CONNECT_TIMEOUT_SECONDS = 10
# What a deadlock, or a server that restarts, is given to pass.
RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
# A server takes 100 connections by default, for all processes together; transactions are short, and wait for one.
POOLS = {"sqlite": {"pool_size": 8, "max_overflow": 56}, "postgresql": {"pool_size": 1, "max_overflow": 2}}
# PostgreSQL's codes for: could not serialize, deadlock, lock not available.
TRY_AGAIN = {"40001", "40P01", "55P03"}
# What it says when it takes no connection, for it is being started, is ending or has its hands full.
AWAY = (
    "Connection refused",
    "the database system is",
    "too many clients",
    "server closed the connection unexpectedly",
    "terminating connection due to",
    "Connection reset by peer",
    "during SSL exchange",
)


TICK = update(clock).values(value=clock.c.value + 1).returning(clock.c.value)


def new_id() -> str:
    """A random id that is never used again, not even after its row is gone."""
    return uuid.uuid4().hex


def next_sequence(tx: Connection) -> int:
    """The number of this transaction among all that readers and refreshes must be able to order.

    The clock's row stays locked until the transaction ends, so numbers become visible in their order.
    """
    return int(tx.execute(TICK).scalar_one())


def transition(method: Callable[P, R]) -> Callable[P, R]:
    """Have a method that is one transaction, and nothing besides, tried again where that is safe."""

    @wraps(method)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        for delay in RETRY_SECONDS:
            try:
                return method(*args, **kwargs)
            except CatalogUnavailableError:
                sleep(delay)
        return method(*args, **kwargs)

    return tried


class Database:
    """One catalog database, migrated when it is opened."""

    def __init__(self, url: str) -> None:
        """Open `url` and bring its schema up to date.

        Raises:
            ConfigurationError: the URL is malformed, or of a database the catalog can't be kept in.
            CatalogError: it can't be reached, or a newer release wrote it.
        """
        parsed = _parsed(url)
        self._url = parsed.render_as_string(hide_password=True)
        self._engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
        self._migrate()

    @transition
    def _migrate(self) -> None:
        with self._named_errors():
            migrate(self._engine)

    def dispose(self) -> None:
        """Close all its connections."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the catalog."""
        with self._named_errors(), self._options(READ).begin() as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that changes the catalog, wholly or not at all."""
        with self._named_errors(), self._options(WRITE).connect() as tx:
            transaction = tx.begin()
            try:
                yield tx
                hit("before_commit")
            except BaseException:
                transaction.rollback()
                raise
            self._commit(transaction)

    def _options(self, options: dict[str, dict[str, Any]]) -> Engine:
        return self._engine.execution_options(**options[self._engine.dialect.name])

    def _commit(self, transaction: Any) -> None:
        try:
            hit("inside_commit", _lost)
            transaction.commit()
            hit("after_commit", _lost)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise CatalogError(
                f"The catalog at {self._url} was lost during a commit, whose outcome is unknown: {_said(error)}"
            ) from error

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            again = error.connection_invalidated or getattr(error.orig, "sqlstate", None) in TRY_AGAIN
            kind = CatalogUnavailableError if again or _is_away(error) else CatalogError
            raise kind(f"The catalog at {self._url} failed: {_said(error)}") from error


# On SQLite a read transaction that turns into a write fails at once when another writer came between. On PostgreSQL
# rows are locked where an order matters, and the clock's row orders what readers must see in order.
WRITE: dict[str, dict[str, Any]] = {
    "sqlite": {"runtimedb_begin": "BEGIN IMMEDIATE"},
    "postgresql": {"isolation_level": "READ COMMITTED"},
}
READ: dict[str, dict[str, Any]] = {
    "sqlite": {},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}


def _lost() -> DBAPIError:
    return DBAPIError("COMMIT", None, ConnectionError("the connection was lost"), connection_invalidated=True)


def _is_away(error: DBAPIError) -> bool:
    """Whether PostgreSQL took no connection; wrong passwords and names are for people to mend."""
    return any(sign in str(error.orig) for sign in AWAY)


def _said(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("The catalog URL is malformed; write it like sqlite:////path/catalog.db") from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigurationError(
            f"The catalog is kept in a SQLite file or in PostgreSQL, not in '{parsed.render_as_string()}'"
        )
    return parsed


def _sqlite(url: URL) -> Engine:
    path = Path(str(url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        raise CatalogError(f"The catalog can't be made at {path}: {error.strerror}") from error
    engine = create_engine(url, **POOLS["sqlite"], connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin)
    return engine


def _postgresql(url: URL) -> Engine:
    parameters = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "runtimedb"}
    try:
        return create_engine(url, **POOLS["postgresql"], connect_args=parameters)
    except ModuleNotFoundError:
        raise ConfigurationError(
            "A catalog in PostgreSQL needs its driver: pip install 'runtimedb-dagster[postgresql]'"
        ) from None


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own; _begin does
    _use_wal(connection)
    # A commit must be on disk before the sweep deletes what it replaced: NORMAL would lose it in a power cut.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _use_wal(connection: Any) -> None:
    # The first one to switch a new file has it to itself, for which SQLite waits only here.
    until = monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > until:
                raise
            sleep(LOCKED_SECONDS)
        else:
            return


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("runtimedb_begin", "BEGIN"))

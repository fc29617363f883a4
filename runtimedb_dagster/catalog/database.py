"""The catalog's database, SQLite or PostgreSQL: an engine, and the two kinds of transaction on it."""

from __future__ import annotations

import os
import sqlite3
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, inspect, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from typing_extensions import ParamSpec

from runtimedb_dagster.catalog.engines import postgresql_engine, sqlite_engine
from runtimedb_dagster.catalog.migrations import migrate
from runtimedb_dagster.catalog.schema import lake
from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.common.redaction import redactor, shown
from runtimedb_dagster.domain.errors import CatalogError, CatalogMovedError, CatalogUnavailableError, ConfigurationError
from runtimedb_dagster.domain.versions import SequenceNumber

__all__ = ["Database", "catalog_is_there", "new_id", "next_sequence", "require_here", "transition"]

P = ParamSpec("P")
R = TypeVar("R")

# What a deadlock, or a server that restarts, is given to pass.
RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
# PostgreSQL's codes for: could not serialize, deadlock, lock not available, a statement that took too long, a session
# that was idle within a transaction, a server that ends, and one that starts.
TRY_AGAIN = {"40001", "40P01", "55P03", "57014", "25P03", "57P01", "57P02", "57P03", "57P05"}
# What it says when it takes no connection, for it is being started, is ending or has its hands full.
UNAVAILABLE = (
    "Connection refused",
    "the database system is",
    "too many clients",
    "server closed the connection unexpectedly",
    "terminating connection due to",
    "Connection reset by peer",
    "during SSL exchange",
)


TICK = update(lake).values(sequence=lake.c.sequence + 1).returning(lake.c.sequence)


def new_id() -> str:
    """A random id that is never used again, not even after its row is gone."""
    return uuid.uuid4().hex


def next_sequence(tx: Connection) -> SequenceNumber:
    """The number of this transaction among all that readers and refreshes must be able to order.

    The row stays locked until the transaction ends, so numbers become visible in their order.

    Raises:
        CatalogMovedError: there is no clock any more.
    """
    number = tx.execute(TICK).scalar()
    if number is None:
        raise moved(tx)
    return SequenceNumber(number)


def require_here(tx: Connection) -> SequenceNumber:
    """The clock's number, for what takes none of its own.

    Raises:
        CatalogMovedError: there is no clock any more.
    """
    number = tx.execute(select(lake.c.sequence)).scalar()
    if number is None:
        raise moved(tx)
    return SequenceNumber(number)


def moved(tx: Connection) -> CatalogMovedError:
    """The error of whoever still uses a catalog that was moved."""
    to = tx.execute(select(lake.c.moved_to)).scalar()
    return CatalogMovedError(
        f"This catalog was moved to {to or 'another database'} by `runtimedb migrate --from`; set "
        "RUNTIMEDB_CATALOG_URL (or the setting catalog_url) to the new one and restart this process; a move that "
        "ended before it was finished goes on when the same command is given again"
    )


def transition(method: Callable[P, R]) -> Callable[P, R]:
    """Have a method that is one transaction, and nothing besides, retried where that is safe."""

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

    def __init__(self, url: str, *, must_exist: bool = False) -> None:
        """Open `url` and bring its schema up to date; with `must_exist`, only if a catalog is there.

        Raises:
            ConfigurationError: the URL is malformed, or of a database the catalog can't be kept in, or is not in.
            CatalogError: it can't be reached, or a newer release wrote it.
        """
        parsed = _parsed(url)
        self._url = f"sqlite:///{parsed.database}" if parsed.get_backend_name() == "sqlite" else shown(url)
        self._hide = redactor(url)
        if must_exist and parsed.get_backend_name() == "sqlite" and not _is_a_catalog(Path(str(parsed.database))):
            raise ConfigurationError(f"There is no catalog at {self._url}: nothing was made, nothing was copied")
        self._engine = sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else postgresql_engine(parsed)
        # A connection is of the process that made it; what a fork would send over it ends in its parent's transaction.
        _disposed_in_forks.add(self)
        if must_exist and not self._holds_a_catalog():
            self._engine.dispose()
            raise ConfigurationError(f"There is no catalog at {self._url}: nothing was made, nothing was copied")
        self._migrate()

    @transition
    def _holds_a_catalog(self) -> bool:
        with self._named_errors(), self._engine.connect() as connection:
            return inspect(connection).has_table("connections") and inspect(connection).has_table("alembic_version")

    @transition
    def _migrate(self) -> None:
        with self._named_errors():
            migrate(self._engine)

    @property
    def url(self) -> str:
        """What may be shown of its URL."""
        return self._url

    @property
    def file(self) -> Path | None:
        """The file that it is, if it is one."""
        database = self._engine.url.database
        return Path(database) if self._engine.dialect.name == "sqlite" and database else None

    def dispose(self) -> None:
        """Close all its connections."""
        self._engine.dispose()

    def forget_connections(self) -> None:
        """Leave the connections to the process that made them."""
        self._engine.dispose(close=False)

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
                f"The catalog at {self._url} was lost during a commit, whose outcome is unknown: "
                f"{self._hide(_message(error))}"
            ) from self._cause(error)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            again = error.connection_invalidated or getattr(error.orig, "sqlstate", None) in TRY_AGAIN
            kind = CatalogUnavailableError if again or _is_unavailable(error) else CatalogError
            raise kind(f"The catalog at {self._url} failed: {self._hide(_message(error))}") from self._cause(error)

    def _cause(self, error: DBAPIError) -> DBAPIError | None:
        """An error to be shown beneath ours, unless it holds what may not be shown."""
        return error if self._hide(str(error)) == str(error) else None


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


_disposed_in_forks: weakref.WeakSet[Database] = weakref.WeakSet()


def _after_fork() -> None:
    for database in list(_disposed_in_forks):
        database.forget_connections()


os.register_at_fork(after_in_child=_after_fork)


def _lost() -> DBAPIError:
    return DBAPIError("COMMIT", None, ConnectionError("the connection was lost"), connection_invalidated=True)


def _is_unavailable(error: DBAPIError) -> bool:
    """Whether PostgreSQL took no connection; wrong passwords and names are for people to mend."""
    # The driver, which has a class for the first, belongs to an extra.
    return type(error.orig).__name__ == "ConnectionTimeout" or any(sign in str(error.orig) for sign in UNAVAILABLE)


def _message(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("The catalog URL is malformed; write it like sqlite:////path/catalog.db") from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigurationError(f"The catalog is kept in a SQLite file or in PostgreSQL, not in '{shown(url)}'")
    return parsed


def catalog_is_there(url: str) -> bool:
    """Whether there is a file at the URL of a catalog in one; a server is taken to be there.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    parsed = _parsed(url)
    return parsed.get_backend_name() != "sqlite" or Path(str(parsed.database)).exists()


def _is_a_catalog(file: Path) -> bool:
    """Whether a file is a catalog; to look changes nothing in it."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as found:
            tables = {name for (name,) in found.execute("SELECT name FROM sqlite_master")}
    except sqlite3.Error:
        return False
    return {"connections", "alembic_version"} <= tables

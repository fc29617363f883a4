"""How the catalog's database is connected to: SQLite and PostgreSQL, and for how long either is waited for."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from runtimedb_dagster.catalog.patience import bound
from runtimedb_dagster.domain.errors import CatalogError, ConfigurationError

__all__ = ["postgresql_engine", "sqlite_engine"]

BUSY_TIMEOUT_SECONDS = 30
LOCKED_SECONDS = 0.01
CONNECT_TIMEOUT_SECONDS = 10
# Who is suspended within a transaction, or cut off, must let go of what the others wait for, before they give up.
IDLE_SECONDS = 15
LOCK_SECONDS = 60
STATEMENT_SECONDS = 90
SESSION = {
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
}
# A server or a network that goes mute is noticed: what was sent must be acknowledged, and silence is asked after.
NETWORK = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}
# A server takes 100 connections by default, for all processes together; transactions are short, and wait for one.
POOLS = {"sqlite": {"pool_size": 8, "max_overflow": 56}, "postgresql": {"pool_size": 1, "max_overflow": 2}}


def sqlite_engine(url: URL) -> Engine:
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


def postgresql_engine(url: URL) -> Engine:
    parameters = {**NETWORK, "application_name": "runtimedb"}
    try:
        engine = create_engine(url, **POOLS["postgresql"], connect_args=parameters)
    except ModuleNotFoundError:
        raise ConfigurationError(
            "A catalog in PostgreSQL needs its driver: pip install 'runtimedb-dagster[postgresql]'"
        ) from None
    bound(engine)
    # By statements and not at the session's start, where a pooler may refuse them.
    event.listen(engine, "connect", _configure_postgresql)
    return engine


def _configure_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("; ".join(f"SET {name} = '{value}'" for name, value in SESSION.items()))
    connection.commit()


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

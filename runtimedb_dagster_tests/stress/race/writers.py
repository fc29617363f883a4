"""Writers that do to tables of PostgreSQL whatever a client can, all at once, with transactions that stay open."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

__all__ = ["TABLES", "keep_on", "make", "one_ddl", "one_write", "rewrite"]

ROWS = 2_000

# By name: the statements that make it, and whether it has a key `k`.
TABLES: dict[str, tuple[Sequence[str], bool]] = {
    "plain": (
        ("CREATE TABLE plain (k int PRIMARY KEY, v int, p text, n numeric(12, 2))",
         f"INSERT INTO plain SELECT i, 0, repeat('x', 50), i / 7.0 FROM generate_series(1, {ROWS}) i"), True),
    "composite": (
        ("CREATE TABLE composite (k int, t text, v int, p text[], UNIQUE (k, t))",
         "ALTER TABLE composite ALTER k SET NOT NULL, ALTER t SET NOT NULL",
         f"INSERT INTO composite SELECT i, 'ä' || i % 7, 0, ARRAY['x', NULL] FROM generate_series(1, {ROWS}) i"), True),
    "keyless": (
        ("CREATE TABLE keyless (k int, v int, p text)",
         f"INSERT INTO keyless SELECT i, 0, 'x' FROM generate_series(1, {ROWS}) i"), False),
    "parted": (
        ("CREATE TABLE parted (k int PRIMARY KEY, v int, p text) PARTITION BY RANGE (k)",
         "CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (1000)",
         "CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (1000) TO (MAXVALUE)",
         f"INSERT INTO parted SELECT i, 0, 'x' FROM generate_series(1, {ROWS}) i"), True),
    "parent": (
        ("CREATE TABLE parent (k int, v int, p text)",
         "CREATE TABLE child (extra int) INHERITS (parent)",
         f"INSERT INTO parent SELECT i, 0, 'x' FROM generate_series(1, {ROWS // 2}) i",
         f"INSERT INTO child SELECT i, 0, 'y' FROM generate_series({ROWS // 2 + 1}, {ROWS}) i"), False),
    "enums": (
        ("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
         "CREATE TABLE enums (k int PRIMARY KEY, v int, p text, m mood)",
         f"INSERT INTO enums SELECT i, 0, 'x', 'ok' FROM generate_series(1, {ROWS}) i"), True),
    "filtered": (
        ("CREATE TABLE filtered (k int PRIMARY KEY, v int, p text)",
         f"INSERT INTO filtered SELECT i, i % 20, 'x' FROM generate_series(1, {ROWS}) i"), True),
    "masked": (
        ("CREATE TABLE masked (k int PRIMARY KEY, v int, p text)",
         f"INSERT INTO masked SELECT i, 0, 'secret ' || i FROM generate_series(1, {ROWS}) i"), True),
    "viewed": (
        ("CREATE MATERIALIZED VIEW viewed AS SELECT k, v, p FROM plain WHERE k > 0",
         "CREATE UNIQUE INDEX ON viewed (k)"), True),
}  # fmt: skip
OPTIONS = {"where": '{"filtered": "v < 10 AND k > 5"}', "mask": "masked.p:sha256"}
WRITTEN = [name for name in TABLES if name != "viewed"]


def make(connection: Any) -> None:
    """Make all tables."""
    for statements, _ in TABLES.values():
        for statement in statements:
            connection.execute(statement)


def one_write(tx: Any, rnd: random.Random, table: str) -> None:
    """Do one thing to the rows of a table."""
    what, key = rnd.random(), rnd.randint(1, 2 * ROWS)
    if what < 0.4:
        tx.execute(f"UPDATE {table} SET v = v + 1 WHERE k = {key}")
    elif what < 0.6:
        more, value = (", t", ", 'new'") if table == "composite" else ("", "")
        tx.execute(
            f"INSERT INTO {table} (k, v{more}) SELECT {key}, 1{value} "
            f"WHERE NOT EXISTS (SELECT FROM {table} WHERE k = {key})"
        )
    elif what < 0.72:
        tx.execute(f"DELETE FROM {table} WHERE k = {key}")
    elif what < 0.8:
        with tx.transaction():  # a savepoint: the rows carry the subtransaction's id
            tx.execute(f"UPDATE {table} SET v = v + 100 WHERE k BETWEEN {key} AND {key + 5}")
    elif what < 0.87:
        with tx.transaction(force_rollback=True):
            tx.execute(f"UPDATE {table} SET v = v + 1000 WHERE k = {key}")
    elif what < 0.95:
        tx.execute(f"SELECT FROM {table} WHERE k = {key} FOR UPDATE")
    else:
        tx.execute(f"UPDATE {table} SET k = -k WHERE k = {key} AND NOT EXISTS (SELECT FROM {table} WHERE k = -{key})")


def write(connect: Callable[[], Any], over: threading.Event, seed: int) -> None:
    """Write to all tables, in transactions that end well or not, soon or late."""
    rnd = random.Random(seed)  # noqa: S311 - no secrets
    while not over.is_set():
        try:
            with connect() as tx:
                tx.execute("SET lock_timeout = '2s'")
                tx.commit()
                while not over.is_set():
                    try:
                        for _ in range(rnd.randint(1, 15)):
                            one_write(tx, rnd, rnd.choice(WRITTEN))
                            if rnd.random() < 0.05:
                                time.sleep(rnd.random() * 0.3)
                        tx.commit() if rnd.random() < 0.8 else tx.rollback()
                    except psycopg.OperationalError:
                        tx.rollback()
                    except psycopg.Error:
                        tx.rollback()
                    time.sleep(rnd.random() * 0.02)
        except psycopg.Error:
            time.sleep(0.2)  # the server is being restarted


DDL: tuple[tuple[str, ...], ...] = (
    ("VACUUM FREEZE plain",),
    ("VACUUM FREEZE composite",),
    ("VACUUM FULL plain",),
    ("CLUSTER enums USING enums_pkey",),
    ("VACUUM parted",),
    ("REFRESH MATERIALIZED VIEW CONCURRENTLY viewed",),
    ("REFRESH MATERIALIZED VIEW viewed",),
    ("ALTER TABLE plain ADD COLUMN IF NOT EXISTS c int DEFAULT 7",),
    ("ALTER TABLE plain DROP COLUMN IF EXISTS c",),
    ("ALTER TABLE composite ADD COLUMN IF NOT EXISTS c text DEFAULT 'seven' NOT NULL",),
    ("ALTER TABLE composite DROP COLUMN IF EXISTS c",),
    ("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",),
    ("ALTER TYPE mood RENAME VALUE 'fine' TO 'ok'",),
    ("COMMENT ON COLUMN plain.v IS 'one'",),
    ("COMMENT ON COLUMN plain.v IS NULL",),
    ("TRUNCATE keyless",),
    ("INSERT INTO keyless SELECT i, 0, 'x' FROM generate_series(1, 500) i",),
    (
        "BEGIN", "TRUNCATE masked", "INSERT INTO masked SELECT i, 1, 'again ' || i FROM generate_series(1, 300) i",
        "COMMIT",
    ),
    (
        "BEGIN", "CREATE TABLE other (LIKE filtered INCLUDING ALL)",
        "INSERT INTO other SELECT k, v + 1, p FROM filtered", "DROP TABLE filtered",
        "ALTER TABLE other RENAME TO filtered", "COMMIT",
    ),
    ("BEGIN", "ALTER TABLE parted DETACH PARTITION parted_high", "UPDATE parted_high SET v = v + 1 WHERE k % 10 = 0",
     "ALTER TABLE parted ATTACH PARTITION parted_high FOR VALUES FROM (1000) TO (MAXVALUE)", "COMMIT"),
    ("ALTER TABLE child NO INHERIT parent",),
    ("ALTER TABLE child INHERIT parent",),
    ("BEGIN", "INSERT INTO enums (k, v) VALUES (900001, 1) ON CONFLICT (k) DO UPDATE SET v = enums.v + 1",
     "PREPARE TRANSACTION 'race'"),
    ("COMMIT PREPARED 'race'",),
    ("ROLLBACK PREPARED 'race'",),
    ("ANALYZE",),
    ("CHECKPOINT",),
)  # fmt: skip


def one_ddl(connection: Any, rnd: random.Random) -> None:
    """Do one thing to a table itself; it may come at the wrong time."""
    try:
        for statement in rnd.choice(DDL):
            connection.execute(statement)
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        connection.execute("ROLLBACK")


def rewrite(connect: Callable[[], Any], over: threading.Event, seed: int, pause: float) -> None:
    """Keep doing things to the tables themselves."""
    rnd = random.Random(seed)  # noqa: S311 - no secrets
    while not over.is_set():
        try:
            with connect() as connection:
                connection.execute("SET lock_timeout = '300ms'")
                while not over.is_set():
                    one_ddl(connection, rnd)
                    over.wait(rnd.random() * pause)
        except psycopg.Error:
            time.sleep(0.2)


def keep_on(target: Callable[..., None], *arguments: Any) -> threading.Thread:
    """A thread that does something until it is told that it is over."""
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread

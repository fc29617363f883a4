"""What has changed in PostgreSQL: what is read of it, and what makes that impossible to say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtimedb_dagster import RefreshError, RefreshRequest, RowsGoneError, RuntimeDB, TableUnavailableError
from runtimedb_dagster.engine import matching, narrowing
from runtimedb_dagster.sources.attached.postgresql import changes, facts
from runtimedb_dagster_tests.support.following import Follower
from runtimedb_dagster_tests.support.parts import path_of
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV, Remote
from runtimedb_dagster_tests.support.servers import Server, pooler, postgres, replica

T = "CREATE TABLE t (k int PRIMARY KEY, v text, n numeric(12, 2))"
ROWS = "INSERT INTO t SELECT i, 'v' || i, i / 7.0 FROM generate_series(1, 100) i"


@pytest.fixture
def pg(pg: Remote, tmp_path: Path) -> Remote:
    """As everywhere, but small tables are kept in several files, too."""
    settings = pg.db.settings.model_copy(update={"fold_below": 0})
    pg.db.engine.refresher.by_changes.settings = settings
    return pg


@pytest.fixture
def follow(pg: Remote, tmp_path: Path) -> Callable[..., Follower]:
    """Make tables, connect, and refresh one."""

    def begin(*statements: str, name: str = "t", **options: str) -> Follower:
        pg.run(*(statements or (T, ROWS)))
        pg.connect(**options)
        follower = Follower(pg.db, "pg", tmp_path)
        assert follower.refresh(name).reason == "it has no version yet"
        return follower

    return begin


def test_what_did_not_change_is_not_read(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    before = follower.version("t")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_read, follower.version("t").id) == ("unchanged", 0, before.id)
    assert follower.table("t").checked_at != before.created_at
    assert follower.survey() == {"t"}


def test_rows_that_came_changed_and_went_are_counted(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    pg.run("INSERT INTO t VALUES (101, 'new', 1), (102, 'new', 2)")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_read, facts.rows_inserted, facts.rows_updated) == ("changes", 2, 2, 0)
    pg.run("UPDATE t SET v = 'other' WHERE k < 5", "INSERT INTO t VALUES (103, 'new', 3)")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_read, facts.rows_inserted, facts.rows_updated) == ("changes", 5, 1, 4)
    pg.run("DELETE FROM t WHERE k BETWEEN 10 AND 19")
    facts = follower.refresh("t")
    # All keys that are left.
    assert (facts.mode, facts.rows_read, facts.rows_deleted) == ("changes", 93, 10)
    pg.run("UPDATE t SET k = -k WHERE k = 50")
    facts = follower.refresh("t")
    assert (facts.rows_inserted, facts.rows_deleted) == (1, 1)
    assert sorted(pg.query("t")) == sorted(pg.run("SELECT * FROM t"))


def test_many_keys_are_looked_for_in_turns(
    pg: Remote, follow: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "KEYS_AT_ONCE", 7)
    follower = follow(
        'CREATE TABLE t (k int, "k 2" text, v text, PRIMARY KEY (k, "k 2"))',
        "INSERT INTO t SELECT i, 'a' || i % 3, 'v' FROM generate_series(1, 100) i",
    )
    pg.run("DELETE FROM t WHERE k % 9 = 0", "UPDATE t SET v = 'other' WHERE k < 20")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_deleted, facts.rows_updated) == ("changes", 11, 17)


@pytest.mark.parametrize("where", [None, "t: v <> 'hidden'"])
def test_keys_are_read_where_the_counts_differ(
    pg: Remote, follow: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch, where: str | None
) -> None:
    monkeypatch.setattr(narrowing, "FEWEST_ROWS", 0)
    monkeypatch.setattr(narrowing, "MOST_GONE", 100)
    follower = follow(
        'CREATE TABLE t (name text, "k 2" bigint, v text, PRIMARY KEY (name, "k 2"))',
        "INSERT INTO t SELECT 'n' || i % 2, i * 1000 - 7000000, 'v' || i FROM generate_series(1, 10000) i",
        **({"where": where} if where else {}),
    )
    pg.run(
        'DELETE FROM t WHERE "k 2" BETWEEN -500000 AND -300000',
        'UPDATE t SET v = name WHERE "k 2" % 977 = 0',
        "INSERT INTO t VALUES ('new', 9000000, 'v'), ('n0', -400000, 'hidden')",
    )
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_deleted) == ("changes", 201 if where else 200)
    assert facts.rows_read < 1000
    pg.run("DELETE FROM t WHERE ctid = ANY (ARRAY(SELECT ctid FROM t TABLESAMPLE SYSTEM (60)))")
    facts = follower.refresh("t")
    assert facts.rows_read > 1000, "so many ranges differ that all keys are read"
    # The ends of what a key can be are too far from each other to be counted by.
    pg.run("INSERT INTO t VALUES ('far', 9223372036854775807, 'v'), ('far', -9223372036854775808, 'v')")
    assert follower.refresh("t").rows_inserted == 2
    pg.run('DELETE FROM t WHERE "k 2" % 5000 = 0 AND "k 2" > 0')
    assert follower.refresh("t").rows_deleted


def test_of_an_idle_server_no_row_is_looked_at(
    pg: Remote, follow: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of a large table either, of which a survey else asks only if it is thorough."""
    monkeypatch.setattr(changes, "LARGE_FROM_PAGES", 0)
    follower, looks, look = follow(), list[str](), changes._look

    def noted(scan: Any, asked: str) -> tuple[int, str | None]:
        looks.append(asked)
        return look(scan, asked)

    monkeypatch.setattr(changes, "_look", noted)
    assert (follower.refresh("t").mode, follower.survey(), looks) == ("unchanged", {"t"}, [])
    pg.run("CREATE TABLE other ()")
    assert follower.refresh("t").mode == "unchanged"
    assert len(looks) == 1
    assert (follower.refresh("t").mode, len(looks)) == ("unchanged", 1), "the position moved on"


def test_a_row_that_was_written_again_as_it_was_changes_nothing(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    before = follower.version("t")
    pg.run("UPDATE t SET v = v WHERE k = 5")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_read, facts.rows_updated, facts.bytes_written) == ("changes", 1, 0, 0)
    assert follower.version("t").id == before.id
    assert follower.refresh("t").mode == "unchanged", "the position moved on"


def test_what_was_open_while_the_base_was_read_is_not_lost(pg: Remote, follow: Callable[..., Follower]) -> None:
    pg.run(T, ROWS)
    with closing(pg.server.begin(pg.database)) as open_, open_.cursor() as cursor:
        cursor.execute("UPDATE t SET v = 'late' WHERE k = 1")
        follower = follow("SELECT 1")
        pg.run("INSERT INTO t VALUES (200, 'committed first', 1)")
        assert follower.refresh("t").rows_inserted == 1
        cursor.execute("COMMIT")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_updated) == ("changes", 1)
    # What was committed before, and is not older than what was still open, comes once more.
    assert facts.rows_read == 2


def test_subtransactions_and_rollbacks(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    pg.run(
        "BEGIN", "SAVEPOINT a", "UPDATE t SET v = 'kept' WHERE k = 1", "RELEASE a", "SAVEPOINT b",
        "UPDATE t SET v = 'lost' WHERE k = 2", "ROLLBACK TO b", "COMMIT",
    )  # fmt: skip
    assert follower.refresh("t").rows_updated == 1


@pytest.mark.parametrize("rewriting", ["VACUUM FREEZE t", "VACUUM FULL t", "CLUSTER t USING t_pkey", "ANALYZE t"])
def test_rewriting_a_table_changes_no_row(pg: Remote, follow: Callable[..., Follower], rewriting: str) -> None:
    follower = follow()
    pg.run(rewriting)
    assert follower.refresh("t").mode == "unchanged"
    pg.run("UPDATE t SET v = 'x' WHERE k = 1", rewriting)
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_updated) == ("changes", 1)


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["ALTER TABLE t ADD COLUMN c int DEFAULT 7"], "it would be made in another way now: c: new (integer)"),
        (["ALTER TABLE t DROP COLUMN n"], "it would be made in another way now: n: gone"),
        (["ALTER TABLE t ALTER v SET NOT NULL"], "it would be made in another way now: v: text is now text NOT NULL"),
        (["ALTER TABLE t ALTER v TYPE varchar"], "it would be made in another way now: v: text is now character"),
        (["ALTER TABLE t RENAME v TO w"], "it would be made in another way now: v: gone"),
        (["COMMENT ON COLUMN t.v IS 'x'"], "it would be made in another way now: its options or comments"),
        (
            ["CREATE TABLE u (LIKE t INCLUDING ALL)", "INSERT INTO u SELECT * FROM t", "DROP TABLE t",
             "ALTER TABLE u RENAME TO t"],
            "the table was replaced by another one since",
        ),
        (["TRUNCATE t", "INSERT INTO t SELECT i, 'again', i FROM generate_series(1, 80) i"], "80 of its 80 rows may"),
        (["UPDATE t SET v = v || 'x'"], "100 of its 100 rows may have changed"),
        (["CREATE EXTENSION IF NOT EXISTS tablefunc"], "an extension was changed since"),
    ],
)  # fmt: skip
def test_what_makes_the_position_meaningless(
    pg: Remote, follow: Callable[..., Follower], statements: list[str], reason: str
) -> None:
    follower = follow()
    pg.run(*statements)
    assert "t" not in follower.survey()
    facts = follower.refresh("t")
    assert facts.mode == "full"
    assert facts.reason.startswith(reason)
    assert follower.refresh("t").mode == "unchanged"


def test_truncated_to_nothing(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    pg.run("TRUNCATE t")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_deleted, follower.version("t").rows) == ("changes", 100, 0)
    assert pg.query("t") == []
    assert follower.refresh("t").mode == "unchanged"


def test_labels_that_are_renamed(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TABLE t (k int PRIMARY KEY, m mood, l mood[])",
        "INSERT INTO t SELECT i, 'ok', '{sad}' FROM generate_series(1, 10) i", "CREATE TABLE other (k int PRIMARY KEY)",
    )  # fmt: skip
    follower.refresh("other")
    pg.run("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'")
    assert follower.survey() == {"other"}, "which has no such column"
    assert follower.refresh("t").reason == "a type that users made was changed since"
    assert pg.query("t", "DISTINCT m") == [("fine",)]


def test_labels_that_are_renamed_while_a_table_is_read(
    pg: Remote, follow: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are shown as they are now: not as the snapshot knows them, whose position says what they were."""
    follower = follow(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TABLE t (k int PRIMARY KEY, m mood)",
        "INSERT INTO t SELECT i, 'ok' FROM generate_series(1, 10) i",
    )  # fmt: skip
    asked = facts.moment_of

    def rename(*arguments: Any, **more: Any) -> Any:
        """In the snapshot, before a row is read; there and back again is noticed, too."""
        found = asked(*arguments, **more)
        pg.run("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'", "ALTER TYPE mood RENAME VALUE 'fine' TO 'ok'")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(facts, "moment_of", rename)
        with pytest.raises(TableUnavailableError, match="a type of its columns was changed while it was read"):
            follower.refresh("t")
        assert follower.survey() == set()
    assert follower.refresh("t").reason == "a type that users made was changed since"


def test_names_of_other_things_change_without_the_row(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(
        "CREATE TABLE named (i int)", "CREATE TABLE t (k int PRIMARY KEY, c regclass)",
        "INSERT INTO t VALUES (1, 'named')",
    )  # fmt: skip
    pg.run("ALTER TABLE named RENAME TO renamed")
    assert follower.refresh("t").reason == "the source has not said how to tell later what changed"
    assert pg.query("t") == [(1, "renamed")]


def test_partitions_and_children(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(
        "CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY RANGE (k)",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (50)",
        "CREATE TABLE high PARTITION OF t FOR VALUES FROM (50) TO (MAXVALUE)",
        "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i",
        "CREATE TABLE parent (k int PRIMARY KEY, v text)", "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO parent VALUES (1, 'p')", "INSERT INTO child VALUES (1, 'c')",
    )  # fmt: skip
    follower.refresh("parent")
    assert follower.survey() == {"t", "parent"}
    pg.run("UPDATE t SET v = 'moved', k = 60 + 1000 WHERE k = 10", "DELETE FROM t WHERE k = 99")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_inserted, facts.rows_deleted) == ("changes", 1, 2)
    pg.run("UPDATE child SET v = 'x'")
    assert follower.refresh("parent").reason == "rows of it have changed, and it has no key to tell which"
    pg.run("INSERT INTO child VALUES (7, 'appended')")
    assert follower.refresh("parent").mode == "changes", "the count tells that nothing else happened"
    pg.run("ALTER TABLE t DETACH PARTITION high", "UPDATE high SET v = 'while away' WHERE k = 60")
    assert follower.refresh("t").reason == "its columns, comments or partitions were changed since"
    pg.run("ALTER TABLE t ATTACH PARTITION high FOR VALUES FROM (50) TO (MAXVALUE)")
    assert follower.refresh("t").mode == "full"


@pytest.mark.parametrize(
    ("key", "mode"),
    [
        ("UNIQUE (a, b)", "changes"),
        ("PRIMARY KEY (b, a)", "changes"),
        ("UNIQUE (a) DEFERRABLE", "changes"),
        ("EXCLUDE USING btree (a WITH =)", "full"),
        ("CHECK (a > 0)", "full"),
    ],
)
def test_by_which_key(pg: Remote, follow: Callable[..., Follower], key: str, mode: str) -> None:
    follower = follow(
        f"CREATE TABLE t (a int NOT NULL, b text NOT NULL, c int, {key})",
        "INSERT INTO t SELECT i, 'b' || i, i FROM generate_series(1, 20) i",
    )
    pg.run("UPDATE t SET c = -1 WHERE a = 3")
    assert follower.refresh("t").mode == mode


@pytest.mark.parametrize("index", ["(a) WHERE c > 0", "(abs(a))", "(c)"])
def test_an_index_that_covers_not_every_row_is_no_key(pg: Remote, follow: Callable[..., Follower], index: str) -> None:
    follower = follow(
        "CREATE TABLE t (a int NOT NULL, c int)", "INSERT INTO t SELECT i, i FROM generate_series(1, 20) i",
        f"CREATE UNIQUE INDEX ON t {index}",
    )  # fmt: skip
    pg.run("UPDATE t SET c = 1000 WHERE a = 3")
    assert follower.refresh("t").reason == "rows of it have changed, and it has no key to tell which"


def test_keys_that_the_server_takes_for_equal(pg: Remote, follow: Callable[..., Follower]) -> None:
    """By their order they are; as text they are not, and the older one has to go."""
    follower = follow(
        "CREATE EXTENSION citext",
        "CREATE TABLE t (k citext PRIMARY KEY, v int)",
        "INSERT INTO t SELECT 'key ' || i, 0 FROM generate_series(0, 20) i",
        "CREATE TABLE f (k float8 PRIMARY KEY, v int)",
        "INSERT INTO f SELECT i, 0 FROM generate_series(0, 20) i",
    )
    follower.refresh("f")
    pg.run("UPDATE t SET k = 'KEY 1' WHERE k = 'key 1'", "UPDATE f SET k = '-0' WHERE k = 0")
    for name in ("t", "f"):
        assert follower.refresh(name).mode == "changes"
        assert sorted(pg.query(name)) == sorted(pg.run(f"SELECT * FROM {name}"))


def test_a_materialized_view_by_its_unique_index(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(
        T, ROWS, "CREATE MATERIALIZED VIEW m AS SELECT k, v FROM t", "CREATE UNIQUE INDEX ON m (k)", name="m"
    )
    assert follower.refresh("m").mode == "unchanged"
    pg.run("UPDATE t SET v = 'x' WHERE k < 4", "REFRESH MATERIALIZED VIEW CONCURRENTLY m")
    facts = follower.refresh("m")
    assert (facts.mode, facts.rows_updated) == ("changes", 3)
    pg.run("REFRESH MATERIALIZED VIEW m")
    assert follower.refresh("m").mode == "full", "every row was written again"


def test_views_and_foreign_tables_are_read_whole(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(T, ROWS, "CREATE VIEW v AS SELECT * FROM t", name="v")
    assert follower.refresh("v").reason == "the source has not said how to tell later what changed"


def test_a_condition_on_rows(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(
        "CREATE TABLE t (k int PRIMARY KEY, n int)", "INSERT INTO t SELECT i, i FROM generate_series(1, 100) i",
        where="t: n > 50",
    )  # fmt: skip
    pg.run("UPDATE t SET n = 1 WHERE k = 60", "UPDATE t SET n = 99 WHERE k = 1", "UPDATE t SET n = n + 1 WHERE k = 2")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_inserted, facts.rows_deleted) == ("changes", 1, 1)
    assert sorted(pg.query("t")) == sorted(pg.run("SELECT * FROM t WHERE n > 50"))


def test_a_condition_that_moves_with_the_time(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(
        "CREATE TABLE t (k int PRIMARY KEY, at timestamptz)",
        "INSERT INTO t SELECT i, now() + interval '1 day' FROM generate_series(1, 5) i",
        "INSERT INTO t SELECT 9, now() + interval '12 s'",
        where="t: at > clock_timestamp()",
    )
    assert follower.version("t").rows == 6
    deadline = time.monotonic() + 60
    while pg.run("SELECT count(*) FROM t WHERE at > clock_timestamp()") != [(5,)]:
        assert time.monotonic() < deadline
    assert follower.survey() == set()
    assert follower.refresh("t").reason.startswith("its where may depend on more than the row")
    pg.db.configure("pg", options={"where_is_stable": "true"})
    assert follower.refresh("t").mode == "unchanged"


def test_an_option_that_changes_makes_the_next_refresh_a_full_one(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    pg.db.configure("pg", options={"mask": "t.v:sha256"})
    assert follower.survey() == set()
    assert follower.refresh("t").reason.startswith("it would be made in another way now")
    pg.run("UPDATE t SET v = 'x' WHERE k = 1")
    assert follower.refresh("t").mode == "changes"
    pg.db.configure("pg", options={"mask": "t.k:null"})
    follower.refresh("t")
    pg.run("UPDATE t SET v = 'y' WHERE k = 1")
    assert follower.refresh("t").reason == "rows of it have changed, and it has no key to tell which"
    pg.db.configure("pg", options={"mask": "t.k:sha256"})
    follower.refresh("t")
    pg.run("UPDATE t SET v = 'z' WHERE k = 1", "DELETE FROM t WHERE k = 2")
    facts = follower.refresh("t")
    assert (facts.mode, facts.rows_updated, facts.rows_deleted) == ("changes", 1, 1)


def test_changes_full_reads_everything(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(changes="full")
    assert follower.refresh("t").reason == "the source has not said how to tell later what changed"
    pg.db.configure("pg", unset=["changes"])
    follower.refresh("t")
    assert follower.refresh("t").mode == "unchanged"


@pytest.fixture
def role(pg: Remote, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A login without privileges, whose password is in the environment."""
    name = f"role_{os.urandom(4).hex()}"
    monkeypatch.setenv("ROLE_PASSWORD", "secret")
    pg.run(T, ROWS, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    pg.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def connect_as(pg: Remote, role: str, **options: str) -> None:
    url = f"postgresql://{role}@127.0.0.1:{pg.server.port}/{pg.database}"
    pg.db.connect("pg", url, options=options, password_env="ROLE_PASSWORD")


def test_a_login_that_may_read_some_columns_only(pg: Remote, role: str, tmp_path: Path) -> None:
    pg.run(f"GRANT SELECT (k, v) ON t TO {role}")
    connect_as(pg, role, columns="t.k,t.v")
    follower = Follower(pg.db, "pg", tmp_path)
    follower.refresh("t")
    assert follower.refresh("t").reason == "the source has not said how to tell later what changed"


def test_row_security_that_is_enabled_meanwhile(pg: Remote, role: str, tmp_path: Path) -> None:
    pg.run(f"GRANT SELECT ON t TO {role}")
    connect_as(pg, role, row_security="apply")
    follower = Follower(pg.db, "pg", tmp_path)
    follower.refresh("t")
    assert follower.refresh("t").mode == "unchanged"
    pg.run("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "CREATE POLICY few ON t USING (k <= 10)")
    assert follower.survey() == set()
    assert follower.refresh("t").reason == "row security applies to the login"
    assert follower.version("t").rows == 10


def test_a_column_by_the_name_of_positions(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(
        "CREATE TABLE t (k int PRIMARY KEY, file_row_number int)",
        "INSERT INTO t SELECT i, 7 FROM generate_series(1, 50) i",
    )
    pg.run("INSERT INTO t VALUES (51, 8)")
    assert follower.refresh("t").mode == "changes"
    pg.run("UPDATE t SET file_row_number = 9 WHERE k = 1")
    assert follower.refresh("t").reason.startswith("it has a column called file_row_number")
    assert sorted(pg.query("t")) == sorted(pg.run("SELECT * FROM t"))


def test_a_base_whose_file_is_gone_or_torn(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    file = pg.db.settings.home / "storage" / path_of(follower.version("t"))
    file.unlink()
    assert follower.survey() == set()
    assert follower.refresh("t").reason == "a file of its version is lost or torn"
    file = pg.db.settings.home / "storage" / path_of(follower.version("t"))
    content = bytearray(file.read_bytes())
    content[40:200] = bytes(160)
    file.write_bytes(content)
    pg.run("UPDATE t SET v = 'x' WHERE k = 1")
    assert follower.refresh("t").mode == "full"
    assert pg.db.verify(deep=True) == []


def test_changes_that_need_not_read_the_base_still_refuse_one_that_is_lost(
    pg: Remote, follow: Callable[..., Follower]
) -> None:
    follower = follow()
    (pg.db.settings.home / "storage" / path_of(follower.version("t"))).unlink()
    pg.run("INSERT INTO t SELECT max(k) + 1, 'new' FROM t")
    refreshed = follower.refresh("t")
    assert (refreshed.mode, refreshed.reason) == ("full", "a file of its version is lost or torn")
    assert pg.db.verify(deep=True) == []


def test_a_version_of_several_files_is_verified_and_swept(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    pg.run("UPDATE t SET v = 'x' WHERE k = 1")
    follower.refresh("t")
    version = follower.version("t")
    assert ([file.rows for file in version.files], [file.rows for file in version.deletes]) == ([100, 1], [1])
    assert pg.db.verify(deep=True) == []
    root = pg.db.settings.home / "storage"
    pg.db.sweep()
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.parquet")} == set(version.paths)
    file = root / version.deletes[0].path
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[: size // 2])
    assert [finding.invariant for finding in pg.db.verify()] == ["I1"]
    assert follower.refresh("t").reason == "a file of its version is lost or torn"
    assert pg.db.verify(deep=True) == []


def test_files_stay_few_over_many_refreshes(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(T, "INSERT INTO t SELECT i, 'v', i FROM generate_series(1, 3000) i")
    for turn in range(40):
        pg.run(f"UPDATE t SET n = {turn} WHERE k % 300 = {turn}", f"DELETE FROM t WHERE k = {turn * 7 + 1}")
        facts = follower.refresh("t")
        assert facts.mode == "changes"
        assert facts.files <= 16
    assert pg.db.verify(deep=True) == []


def test_restarted_servers(tmp_path: Path, db: RuntimeDB) -> None:
    with postgres() as server:
        server.run(None, "CREATE DATABASE shop")
        server.run("shop", T, ROWS)
        db.connect("pg", server.url("shop"), password_env=PASSWORD_ENV)
        follower = Follower(db, "pg", tmp_path)
        follower.refresh("t")
        assert follower.refresh("t").mode == "unchanged"
        server.stop()
        server.start()
        assert follower.refresh("t").reason == "the server was restarted since, or is another one"


def test_a_replica_that_lags_then_leads(tmp_path: Path, db: RuntimeDB, postgres_server: Server,
                                        make_database: Callable[[Server], str]) -> None:  # fmt: skip
    database = make_database(postgres_server)
    postgres_server.run(database, T, ROWS)
    with replica(postgres_server) as standby:
        db.connect("pg", standby.url(database), password_env=PASSWORD_ENV)
        follower = Follower(db, "pg", tmp_path)
        follower.refresh("t")
        assert follower.refresh("t").mode == "unchanged"
        standby.run(None, "SELECT pg_wal_replay_pause()")
        postgres_server.run(database, "UPDATE t SET v = 'x' WHERE k = 1", "DELETE FROM t WHERE k = 2")
        assert follower.refresh("t").mode == "unchanged", "as far as the replica knows"
        standby.run(None, "SELECT pg_wal_replay_resume()")
        deadline = time.monotonic() + 30
        while standby.run(database, "SELECT count(*) FROM t") == [(100,)]:
            assert time.monotonic() < deadline
        facts = follower.refresh("t")
        assert (facts.mode, facts.rows_updated, facts.rows_deleted) == ("changes", 1, 1)
        # The primary is another server, even if it holds the same.
        db.configure("pg", options={"replica": f"127.0.0.1:{postgres_server.port}"})
        assert follower.refresh("t").reason == "the server was restarted since, or is another one"


def moment(horizon: int, next_: int, wal: int = 10) -> facts.Moment:
    return facts.Moment(horizon, next_, wal, {"started": "then"}, {"labels": "1"}, 150_000)


FACTS = facts.Facts("1", "r", 1, None, "shape", made=True, plain=True, key=("k",))


@pytest.mark.parametrize(
    ("now", "found", "reason"),
    [
        (moment(2**32 + 5, 2**32 + 9), FACTS, None),
        (moment(2**32 + 5, 2**32 + 2**31), FACTS, "too many transactions passed since"),
        (moment(3, 4), FACTS, "too many transactions passed since"),
        (moment(2**32 + 5, 2**32 + 9, wal=9), FACTS, "the server is behind the one that was read before"),
        (moment(2**32 + 5, 2**32 + 9), replace(FACTS, oid="2"), "the table was replaced by another one since"),
        (moment(2**32 + 5, 2**32 + 9), replace(FACTS, reason="a view"), "a view"),
    ],
)
def test_numbers_that_wrap_and_servers_that_are_behind(
    now: facts.Moment, found: facts.Facts, reason: str | None
) -> None:
    before = changes.position_of(moment(2**32 - 100, 2**32), FACTS)
    assert before is not None
    assert changes.meaningless(before, now, found) == reason


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("horizon", "next_"),
    [
        (700, 700), (700, 705), (700, 9_000), (700, 90_000), (2**31 + 9, 2**31 + 90), (2**32 - 4, 2**32),
        (2**32 - 4, 2**32 + 9), (2**32 - 4, 2**32 + 99_999), (2**32 + 700, 2**32 + 705), (2**33 - 4, 2**33 + 9),
        (2**33 + 2**31 - 9, 2**33 + 2**31 + 99_999),
    ],
)  # fmt: skip
def test_a_row_may_have_changed_if_it_was_written_since(pg: Remote, horizon: int, next_: int, large: bool) -> None:
    """By the server's own words, of each number that a row can have when the next one is `next_`."""
    now = moment(horizon, next_)
    before = changes.position_of(moment(horizon, horizon), FACTS)
    assert before is not None
    written = [horizon, (horizon + next_) // 2, next_ - 1] if next_ > horizon else []
    # Rows that are older, down to those that were frozen when the numbers began again.
    older = [horizon - 1, horizon - 500, max(horizon - 2**31 + 100_000, 3)]
    numbers = [(f"{each % 2**32}", each in written) for each in {*written, *older}]
    values = ", ".join(f"('{number}'::xid, {since})" for number, since in numbers)
    may = changes.condition_since(before, now, large=large)
    found = pg.run(f"SELECT xmin::text FROM (VALUES {values}) AS t (xmin, since) WHERE ({may}) IS DISTINCT FROM since")
    assert found == []


@pytest.mark.parametrize(
    ("version", "genuine"),
    [
        ("PostgreSQL 15.19 (Debian 15.19-0+deb12u1) on x86_64-pc-linux-gnu", True),
        ("PostgreSQL 18beta1 on aarch64", True),
        ("PostgreSQL 11.2-YB-2.20.1.0-b0 on x86_64", False),
        ("PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC, Redshift 1.0.61395", True),
        ("CockroachDB CCL v23.1.11", False),
    ],
)
def test_which_servers_are_postgresql(version: str, genuine: bool) -> None:
    """Redshift is told by its number, which is that of PostgreSQL 8."""
    assert (facts.GENUINE.match(version) is not None and "-YB-" not in version) == genuine


def test_a_table_that_was_dropped_fails_by_name(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow()
    pg.run("DROP TABLE t")
    assert follower.survey() == set()
    with pytest.raises(RefreshError, match="the source no longer has it"):
        follower.refresh("t")


def test_one_table_that_can_t_be_asked_keeps_none_of_the_others_from_it(
    pg: Remote, follow: Callable[..., Follower]
) -> None:
    follower = follow(T, ROWS, "CREATE TABLE u AS SELECT 1 AS i")
    follower.refresh("u")
    pg.run("REVOKE ALL ON t FROM PUBLIC", "DROP TABLE u")
    assert follower.survey() == {"t"}


@pytest.mark.parametrize(
    ("few", "arrays", "longest"), [(0.5, 160_000, 10**6), (0.5, 10**9, 10**6), (0.5, 160_000, 5), (0.0, 160_000, 10**6)]
)
def test_large_tables_are_looked_at_once(
    pg: Remote, follow: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch, few: float, arrays: int, longest: int
) -> None:
    """Rows by their places, as newer and older releases find them, and by the condition where they are too many."""
    monkeypatch.setattr(changes, "LARGE_FROM_PAGES", 0)
    monkeypatch.setattr(changes, "FEW", few)
    monkeypatch.setattr(changes, "PARALLEL_ARRAYS", arrays)
    monkeypatch.setattr(changes, "LONGEST_LIST", longest)
    follower = follow(
        "CREATE TABLE t (k int PRIMARY KEY, v text)", "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 5000) i",
        "CREATE TABLE p (k int PRIMARY KEY, v text) PARTITION BY HASH (k)",
        "CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "INSERT INTO p SELECT * FROM t", where="t: k <> 77",
    )  # fmt: skip
    follower.refresh("p")
    for name in ("t", "p"):
        assert follower.refresh(name).mode == "unchanged"
        pg.run(f"UPDATE {name} SET v = 'x' WHERE k % 1000 IN (1, 77)", f"INSERT INTO {name} VALUES (9000, 'new')")
        facts = follower.refresh(name)
        assert (facts.mode, facts.rows_inserted, facts.rows_updated) == ("changes", 1, 9 if name == "t" else 10)
        pg.run(f"DELETE FROM {name} WHERE k BETWEEN 100 AND 110", f"INSERT INTO {name} VALUES (9001, 'new')")
        facts = follower.refresh(name)
        assert (facts.mode, facts.rows_inserted, facts.rows_deleted) == ("changes", 1, 11)
        pg.run(f"UPDATE {name} SET v = v || 'y'")
        assert follower.refresh(name).mode in ("full", "changes")
        assert follower.survey() >= {name}


def test_through_a_pooler_in_transaction_mode(pg: Remote, tmp_path: Path) -> None:
    pg.run(T, ROWS, "CREATE TABLE u AS SELECT 1 AS i")
    with pooler(pg.server, "ignore_startup_parameters = options", "default_pool_size = 3") as port:
        pg.db.connect("pg", f"postgresql://owner@127.0.0.1:{port}/{pg.database}", password_env=PASSWORD_ENV)
        follower = Follower(pg.db, "pg", tmp_path)
        for name in ("t", "u"):
            follower.refresh(name)
        assert follower.survey() == {"t", "u"}
        pg.run("UPDATE t SET v = 'x' WHERE k = 1", "DELETE FROM t WHERE k = 2")
        facts = follower.refresh("t")
        assert (facts.mode, facts.rows_updated, facts.rows_deleted) == ("changes", 1, 1)
        assert follower.refresh("u").mode == "unchanged"


def test_more_rows_are_gone_than_are_allowed_to_go(pg: Remote, follow: Callable[..., Follower]) -> None:
    follower = follow(max_delete_ratio="0.1")
    before = follower.version("t")
    pg.run("DELETE FROM t WHERE k <= 10")
    assert follower.refresh("t").rows_deleted == 10
    pg.run("DELETE FROM t WHERE k <= 30", "UPDATE t SET v = 'x' WHERE k = 50")
    for full in (False, True):
        with pytest.raises(RowsGoneError, match=r"has 70 rows, the version that serves has 90, .* confirm it"):
            pg.db.refresh(RefreshRequest("pg", "public", "t", data=True, full=full))
    assert follower.version("t").rows == 90
    assert before.id != follower.version("t").id
    pg.db.sweep()
    assert pg.db.verify(deep=True) == []
    pg.db.refresh(RefreshRequest("pg", "public", "t", data=True), confirm=True)
    assert follower.version("t").rows == 70

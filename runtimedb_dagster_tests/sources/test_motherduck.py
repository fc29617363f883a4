"""MotherDuck: the statements that attach it, and its errors.

MotherDuck itself can't be had in a test. Where it is to answer, a DuckDB file of the same name stands in for it; where
its extension is installed, its own error is looked at.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import duckdb
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.common import extensions
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError, SourceError, SourceUnavailableError
from runtimedb_dagster.sources.attached import motherduck
from runtimedb_dagster.sources.attached.duckdb_file import NoOptions
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster_tests.support.parts import refresh_all
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV
from runtimedb_dagster_tests.support.servers import PASSWORD


@pytest.mark.parametrize("url", ["motherduck:///my%20shop", "md:my%20shop", "md:///my%20shop"])
def test_the_token_is_set_and_not_attached(url: str) -> None:
    parsed = SourceUrl.parse(url)
    assert (parsed.scheme, str(parsed)) == ("motherduck", "motherduck:///my%20shop")
    statements = motherduck.MotherDuck(parsed, NoOptions(), "it's a canary").statements()
    assert statements == ["SET motherduck_token = 'it''s a canary'", "ATTACH 'md:my shop'"]


@pytest.mark.parametrize("url", ["md:shop?motherduck_token=hunter2", "motherduck:///shop?token=hunter2"])
def test_a_token_in_the_url_is_refused(db: RuntimeDB, url: str) -> None:
    with pytest.raises(ConfigurationError, match="--password-env") as caught:
        db.connect("duck", url)
    assert "hunter2" not in str(caught.value)


def test_a_token_is_asked_for_before_a_browser_would_open(db: RuntimeDB) -> None:
    with pytest.raises(SourceError, match=r"'duck' .*no access token is set; name its variable with --password-env"):
        db.connect("duck", "md:shop")


def test_a_database_is_asked_for(db: RuntimeDB) -> None:
    with pytest.raises(SourceError, match=r"'duck' .*names no database; write it like motherduck:///database"):
        db.connect("duck", "motherduck:///", password_env=PASSWORD_ENV)


def test_a_missing_extension_is_named(db: RuntimeDB, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extensions, "_in_wheel", lambda _: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"pip install duckdb-extension-motherduck=="):
        db.connect("duck", "md:shop", password_env=PASSWORD_ENV)


@pytest.mark.skipif(not importlib.util.find_spec("duckdb_extension_motherduck"), reason="its wheel is not installed")
def test_the_extension_itself_refuses_without_telling_the_token(
    db: RuntimeDB, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceError, match=r"'duck' .*MotherDuck (does not answer|refuses the token)") as caught:
        db.connect("duck", "md:shop", password_env=PASSWORD_ENV)
    assert PASSWORD not in str(caught.value)


def test_what_does_not_answer_may_come_back(db: RuntimeDB, monkeypatch: pytest.MonkeyPatch) -> None:
    said = duckdb.InvalidInputException(
        'Initialization function "motherduck_duckdb_cpp_init" threw an exception: "Failed to download '
        '"http://api.motherduck.com/extension_version" (attempt 5): Could not establish connection"'
    )

    def load(duck: Any, name: str) -> None:
        raise ConfigurationError(f"no extension {name}") from said

    monkeypatch.setattr(motherduck, "load", load)
    with pytest.raises(SourceUnavailableError, match=r"'duck' .*MotherDuck does not answer"):
        db.connect("duck", "md:shop", password_env=PASSWORD_ENV)


def test_a_refused_token_is_told_apart() -> None:
    dialect = motherduck.MotherDuck(SourceUrl.parse("md:shop"), NoOptions(), PASSWORD)
    said = "Invalid Input Error: Request failed: Your request is not authenticated. Please check your MotherDuck token."
    assert dialect.explain(said).startswith("MotherDuck refuses the token; set a valid one")
    assert not dialect.is_transient(said)


def test_tables_and_views_are_read(db: RuntimeDB, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "shop.duckdb"
    with duckdb.connect(str(file)) as duck:
        duck.execute("CREATE TABLE t (i INTEGER NOT NULL); INSERT INTO t VALUES (1); CREATE VIEW v AS FROM t")
    monkeypatch.setattr(motherduck, "load", lambda *_: None)
    monkeypatch.setattr(motherduck.MotherDuck, "statements", lambda _: [f"ATTACH '{file}' AS shop (READ_ONLY)"])
    db.connect("duck", "md:shop", password_env=PASSWORD_ENV)
    assert {table.table_name: (table.kind, table.columns) for table in db.tables("duck")} == {
        "t": ("table", (SourceColumn("i", "INTEGER", nullable=False),)),
        "v": ("view", (SourceColumn("i", "INTEGER", nullable=False),)),
    }
    assert refresh_all(db, "duck").total_rows == 2

"""Settings: where values come from, and what the errors of wrong ones say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster.domain.errors import ConfigurationError
from runtimedb_dagster_tests.support.parts import SourceFile, refresh_one, rows


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.home == tmp_path / ".runtimedb"
    assert settings.grace_period == timedelta(seconds=60)
    assert settings.parallel_refresh == 4
    assert settings.catalog_url == f"sqlite:///{tmp_path}/.runtimedb/catalog.db"
    assert settings.storage_url == f"file://{tmp_path}/.runtimedb/storage"
    assert settings.duckdb_config == {"temp_directory": str(settings.home / "spill")}


def test_arguments_win_over_variables_over_the_file_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def found() -> tuple[int, int]:
        return Settings().parallel_refresh, Settings(parallel_refresh=9).parallel_refresh

    assert found() == (4, 9)
    write(tmp_path / "runtimedb.toml", "parallel_refresh = 5")
    assert found() == (5, 9)
    named = write(tmp_path / "named.toml", "parallel_refresh = 6")
    monkeypatch.setenv("RUNTIMEDB_CONFIG", str(named))
    assert found() == (6, 9)
    monkeypatch.setenv("RUNTIMEDB_PARALLEL_REFRESH", "7")
    assert found() == (7, 9)


def test_each_value_is_looked_up_on_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path / "runtimedb.toml", 'home = "from-file"\ngrace_period = 5\nthreads = 3')
    monkeypatch.setenv("RUNTIMEDB_GRACE_PERIOD", "6")
    settings = Settings(threads=1)
    assert settings.home == tmp_path / "from-file"
    assert settings.grace_period == timedelta(seconds=6)
    assert settings.duckdb_config == {"temp_directory": str(settings.home / "spill"), "threads": 1}


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIMEDB_GRACE_PERIOD", "")
    assert Settings().grace_period == timedelta(seconds=60)


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNTIMEDB_CONFIG", str(tmp_path / "nothing.toml"))
    with pytest.raises(ConfigurationError, match=r"RUNTIMEDB_CONFIG names '.*nothing\.toml'"):
        Settings()


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    write(tmp_path / "runtimedb.toml", "grace_period == hidden")
    with pytest.raises(ConfigurationError, match=r"runtimedb\.toml"):
        Settings()


DURATIONS: list[tuple[Any, timedelta]] = [
    (60, timedelta(seconds=60)),
    (0.5, timedelta(milliseconds=500)),
    ("60", timedelta(seconds=60)),
    ("1.5", timedelta(seconds=1.5)),
    ("PT5M", timedelta(minutes=5)),
    ("P1DT1H", timedelta(days=1, hours=1)),
    (timedelta(hours=1), timedelta(hours=1)),
]


@pytest.mark.parametrize("name", ["grace_period", "write_lease", "reader_lease"])
@pytest.mark.parametrize(("given", "meant"), DURATIONS)
def test_a_duration_may_be_written_in_several_ways(name: str, given: Any, meant: timedelta) -> None:
    assert getattr(Settings(**{name: given}), name) == meant


@pytest.mark.parametrize(("given", "meant"), [each for each in DURATIONS if isinstance(each[0], str)])
def test_so_may_one_in_a_variable_or_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, meant: timedelta
) -> None:
    write(tmp_path / "runtimedb.toml", f'write_lease = "{given}"')
    monkeypatch.setenv("RUNTIMEDB_GRACE_PERIOD", given)
    assert (Settings().write_lease, Settings().grace_period) == (meant, meant)


WRONG = [
    ("grace_period", "-1"),
    ("grace_period", "a hidden while"),
    ("grace_period", "inf"),
    ("grace_period", "nan"),
    ("write_lease", "0"),
    ("reader_lease", "0"),
    ("parallel_refresh", "0"),
    ("parallel_refresh", "hidden"),
    ("parallel_refresh", "65"),
    ("threads", "0"),
    ("asset_prefix", "hid/den"),
    ("asset_prefix", ""),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^Setting '{name}' is wrong: ") as caught:
        Settings(**{name: value})
    assert "hid" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(("name", "value"), [each for each in WRONG if each[1]])
def test_a_wrong_variable_is_named_too(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RUNTIMEDB_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=f"^Setting '{name}' is wrong: ") as caught:
        Settings()
    assert "hid" not in str(caught.value)


def test_a_name_that_is_no_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'grace'"):
        Settings(grace=5)
    write(tmp_path / "runtimedb.toml", "grace = 5")
    with pytest.raises(ConfigurationError, match="'grace'"):
        Settings()


def test_urls_that_may_hold_secrets_are_not_shown() -> None:
    settings = Settings(catalog_url="postgresql://me:hidden@host/db", storage_url="s3://hidden:hidden@bucket")
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings)
    assert settings.catalog_url == "postgresql://me:hidden@host/db"


def test_home_is_absolute_and_knows_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(home="~/a").home == tmp_path / "a"
    assert Settings(home="b").home == tmp_path / "b"


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(Exception, match="frozen"):
        settings.parallel_refresh = 5
    assert settings.parallel_refresh == 4


@pytest.mark.parametrize("name", ["a b", "100%20", "a#b", "ü", "a;b", "a@b:c"])
def test_a_home_of_any_name_is_used_to_the_letter(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    source = SourceFile(tmp_path / "shop.duckdb")
    source.run("CREATE TABLE orders AS SELECT 7 AS id")
    with RuntimeDB(Settings(home=home)) as db:
        db.connect("shop", source.url)
        refresh_one(db, "orders")
        assert rows(db, "FROM shop.main.orders") == [(7,)]
        assert len(list((home / "storage").rglob("*.parquet"))) == 1
    assert (home / "catalog.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {name, "shop.duckdb"}

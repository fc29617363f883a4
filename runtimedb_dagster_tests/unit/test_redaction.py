"""Of a URL only its scheme, its host and its database are shown, wherever a password was put."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runtimedb_dagster.catalog import database
from runtimedb_dagster.common.redaction import redactor, shown
from runtimedb_dagster_tests.support.command import run_command

CANARY = "C4nary9zQ"
URLS = [
    f"postgresql://nobody:{CANARY}@127.0.0.1:1/x",
    f"postgresql://nobody@127.0.0.1:1/x?password={CANARY}",
    f"postgresql://nobody@127.0.0.1:1/x?pasword={CANARY}",
    f"postgresql://nobody:p@{CANARY}@127.0.0.1:1/x",
    f"postgresql://nobody@127.0.0.1:{CANARY}/x",
    f"postgresql:nobody:{CANARY}@127.0.0.1:1/x",
    f"mysql://nobody:{CANARY}@127.0.0.1:1/x",
    f"postgresql://nobody:a/{CANARY}@127.0.0.1:1/x",
    f"postgresql://nobody:a#{CANARY}@127.0.0.1:1/x",
    f"postgresql://nobody:a?{CANARY}@127.0.0.1:1/x",
    f"postgresql://nobody:a {CANARY}@127.0.0.1:1/x",
    f"postgresql+psycopg2://nobody:{CANARY}@127.0.0.1:1/x",
    f"postgresql://nobody@127.0.0.1:1/x?options=-c%20app.key%3D{CANARY}",
]


@pytest.mark.parametrize("url", URLS)
def test_no_form_of_a_password_is_shown(url: str) -> None:
    assert CANARY not in shown(url)
    assert CANARY not in redactor(url)(f"it failed: {url}, {CANARY}")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me:pw@db.example.org:5432/catalog", "postgresql://db.example.org:5432/catalog"),
        ("http://ann:pw@localhost:3000", "http://localhost:3000"),
        ("postgresql://[::1]:5432/x", "postgresql://[::1]:5432/x"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)
def test_what_may_be_shown_is(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_what_is_no_secret_stays_in_a_text() -> None:
    assert redactor("postgresql://me@host:5432/x")("host:5432 refuses me") == "host:5432 refuses me"


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize("url", [URLS[1], URLS[3], URLS[4], URLS[7]])
def test_the_command_line_shows_none_not_even_with_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, debug: list[str]
) -> None:
    monkeypatch.setattr(database, "sleep", lambda _seconds: None)  # between two attempts to connect
    done = run_command(*debug, "connections", env={"RUNTIMEDB_HOME": str(tmp_path), "RUNTIMEDB_CATALOG_URL": url})
    assert done.status == 1
    assert done.err.strip()
    assert CANARY not in done.out + done.err


def test_neither_do_the_definitions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from runtimedb_dagster import Settings  # noqa: PLC0415
    from runtimedb_dagster.definitions import build_definitions  # noqa: PLC0415

    with caplog.at_level(logging.DEBUG):
        definitions = build_definitions(Settings(home=tmp_path, catalog_url=URLS[3]))
    assert "runtimedb/error" in (definitions.metadata or {})
    assert CANARY not in str(definitions.metadata)
    assert CANARY not in caplog.text

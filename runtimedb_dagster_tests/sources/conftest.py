"""Fixtures over real database servers, which live as long as the test session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimedb_dagster import RuntimeDB, Settings
from runtimedb_dagster_tests.support.remote import PASSWORD_ENV
from runtimedb_dagster_tests.support.servers import PASSWORD


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of this machine reaches a test; the servers' password is in the environment."""
    for name in os.environ:
        if name.startswith("RUNTIMEDB_") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[RuntimeDB]:
    """A database without connections and without a grace period."""
    with RuntimeDB(Settings(home=tmp_path / "home", grace_period=0, threads=2)) as opened:
        yield opened

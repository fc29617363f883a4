"""No setting of this machine reaches these tests; the command runs over the home of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtimedb_dagster_tests.support.command import Ran, run_command
from runtimedb_dagster_tests.support.fixtures import nothing_from_outside  # noqa: F401 - by itself


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Run the command over the home of this test, with pipes for everything."""

    def run(*arguments: object, home: Path | None = tmp_path / "home", **variables: str) -> Ran:
        return run_command(*arguments, env={**variables, "RUNTIMEDB_HOME": str(home) if home else None})

    return run

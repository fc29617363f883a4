"""A short crowd over every storage; `make crowd` is the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtimedb_dagster_tests.stress.torture.crowd import crowd
from runtimedb_dagster_tests.support.places import with_postgresql


@with_postgresql
@pytest.mark.usefixtures("aws")
def test_a_crowd_leaves_one_version_of_each_table(place: dict[str, Any], tmp_path: Path) -> None:
    settings = {"home": tmp_path / "home", "threads": 1, "grace_period": 0, **place}
    done = crowd(settings, tmp_path, seconds=4, processes=8)
    assert done.wrong == []
    assert min(done.counts[what] for what in ("refreshes", "queries", "sweeps")) >= 8

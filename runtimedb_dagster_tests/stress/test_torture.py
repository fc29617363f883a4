"""A fault at each point of a refresh and of a sweep, on each catalog and storage; `make torture` has them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtimedb_dagster.common import failpoints
from runtimedb_dagster_tests.stress.torture.children import Children, children
from runtimedb_dagster_tests.stress.torture.faults import Case, late, short
from runtimedb_dagster_tests.stress.torture.system import COMBINATIONS, System, made
from runtimedb_dagster_tests.support.s3 import ENVIRONMENT


@pytest.fixture(scope="module")
def processes() -> Iterator[Children]:
    with children(ENVIRONMENT) as server:
        yield server


@pytest.fixture(scope="module")
def system(
    request: pytest.FixtureRequest, processes: Children, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """One per combination, made again by each restart of the tests only: a fault must leave no trace."""
    catalog, storage = request.param
    server = request.getfixturevalue("postgres_server") if catalog == "postgresql" else None
    store = request.getfixturevalue("object_store") if storage == "s3" else None
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with made(tmp_path_factory.mktemp("torture") / "of", server, store, processes) as system:
            yield system


def chosen(combinations: list[tuple[str, str]], *actions: str) -> list[object]:
    return [
        pytest.param(combination, case, id="-".join([*combination, case.name]))
        for combination in combinations
        for case in ([*short(combination[1], *actions)] if actions else [*late()])
        # A refresh by changes is killed on each catalog and each storage; the rest of it is `make torture`'s.
        if case.job != "changes" or (actions == ("kill",) and combination in (COMBINATIONS[0], COMBINATIONS[3]))
    ]


@pytest.mark.parametrize(("system", "case"), chosen(COMBINATIONS, "kill"), indirect=["system"])
def test_a_process_killed_at_any_point_leaves_the_old_or_the_new_version(system: System, case: Case) -> None:
    assert system.suffer(case).broken == []


@pytest.mark.parametrize(
    ("system", "case"),
    [*chosen([COMBINATIONS[0]], "raise", "drop"), *chosen([COMBINATIONS[3]], "drop")],
    indirect=["system"],
)
def test_an_error_or_a_lost_answer_at_any_point_leaves_the_old_or_the_new_version(system: System, case: Case) -> None:
    assert system.suffer(case).broken == []


@pytest.mark.parametrize(("system", "case"), chosen([COMBINATIONS[0], COMBINATIONS[3]]), indirect=["system"])
def test_a_refresh_that_goes_on_after_its_sweep_publishes_nothing(system: System, case: Case) -> None:
    assert system.suffer(case).broken == []


@pytest.mark.parametrize("seconds", [0, 0.00003, 0.0005, 2])
def test_faults_are_ordered_as_the_variable_takes_them(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, Case("inside_commit", "delay", "old", seconds=seconds).fault)
    failpoints.arm()
    monkeypatch.delenv(failpoints.VARIABLE)
    failpoints.arm()

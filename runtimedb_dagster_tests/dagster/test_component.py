"""Connections as code: the component, from its YAML to what Dagster and the catalog make of it."""

# No `from __future__ import annotations`: see the tests, which define assets.

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.testing import DefsFolderSandbox, create_defs_folder_sandbox

from runtimedb_dagster import (
    ConfigurationError,
    RuntimeDB,
    RuntimeDBComponent,
    RuntimeDBIOManager,
    Settings,
    build_definitions,
    table_input,
)
from runtimedb_dagster.dagster import process
from runtimedb_dagster.dagster.names import named
from runtimedb_dagster_tests.support.parts import SourceFile

TYPE = "runtimedb_dagster.RuntimeDBComponent"
SHOP = dg.AssetKey(["runtimedb", "shop"])
DG = Path(sys.executable).with_name("dg")
Build = Callable[..., dg.Definitions]


class Gold(RuntimeDBComponent):
    """As a project would have it: all its connections are gold."""

    def get_asset_spec(self, connection: Any) -> dg.AssetSpec:
        return super().get_asset_spec(connection).merge_attributes(tags={"tier": "gold"})


@pytest.fixture(autouse=True)
def _fresh_process(settings: Settings) -> Iterator[None]:
    """As in a process of its own."""
    yield
    process.opened.cache_clear()
    process._waiting.clear()
    named.clear()


@pytest.fixture
def source(make_source: Callable[..., SourceFile], monkeypatch: pytest.MonkeyPatch) -> SourceFile:
    """A database, whose URL is in the environment."""
    source = make_source(
        "shop", "CREATE TABLE orders AS SELECT range AS id FROM range(10)", "CREATE TABLE other (i INT)"
    )
    monkeypatch.setenv("SHOP_URL", source.url)
    return source


@pytest.fixture
def build(source: SourceFile) -> Iterator[Build]:
    """Definitions of a `defs.yaml`, as a new process loads them."""
    with create_defs_folder_sandbox() as sandbox:

        def built(attributes: dict[str, Any], component: type = RuntimeDBComponent, **more: Any) -> dg.Definitions:
            process.opened.cache_clear()
            contents = {"type": f"{component.__module__}.{component.__name__}", "attributes": attributes, **more}
            path = _place(sandbox, component, contents)
            with sandbox.load_component_and_build_defs(defs_path=path) as (_, definitions):
                return definitions

        yield built


def _place(sandbox: DefsFolderSandbox, component: type, contents: dict[str, Any]) -> Path:
    path = sandbox.defs_folder_path / "warehouse"
    if path.exists():
        (path / "defs.yaml").write_text(yaml.safe_dump(contents))
        return path
    return Path(sandbox.scaffold_component(component, defs_path="warehouse", defs_yaml_contents=contents))


def told(error: BaseException | None) -> str:
    """All that an error and its causes say."""
    return f"{error}\n{told(error.__cause__)}" if error else ""


def declared(**options: Any) -> dict[str, Any]:
    return {"connections": {"shop": {"url": "{{ env.SHOP_URL }}", "options": options}}}


def tick(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dg.SensorResult:
    result = definitions.get_sensor_def("runtimedb_shop_discovery")(dg.build_sensor_context(instance))
    assert isinstance(result, dg.SensorResult)
    return result


def test_to_load_it_changes_nothing_and_the_first_tick_registers_and_discovers(
    build: Build, settings: Settings, instance: dg.DagsterInstance
) -> None:
    definitions = build(declared(include=["main.orders"], discovery_interval=60))
    with RuntimeDB(settings) as db:
        assert db.connections() == []
        assert definitions.get_sensor_def("runtimedb_shop_discovery").minimum_interval_seconds == 60
        tick(definitions, instance)
        assert instance.get_dynamic_partitions("runtimedb/shop") == ["main.orders"]
        (connection,) = db.connections()
        assert (connection.name, connection.given["include"]) == ("shop", '["main.orders"]')
        assert re.fullmatch(r"src/\w+/defs/warehouse", connection.declared_in or "")


def test_two_components_of_one_file_leave_each_others_connections_alone(
    source: SourceFile, settings: Settings, instance: dg.DagsterInstance
) -> None:
    both = [{"type": TYPE, "attributes": {"connections": {name: {"url": source.url}}}} for name in ("shop", "other")]
    both[1]["attributes"]["settings"] = {"asset_prefix": "second"}  # type: ignore[index]  # of a dict of dicts
    with create_defs_folder_sandbox() as sandbox:
        (sandbox.defs_folder_path / "warehouse").mkdir()
        (sandbox.defs_folder_path / "warehouse" / "defs.yaml").write_text(yaml.safe_dump_all(both))
        with sandbox.build_all_defs() as definitions:
            tick(definitions, instance)
            definitions.get_sensor_def("second_other_discovery")(dg.build_sensor_context(instance))
    with RuntimeDB(settings) as db:
        places = {each.name: (each.declared_in or "").rpartition("/")[2] for each in db.connections()}
        assert places == {"shop": "warehouse", "other": "warehouse[1]"}


def test_its_asset_is_materialized(build: Build, instance: dg.DagsterInstance) -> None:
    definitions = build(declared())
    tick(definitions, instance)
    result = definitions.get_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key="main.orders", asset_selection=[SHOP]
    )
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["dagster/partition_row_count"].value == 10


def test_what_is_changed_there_is_changed_in_the_catalog(
    build: Build, settings: Settings, instance: dg.DagsterInstance
) -> None:
    tick(build(declared()), instance)
    definitions = build(declared(exclude="main.other"))
    tick(definitions, instance)
    assert instance.get_dynamic_partitions("runtimedb/shop") == ["main.orders"]
    with RuntimeDB(settings) as db, pytest.raises(ConfigurationError, match=r"is declared in .*, and can't be removed"):
        db.remove("shop")


def test_what_is_no_longer_declared_is_forgotten_if_that_is_said(
    build: Build, settings: Settings, instance: dg.DagsterInstance
) -> None:
    tick(build(declared()), instance)
    empty = build({"connections": {}})
    assert SHOP in {spec.key for spec in empty.resolve_all_asset_specs()}, "it is still in the catalog"
    gone = build({"connections": {}, "remove_undeclared": True})
    assert SHOP not in {spec.key for spec in gone.resolve_all_asset_specs()}
    gone.get_schedule_def("runtimedb_deletion_sweep").evaluate_tick(dg.build_schedule_context(instance))
    with RuntimeDB(settings) as db:
        assert db.connections() == []


def test_assets_look_as_the_translation_and_the_subclass_say(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", "sales")
    attributes = declared(owners="team:{{ env.TEAM }}") | {
        "translation": {"group_name": "from_{{ connection.name }}", "tags": {"source": "{{ connection.source_type }}"}}
    }
    definitions = build(attributes, Gold)
    (spec,) = [spec for spec in definitions.resolve_all_asset_specs() if spec.key == SHOP]
    assert (spec.group_name, spec.owners) == ("from_shop", ["team:sales"])
    assert spec.tags == {"source": "duckdb", "tier": "gold"} | {
        tag: value for tag, value in spec.tags.items() if tag.startswith("dagster/")
    }
    with pytest.raises(ComponentTreeException) as raised:
        build(declared() | {"translation": {"key_prefix": "other"}})
    assert "its translator gives it the key other/runtimedb/shop, but it is runtimedb/shop" in told(raised.value)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"connections": {"shop": {"url": "duckdb:///x", "options": {"inclde": "x"}}}}, "inclde"),
        ({"connections": {"shop": {"url": "duckdb:///x", "options": {"refresh_cron": "hourly"}}}}, "five fields"),
        ({"connections": {"shop": {"url": "oracle://x"}}}, "source type 'oracle' is unknown"),
        ({"connections": {"my-shop": {"url": "duckdb:///x"}}}, "my-shop"),
        ({"connections": {}, "settings": {"hme": "x"}}, "hme"),
    ],
)
def test_what_is_wrong_is_named(build: Build, attributes: dict[str, Any], says: str) -> None:
    with pytest.raises(ComponentTreeException) as raised:
        build(attributes).resolve_all_asset_specs()
    assert says in told(raised.value)


def test_a_catalog_that_can_not_be_reached_leaves_what_is_declared(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIMEDB_CATALOG_URL", "postgresql://owner@127.0.0.1:1/x")
    definitions = build(declared())
    dg.Definitions.validate_loadable(definitions)
    assert SHOP in {spec.key for spec in definitions.resolve_all_asset_specs()}


def test_what_assets_read_exists_though_the_catalog_does_not_have_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    @dg.asset(ins={"orders": table_input("elsewhere", [("main", "orders")])})
    def revenue(orders: Any) -> None: ...

    own = dg.Definitions(assets=[revenue], resources={"runtimedb_io_manager": RuntimeDBIOManager()})
    dg.Definitions.validate_loadable(dg.Definitions.merge(build_definitions(settings), own))
    assert "has no connection 'elsewhere'" in caplog.text


def test_dg_scaffolds_lists_and_checks_it(source: SourceFile, tmp_path: Path, settings: Settings) -> None:
    project = tmp_path / "project"
    (project / "src" / "ours" / "defs").mkdir(parents=True)
    (project / "src" / "ours" / "__init__.py").touch()
    (project / "src" / "ours" / "definitions.py").write_text(
        "from pathlib import Path\n\nimport dagster as dg\n\n\n@dg.definitions\ndef defs():\n"
        "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    (project / "pyproject.toml").write_text(
        '[project]\nname = "ours"\nversion = "0"\n\n[tool.dg]\ndirectory_type = "project"\n\n'
        '[tool.dg.project]\nroot_module = "ours"\npython_environment = "active"\n'
    )

    def run(*arguments: str, status: int = 0) -> str:
        environment = {"PYTHONPATH": str(project / "src"), "DAGSTER_DISABLE_TELEMETRY": "yes", "NO_COLOR": "1"}
        done = subprocess.run(
            [DG, *arguments],
            cwd=project,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert TYPE in run("list", "components")
    run("scaffold", "defs", TYPE, "warehouse")
    file = project / "src" / "ours" / "defs" / "warehouse" / "defs.yaml"
    assert "password_env: SHOP_PASSWORD" in file.read_text()
    run("check", "yaml")
    run("check", "defs")
    shop = f"    shop:\n      url: {source.url}\n      options:\n        inclde: x\n"
    file.write_text(f"type: {TYPE}\nattributes:\n  connections:\n{shop}")
    said = run("check", "yaml", status=1)
    assert "defs.yaml:7" in said
    assert "inclde" in said

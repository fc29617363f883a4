"""What the package shows to users: every name there is for them, and Dagster only where it is asked for."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import runtimedb_dagster
from runtimedb_dagster import RefreshRequest, RequestError, RuntimeDB, TableNotFoundError
from runtimedb_dagster.domain import errors
from runtimedb_dagster_tests.support.parts import SourceFile


def test_each_name_is_there() -> None:
    for name in runtimedb_dagster.__all__:
        assert getattr(runtimedb_dagster, name) is not None
    assert set(dir(runtimedb_dagster)) == set(runtimedb_dagster.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = runtimedb_dagster.nothing


def test_all_errors_are_among_them() -> None:
    assert set(errors.__all__) <= set(runtimedb_dagster.__all__)


def test_types_are_published() -> None:
    assert (Path(runtimedb_dagster.__file__).parent / "py.typed").exists()


def test_dagster_is_imported_when_its_names_are_asked_for_and_not_before() -> None:
    program = (
        "import sys, runtimedb_dagster, runtimedb_dagster.cli.main; before = 'dagster' in sys.modules\n"
        "runtimedb_dagster.build_definitions; print(before, 'dagster' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


def test_the_typed_verbs_do_what_the_request_does(db: RuntimeDB, shop: SourceFile) -> None:
    one = db.refresh_table("shop", "main", "orders")
    assert (one.table_name, one.rows_synced) == ("orders", 100)
    cached = db.refresh_connection("shop", include_uncached=False)
    assert (cached.tables_refreshed, cached.total_rows) == (1, 100)
    chosen = db.refresh_connection("shop", partition_keys=["main.customers"])
    assert (chosen.tables_refreshed, chosen.total_rows) == (1, 10)
    shop.run("CREATE TABLE more AS SELECT 1 AS i")
    assert db.discover("shop").tables_added == 1
    assert db.discover().connections_refreshed == 1


@pytest.mark.usefixtures("shop")
def test_wrong_arguments_raise_at_the_call_and_not_while_iterating(db: RuntimeDB) -> None:
    with pytest.raises(RequestError, match="concerns tables"):
        db.events(RefreshRequest("shop"))
    with pytest.raises(RequestError, match="schema_name requires connection_id"):
        db.events(RefreshRequest(schema_name="main", data=True))
    with pytest.raises(TableNotFoundError):
        db.events(RefreshRequest("shop", "main", "nothing", data=True))


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("names", [("", ""), ("main", ""), ("", "orders")])
def test_an_empty_name_is_not_all_of_them(db: RuntimeDB, names: tuple[str, str]) -> None:
    """As an unset variable of a script is."""
    db.refresh_connection("shop")
    with pytest.raises(RequestError, match="a purge takes"):
        db.purge("shop", *names)
    with pytest.raises(RequestError, match="a refresh of one table takes"):
        db.refresh_table("shop", *names)
    assert [table.cached for table in db.tables("shop")] == [True, True]


@pytest.mark.parametrize(
    ("value", "kept"), [({"x.b", "x.a"}, '["x.a", "x.b"]'), (["x.a"], '["x.a"]'), ("x.a", "x.a"), (("x.a",), '["x.a"]')]
)
def test_an_options_value_may_be_any_collection(db: RuntimeDB, shop: SourceFile, value: object, kept: str) -> None:
    assert db.configure("shop", options={"exclude_columns": value}).connection.given["exclude_columns"] == kept
    assert db.configure("shop", options={"max_age": timedelta(hours=1)}).connection.options.max_age == timedelta(
        hours=1
    )


@pytest.mark.parametrize("value", [None, b"email", iter(["email"]), object()])
def test_or_it_is_refused_by_name(db: RuntimeDB, shop: SourceFile, value: object) -> None:
    with pytest.raises(runtimedb_dagster.ConfigurationError, match="The option exclude_columns takes a text"):
        db.configure("shop", options={"exclude_columns": value})
    assert "exclude_columns" not in db.connections()[0].given


def test_an_option_may_have_the_name_of_a_parameter(db: RuntimeDB, shop: SourceFile) -> None:
    """It is a wrong option, and not a wrong call."""
    for name in ("name", "url", "options", "password_env"):
        with pytest.raises(runtimedb_dagster.ConfigurationError, match=f"option '{name}' is unknown"):
            db.connect("other", shop.url, options={name: "x"})

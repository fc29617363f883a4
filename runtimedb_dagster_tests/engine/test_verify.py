"""Verify: it finds what breaks an invariant, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from runtimedb_dagster import RuntimeDB
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster_tests.support.parts import (
    Inside,
    SourceFile,
    current,
    path_of,
    refresh_all,
    refresh_one,
    reserve,
    said_to_have,
    the_table,
)
from runtimedb_dagster_tests.support.places import every_storage, everywhere


@pytest.fixture
def orders(db: RuntimeDB, shop: SourceFile) -> str:
    """The path of the version of `orders`."""
    assert shop.path.exists()
    refresh_all(db)
    return path_of(current(db, "orders"))


@pytest.fixture
def file(inside: Inside, orders: str) -> Path:
    """The file of the version of `orders`."""
    return inside.root / orders


def findings(db: RuntimeDB) -> list[tuple[str, str]]:
    return [(finding.invariant, finding.subject) for finding in db.verify()]


@everywhere
@pytest.mark.usefixtures("orders")
def test_a_healthy_system_has_no_findings(db: RuntimeDB, shop: SourceFile) -> None:
    assert db.verify() == []
    shop.run("INSERT INTO orders VALUES (1000, 1)")
    refresh_one(db, "orders")
    assert db.pending_deletions() != []
    assert db.verify() == []


def test_an_empty_system_has_no_findings(db: RuntimeDB) -> None:
    assert db.verify() == []


@every_storage
@pytest.mark.parametrize("damage", ["truncated", "emptied", "gone", "junk"])
def test_a_version_that_can_not_be_read_is_found(db: RuntimeDB, inside: Inside, orders: str, damage: str) -> None:
    content = inside.place.get(orders)
    if damage == "gone":
        inside.place.remove(orders)
    else:
        inside.place.put(orders, {"truncated": content[:-10], "emptied": b"", "junk": b"x" * len(content)}[damage])
    assert findings(db) == [("I1", "shop.main.orders")]


@every_storage
def test_a_version_of_another_size_is_found(db: RuntimeDB, inside: Inside, orders: str, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    duckdb.sql("SELECT 1 AS id").write_parquet(str(other))
    inside.place.put(orders, other.read_bytes())
    (finding,) = db.verify()
    assert (finding.invariant, finding.subject) == ("I1", "shop.main.orders")
    assert "bytes, the catalog says" in finding.message


@every_storage
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("path", ["orphan.parquet", "c/s/t/orphan.parquet"])
@pytest.mark.usefixtures("orders")
def test_an_orphan_is_found(db: RuntimeDB, inside: Inside, path: str, finished: bool) -> None:
    if finished:
        inside.place.put(path, b"whose?")
    else:
        inside.place.begin(path)
    assert findings(db) == [("I2", path)]
    assert path in inside.files()


@pytest.mark.usefixtures("orders")
def test_a_symlink_is_an_orphan(db: RuntimeDB, inside: Inside) -> None:
    (inside.root / "link").symlink_to("/")
    assert findings(db) == [("I2", "link")]


@everywhere
def test_a_file_being_written_or_waiting_for_the_sweep_is_no_orphan(db: RuntimeDB, orders: str, inside: Inside) -> None:
    reservation = reserve(inside.catalog, the_table(db, "orders"))
    inside.storage.prepare(reservation.paths[0])
    db.purge("shop", "main", "orders")
    assert (
        inside.files()
        == inside.pending() | inside.live()
        == {orders, reservation.paths[0], path_of(current(db, "customers"))}
    )
    assert db.verify() == []


@everywhere
@pytest.mark.usefixtures("orders")
def test_a_current_version_whose_deletion_is_due_is_found(db: RuntimeDB, inside: Inside) -> None:
    inside.schedule(path_of(current(db, "orders")), utc_now() - timedelta(seconds=1))
    assert findings(db) == [("I3", "shop.main.orders")]


@every_storage
@pytest.mark.usefixtures("orders")
def test_verifying_changes_nothing(db: RuntimeDB, inside: Inside) -> None:
    inside.schedule("/etc/x", utc_now())
    files, tables, pending = inside.files(), db.tables(), db.pending_deletions()
    db.verify()
    assert (inside.files(), db.tables(), db.pending_deletions()) == (files, tables, pending)


@pytest.mark.usefixtures("orders")
def test_a_finding_says_what_to_do(db: RuntimeDB, inside: Inside) -> None:
    inside.place.put("orphan", b"")
    (finding,) = db.verify()
    assert finding.to_dict() == {
        "invariant": "I2",
        "subject": "orphan",
        "message": "no table points at this file and no deletion is pending; delete it by hand",
    }


@every_storage
def test_damage_in_two_tables_is_two_findings(
    db: RuntimeDB, orders: str, inside: Inside, make_db: Callable[..., RuntimeDB]
) -> None:
    inside.place.put(orders, b"")
    inside.place.put(path_of(current(db, "customers")), b"")
    assert findings(make_db()) == [("I1", "shop.main.customers"), ("I1", "shop.main.orders")]


# Deep


def rewrite(version: Path, select: str, **options: str) -> None:
    """Another content in a version's file."""
    written = "".join(f", {name} {value}" for name, value in options.items())
    with duckdb.connect() as duck:
        duck.execute(f"COPY ({select}) TO '{version}.new' (FORMAT parquet{written})")
    Path(f"{version}.new").rename(version)


def deep(db: RuntimeDB) -> list[tuple[str, str]]:
    """What a deep look finds where another file has the size of the one that was written."""
    for name in ("orders", "customers"):
        said_to_have(db, name, len(Inside.of(db).place.get(path_of(current(db, name)))))
    return [(finding.invariant, finding.subject) for finding in db.verify(deep=True)]


@pytest.mark.usefixtures("orders")
def test_a_deep_look_at_a_healthy_system_finds_nothing_and_changes_nothing(db: RuntimeDB, inside: Inside) -> None:
    before = (inside.files(), db.tables(), db.pending_deletions())
    assert db.verify(deep=True) == []
    assert (inside.files(), db.tables(), db.pending_deletions()) == before


def test_the_order_of_rows_is_no_difference(db: RuntimeDB, file: Path) -> None:
    rewrite(file, f"SELECT * FROM '{file}' ORDER BY id DESC")
    assert deep(db) == []


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("SELECT id, if(id = 7, 0.5, amount)::DECIMAL(21,1) AS amount FROM '{}'", "holds other values"),
        ("SELECT id, amount AS total FROM '{}'", "holds other values or columns"),
        ("SELECT * REPLACE (7 AS id) FROM '{}'", "holds other values"),
    ],
    ids=["value", "column", "all"],
)
def test_only_a_deep_look_finds_another_content(db: RuntimeDB, file: Path, select: str, message: str) -> None:
    rewrite(file, select.format(file))
    said_to_have(db, "orders", file.stat().st_size)
    assert db.verify() == []
    (finding,) = db.verify(deep=True)
    assert (finding.invariant, finding.subject) == ("I1", "shop.main.orders")
    assert message in finding.message
    assert "; refresh the table to get a new version" in finding.message


def test_a_deep_look_finds_damage_between_the_footers_of_a_file(db: RuntimeDB, file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:40] + b"\xff" * 20 + content[60:])
    assert db.verify() == []
    assert deep(db) == [("I1", "shop.main.orders")]


def test_what_is_found_already_is_not_found_twice(db: RuntimeDB, file: Path) -> None:
    file.unlink()
    assert [(finding.invariant, finding.subject) for finding in db.verify(deep=True)] == [("I1", "shop.main.orders")]


def test_values_are_not_compared_across_versions_of_duckdb(
    db: RuntimeDB, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(duckdb, "__version__", "9.9.9")
    assert db.verify(deep=True) == []
    assert "its values can't be compared: DuckDB 1." in caplog.text
    rewrite(file, f"SELECT * FROM '{file}' LIMIT 99")
    assert len(db.verify(deep=True)) == 1

"""Reserve, swap, keep, abandon, purge: what each leaves, and who loses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtimedb_dagster import Connection, Table
from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.domain.claims import Publication
from runtimedb_dagster.domain.errors import (
    CatalogError,
    RefreshError,
    ReservationLostError,
    SupersededError,
)
from runtimedb_dagster_tests.catalog.steps import (
    GRACE,
    NOW,
    SECOND,
    claim,
    discover,
    publish,
    version_path_of,
)
from runtimedb_dagster_tests.support.parts import (
    LEASE,
    discovered,
    reserve,
    swap,
    version_of,
)


def test_a_reserved_file_is_scheduled_for_deletion(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.delete_after) == (reservation.paths[0], NOW + LEASE)
    assert (pending.reason, pending.table, pending.attempts) == ("not published", "shop.main.orders", 0)
    assert version_path_of(catalog, orders) is None


def test_later_reservations_have_greater_generations(catalog: Catalog, orders: Table) -> None:
    generations = [reserve(catalog, orders, NOW).sequence for _ in range(3)]
    assert generations == sorted(set(generations))


def test_a_renewed_reservation_is_due_later(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    catalog.publications.renew(reservation, NOW + 2 * LEASE)
    assert claim(catalog, NOW + LEASE + SECOND) == []
    assert len(claim(catalog, NOW + 2 * LEASE)) == 1


def test_a_swap_rescues_the_new_file_and_schedules_the_old(catalog: Catalog, orders: Table) -> None:
    old = publish(catalog, orders)
    assert catalog.deletions.list() == []
    new = publish(catalog, orders)
    assert version_path_of(catalog, orders) == new
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.delete_after, pending.reason) == (old, NOW + GRACE, "replaced")


def test_a_refresh_that_started_earlier_cannot_overwrite_a_later_one(catalog: Catalog, orders: Table) -> None:
    slow, fast = reserve(catalog, orders, NOW), reserve(catalog, orders, NOW)
    swap(catalog, fast, version_of(fast), NOW + GRACE)
    with pytest.raises(SupersededError, match=r"shop\.main\.orders"):
        swap(catalog, slow, version_of(slow), NOW + GRACE)
    assert version_path_of(catalog, orders) == fast.paths[0]
    assert [pending.path for pending in catalog.deletions.list()] == [slow.paths[0]]


def test_a_refresh_that_started_before_a_later_one_kept_its_version_is_superseded(
    catalog: Catalog, orders: Table
) -> None:
    first = reserve(catalog, orders, NOW)
    swap(catalog, first, version_of(first), NOW + GRACE)
    slow, fast = reserve(catalog, orders, NOW), reserve(catalog, orders, NOW)
    assert catalog.publications.keep(fast, version_of(first), "a recipe", NOW)
    with pytest.raises(SupersededError):
        swap(catalog, slow, version_of(slow), NOW + GRACE)
    assert version_path_of(catalog, orders) == first.paths[0]


def test_a_file_that_a_sweep_has_claimed_is_not_published(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    assert len(claim(catalog, NOW + LEASE)) == 1
    with pytest.raises(ReservationLostError, match=r"write lease"):
        swap(catalog, reservation, version_of(reservation), NOW + GRACE)
    assert version_path_of(catalog, orders) is None
    assert [pending.path for pending in catalog.deletions.list()] == [reservation.paths[0]]


@pytest.mark.parametrize("ending", ["finished", "put off", "expired"])
def test_nor_is_it_after_the_sweep_ended(catalog: Catalog, orders: Table, ending: str) -> None:
    reservation = reserve(catalog, orders, NOW)
    (deletion,) = claim(catalog, NOW + LEASE)
    if ending == "finished":
        catalog.deletions.finish([deletion], "sweep")
    elif ending == "put off":
        catalog.deletions.put_off(deletion, "sweep", "no", NOW + 2 * LEASE)
    with pytest.raises(ReservationLostError):
        catalog.publications.renew(reservation, NOW + 3 * LEASE)
    with pytest.raises(ReservationLostError):
        swap(catalog, reservation, version_of(reservation), NOW + GRACE)
    assert version_path_of(catalog, orders) is None


def test_a_table_dropped_during_its_refresh_keeps_the_reservation(
    catalog: Catalog, shop: Connection, orders: Table
) -> None:
    reservation = reserve(catalog, orders, NOW)
    discover(catalog, shop, discovered("customers"))
    with pytest.raises(RefreshError, match=r"shop\.main\.orders was dropped while it was refreshed"):
        swap(catalog, reservation, version_of(reservation), NOW + GRACE)
    assert [pending.path for pending in catalog.deletions.list()] == [reservation.paths[0]]


def test_a_table_dropped_and_made_again_during_its_refresh_is_another(
    catalog: Catalog, shop: Connection, orders: Table
) -> None:
    reservation = reserve(catalog, orders, NOW)
    discover(catalog, shop, discovered("customers"))
    discover(catalog, shop, discovered("orders", "customers"))
    with pytest.raises(RefreshError, match="dropped"):
        swap(catalog, reservation, version_of(reservation), NOW + GRACE)
    assert not catalog.tables.get(shop, "main", "orders").cached


def test_keeping_leaves_the_version_and_gives_the_new_file_to_the_sweep(catalog: Catalog, orders: Table) -> None:
    first = reserve(catalog, orders, NOW)
    version = version_of(first)
    swap(catalog, first, version, NOW + GRACE)
    again = reserve(catalog, orders, NOW)

    assert catalog.publications.keep(again, version, "a recipe", NOW + SECOND)

    kept = catalog.tables.list()[1]
    assert kept.version == version
    assert (kept.checked_at, kept.checked_sequence) == (NOW + SECOND, again.sequence)
    assert [deletion.path for deletion in claim(catalog, NOW + SECOND)] == [again.paths[0]]


def test_a_version_that_was_replaced_meanwhile_is_not_kept(catalog: Catalog, orders: Table) -> None:
    first = reserve(catalog, orders, NOW)
    swap(catalog, first, version_of(first), NOW + GRACE)
    second = reserve(catalog, orders, NOW)
    swap(catalog, second, version_of(second), NOW + GRACE)
    third = reserve(catalog, orders, NOW)
    assert not catalog.publications.keep(third, version_of(first), "a recipe", NOW)
    assert {each.path: each.delete_after for each in catalog.deletions.list()}[third.paths[0]] == NOW + LEASE


def test_an_abandoned_file_is_due_at_once(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    catalog.publications.abandon(reservation, NOW)
    assert [deletion.path for deletion in claim(catalog, NOW)] == [reservation.paths[0]]


def test_a_file_abandoned_after_its_sweep_is_swept_again(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    catalog.deletions.finish(claim(catalog, NOW + LEASE), "sweep")
    catalog.publications.abandon(reservation, NOW)
    assert [(each.path, each.delete_after) for each in catalog.deletions.list()] == [(reservation.paths[0], NOW)]


def test_a_file_abandoned_during_its_sweep_is_swept_again(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    claimed = claim(catalog, NOW + LEASE)
    catalog.publications.abandon(reservation, NOW)
    catalog.deletions.finish(claimed, "sweep")
    assert [each.path for each in catalog.deletions.list()] == [reservation.paths[0]]
    assert [each.path for each in catalog.deletions.claim("other", NOW, NOW + GRACE, 10)] == [reservation.paths[0]]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_published_file_is_not_abandoned(catalog: Catalog, orders: Table, replaced: bool) -> None:
    """As when the answer to its commit was lost: neither it nor its grace period goes."""
    reservation = reserve(catalog, orders, NOW)
    swap(catalog, reservation, version_of(reservation), NOW + GRACE)
    if replaced:
        later = reserve(catalog, orders, NOW)
        swap(catalog, later, version_of(later), NOW + GRACE)
    before = catalog.deletions.list()
    catalog.publications.abandon(reservation, NOW)
    assert catalog.deletions.list() == before


def test_a_file_that_repeats_the_current_version_is_swept_again_if_it_was_before(
    catalog: Catalog, orders: Table
) -> None:
    first = reserve(catalog, orders, NOW)
    swap(catalog, first, version_of(first), NOW + GRACE)
    again = reserve(catalog, orders, NOW)
    catalog.deletions.finish(claim(catalog, NOW + LEASE), "sweep")
    assert catalog.publications.keep(again, version_of(first), "a recipe", NOW)
    assert [(each.path, each.delete_after) for each in catalog.deletions.list()] == [(again.paths[0], NOW)]


def test_a_purge_forgets_the_data_and_keeps_the_rows(catalog: Catalog, shop: Connection, orders: Table) -> None:
    path = publish(catalog, orders)
    assert catalog.publications.purge(shop, catalog.tables.list(shop), NOW + GRACE) == 1
    assert [table.cached for table in catalog.tables.list(shop)] == [False, False]
    (pending,) = catalog.deletions.list()
    assert (pending.path, pending.reason, pending.delete_after) == (path, "purged", NOW + GRACE)
    assert catalog.publications.purge(shop, catalog.tables.list(shop), NOW) == 0


def test_a_refresh_that_began_before_a_purge_does_not_bring_the_data_back(
    catalog: Catalog, shop: Connection, orders: Table
) -> None:
    slow = reserve(catalog, orders, NOW)
    publish(catalog, orders)
    catalog.publications.purge(shop, [orders], NOW + GRACE)
    with pytest.raises(SupersededError, match=r"shop\.main\.orders: it was purged meanwhile"):
        swap(catalog, slow, version_of(slow), NOW + GRACE)
    assert version_path_of(catalog, orders) is None
    later = publish(catalog, orders)
    assert version_path_of(catalog, orders) == later


def test_what_was_replaced_is_what_was_current_then(catalog: Catalog, orders: Table) -> None:
    """Not what was current when the table was looked up, which may be hours before its turn."""
    first = reserve(catalog, orders, NOW)
    swap(catalog, first, replace(version_of(first), rows=7), NOW + GRACE)
    second = reserve(catalog, orders, NOW)  # of a table that had no version yet
    publication = Publication(second, version_of(second))
    replaced = catalog.publications.publish([publication], NOW + GRACE)
    assert {table: (version.id, version.rows) for table, version in replaced.items()} == {
        orders.id: (first.version_id, 7)
    }
    assert next(each for each in catalog.tables.list() if each.id == orders.id).previous_rows == 7


def test_a_write_that_fails_changes_nothing(catalog: Catalog, orders: Table) -> None:
    reservation = reserve(catalog, orders, NOW)
    other = reserve(catalog, orders, NOW)
    swap(catalog, other, version_of(other), NOW)
    newer = reserve(catalog, orders, NOW)
    taken = replace(version_of(newer), id=other.version_id)
    with pytest.raises(CatalogError):
        swap(catalog, newer, taken, NOW)
    assert version_path_of(catalog, orders) == other.paths[0]
    assert {pending.path for pending in catalog.deletions.list()} == {reservation.paths[0], newer.paths[0]}

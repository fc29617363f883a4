"""Leases hold what goes; sweeps share what is due."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import update

from runtimedb_dagster import Connection, Table
from runtimedb_dagster.catalog import Catalog, new_id, schema
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster_tests.catalog.steps import (
    CLAIM,
    GRACE,
    NOW,
    SECOND,
    claim,
    discover,
    publish,
)
from runtimedb_dagster_tests.support.parts import (
    discovered,
    path_of,
    reserve,
)


def test_a_lease_sees_the_version_of_its_moment(catalog: Catalog, shop: Connection, orders: Table) -> None:
    before = catalog.leases.open(NOW, GRACE)
    old = publish(catalog, orders)
    between = catalog.leases.open(NOW, GRACE)
    new = publish(catalog, orders)
    after = catalog.leases.open(NOW, GRACE)

    seen = [catalog.leases.visible(lease, shop.id, "main", "orders") for lease in (before, between, after)]

    assert [path_of(version) if version else None for version in seen] == [None, old, new]
    assert catalog.leases.visible_like(between, shop.id, "MAIN", "Orders") == [("main", "orders")]
    assert catalog.leases.visible(between, shop.id, "MAIN", "Orders") is None


@pytest.mark.parametrize("how", ["replaced", "purged", "dropped", "removed"])
def test_a_lease_holds_what_goes_until_it_is_closed(
    catalog: Catalog, shop: Connection, orders: Table, how: str
) -> None:
    path = publish(catalog, orders)
    lease = catalog.leases.open(NOW, timedelta(hours=1))
    if how == "replaced":
        publish(catalog, orders)
    elif how == "purged":
        catalog.publications.purge(shop, [orders], NOW + GRACE)
    elif how == "dropped":
        discover(catalog, shop, discovered("customers"))
    else:
        catalog.connections.remove(shop, NOW + GRACE)

    due = NOW + GRACE
    assert claim(catalog, due) == []
    assert catalog.deletions.count_due(due) == 0
    held = catalog.leases.visible(lease, shop.id, "main", "orders")
    assert held is not None
    assert path_of(held) == path
    catalog.leases.close(lease)
    assert catalog.deletions.count_due(due) == 1
    assert [deletion.path for deletion in claim(catalog, due)] == [path]


def test_a_lease_that_is_over_holds_nothing_and_is_not_renewed(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    lease = catalog.leases.open(NOW, 2 * GRACE)
    publish(catalog, orders)
    assert claim(catalog, NOW + 2 * GRACE - SECOND) == []
    assert catalog.leases.renew(lease, NOW + GRACE, 2 * GRACE)
    assert claim(catalog, NOW + 3 * GRACE - SECOND) == []
    assert not catalog.leases.renew(lease, NOW + 3 * GRACE, 2 * GRACE)
    assert len(claim(catalog, NOW + 3 * GRACE)) == 1


def test_a_lease_does_not_hold_files_that_were_never_published(catalog: Catalog, orders: Table) -> None:
    catalog.leases.open(NOW, timedelta(hours=1))
    reservation = reserve(catalog, orders, NOW)
    catalog.publications.abandon(reservation, NOW)
    assert len(claim(catalog, NOW)) == 1


def test_two_sweeps_share_the_work(catalog: Catalog, orders: Table) -> None:
    expected = {publish(catalog, orders) for _ in range(40)}
    publish(catalog, orders)

    def sweep(token: str) -> list[str]:
        paths: list[str] = []
        while batch := claim(catalog, NOW + GRACE, token, limit=3):
            paths += [deletion.path for deletion in batch]
        return paths

    with ThreadPoolExecutor(4) as pool:
        claimed = [path for paths in pool.map(sweep, [new_id() for _ in range(4)]) for path in paths]

    assert len(claimed) == len(expected)
    assert set(claimed) == expected


def test_the_claim_of_a_sweep_that_died_runs_out(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    publish(catalog, orders)
    due = NOW + GRACE
    assert len(claim(catalog, due, "dead")) == 1
    assert claim(catalog, due + CLAIM, "next") == []
    assert len(claim(catalog, due + CLAIM + SECOND, "next")) == 1


def test_only_the_sweep_that_claimed_a_row_can_finish_it(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    publish(catalog, orders)
    (deletion,) = claim(catalog, NOW + GRACE, "mine")
    catalog.deletions.finish([deletion], "another")
    catalog.deletions.put_off(deletion, "another", "no", NOW)
    assert [(each.path, each.attempts) for each in catalog.deletions.list()] == [(deletion.path, 0)]
    catalog.deletions.finish([deletion], "mine")
    assert catalog.deletions.list() == []


def test_a_deletion_that_is_put_off_comes_back_later(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    publish(catalog, orders)
    due = NOW + GRACE
    (deletion,) = claim(catalog, due)
    catalog.deletions.put_off(deletion, "sweep", "busy", due + 30 * SECOND)
    assert claim(catalog, due + 29 * SECOND) == []
    (again,) = claim(catalog, due + 30 * SECOND)
    assert (again.path, again.attempts, again.last_error) == (deletion.path, 1, "busy")


def test_paths_that_tables_point_at_are_told(catalog: Catalog, orders: Table) -> None:
    old, new = publish(catalog, orders), publish(catalog, orders)
    assert catalog.deletions.pointed_at([old, new, "other"]) == {new}


def test_only_one_path_can_be_claimed_on_demand(catalog: Catalog, orders: Table) -> None:
    first, second = publish(catalog, orders), publish(catalog, orders)
    publish(catalog, orders)
    due = NOW + GRACE
    assert [d.path for d in catalog.deletions.claim("sweep", due, due + CLAIM, 10, second)] == [second]
    assert [d.path for d in claim(catalog, due)] == [first]


YEAR = timedelta(days=365)


def test_what_a_wrong_clock_has_set_far_ahead_counts_as_over(catalog: Catalog, orders: Table) -> None:
    """A process whose clock is a year ahead reserves, reads, claims and dies."""
    now = utc_now()
    replaced = publish(catalog, orders)
    publish(catalog, orders)
    ahead = reserve(catalog, orders, now)
    lasting = {"lifetime": 60_000_000}
    with catalog._database.write() as tx:
        tx.execute(update(schema.pending_deletions).values(delete_after=now + YEAR, **lasting))
    lease = catalog.leases.open(now, GRACE)
    with catalog._database.write() as tx:
        tx.execute(update(schema.leases).values(expires_at=now + YEAR, sequence=0, **lasting))
    assert {deletion.path for deletion in claim(catalog, now)} == {replaced, ahead.paths[0]}
    with catalog._database.write() as tx:
        tx.execute(update(schema.pending_deletions).values(claimed_until=now + YEAR))
    assert len(claim(catalog, now, by="another")) == 2, "its claim, too"
    catalog.leases.open(now, GRACE)
    assert not catalog.leases.renew(lease, now, GRACE), "its lease is gone"


def test_clocks_that_differ_by_an_hour_delete_nothing_early(catalog: Catalog, orders: Table) -> None:
    publish(catalog, orders)
    publish(catalog, orders)
    hour = timedelta(hours=1)
    with catalog._database.write() as tx:
        tx.execute(update(schema.pending_deletions).values(delete_after=utc_now() + hour + GRACE, lifetime=60_000_000))
    assert claim(catalog, utc_now()) == []


def test_the_slot_of_a_process_whose_clock_was_wrong_is_free(catalog: Catalog, shop: Connection) -> None:
    now = utc_now()
    catalog.slots.enter(shop, "dead", now + YEAR)
    slot = catalog.slots.enter(shop, "alive", now + GRACE)
    assert catalog.slots.is_free(slot, 1, now)

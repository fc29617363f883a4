"""Files that are being written: reserved before their first byte, and let go of if they are not published."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from runtimedb_dagster.catalog import Catalog
from runtimedb_dagster.catalog.files import lost
from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.common.heartbeat import renewed, utc_now
from runtimedb_dagster.domain.claims import Reservation
from runtimedb_dagster.domain.errors import BaseReplacedError, CatalogError, RuntimeDBError, SupersededError
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Table
from runtimedb_dagster.domain.versions import SequenceNumber
from runtimedb_dagster.engine.sweep import Sweeper
from runtimedb_dagster.storage import Storage

__all__ = ["Reserver"]

logger = logging.getLogger(__name__)


@dataclass
class Reserver:
    """Reserves files, keeps their write leases, and has them swept if they come to nothing."""

    catalog: Catalog
    storage: Storage
    settings: Settings
    sweeper: Sweeper

    @contextmanager
    def reserved(
        self, table: Table, version_id: str, paths: Sequence[str], sequence: SequenceNumber | None = None
    ) -> Iterator[Reservation]:
        """Files that are scheduled for deletion, and whose lease is renewed, until the block ends.

        If the block fails, they are let go of.

        Raises:
            ReservationLostError: instead of what came of a file that a sweep took.
        """
        lease = self.settings.write_lease
        reservation = self.catalog.publications.reserve(table, version_id, paths, utc_now(), lease, sequence)
        try:
            hit("after_reserve")
            with renewed(lease, lambda: self.renew(reservation)):
                yield reservation
        except Exception as error:
            swept = self._give_up(reservation)
            if swept and not isinstance(error, (CatalogError, SupersededError, BaseReplacedError)):
                # The file went while it was written, or the process slept: the error says only what came of that.
                raise lost(reservation) from error
            raise

    def renew(self, reservation: Reservation) -> None:
        """Push the deletion of its files away.

        Raises:
            ReservationLostError: a sweep has one.
        """
        self.catalog.publications.renew(reservation, utc_now() + self.settings.write_lease)

    def renew_if_old(self, reservation: Reservation) -> None:
        """For a process that slept, and may have been swept before it made its file."""
        if utc_now() - reservation.started_at > self.settings.write_lease / 3:
            self.renew(reservation)

    def discard(self, reservation: Reservation) -> None:
        """Delete files that merely repeat the current version; what fails here is left to a later sweep."""
        try:
            for path in reservation.paths:
                self.storage.delete(path)
                hit("after_delete_file")
                self.catalog.deletions.forget(path)
        except RuntimeDBError:
            logger.warning("the file of %s is left to a later sweep", reservation.table.ref, exc_info=True)

    def _give_up(self, reservation: Reservation) -> bool:
        """Let go of files that will not be published, now rather than when their write lease ends.

        Returns:
            Whether a sweep was there before.
        """
        swept = False
        try:
            swept = self.catalog.publications.abandon(reservation, utc_now())
            for path in reservation.paths:
                self.sweeper.sweep(utc_now(), path=path)
        except RuntimeDBError:
            logger.warning("the file of %s is left to a later sweep", reservation.table.ref, exc_info=True)
        return swept

"""Sweep: delete the files whose pending deletion is due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runtimedb_dagster.catalog import Catalog, new_id
from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.domain.errors import StorageError, StorageUnavailableError, UnsafePathError
from runtimedb_dagster.domain.requests import SweepResult
from runtimedb_dagster.domain.versions import PendingDeletion
from runtimedb_dagster.storage import Storage

__all__ = ["Sweeper"]

logger = logging.getLogger(__name__)

BATCH = 500
CLAIM = timedelta(minutes=5)
FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(hours=1)


@dataclass(frozen=True)
class Sweeper:
    """Deletes due files. Any number may run at once: each claims its own."""

    catalog: Catalog
    storage: Storage

    def sweep(self, now: datetime, path: str | None = None) -> SweepResult:
        """Delete what is due; a deletion that fails is put off, and never forgotten.

        Args:
            now: the time that decides what is due.
            path: sweep this one file only.
        """
        token, deleted, failures = new_id(), 0, list[tuple[PendingDeletion, str]]()
        while batch := self.catalog.deletions.claim(token, now, now + CLAIM, BATCH, path):
            failed = self._delete(batch)
            self.catalog.deletions.finish([deletion for deletion in batch if deletion.id not in failed], token)
            hit("after_delete_row")
            for deletion in batch:
                if error := failed.get(deletion.id):
                    logger.warning("%s: %s", deletion.table, error)
                    self.catalog.deletions.put_off(deletion, token, error, now + _backoff(deletion.attempts))
                    failures.append((deletion, error))
            deleted += len(batch) - len(failed)
        if path is None:
            self.storage.tidy()
        errors = [{"table": failed.table, "path": failed.path, "error": error} for failed, error in failures]
        return SweepResult(files_deleted=deleted, files_failed=len(errors), errors=errors)

    def _delete(self, batch: Sequence[PendingDeletion]) -> dict[str, str]:
        """Delete a batch's files; returns the errors, by the id of the deletion."""
        pointed_at = self.catalog.deletions.pointed_at([deletion.path for deletion in batch])
        errors: dict[str, str] = {}
        for position, deletion in enumerate(batch):
            try:
                if deletion.path in pointed_at:
                    raise UnsafePathError(
                        f"The file '{deletion.path}' is the current version of a table; it was not touched"
                    )
                self.storage.delete(deletion.path)
                hit("after_delete_file")
            except StorageUnavailableError as error:
                # To wait for each in turn would outlast the claim on them.
                return errors | {each.id: str(error) for each in batch[position:]}
            except StorageError as error:
                errors[deletion.id] = str(error)
        return errors


def _backoff(attempts: int) -> timedelta:
    return min(FIRST_BACKOFF * (1 << min(attempts, 10)), LONGEST_BACKOFF)

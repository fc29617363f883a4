"""A refresh by changes, from what the source said to the version that is published."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from runtimedb_dagster.catalog import Catalog, new_id
from runtimedb_dagster.common.duck import private_directory
from runtimedb_dagster.common.failpoints import hit
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.common.sql import literal
from runtimedb_dagster.domain.claims import Publication, Reservation
from runtimedb_dagster.domain.errors import BaseReplacedError, StorageError
from runtimedb_dagster.domain.facts import RefreshFacts
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.domain.tables import Table
from runtimedb_dagster.domain.versions import DataFile, DeletesFile, SequenceNumber, Version
from runtimedb_dagster.engine.changes import Kept, Merge, Merged, differences, merge
from runtimedb_dagster.engine.file_reader import FileReader
from runtimedb_dagster.engine.fingerprint import fingerprint, row_hashes, scan
from runtimedb_dagster.engine.matching import NotMergedError
from runtimedb_dagster.engine.narrowing import KeysOf
from runtimedb_dagster.engine.parquet import about, count_rows, read_back
from runtimedb_dagster.engine.reserving import Reserver
from runtimedb_dagster.query.live import live_rows
from runtimedb_dagster.sources.base import COMPRESSION_LEVEL, ROW_GROUP_SIZE, Changed, Reading
from runtimedb_dagster.storage import Storage, deletes_path, version_path

__all__ = ["ByChanges", "Refreshed"]


@dataclass(frozen=True)
class Refreshed:
    """What serves after a refresh by changes: the base itself, if nothing came of it."""

    version: Version
    facts: RefreshFacts


@dataclass
class ByChanges:
    """Makes versions out of a base and what changed since."""

    catalog: Catalog
    storage: Storage
    settings: Settings
    reader: FileReader
    reserver: Reserver

    def refresh(
        self,
        table: Table,
        base: Version,
        changed: Changed,
        reading: Reading,
        sequence: SequenceNumber,
        close: Callable[[], None],
        require: Callable[[int], None],
        *,
        audit: bool,
    ) -> Refreshed:
        """Make the version that a full read in the snapshot of `reading` would make.

        Args:
            table: which.
            base: its version.
            changed: what the source says.
            reading: of the source.
            sequence: taken before it was opened.
            close: lets go of the source, as soon as it is not needed any more.
            require: refuses a version of so many rows, if it does.
            audit: whether to read the source whole besides, and compare.

        Raises:
            NotMergedError: the table has to be read whole; the source is still open.
            BaseReplacedError: another refresh was faster.
            RefreshError, SourceError, StorageError
        """
        with self._merged(table, base, changed, reading) as (work, merged):
            made = _Made(table, base, changed, reading, sequence, merged, work, audited=audit)
            if audit and (drift := self._drift(made)):
                raise NotMergedError(f"an audit found that it is not what changes made of it: {drift}", drift)
            if merged.fingerprint == base.fingerprint:
                close()
                return self._kept(made)
            require(merged.rows)
            return self._written(made, close)

    def audit(self, table: Table, base: Version, changed: Changed, reading: Reading) -> str:
        """Compare the whole source with what changes make of a version, and publish nothing.

        Returns:
            What is different; empty if nothing is.

        Raises:
            NotMergedError: changes make nothing of it.
            RefreshError, SourceError, StorageError
        """
        with self._merged(table, base, changed, reading) as (work, merged):
            return self._drift(_Made(table, base, changed, reading, SequenceNumber(0), merged, work))

    def audit_same(self, table: Table, base: Version, reading: Reading) -> str:
        """As `audit`, of a version of which the source says that it still holds it."""
        with (
            self.catalog.leases.held(self.settings.reader_lease),
            self._directory() as directory,
            self.reader.stored() as duck,
        ):
            held = scan(duck, self.storage.location(base.files[0].path))
            hashes = row_hashes(held, base.columns)
            rows, sums = reading.sums(hashes)
            if fingerprint(held, base.columns, rows, sums) == base.fingerprint:
                return ""
            whole, names = _new(directory / "whole.parquet"), [column.name for column in base.columns]
            reading.write_keys(whole, names)
            shown = table.primary_key if table.primary_key and {*table.primary_key} <= {*names} else names
            keys = differences(duck, live_rows(base.files, self.storage.location), whole, hashes, shown)
            return f"{rows} rows there, {base.rows} here; different are {'; '.join(keys)}"

    @contextmanager
    def _merged(
        self, table: Table, base: Version, changed: Changed, reading: Reading
    ) -> Iterator[tuple[Merge, Merged]]:
        """The merge of what changed into a base, which is held until the block ends."""
        with (
            self.catalog.leases.held(self.settings.reader_lease),
            self._directory() as directory,
            self.reader.stored() as duck,
        ):
            came = _new(directory / "came.parquet")
            rows = reading.write_changes(came, about(reading))
            keys = KeysOf(reading, changed.key, directory / "keys.parquet")
            locate, fold_below = self.storage.location, self.settings.fold_below
            work = Merge(table.ref, duck, locate, base, came, rows, changed, keys, fold_below)
            yield work, merge(work)

    def _drift(self, made: _Made) -> str:
        """What the whole source has that changes did not make, in words; empty if it is the same."""
        work, merged, base = made.work, made.merged, made.base
        rows, sums = made.reading.sums(work.hashes())
        held = scan(work.duck, str(work.came))
        if fingerprint(held, base.columns, rows, sums) == merged.fingerprint:
            return ""
        whole = _new(work.came.with_name("whole.parquet"))
        made.reading.write_keys(whole, [column.name for column in base.columns])
        keys = work.differences(merged, whole, made.changed.key)
        return f"{rows} rows there, {merged.rows} here; different are {'; '.join(keys)}"

    @contextmanager
    def _directory(self) -> Iterator[Path]:
        directory = private_directory(self.settings.duckdb_config)
        directory.mkdir(mode=0o700)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _kept(self, made: _Made) -> Refreshed:
        """Keep the base: nothing that it shows has changed."""
        facts = made.facts(0, len(made.base.files))
        nothing = Reservation(made.table, made.base.id, (), made.sequence, utc_now())
        recipe, position = made.reading.recipe, made.reading.position
        trusts = made.changed.trusts or made.base.trusts
        if not self.catalog.publications.keep(nothing, made.base, recipe, utc_now(), position, facts, trusts=trusts):
            raise BaseReplacedError(f"{made.table.ref}: another refresh has replaced its version meanwhile")
        return Refreshed(made.base, facts)

    def _written(self, made: _Made, close: Callable[[], None]) -> Refreshed:
        table, version_id, started = made.table, new_id(), utc_now()
        path = version_path(table.connection_id, table.schema_name, table.table_name, version_id)
        new = [path] if made.needs_data_file else []
        losing = [kept for kept in made.merged.kept if kept.gone]
        deletes = {kept.number: deletes_path(path, number) for number, kept in enumerate(losing)}
        with self.reserver.reserved(table, version_id, [*new, *deletes.values()], made.sequence) as reservation:
            data = [self._data_file(made, each, reservation) for each in new]
            # From here on the source is not needed.
            close()
            files: list[DataFile] = []
            for kept in made.merged.kept:
                if kept.gone and (data or files):
                    hit("between_files")
                files.append(self._with_deletes(made, kept, deletes.get(kept.number)))
            now = utc_now()
            version = Version(
                id=version_id,
                files=(*files, *data),
                rows=made.merged.rows,
                columns=tuple(made.reading.columns),
                fingerprint=made.merged.fingerprint,
                recipe=made.reading.recipe,
                created_at=now,
                duration_ms=max(0, round((now - started).total_seconds() * 1000)),
                position=made.reading.position,
                hashed_by=duckdb.__version__,
                trusts=made.changed.trusts or made.base.trusts,
            )
            added = sum(file.bytes for file in data) + sum(
                file.deletes.bytes for file in files if file.deletes and file.deletes.path in reservation.paths
            )
            facts = made.facts(added, len(version.files))
            publication = Publication(reservation, version, made.base, facts)
            self.catalog.publications.publish([publication], now + self.settings.grace_period)
            return Refreshed(version, facts)

    def _data_file(self, made: _Made, path: str, reservation: Reservation) -> DataFile:
        """The new data file: the rows that came, and those that are folded.

        Raises:
            NotMergedError: what is folded is not what was written once.
        """
        merged, local = made.merged, self.storage.prepare(path)
        self.reserver.renew_if_old(reservation)
        if merged.select is None:
            shutil.copyfile(made.work.came, local)
        else:
            self._copy(made, merged.select, local)
            hit("after_fold")
        with self.reader.local() as duck:
            ref, columns = made.table.ref, tuple(made.reading.columns)
            written = read_back(ref, columns, count_rows(local), local, duck)
        if (written.rows, written.sums) != (merged.new_rows, merged.new_sums):
            raise NotMergedError("a file of its version does not hold what was written into it")
        hit("after_close")
        self.storage.finalize(path)
        return DataFile(path, written.rows, written.bytes, written.sums)

    def _copy(self, made: _Made, select: str, local: Path) -> None:
        kept = ", ".join(f"{name}: {literal(value)}" for name, value in about(made.reading).items())
        try:
            made.work.duck.execute(
                f"COPY ({select}) TO {literal(str(local))} (FORMAT parquet, COMPRESSION zstd, "
                f"COMPRESSION_LEVEL {COMPRESSION_LEVEL}, PARQUET_VERSION V1, ROW_GROUP_SIZE {ROW_GROUP_SIZE}, "
                f"USE_TMP_FILE false, KV_METADATA {{{kept}}})"
            )
        except duckdb.Error as error:
            raise NotMergedError(f"its version can't be read: {str(error).splitlines()[0]}") from error

    def _with_deletes(self, made: _Made, kept: Kept, path: str | None) -> DataFile:
        """A data file of the base, with the deletes file that it has in the new version."""
        file, before = kept.file, kept.file.deletes
        if path is None:
            return file
        local = self.storage.prepare(path)
        rows = kept.gone + (before.rows if before else 0)
        try:
            # In the form of Iceberg's positional deletes.
            made.work.duck.execute(
                f"COPY (SELECT {literal(self.storage.location(file.path))} AS file_path, pos "
                f"FROM ({made.work.positions(kept)}) ORDER BY pos) TO {literal(str(local))} "
                f"(FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false)"
            )
        except duckdb.Error as error:
            raise StorageError(f"{made.table.ref}: its deletes file can't be written: {error}") from error
        if (found := count_rows(local)) != rows:
            raise StorageError(f"{made.table.ref}: {rows} deletes were to be written, but the file has {found}")
        size = local.stat().st_size
        self.storage.finalize(path)
        hit("after_deletes_file")
        sums = kept.sums if before is None or before.sums is None else before.sums + kept.sums
        return replace(file, deletes=DeletesFile(path, rows, size, sums))


def _new(file: Path) -> Path:
    file.touch(mode=0o600)
    return file


@dataclass(frozen=True)
class _Made:
    """All that a version is made of."""

    table: Table
    base: Version
    changed: Changed
    reading: Reading
    sequence: SequenceNumber
    merged: Merged
    work: Merge
    audited: bool = False

    @property
    def needs_data_file(self) -> bool:
        """Whether there are new rows, or no rows at all."""
        return bool(self.merged.new_rows) or not self.merged.kept

    def facts(self, bytes_written: int, files: int) -> RefreshFacts:
        """What is to be said of it."""
        merged = self.merged
        return RefreshFacts(
            mode="changes",
            rows_read=merged.rows_read + (merged.rows if self.audited else 0),
            rows_inserted=merged.inserted,
            rows_updated=merged.updated,
            rows_deleted=merged.deleted,
            bytes_written=bytes_written,
            files=files,
            rows_folded=merged.folded if bytes_written else 0,
            audited=self.audited,
        )

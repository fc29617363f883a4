"""What a refresh did: how a table was read and why, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

__all__ = ["Mode", "RefreshFacts"]

Mode = Literal["full", "changes", "unchanged"]


@dataclass(frozen=True, slots=True)
class RefreshFacts:
    """How a table was refreshed last.

    Attributes:
        mode: `full`, the whole table was read; `changes`, only rows that may have changed; `unchanged`, the source
            proved that nothing did.
        reason: why it was read whole; empty if it was not.
        rows_read: rows, and keys, that came from the source.
        rows_inserted: new rows in the version; None where a full refresh does not know.
        rows_updated: rows with other values than before; None where that is not known.
        rows_deleted: rows that are gone; None where that is not known.
        bytes_written: of new files.
        files: data files of the version.
        rows_folded: rows that were written again without reading the source.
        audited: whether the whole source was compared with what changes make of the version.
        drift: why they were not the same, with keys of rows that differ; empty if they were.
    """

    mode: Mode
    reason: str = ""
    rows_read: int = 0
    rows_inserted: int | None = None
    rows_updated: int | None = None
    rows_deleted: int | None = None
    bytes_written: int = 0
    files: int = 1
    rows_folded: int = 0
    audited: bool = False
    drift: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the catalog keeps it, and as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> RefreshFacts:
        """From what the catalog keeps, of an earlier or later release too."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in kept.items() if name in names})

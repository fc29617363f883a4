"""Columns, as a source has them and as a version has them, and what is different between two lists of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["SourceColumn", "VersionColumn", "schema_changes"]


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column as the source has it. What a dialect needs to read it is in a subclass of the dialect's own.

    Attributes:
        name: to the letter.
        type: in the words of the source.
        nullable: False where the source promises NOT NULL.
        comment: the source's own.
    """

    name: str
    type: str
    nullable: bool = True
    comment: str | None = None

    @property
    def described(self) -> str:
        """Its type and whether it may be NULL, in the words of the source."""
        return _described(self.type, nullable=self.nullable)

    def to_dict(self) -> dict[str, Any]:
        """As the catalog keeps it; at a thirtieth of the time of `dataclasses.asdict`."""
        return {"name": self.name, "type": self.type, "nullable": self.nullable, "comment": self.comment}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> SourceColumn:
        """From what the catalog keeps."""
        return cls(kept["name"], kept["type"], kept["nullable"], kept["comment"])


@dataclass(frozen=True, slots=True)
class VersionColumn:
    """A column as a version's files have it.

    Attributes:
        name: to the letter.
        type: in DuckDB's words.
        nullable: False where no value is NULL.
        comment: the source's own.
        source_type: the source's type, where it differs from the file's.
        declared: what is different in the file, if anything is.
        mask: what hides its values, if anything does.
    """

    name: str
    type: str
    nullable: bool = True
    comment: str | None = None
    source_type: str | None = None
    declared: str | None = None
    mask: str | None = None

    @property
    def described(self) -> str:
        """Its type in the source, whether it may be NULL, and its mask."""
        masked = f" masked by {self.mask}" if self.mask else ""
        return _described(self.source_type or self.type, nullable=self.nullable) + masked

    @property
    def remark(self) -> str | None:
        """What a reader should know of its values: that they are masked, or what is different from the source's."""
        return f"masked: {self.mask}" if self.mask else self.declared

    def to_dict(self) -> dict[str, Any]:
        """As the catalog keeps it."""
        return {
            "name": self.name,
            "type": self.type,
            "nullable": self.nullable,
            "comment": self.comment,
            "source_type": self.source_type,
            "declared": self.declared,
            "mask": self.mask,
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> VersionColumn:
        """From what the catalog keeps."""
        return cls(**kept)


class _Column(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def described(self) -> str: ...


def schema_changes(before: Sequence[_Column], after: Sequence[_Column]) -> tuple[str, ...]:
    """What is different between two column lists, in words, by name; comments do not count.

    >>> schema_changes([SourceColumn("a", "INTEGER")], [SourceColumn("a", "BIGINT"), SourceColumn("b", "DATE")])
    ('a: INTEGER is now BIGINT', 'b: new (DATE)')
    """
    old = {column.name: column.described for column in before}
    new = {column.name: column.described for column in after}
    changes = [f"{name}: gone" for name in old if name not in new]
    for name, described in new.items():
        if name not in old:
            changes.append(f"{name}: new ({described})")
        elif old[name] != described:
            changes.append(f"{name}: {old[name]} is now {described}")
    if not changes and list(old) != list(new):
        changes.append("the order of the columns")
    return tuple(changes)


def _described(type_: str, *, nullable: bool) -> str:
    return type_ if nullable else f"{type_} NOT NULL"

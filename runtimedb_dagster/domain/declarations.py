"""Connections that are declared in a project's files, and what came of bringing the catalog in step with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Declaration", "Declared"]


@dataclass(frozen=True)
class Declaration:
    """A connection as it is to be.

    Attributes:
        url: such as `postgresql://reader@db/shop`; never with a password in it.
        options: all that are set, as the catalog keeps them.
        password_env: the environment variable that holds its password.
    """

    name: str
    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    password_env: str | None = None


@dataclass(frozen=True)
class Declared:
    """What was done so that the catalog has what is declared; names of connections.

    Attributes:
        added: that the catalog did not have.
        changed: whose URL, options or variable are others now, or that had been registered by hand.
        released: no longer declared, and left as they are.
        removed: no longer declared, and forgotten with their versions.
    """

    added: Sequence[str] = ()
    changed: Sequence[str] = ()
    released: Sequence[str] = ()
    removed: Sequence[str] = ()

    def __bool__(self) -> bool:
        """Whether anything was done."""
        return bool(self.added or self.changed or self.released or self.removed)

    def __str__(self) -> str:
        """In a line."""
        done = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        left = f"no longer declared, and left as it is: {', '.join(self.released)}" if self.released else ""
        return "; ".join([*(f"{word} {', '.join(names)}" for word, names in done if names), *filter(None, [left])])

"""The command `runtimedb` in this process, through its own entry point: what starting an interpreter shows is left out.

What only a process shows (signals, a terminal, an encoding, what is installed) starts one, from `COMMAND`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
from click.testing import CliRunner

from runtimedb_dagster.cli.main import main

__all__ = ["COMMAND", "Ran", "run_command"]

COMMAND = Path(sys.executable).with_name("runtimedb")


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class _EntryPoint(click.Command):
    """The entry point as click's runner calls it; what it sets up for its process is taken back."""

    def main(self, *_: Any, **given: Any) -> Any:
        ours, root = logging.getLogger("runtimedb_dagster"), logging.getLogger()
        handlers = list(ours.handlers), list(root.handlers)
        try:
            with mock.patch.object(sys, "argv", ["runtimedb", *given["args"]]):
                main()
        finally:
            ours.handlers[:], root.handlers[:] = handlers


def run_command(*arguments: object, env: Mapping[str, str | None]) -> Ran:
    """Run the command with pipes for everything; a variable that is None is unset."""
    done = CliRunner(env=env).invoke(_EntryPoint("runtimedb"), [*map(str, arguments)], catch_exceptions=False)
    return Ran(done.exit_code, done.stdout, done.stderr)

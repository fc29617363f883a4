"""The entry point of the command `runtimedb`: what an error looks like, and which status it has."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

import click
import duckdb

from runtimedb_dagster.cli import terminal
from runtimedb_dagster.cli.commands import cli
from runtimedb_dagster.common.redaction import redactor
from runtimedb_dagster.domain.errors import RuntimeDBError

__all__ = ["main"]


def main() -> None:
    """Run the command; an error is one line and exit status 1, a traceback only with --debug."""
    terminal.take_any_encoding()
    if "--debug" not in sys.argv:
        terminal.show_warnings()
    try:
        status = cli(standalone_mode=False)
    except click.ClickException as error:
        terminal.show_error(error.format_message())
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _interrupted()
    except (RuntimeDBError, duckdb.Error) as error:
        if "--debug" in sys.argv:
            _show_traceback()
        else:
            terminal.show_error(_hide(str(error)))
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - shown, without secrets, as Python would
        # Python's interrupt comes out of DuckDB as the cause of an error of no kind.
        if isinstance(error.__cause__, KeyboardInterrupt):
            _interrupted()
        _show_traceback()
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _interrupted() -> NoReturn:
    terminal.show_error("Interrupted")
    sys.exit(130)


def _show_traceback() -> None:
    sys.stderr.write(_hide(traceback.format_exc()))


def _hide(text: str) -> str:
    """A text without the secrets of the URLs that this process was given."""
    return redactor(os.environ.get("RUNTIMEDB_CATALOG_URL"), *(word for word in sys.argv if ":" in word))(text)

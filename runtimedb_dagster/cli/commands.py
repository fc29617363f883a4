"""The command `runtimedb`: everything the façade can do, for a terminal or a script."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from runtimedb_dagster import __version__
from runtimedb_dagster.catalog import catalog_is_there
from runtimedb_dagster.cli import rows, terminal
from runtimedb_dagster.cli.addresses import addressed
from runtimedb_dagster.cli.webserver import failure, follow, launch, show_connection
from runtimedb_dagster.common.redaction import shown as shown_url
from runtimedb_dagster.common.words import counted
from runtimedb_dagster.domain.errors import ConfigurationError, RequestError
from runtimedb_dagster.domain.names import REFRESH_JOB
from runtimedb_dagster.domain.outcomes import Progress, Waiting
from runtimedb_dagster.domain.requests import RefreshRequest
from runtimedb_dagster.domain.settings import Settings
from runtimedb_dagster.engine.facade import RuntimeDB

__all__ = ["cli"]

logger = logging.getLogger(__name__)

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
confirm_option = click.option("--confirm", is_flag=True, help="Go on even if most tables would be removed.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--home", type=click.Path(path_type=Path), help="Directory of all that is kept (RUNTIMEDB_HOME).")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(context: click.Context, home: Path | None, debug: bool) -> None:
    """Query remote databases as if they were local."""
    context.obj = lambda: Settings(**({"home": home} if home else {}))
    context.meta["debug"] = debug


def _open(make_settings: Callable[[], Settings], *, must_exist: bool = True) -> Any:
    settings = make_settings()
    if must_exist and not catalog_is_there(settings.catalog_url):
        raise ConfigurationError(
            f"There is no RuntimeDB at {settings.home}: `runtimedb connect` makes one, and RUNTIMEDB_HOME or --home "
            "names another directory"
        )
    return closing(RuntimeDB(settings))


@cli.command()
@click.argument("name")
@click.argument("url")
@click.option("--password-env", metavar="VAR", help="Environment variable that holds the password.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the source; repeatable.")
@click.option("--webserver", metavar="URL", help="Have this dagster-webserver reload, so that the connection shows.")
@as_json_option
@click.pass_obj
def connect(
    settings: Callable[[], Settings],
    name: str,
    url: str,
    password_env: str | None,
    options: tuple[str, ...],
    webserver: str | None,
    as_json: bool,
) -> None:
    """Register a remote database under NAME and discover its tables."""
    with _open(settings, must_exist=False) as db:
        connection = db.connect(name, url, options=_pairs(options), password_env=password_env)
        tables = db.tables(connection.id)
    if not as_json:
        terminal.say(f"Connected '{name}': {counted(len(tables), 'table')} discovered, none cached yet")
    shown = show_connection(webserver, db.settings.asset_prefix, name) if webserver else []
    if as_json:
        terminal.print_json(terminal.connection_dict(connection) | {"tables": len(tables), "shown_in": shown})
        return
    if shown:
        terminal.say(
            f"{', '.join(shown)} at {shown_url(webserver or '')} shows it; "
            "its partitions come with the sensor's next tick"
        )
    terminal.say(f"Next: runtimedb refresh {name} --data")


@cli.command()
@click.argument("connection")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Set an option; repeatable.")
@click.option("--unset", multiple=True, metavar="KEY", help="Take an option back; repeatable.")
@click.option("--password-env", metavar="VAR", help="Another environment variable that holds the password.")
@click.option("--webserver", metavar="URL", help="Have this dagster-webserver reload, so that it shows.")
@as_json_option
@click.pass_obj
def configure(
    settings: Callable[[], Settings],
    connection: str,
    options: tuple[str, ...],
    unset: tuple[str, ...],
    password_env: str | None,
    webserver: str | None,
    as_json: bool,
) -> None:
    """Change options of CONNECTION; Dagster shows it after its code location reloads."""
    with _open(settings) as db:
        result = db.configure(connection, options=_pairs(options), unset=unset, password_env=password_env)
    changed, modified = result.connection, [str(ref) for ref in result.tables_modified]
    if webserver:
        show_connection(webserver, db.settings.asset_prefix, changed.name)
    if as_json:
        terminal.print_json(terminal.connection_dict(changed) | {"tables_modified": modified})
        return
    set_to = ", ".join(f"{name}={value}" for name, value in changed.given.items()) or "all defaults"
    terminal.say(f"Options of '{changed.name}': {set_to}")
    if modified:
        terminal.say(f"Modified until refreshed: {', '.join(modified)}\nNext: runtimedb refresh {changed.name} --data")


@cli.command()
@as_json_option
@click.pass_obj
def connections(settings: Callable[[], Settings], as_json: bool) -> None:
    """List the connections."""
    with _open(settings) as db:
        found = db.connections()
    terminal.show_connections(found, as_json=as_json)


@cli.command()
@click.argument("connection", required=False)
@as_json_option
@click.pass_obj
def tables(settings: Callable[[], Settings], connection: str | None, as_json: bool) -> None:
    """List the tables of CONNECTION, or all."""
    with _open(settings) as db:
        found = db.tables(connection)
    terminal.show_tables(found, as_json=as_json)


@cli.command()
@click.argument("connection", required=False)
@click.argument("schema_name", required=False)
@click.argument("table_name", required=False)
@click.option("--data", is_flag=True, help="Make new versions, instead of discovering tables.")
@click.option("--only-cached", is_flag=True, help="Leave out tables that have no version yet.")
@click.option("--key", "keys", multiple=True, help="With --data: only the table of this partition key; repeatable.")
@click.option("--full", is_flag=True, help="With --data: keep no version whose file, read whole, is not as it was.")
@click.option("--webserver", metavar="URL", help="Launch it as a Dagster run through this dagster-webserver.")
@confirm_option
@as_json_option
@click.pass_obj
def refresh(
    settings: Callable[[], Settings],
    connection: str | None,
    schema_name: str | None,
    table_name: str | None,
    data: bool,
    only_cached: bool,
    keys: tuple[str, ...],
    full: bool,
    webserver: str | None,
    confirm: bool,
    as_json: bool,
) -> int:
    """Discover tables or, with --data, make new versions of CONNECTION's tables or of one.

    A table is named by three words, or by one: CONNECTION.SCHEMA.TABLE.
    """
    connection, schema_name, table_name = addressed(connection, schema_name, table_name)
    request = RefreshRequest(
        connection, schema_name, table_name, data=data, include_uncached=not only_cached, partition_keys=keys, full=full
    )
    with terminal.progress(connection or "all") as progress:
        if webserver:
            result = _refresh_remotely(webserver, settings().asset_prefix, request, confirm, progress)
        else:
            with _open(settings) as db:
                result = _refresh(db, request, confirm, progress)
    terminal.show_result(result, as_json=as_json)
    return 1 if result.get("errors") else 0


def _refresh(db: RuntimeDB, request: RefreshRequest, confirm: bool, progress: terminal.ShowProgress) -> dict[str, Any]:
    """The result of a request that this process carries out."""
    request.validate()
    if not request.data:
        return db.discover(request.connection, confirm=confirm).to_dict()
    started, outcomes = perf_counter(), []
    for event in db.events(request, confirm=confirm):
        match event:
            case Progress():
                progress(event)
            case Waiting():
                logger.info("%s", event)
            case _:
                outcomes.append(event)
    return db.result_of(request, outcomes, started).to_dict()


def _refresh_remotely(
    url: str, asset_prefix: str, request: RefreshRequest, confirm: bool, progress: terminal.ShowProgress
) -> dict[str, Any]:
    """The result of a request that a Dagster run carries out."""
    request.validate()
    config = {name: value for name, value in asdict(request).items() if value is not None} | {"confirm": confirm}
    run_id = launch(url, asset_prefix, REFRESH_JOB, config)
    for state in follow(url, run_id):
        progress(Progress(state.tables, None, state.rows))
    if state.result is None:
        raise RequestError(failure(url, run_id))
    return state.result


@cli.command()
@click.argument("sql", required=False)
@click.option("--fetch-missing", is_flag=True, help="Refresh tables that have no version yet.")
@click.option(
    "--file", "-f", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the SELECT from it."
)
@click.option(
    "--format", "form", type=click.Choice(rows.FORMATS), help="Of the rows (default: table, or FILE's ending)."
)
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows into this new file."
)
@click.option("--limit", type=click.IntRange(min=0), help="Rows, 0 for all (default: 40 on a terminal, else all).")
@as_json_option
@click.pass_obj
def query(
    settings: Callable[[], Settings],
    sql: str | None,
    fetch_missing: bool,
    file: Path | None,
    form: rows.Format | None,
    output: Path | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Run one SELECT over connection.schema.table; `-` reads it from standard input."""
    if (sql is None) == (file is None):
        raise RequestError("query takes a SELECT, `-` for standard input, or --file")
    statement = _text(file) if file else sys.stdin.read() if sql == "-" else str(sql)
    if as_json:
        form = "json"
    with _open(settings) as db, db.query(fetch_missing=fetch_missing) as reader:
        result = reader.sql(statement)
        if output is None:
            rows.show(result, form or "table", limit)
        else:
            rows.write(result, output, form, limit)


@cli.command()
@click.argument("address", nargs=-1, required=True, metavar="TABLE")
@as_json_option
@click.pass_obj
def files(settings: Callable[[], Settings], address: tuple[str, ...], as_json: bool) -> None:
    """List the files that a table's version is made of; TABLE is CONNECTION.SCHEMA.TABLE, or three words."""
    connection, schema_name, table_name = _table(address)
    with _open(settings) as db:
        version, locations = db.files(connection, schema_name, table_name)
    terminal.show_files(version, locations, as_json=as_json)


@cli.command()
@click.argument("address", nargs=-1, required=True, metavar="TABLE")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@as_json_option
@click.pass_obj
def export(settings: Callable[[], Settings], address: tuple[str, ...], file: Path, as_json: bool) -> None:
    """Write a table's version into FILE, as one plain Parquet file; TABLE as for `files`."""
    connection, schema_name, table_name = _table(address)
    with _open(settings) as db:
        exported = db.export(connection, schema_name, table_name, file)
    terminal.show_result({"file": str(file), "rows": exported}, as_json=as_json)


@cli.command()
@as_json_option
@click.pass_obj
def sweep(settings: Callable[[], Settings], as_json: bool) -> int:
    """Delete the files whose pending deletion is due."""
    with _open(settings) as db:
        result = db.sweep()
    terminal.show_result(result.to_dict(), as_json=as_json)
    return 1 if result.errors else 0


@cli.command()
@click.option("--deep", is_flag=True, help="Read every version whole, and compare its content with what was written.")
@click.option(
    "--source", metavar="CONNECTION", help="Audit: read its tables whole, and compare them with their versions."
)
@click.argument("schema_name", required=False)
@click.argument("table_name", required=False)
@as_json_option
@click.pass_obj
def verify(
    settings: Callable[[], Settings],
    deep: bool,
    source: str | None,
    schema_name: str | None,
    table_name: str | None,
    as_json: bool,
) -> int:
    """Check that nothing is lost, torn or left over; exit status 1 if something is.

    With --source, compare tables (all that have a version, or SCHEMA_NAME TABLE_NAME) with what their source holds.
    """
    if schema_name and not source:
        raise RequestError("verify takes a table with --source only")
    source, schema_name, table_name = addressed(source, schema_name, table_name)
    with _open(settings) as db:
        if source:
            audited = db.audit(source, schema_name, table_name)
            terminal.show_audit(audited, as_json=as_json)
            return 0 if all(each.good for each in audited) else 1
        findings = db.verify(deep=deep)
    terminal.show_findings(findings, as_json=as_json)
    return 1 if findings else 0


@cli.command()
@click.argument("connection")
@as_json_option
@click.pass_obj
def check(settings: Callable[[], Settings], connection: str, as_json: bool) -> int:
    """Ask whether CONNECTION's source answers, and how fast."""
    with _open(settings) as db:
        result = db.check(connection)
    terminal.show_result(result.to_dict(), as_json=as_json)
    return 0 if result.healthy else 1


@cli.command()
@click.argument("connection")
@click.argument("schema_name", required=False)
@click.argument("table_name", required=False)
@yes_option
@as_json_option
@click.pass_obj
def purge(
    settings: Callable[[], Settings],
    connection: str,
    schema_name: str | None,
    table_name: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget the data of CONNECTION, or of one table, and keep the tables."""
    of, schema_name, table_name = addressed(connection, schema_name, table_name)
    with _open(settings) as db:
        terminal.ask(f"Forget the versions of {'.'.join(filter(None, (of, schema_name, table_name)))}?", yes)
        result = db.purge(of or connection, schema_name, table_name)
    terminal.show_result(result.to_dict(), as_json=as_json)


@cli.command()
@click.argument("connection")
@yes_option
@as_json_option
@click.pass_obj
def remove(settings: Callable[[], Settings], connection: str, yes: bool, as_json: bool) -> None:
    """Forget CONNECTION with its tables and versions."""
    with _open(settings) as db:
        terminal.ask(f"Forget the connection {connection} with all its versions?", yes)
        result = db.remove(connection)
    terminal.show_result(result.to_dict(), as_json=as_json)


@cli.command()
@click.option("--from", "source", metavar="URL", help="Copy the catalog at URL into the one of the settings.")
@as_json_option
@click.pass_obj
def migrate(settings: Callable[[], Settings], source: str | None, as_json: bool) -> None:
    """Bring the catalog's database up to date, as every command does; with --from, move a catalog into it."""
    with _open(settings, must_exist=False) as db:
        copied = db.copy_catalog(source) if source else {}
    if as_json:
        terminal.print_json({"copied": copied})
        return
    terminal.say("The catalog is up to date")
    for table, copies in copied.items():
        terminal.say(f"{table}: {counted(copies, 'row')} copied")


@cli.command()
@yes_option
@click.pass_obj
def adopt(settings: Callable[[], Settings], yes: bool) -> None:
    """Take over the storage, when it belonged to another catalog that does not use it any more."""
    with _open(settings) as db:
        storage = db.settings.storage_url.partition("?")[0]
        terminal.ask(f"Does no other catalog use {storage}?", yes)
        db.adopt_storage()
        terminal.say(f"The storage is this catalog's: {storage}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file} can't be read as UTF-8 text: {error}") from error


def _table(address: tuple[str, ...]) -> tuple[str, str, str]:
    """The address of one table, of one word or three.

    Raises:
        RequestError: it is none.
    """
    connection, schema_name, table_name = addressed(*address) if len(address) in (1, 3) else (None, None, None)
    if not (connection and schema_name and table_name):
        raise RequestError(
            f"'{' '.join(address)}' is no table's address: that is CONNECTION.SCHEMA.TABLE, or three words"
        )
    return connection, schema_name, table_name


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(option.partition("=")[::2] for option in options)
    for option in options:
        if "=" not in option:
            raise ConfigurationError(f"The option '{option}' is not of the form KEY=VALUE")
    return pairs

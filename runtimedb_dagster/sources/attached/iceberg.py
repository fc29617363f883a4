"""Iceberg tables of a REST catalog, `iceberg+https://client@host/warehouse`, or of AWS Glue, `iceberg+glue://key@account`.

The connection's password is the OAuth2 client secret of the URL's user, a bearer token if the URL has no user, and for
Glue the secret access key of the key that is the URL's user. A transaction of DuckDB keeps the metadata of a table that
it has loaded once, so a reading sees one snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import duckdb
from pydantic import Field

from runtimedb_dagster.common.duck import first_line
from runtimedb_dagster.common.sql import create_secret, identifier, literal, qualified
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.names import TableRef
from runtimedb_dagster.domain.tables import DiscoveredTable
from runtimedb_dagster.domain.versions import Position
from runtimedb_dagster.sources.attached.dialect import PlainDialect, Relation, Scan, TableIsGone, described
from runtimedb_dagster.sources.attached.s3 import S3Options, create_s3_secret, s3_key
from runtimedb_dagster.sources.attached.watch import Peer, address_of
from runtimedb_dagster.sources.base import Base, State
from runtimedb_dagster.sources.secrets import redactor
from runtimedb_dagster.sources.url import SourceUrl

__all__ = ["Iceberg", "IcebergOptions"]

ALIAS = "iceberg"
GLUE = "iceberg+glue"
# Loading a table is waiting for the catalog.
LOADED_AT_A_TIME = 8
# As some writers say that a table has none.
NO_SNAPSHOT = -1


class IcebergOptions(S3Options):
    """What is particular to an Iceberg catalog."""

    base_path: str = Field(default="", description="path of the catalog on its host, such as `/api/catalog`")
    oauth2_server_uri: str | None = Field(
        default=None, description="URL that hands out tokens, where that is not the catalog"
    )
    oauth2_scope: str | None = Field(default=None, description="scope to ask a token for")
    nested_namespaces: bool = Field(default=False, description="true: list namespaces within namespaces too")


class Iceberg(PlainDialect):
    """The dialect of an Iceberg catalog."""

    options = IcebergOptions
    # `iceberg` needs the two others, and would fetch them from the network.
    extensions: Sequence[str] = ("avro", "httpfs", "iceberg")
    # What `_read_manifests` has read is not asked for again.
    config: Mapping[str, Any] = {"enable_external_file_cache": True}

    def __init__(self, url: SourceUrl, options: IcebergOptions, password: str | None) -> None:
        """Speak with the catalog that `url` names."""
        self._url = url
        self._options = options
        self._password = password

    def attach(self, duck: duckdb.DuckDBPyConnection) -> str:
        """Attach by temporary secrets: a failing ATTACH repeats its own text."""
        for statement in self.statements():
            duck.execute(statement)
        # Its entries may be of writers whose clocks are ahead; the current one is known.
        duck.execute("SET GLOBAL iceberg_use_metadata_log = false")
        return ALIAS

    def statements(self) -> list[str]:
        """What attaches the catalog: its secret, that of the data files, and ATTACH, which holds neither."""
        if self._url.user and not self._password:
            raise duckdb.InvalidInputException(f"the URL names the user {self._url.user}, but no password is set")
        if self._url.scheme == GLUE:
            return [self._glue_secret(), self._attach(_warehouse(self._url), "SECRET source, ENDPOINT_TYPE 'glue'")]
        statements = [self._catalog_secret()] if self._password else []
        if self._options.s3_key_id:
            statements.append(create_s3_secret(self._options))
        return [*statements, self._attach(self._url.path, self._rest_parameters())]

    def peer(self) -> Peer | None:
        """The catalog, who hands out its tokens, and the store, where it is known.

        DuckDB ends each request, and its three repetitions, by itself, after 30 seconds each.
        """
        if self._url.scheme == GLUE:
            return None
        urls = (self._endpoint(), self._options.oauth2_server_uri, self._options.s3_endpoint)
        return Peer(tuple(address for url in urls for address in address_of(url)), hello=None)

    def _attach(self, warehouse: str, parameters: str) -> str:
        return f"ATTACH {literal(warehouse)} AS {ALIAS} (TYPE iceberg, READ_ONLY, {parameters})"

    def _rest_parameters(self) -> str:
        return ", ".join(
            [
                f"ENDPOINT {literal(self._endpoint())}",
                "SECRET source" if self._password else "AUTHORIZATION_TYPE 'none'",
                *(["ACCESS_DELEGATION_MODE 'none'"] if self._options.s3_key_id else []),
                *(["SUPPORT_NESTED_NAMESPACES true"] if self._options.nested_namespaces else []),
                *([f"DEFAULT_REGION {literal(self._options.s3_region)}"] if self._options.s3_region else []),
            ]
        )

    def _endpoint(self) -> str:
        host = f"[{self._url.host}]" if ":" in (self._url.host or "") else self._url.host
        port = f":{self._url.port}" if self._url.port else ""
        base = self._options.base_path.strip("/")
        return f"{self._url.scheme.removeprefix('iceberg+')}://{host}{port}{base and '/'}{base}"

    def _catalog_secret(self) -> str:
        if not self._url.user:
            return f"CREATE TEMPORARY SECRET source (TYPE iceberg, TOKEN {literal(self._password or '')})"
        return create_secret(
            "source",
            "iceberg",
            CLIENT_ID=self._url.user,
            CLIENT_SECRET=self._password,
            OAUTH2_SERVER_URI=self._options.oauth2_server_uri or f"{self._endpoint()}/v1/oauth/tokens",
            OAUTH2_SCOPE=self._options.oauth2_scope,
        )

    def _glue_secret(self) -> str:
        return create_secret(
            "source", "s3", KEY_ID=self._url.user, SECRET=self._password, REGION=self._options.s3_region
        )

    def check(self, duck: duckdb.DuckDBPyConnection, alias: str) -> None:
        """List the namespaces."""
        _list(duck, f"SELECT count(*) FROM duckdb_schemas() WHERE database_name = {literal(alias)}")

    def options_of_rows(self) -> Mapping[str, str]:
        """Which catalog of the host it is."""
        return {"base_path": self._options.base_path} if self._options.base_path else {}

    def discover(self, duck: duckdb.DuckDBPyConnection, alias: str) -> list[DiscoveredTable]:
        """All tables, by a request for each namespace and two for each table."""
        listed = _list(
            duck,
            f"SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = {literal(alias)} ORDER BY ALL",
        )
        with ThreadPoolExecutor(LOADED_AT_A_TIME) as pool:
            found = pool.map(lambda names: self._load(duck, TableRef(alias, *names)), listed)
            return [table for table in found if table is not None]

    def _load(self, duck: duckdb.DuckDBPyConnection, ref: TableRef) -> DiscoveredTable | None:
        """A table; without columns if it is there but can't be loaded, None if it went meanwhile."""
        with duck.cursor() as aside:
            try:
                return _table(ref, _metadata(aside, ref.connection, ref))
            except duckdb.Error as error:
                if "does not exist" in str(error):
                    return None
                if self.is_transient(str(error)) or "Unauthorized_401" in str(error):
                    raise
                return DiscoveredTable(ref.schema_name, ref.table_name)

    def describe(self, duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Relation[SourceColumn]:
        """The table as of the snapshot that the transaction keeps from now on."""
        if '"' in ref.schema_name + ref.table_name:
            raise duckdb.InvalidInputException("DuckDB can't read an Iceberg table with a quotation mark in its name")
        try:
            metadata = _metadata(duck, alias, ref)
            schema = _schema(metadata)
            _read_manifests(duck, alias, ref, metadata)
            columns = described(duck, _scan(alias, ref), f"SELECT * FROM {_scan(alias, ref)}").columns
        except (TableIsGone, duckdb.Error) as error:
            message = first_line(str(error))
            if "does not exist" in message:
                raise TableIsGone(f" ({message})") from None
            if "already exists" in message:
                # Names of columns that differ by case only are an error of the catalog's, too.
                raise duckdb.InvalidInputException(f"DuckDB can't have such a table ({message.strip(' ()')})") from None
            raise
        fields = {field["name"]: field for field in schema.get("fields", ())}
        # The catalog was asked twice: a schema may have come in between.
        if [column.name for column in columns] != list(fields):
            raise duckdb.TransactionException(CHANGED)
        annotated = tuple(_annotated(column, fields[column.name]) for column in columns)
        return Relation(annotated, state=position_of(metadata))

    def position(self, scan: Scan[SourceColumn]) -> Position | None:
        """The table's snapshot and schema."""
        state: Position | None = scan.relation.state
        return state

    def states(
        self,
        duck: duckdb.DuckDBPyConnection,
        alias: str,
        bases: Mapping[TableRef, Base],
        wheres: Mapping[TableRef, str],  # noqa: ARG002 - as the others
        *,
        thorough: bool,  # noqa: ARG002
    ) -> Mapping[TableRef, State]:
        """By a request for each table, some at a time; nothing is asked of the object store."""

        def state(ref: TableRef) -> State | None:
            with duck.cursor() as aside:
                try:
                    position = position_of(_metadata(aside, alias, ref))
                except duckdb.Error:
                    return None
            same = position is not None and position == bases[ref].position
            return State(position) if position is not None and same else None

        with ThreadPoolExecutor(LOADED_AT_A_TIME) as pool:
            found = pool.map(state, bases)
            return {ref: each for ref, each in zip(bases, found, strict=True) if each is not None}

    def from_clause(self, scan: Scan[SourceColumn]) -> str:
        """The table's current snapshot, by the metadata file that the catalog names."""
        table = _scan(scan.alias, scan.ref)
        return table if scan.where is None else f"(SELECT * FROM {table} WHERE {scan.where})"

    def is_transient(self, error: str) -> bool:
        """A catalog that is unavailable, or has too much to do."""
        return TRANSIENT.search(error) is not None

    def explain(self, error: str) -> str:
        """DuckDB's message, and what to do where that is known."""
        message = redactor(s3_key(self._options))(first_line(error))
        for sign, advice in ADVICE.items():
            if sign in error:
                return f"{message}; {advice}"
        return message


def _warehouse(url: SourceUrl) -> str:
    """Glue's name of a catalog: the account, and within it a catalog that is not the account's own."""
    return f"{url.host or ''}:{url.path}" if url.path else url.host or ""


def _list(duck: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query that has the catalog list something.

    DuckDB takes a refusal (401, 403 or 404) for an empty list, which would look as if all tables had been dropped;
    what it logs of its requests tells the two apart.
    """
    duck.execute("CALL enable_logging('HTTP')")
    try:
        rows = duck.execute(query).fetchall()
        refused = duck.execute(REFUSED).fetchone()
    finally:
        duck.execute("CALL disable_logging(); CALL truncate_duckdb_logs()")  # it holds bearer tokens
    if refused:
        raise duckdb.HTTPException(f"the catalog answered {refused[1]} to {refused[0]}")
    return rows


def _metadata(duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef) -> Mapping[str, Any]:
    """A table's metadata as the catalog has it now; nothing is asked of the object store."""
    table = literal(qualified(alias, ref.schema_name, ref.table_name))
    row = duck.execute(f"SELECT metadata FROM iceberg_load_table_response({table})").fetchone()
    return row[0] if row else {}


def _read_manifests(duck: duckdb.DuckDBPyConnection, alias: str, ref: TableRef, metadata: Mapping[str, Any]) -> None:
    """Have DuckDB cache the snapshot's manifests.

    A scan reads them in the background, and one that can't be read there ends the process; here it is an error.
    """
    if metadata.get("current-snapshot-id", NO_SNAPSHOT) in (None, NO_SNAPSHOT):
        return
    table = literal(qualified(alias, ref.schema_name, ref.table_name))
    duck.execute(f"SELECT count(*) FROM iceberg_metadata({table})").fetchall()


def _table(ref: TableRef, metadata: Mapping[str, Any]) -> DiscoveredTable:
    schema = _schema(metadata)
    fields, keys = schema.get("fields", ()), schema.get("identifier-field-ids") or ()
    return DiscoveredTable(
        ref.schema_name,
        ref.table_name,
        columns=tuple(_annotated(SourceColumn(field["name"], _type(field["type"])), field) for field in fields),
        primary_key=tuple(field["name"] for key in keys for field in fields if field["id"] == key),
        comment=(metadata.get("properties") or {}).get("comment"),
        estimated_rows=_rows(metadata),
    )


def _scan(alias: str, ref: TableRef) -> str:
    """The table in a FROM clause.

    By its name alone, DuckDB would read the snapshot that is the latest by the clocks of the writers and this machine,
    and take ids of nested fields from the catalog's answer, which some catalogs make up.
    """
    return f"iceberg_scan({literal(qualified(alias, ref.schema_name, ref.table_name))})"


def _annotated(column: SourceColumn, field: Mapping[str, Any]) -> SourceColumn:
    """A column with what DuckDB leaves out of its description."""
    return replace(column, nullable=not field.get("required", False), comment=field.get("doc"))


def _type(given: str | Mapping[str, Any]) -> str:
    """A type in DuckDB's words; DESCRIBE would give it too, but reads the manifests of each table for it."""
    try:
        return str(duckdb.sqltype(_converted(given)))
    except duckdb.Error:
        return str(given)


def _converted(given: str | Mapping[str, Any]) -> str:
    # Of Iceberg's names, `fixed` alone is none of DuckDB's.
    if isinstance(given, str):
        return "BLOB" if given.startswith("fixed") else given
    if given["type"] == "list":
        return f"{_converted(given['element'])}[]"
    if given["type"] == "map":
        return f"MAP({_converted(given['key'])}, {_converted(given['value'])})"
    parts = [f"{identifier(field['name'])} {_converted(field['type'])}" for field in given["fields"]]
    return f"STRUCT({', '.join(parts)})"


def _schema(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    current = metadata.get("current-schema-id")
    return next((schema for schema in metadata.get("schemas", ()) if schema.get("schema-id") == current), {})


def position_of(metadata: Mapping[str, Any]) -> Position | None:
    """Which snapshot of which table metadata says is current; None if it does not say."""
    uuid, snapshot = metadata.get("table-uuid"), metadata.get("current-snapshot-id", NO_SNAPSHOT)
    if uuid is None:
        return None
    return {"by": "snapshot", "uuid": str(uuid), "snapshot": snapshot, "schema": metadata.get("current-schema-id")}


def _rows(metadata: Mapping[str, Any]) -> int | None:
    """The rows of the current snapshot, less those deleted by position; None if it does not count them."""
    current = metadata.get("current-snapshot-id")
    for snapshot in metadata.get("snapshots") or ():
        if snapshot["snapshot-id"] == current:
            summary = snapshot.get("summary", {})
            total = summary.get("total-records")
            return None if total is None else int(total) - int(summary.get("total-position-deletes", 0))
    return 0


CHANGED = "the table's schema changed while it was looked at; refresh it again"

# Listing ends in `/namespaces` or `/tables`; what reads at the same time asks for other things.
REFUSED = """
    SELECT request.url, response.status FROM duckdb_logs_parsed('HTTP')
    WHERE regexp_matches(request.url, '/(namespaces|tables)([?].*)?$') AND response.status <> 'OK_200' LIMIT 1
"""

# Statuses are written as `HTTP 503` and as `ServiceUnavailable_503`.
TRANSIENT = re.compile(
    r"schema changed while|Could not connect|"
    r"Could not resolve hostname|[Tt]imeout|timed out|(HTTP |\b[A-Z]\w+_)(429|5\d\d)\b"
)

ADVICE = {
    "no password is set": "name the variable that holds it with --password-env",
    "invalid_client": "set the right client secret in the variable of --password-env, or the password_file",
    "Unauthorized_401": "set the right secret or token in the variable of --password-env, or the password_file",
    "Forbidden_403": "grant the catalog's user the right to list and read",
    "NotFound_404": "check the warehouse in the URL, and the options base_path and oauth2_server_uri",
    "HTTP 403": "set the options s3_key_id and s3_key_env to a key that may read the data files",
    "s3.amazonaws.com": "if the data files are in another store, set the options s3_endpoint, s3_region and s3_key_id",
    "does not have a region": "set the option s3_region",
}

"""What holds for any text that reaches RuntimeDB from outside: it is taken, or refused with an error of ours.

`make fuzz` lets a fuzzer look for counterexamples.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtimedb_dagster import RefreshRequest, Settings
from runtimedb_dagster.common.heartbeat import utc_now
from runtimedb_dagster.common.sql import identifier, literal
from runtimedb_dagster.domain.columns import SourceColumn
from runtimedb_dagster.domain.errors import ConfigurationError, QueryError, RequestError, TypeContractError
from runtimedb_dagster.domain.options import ConnectionOptions
from runtimedb_dagster.query.sandbox import tables_named
from runtimedb_dagster.sources.attached.projection import project
from runtimedb_dagster.sources.registry import DIALECTS, validate
from runtimedb_dagster.sources.url import SourceUrl
from runtimedb_dagster.storage import FileStorage, open_storage
from runtimedb_dagster_tests.storage.test_storage import PATH

ANY = st.text(st.characters(), max_size=60)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
DEEP = 100_000


def made_of(*parts: str) -> st.SearchStrategy[str]:
    """Texts of these parts, with anything between them."""
    return st.lists(st.one_of(st.sampled_from(parts), ANY), max_size=12).map("".join)


def refusal(action: Callable[[], object]) -> str | None:
    """What an action is refused with, None if it is not."""
    try:
        action()
    except ConfigurationError as error:
        return str(error)
    return None


# URLs

URLS = made_of(*(f"{scheme}://" for scheme in DIALECTS), "s3://", "file://", "@", ":", "/", "..", "[", "]",
               "?", "=", "&", "%00", "%2e%2e", "%ff", "#", "user", "host", "5432", "region", "endpoint", "http://",
               "~")  # fmt: skip


@given(URLS)
@example("duckdb:///a\ud800")
@example("duckdb:///a\0")
@example("duckdb:///a%00")
@example("postgresql://a@[::1]:5/x")
def test_a_source_url_is_refused_or_comes_back(text: str) -> None:
    if (message := refusal(lambda: SourceUrl.parse(text))) is not None:
        assert len(text) < 12 or text not in message
        return
    parsed = SourceUrl.parse(text)
    kept = str(parsed)
    assert "?" not in kept
    again = SourceUrl.parse(kept)
    assert (again.scheme, again.path, again.host, again.port, again.user) == (
        parsed.scheme, parsed.path, parsed.host, parsed.port, parsed.user,
    )  # fmt: skip


@given(TEXT, TEXT.filter(bool))
def test_no_password_in_a_url_is_taken_or_told(user: str, password: str) -> None:
    secret = f"canary{quote(password, safe='')}"
    message = refusal(lambda: SourceUrl.parse(f"postgresql://{quote(user, safe='')}:{secret}@host/db"))
    assert message is not None
    assert secret not in message


@given(URLS)
@example("s3://[b")
@example("~nobody-of-this-name/x")
@example("file:///a\0b")
@example("/a\ud800")
@example("s3://bucket/x?endpoint=http://host:port")
@example("s3://bucket/x?endpoint=http://host\n")
@example("s3://bucket/../x")
def test_a_storage_url_is_refused_or_keeps_its_files_inside(text: str) -> None:
    try:
        storage = open_storage(text, Path("/nonexistent/staging"))
    except ConfigurationError:
        return
    location = storage.location(PATH)
    if isinstance(storage, FileStorage):
        assert Path(location).is_relative_to(storage.root)
        assert not Path(location).exists()  # and is a path that can be asked for
    else:
        assert location.startswith("s3://")
        assert ".." not in location.split("/")


# Options and settings

JSON = made_of(
    "[", "]", "{", "}", '"', ":", ",", "*", "null", "1e999", "-1", "0", "nan", "inf", "PT5M", "true", "sha256"
)  # fmt: skip
DURATIONS = st.one_of(JSON, st.floats().map(str))


@given(
    st.sampled_from(sorted(DIALECTS)), st.dictionaries(st.sampled_from(sorted(ConnectionOptions.model_fields)), JSON)
)
@example("duckdb", {"where": '{"a":' * DEEP})
@example("duckdb", {"include": "[" * DEEP})
@example("duckdb", {"max_age": "1e12"})
@example("duckdb", {"read_timeout": "inf"})
def test_options_are_refused_or_mean_something(scheme: str, options: Mapping[str, str]) -> None:
    url = SourceUrl(scheme, "x", "host", None, None, {})
    try:
        validate(url, options)
    except ConfigurationError:
        return
    found = ConnectionOptions.of(options)
    assert found.max_age is None or utc_now() - found.max_age < utc_now()
    assert found.read_timeout is None or 0 < found.read_timeout < float("inf")
    assert 1 <= (found.parallel_refresh or 1) <= 64


@given(st.sampled_from(sorted(DIALECTS)), st.data())
def test_a_sources_own_options_are_refused_or_taken(scheme: str, data: st.DataObject) -> None:
    own = sorted(DIALECTS[scheme].options.model_fields)
    options = data.draw(st.dictionaries(st.sampled_from(own), JSON)) if own else {}
    message = refusal(lambda: validate(SourceUrl(scheme, "x", "host", None, None, {}), options)) or ""
    assert not any(len(value) > 12 and value in message for value in options.values())


@given(st.sampled_from(["grace_period", "write_lease", "reader_lease", "retry_delay"]), DURATIONS)
@example("grace_period", "1e12")
def test_a_duration_is_refused_or_can_be_added_to_now(name: str, value: str) -> None:
    if refusal(lambda: Settings(**{name: value})) is None:
        now = utc_now()
        assert now + getattr(Settings(**{name: value}), name) >= now


# Requests

FIELD = st.one_of(st.none(), st.just(""), ANY)


@given(FIELD, FIELD, FIELD, st.booleans(), st.lists(ANY, max_size=2))
def test_a_request_is_refused_or_has_a_meaning(
    connection: str | None, schema: str | None, table: str | None, data: bool, keys: list[str]
) -> None:
    try:
        RefreshRequest(connection, schema, table, data=data, partition_keys=keys).validate()
    except RequestError:
        return
    assert bool(schema) == bool(table)
    assert not (schema and not (connection and data))
    assert not (keys and (schema or not data or not connection))
    assert not (data and not connection)


# SQL


@given(TEXT.filter(bool))
def test_what_is_quoted_is_one_name_or_one_value(text: str) -> None:
    with duckdb.connect(config={"threads": 1}) as duck:
        found = duck.execute(f"SELECT {literal(text)} AS {identifier(text)}")
        assert [column[0] for column in found.description] == [text]
        assert found.fetchall() == [(text,)]


QUERIES = made_of("SELECT ", "FROM ", "a.b.c", '"', "'", "(", ")", ";", "--", "/*", "*", ",", " UNION ALL ",
                  "WITH x AS (", "1", "read_text('/etc/passwd')", "'/etc/passwd'", "query('SELECT 1')", "COPY ",
                  "ATTACH ", "SET ", " AS ", "$$", "\0", "CASE WHEN ", "[", "{", "\\", "E'\\x41'")  # fmt: skip
FORBIDDEN = {"read_text", "query"}
CALLED = re.compile(r'"type":"table_function".{0,500}?"function_name":"(\w+)"')


@given(QUERIES)
@example("SELECT " + "+".join(["1"] * 900))
@example("SELECT " + "CASE WHEN true THEN " * 400 + "1" + " END" * 400)
@example("SELECT '\ud800'")
def test_a_statement_is_refused_or_one_select_of_named_tables(text: str) -> None:
    try:
        named = tables_named(text)
    except QueryError:
        return
    with duckdb.connect(config={"threads": 1}) as duck:
        (statement,) = duck.extract_statements(text)
        assert statement.type == duckdb.StatementType.SELECT
        (tree,) = duck.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
    assert not FORBIDDEN & set(CALLED.findall(tree.lower()))
    assert all(all(parts) for parts in named)


# Types

SIMPLE = st.sampled_from(
    ["BOOLEAN", "TINYINT", "INTEGER", "UBIGINT", "HUGEINT", "UHUGEINT", "DOUBLE", "DECIMAL(38,10)", "VARCHAR", "BLOB",
     "UUID", "DATE", "TIME", "TIME WITH TIME ZONE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_NS",
     "TIMESTAMP WITH TIME ZONE", "INTERVAL", "BIT", "BIGNUM", "ENUM('a', 'b''c')", "UNION(a INTEGER, b VARCHAR)"]
)  # fmt: skip
NAME = st.text(string.ascii_letters + " \"'.,()", min_size=1, max_size=8)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Types made of others."""
    fields = st.dictionaries(NAME.map(str.lower), inner, min_size=1, max_size=3)
    return st.one_of(
        inner.map("{}[]".format),
        inner.map("{}[3]".format),
        st.tuples(inner, inner).map(lambda pair: f"MAP({pair[0]}, {pair[1]})"),
        fields.map(lambda parts: f"STRUCT({', '.join(f'{identifier(name)} {of}' for name, of in parts.items())})"),
    )


@given(st.recursive(SIMPLE, nested, max_leaves=6), TEXT.filter(bool))
def test_any_type_is_refused_or_arrives_as_promised(written: str, name: str) -> None:
    with duckdb.connect(config={"threads": 1}) as duck:
        duck.execute(f"CREATE TABLE t ({identifier(name)} {written})")
        of = str(duck.execute("SELECT data_type FROM duckdb_columns() WHERE table_name = 't'").fetchall()[0][0])
        if "UNION" in written:
            with pytest.raises(TypeContractError):
                project(SourceColumn(name, of))
            return
        projected = project(SourceColumn(name, of))
        found = duck.execute(f"DESCRIBE SELECT {projected.expression} FROM t").fetchall()
        assert [(column[0], column[1]) for column in found] == [(name, projected.column.type)]

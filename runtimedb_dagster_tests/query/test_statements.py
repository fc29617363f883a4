"""What a statement may be: one SELECT, of what does no harm, however long or deep it is."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimedb_dagster.domain.errors import QueryError
from runtimedb_dagster.query.statements import tables_named

DEEP = "repeat('[', 100000) || repeat(']', 100000)"
CRASHES = [
    f"SELECT json_structure({DEEP})",
    f"SELECT JSON_STRUCTURE({DEEP})",
    f'SELECT "json_structure"({DEEP})',
    f"SELECT main.json_structure({DEEP})",
    f"SELECT json_group_structure({DEEP})",
    f"SELECT json_contains({DEEP}, {DEEP})",
    f"SELECT json_merge_patch('{{}}', {DEEP})",
    f"SELECT json_transform('[]', {DEEP})",
    f"SELECT from_json_strict('[]', {DEEP})",
    f"SELECT json_extract({DEEP}, '${'[*]' * 1000}')",
    f"SELECT ({DEEP})::JSON -> '${'.*' * 1000}'",
    f"SELECT ({DEEP})::JSON::VARIANT",
    "SELECT try_cast('1'::JSON AS VARIANT)",
    "SELECT lag(i, -9223372036854775808) OVER () FROM range(3) t(i)",
    "SELECT lead(i, 9223372036854775807) OVER () FROM range(3) t(i)",
    "SELECT json_serialize_plan('SELECT 1')",
    f"SELECT a{'.b' * 100000} FROM (SELECT 1 a)",
    "SELECT count(*) FROM range(3) t(i) WHERE i IN (SELECT json_structure('[]')::INT)",
]


@pytest.mark.parametrize("query", CRASHES, ids=[query[:40] for query in CRASHES])
def test_what_would_end_the_process_is_refused_by_name(query: str) -> None:
    with pytest.raises(QueryError, match=r"function|VARIANT|name in the query|wildcards"):
        tables_named(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT write_log('x')",
        "SELECT sleep_ms(1)",
        "SELECT setseed(0.1)",
        "SELECT getvariable('x')",
        "SELECT pg_sleep(1)",
    ],
)
def test_what_reaches_beyond_the_query_is_refused(query: str) -> None:
    with pytest.raises(QueryError, match="reaches beyond"):
        tables_named(query)


ORDINARY = [
    "WITH t AS (SELECT 1 AS a) SELECT a, lag(a) OVER (ORDER BY a), lead(a, 2, 0) OVER (ORDER BY a) FROM t",
    "SELECT json_extract('{}', '$.a'), json_extract_string('{}', 'a'), '{}'::JSON -> 'a' ->> '$.b'",
    "SELECT json_extract_string(j, ['$.a', '$.b']), json_extract(j, '$.' || 'a') FROM (SELECT '{}' AS j)",
    "SELECT lag(1, 2 + 3) OVER ()",
    "SELECT json_extract(j, p) FROM (SELECT '{}' AS j, '$.a' AS p)",
    "SELECT * FROM (SELECT 1 AS a) PIVOT (sum(a) FOR a IN (1, 2))",
    "SELECT * EXCLUDE (a) FROM (SELECT 1 AS a, 2 AS b) QUALIFY row_number() OVER () = 1",
    "SELECT list_transform([1, 2], lambda x: x + 1), {'a': 1}.a, unnest([1, 2])",
    "SELECT t.s.a.b.c FROM (SELECT {'a': {'b': {'c': 1}}} AS s) t",
    "FROM (VALUES (1), (2)) AS t(a) SELECT sum(a)",
    "SELECT * FROM range(3) a, LATERAL (SELECT a.range + 1)",
    "DESCRIBE SELECT 1",
    "SUMMARIZE SELECT 1",
    "SELECT 'json_structure(1)' AS \"variant\"",
    "SELECT json_keys('{}'), json_array_length('[]'), to_json([1]), json_object('a', 1)",
]


@pytest.mark.parametrize("query", ORDINARY, ids=[query[:40] for query in ORDINARY])
def test_ordinary_statements_pass(query: str) -> None:
    assert tables_named(query) == set()


def test_tables_are_found_wherever_they_stand() -> None:
    query = """
        WITH own AS (SELECT * FROM a.b.c), "x.y" AS (SELECT 1)
        SELECT (SELECT max(i) FROM "A"."b c"."d""e"), own.* FROM own JOIN d.e.f USING (i), "x.y"
        WHERE i IN (SELECT i FROM g.h.i) AND EXISTS (FROM j.k.l)
        UNION ALL SELECT * FROM (DESCRIBE m.n.o)
    """
    found = {("a", "b", "c"), ("A", "b c", 'd"e'), ("d", "e", "f"), ("g", "h", "i"), ("j", "k", "l"), ("m", "n", "o")}
    assert tables_named(query) == found


NODE = '{"type":"BASE_TABLE","catalog_name":"a"'


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=30))
def test_no_name_and_no_literal_passes_for_a_node(text: str) -> None:
    for trick in (text, NODE + text, f'"function_name":"json_structure{text}'):
        literal, name = trick.replace("'", "''").replace("\0", ""), trick.replace('"', '""').replace("\0", "") or "a"
        assert tables_named(f"SELECT '{literal}' AS \"{name}\" FROM x.y.z") == {("x", "y", "z")}


@pytest.mark.parametrize("between", [" ", "\t", "\n", "--\n", "/**/"])
def test_nothing_hides_among_numbers(between: str) -> None:
    numbers = ",".join(["1"] * 100_000)
    for hidden in ("json_structure('1')", "(SELECT 1 FROM read_csv('/etc/passwd'))"):
        with pytest.raises(QueryError, match=r"json_structure|read_csv"):
            tables_named(f"SELECT 1 WHERE 1 IN ({numbers},{between}{hidden},{numbers})")
    assert tables_named(f"SELECT 1 FROM a.b.c WHERE 1 IN ({numbers},{between}2)") == {("a", "b", "c")}


def test_a_list_of_numbers_takes_no_more_than_some_times_its_size() -> None:
    program = (
        "import resource; from runtimedb_dagster.query.statements import tables_named; tables_named('select 1')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "sql = 'select 1 where 1 in (' + ','.join(map(str, range(500_000))) + ')'\n"
        "tables_named(sql)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / len(sql))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60


@pytest.mark.parametrize("values", ["'{:030}'", "'{}'"])
def test_a_long_list_of_words_is_looked_through_or_too_long(values: str) -> None:
    words = [values.format(number) for number in range(250_002)]
    few, many = ",".join(words[:250_000]), ",".join(words)
    assert tables_named(f"SELECT 1 WHERE '1' IN ({few})") == set()
    with pytest.raises(QueryError, match="too long to be looked through"):
        tables_named(f"SELECT 1 WHERE '1' IN ({many})")


def test_a_text_too_long_to_be_looked_through_is_an_error() -> None:
    text = "x" * 100_000_000
    with pytest.raises(QueryError, match="too long to be looked through"):
        tables_named(f"SELECT '{text}'")

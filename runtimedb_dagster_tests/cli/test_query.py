"""`runtimedb query`: rows in every form, to a terminal, a pipe and a file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from runtimedb_dagster import RequestError, RuntimeDB
from runtimedb_dagster.cli import rows, terminal
from runtimedb_dagster_tests.support.command import Ran
from runtimedb_dagster_tests.support.parts import SourceFile, refresh_all

Run = Callable[..., Ran]

HARD = """SELECT * FROM (VALUES
    (1, 'plain', 1.50::DECIMAL(9, 2), [1, 2]), (2, '', NULL, NULL), (3, NULL, 0, []),
    (4, 'a,b "c"' || chr(13) || chr(10) || 'd|e', -1, [NULL])) t(id, "te,xt", d, l) ORDER BY id"""


@pytest.fixture
def many(db: RuntimeDB, shop: SourceFile) -> RuntimeDB:
    """With a table of more rows than a batch has."""
    shop.run("CREATE TABLE many AS SELECT range AS i, 'text ' || range AS t FROM range(200000)")
    db.discover("shop")
    refresh_all(db)
    return db


def test_csv_is_read_as_it_was_written(db: RuntimeDB, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    assert run("query", HARD, "-o", file).status == 0
    assert list(csv.reader(io.StringIO(file.read_bytes().decode(), newline=""))) == [
        ["id", "te,xt", "d", "l"],
        ["1", "plain", "1.50", "[1, 2]"],
        ["2", "", "", ""],
        ["3", "", "0.00", "[]"],
        ["4", 'a,b "c"\r\nd|e', "-1.00", "[NULL]"],
    ]
    with duckdb.connect() as duck:
        found = duck.execute(
            f"SELECT * FROM read_csv('{file}', all_varchar = true, header = true, allow_quoted_nulls = false)"
        ).fetchall()
    assert found[1] == ("2", "", None, None), "an empty text is told from NULL"
    assert found[3][1] == 'a,b "c"\r\nd|e'


def test_json_and_its_lines(db: RuntimeDB, run: Run, tmp_path: Path) -> None:
    whole = run("query", HARD, "--json").json
    assert whole[3] == {"id": 4, "te,xt": 'a,b "c"\r\nd|e', "d": "-1.00", "l": [None]}
    lines = run("query", HARD, "--format", "jsonl").out.splitlines()
    assert [json.loads(line) for line in lines] == whole
    assert run("query", "SELECT 1 AS i WHERE false", "--json").json == []
    run("query", HARD, "-o", tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == whole


def test_markdown_and_parquet(db: RuntimeDB, run: Run, tmp_path: Path) -> None:
    assert run("query", HARD, "--format", "markdown").out.splitlines() == [
        "| id | te,xt | d | l |",
        "| ---: | --- | ---: | --- |",
        "| 1 | plain | 1.50 | [1, 2] |",
        "| 2 |  | NULL | NULL |",
        "| 3 | NULL | 0.00 | [] |",
        '| 4 | a,b "c"<br>d\\|e | -1.00 | [NULL] |',
    ]
    run("query", HARD, "-o", tmp_path / "x.parquet", "--limit", "3")
    found = pq.read_table(tmp_path / "x.parquet")
    assert (found.num_rows, str(found.schema.field("d").type)) == (3, "decimal128(12, 2)")


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "markdown", "table"])
def test_all_rows_come_in_every_form(many: RuntimeDB, run: Run, form: str) -> None:
    printed = run("query", "SELECT * FROM shop.main.many ORDER BY i", "--format", form).out
    for number in (0, 9_999, 10_000, 122_880, 199_999):
        assert len(re.findall(rf"text {number}(?!\d)", printed)) == 1
    three = run("query", "SELECT * FROM shop.main.many ORDER BY i", "--format", form, "--limit", "3")
    assert three.out.count("text") == 3


def test_a_terminal_shows_the_first_and_how_many_there_are(
    many: RuntimeDB, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(terminal, "out", console)
    with many.query() as query:
        rows.show(query.sql("SELECT * FROM shop.main.many ORDER BY i"), "table", None)
        shown = capsys.readouterr().out
        assert "text 39" in shown
        assert "text 40" not in shown
        assert shown.endswith("… 199,960 more rows (--limit 0 for all)\n")
        rows.show(query.sql("SELECT i FROM shop.main.many WHERE i < 40"), "table", None)
        assert "more row" not in capsys.readouterr().out
        rows.show(
            query.sql(f"SELECT repeat('x', 100) AS a, 'y' AS b, {', '.join(f'{n} AS c{n}' for n in range(30))}"),
            "table",
            None,
        )
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "── 1 ──"
        assert lines[1].startswith("a    xxx")
        assert lines[1].endswith("x…")
        assert max(map(len, lines)) <= 80
        with pytest.raises(RequestError, match="nothing for a terminal"):
            rows.show(query.sql("SELECT 1"), "parquet", None)


def test_where_the_statement_comes_from(db: RuntimeDB, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    file.write_text("SELECT 42 AS answer")
    assert run("query", "--file", file, "--json").json == [{"answer": 42}]
    file.with_name("bytes.sql").write_bytes(b"SELECT \xff")
    assert "can't be read as UTF-8 text" in run("query", "--file", file.with_name("bytes.sql")).err
    assert "query takes a SELECT" in run("query").err
    assert "query takes a SELECT" in run("query", "SELECT 1", "--file", file).err


def test_a_file_that_is_there_is_not_overwritten(db: RuntimeDB, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("mine")
    assert "is there already" in run("query", "SELECT 1", "-o", file).err
    assert file.read_text() == "mine"
    other = tmp_path / "z.csv.partial"
    other.write_text("another's")
    assert "can't be written" in run("query", "SELECT 1", "-o", tmp_path / "z.csv").err
    assert other.read_text() == "another's"
    assert "say with --format" in run("query", "SELECT 1", "-o", tmp_path / "x.xls").err
    failed = run(
        "query",
        "SELECT CASE WHEN range = 150000 THEN error('no') ELSE 1 END FROM range(200000)",
        "-o",
        tmp_path / "y.csv",
    )
    assert failed.status == 1
    assert list(tmp_path.glob("y.csv*")) == []

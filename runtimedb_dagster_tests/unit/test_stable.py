"""Which conditions depend on the row alone."""

from __future__ import annotations

import pytest

from runtimedb_dagster.sources.attached.stable import depends_on_the_row_alone


@pytest.mark.parametrize(
    "condition",
    [
        "year >= 2020", "state = 'open' AND NOT deleted", "lower(name) LIKE 'a%'", "d >= date '2024-01-01'",
        "d >= '2024-01-01'::timestamptz", "k IN (1, 2, 3)", "v IS NOT NULL", "a.b = 'it''s'", '"Odd ""name" <> 1.5',
        "coalesce(x, 0) * 2 % 3 = 1", "kind = ANY (ARRAY['a', 'b'])", "now_playing", "(a\n) AND (b\n)",
    ],
)  # fmt: skip
def test_columns_literals_and_comparisons(condition: str) -> None:
    assert depends_on_the_row_alone(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "at > now()", "at > NOW ()", "at > current_timestamp", "d = CURRENT_DATE", "d >= 'today'",
        "at < 'now'::timestamptz", "d >= date 'yesterday'", "k IN (SELECT k FROM other)", "exists (select 1)",
        "mine(k)", '"mine"(k)', "public.mine(k)", "k > 0 /* ' */ AND mine(k) /* ' */",
        "owner = current_user", "t > localtime", "random() < 0.5", "x = $1", "x = E'a\\'", "x -- more", "x /* more */",
        'k::"mine" = 1', "k::mood = 'ok'", "user = 'me'", "t = date_trunc('day', at)", "a @> b",
    ],
)  # fmt: skip
def test_all_else_is_not_taken_to(condition: str) -> None:
    assert not depends_on_the_row_alone(condition)

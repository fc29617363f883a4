"""PostgreSQL: discovery, one consistent read, options and errors, on a real server."""

from __future__ import annotations

from runtimedb_dagster_tests.sources.support import Remote


def test_a_table_of_mixed_types_is_refreshed_and_queried(pg: Remote) -> None:
    pg.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(12,2) NOT NULL, placed timestamptz, note text)",
        "INSERT INTO orders SELECT i, i * 1.25, '2024-01-01'::timestamptz + i * interval '1 minute', 'n' || i "
        "FROM generate_series(1, 1000) i",
    )
    pg.connect()
    assert pg.refresh_all().total_rows == 1000
    assert pg.query("orders", "count(*), sum(total)::VARCHAR, max(placed)::VARCHAR, max(note)") == [
        (1000, "625625.00", "2024-01-01 16:40:00+00", "n999")
    ]

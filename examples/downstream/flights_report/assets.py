"""Three assets that read tables of the connection `flights`, each in another way."""

# No `from __future__ import annotations`: Dagster reads the annotations of an asset's arguments.

import dagster as dg
import pyarrow as pa
from dagster_duckdb import DuckDBResource

from runtimedb_dagster import RuntimeDBResource, table_deps, table_input, tables_changed


@dg.asset(ins={"tables": table_input("flights", [("main", "flights"), ("reference", "airlines")])})
def airline_delays(tables: dict[tuple[str, str], pa.Table]) -> pa.Table:
    """The mean delay of each airline: two tables of one snapshot, joined."""
    delays = tables["main", "flights"].group_by("carrier").aggregate([("dep_delay", "mean")])
    return delays.join(tables["reference", "airlines"], "carrier").sort_by([("dep_delay_mean", "descending")])


@dg.asset(
    deps=table_deps("flights", [("main", "flights"), ("main", "weather")]),
    automation_condition=tables_changed(),
)
def delays_in_rain(runtimedb: RuntimeDBResource) -> dg.MaterializeResult[None]:
    """The mean delay in wet and in dry hours, made again when the content of `flights` or `weather` has changed.

    `eager()` would make it again after every refresh, also one that found nothing new.
    """
    with runtimedb.query() as query:
        rows = query.sql("""
            SELECT w.precip > 0 AS rain, count(*) AS flights, avg(f.dep_delay) AS mean_delay
            FROM flights.main.flights f JOIN flights.main.weather w USING (origin, year, month, day, hour)
            WHERE w.precip IS NOT NULL GROUP BY ALL ORDER BY rain
        """).fetchall()
    return dg.MaterializeResult(
        metadata={
            f"mean delay, {'rain' if rain else 'dry'} (minutes)": round(delay, 1) for rain, _flights, delay in rows
        }
    )


@dg.asset(ins={"weather": table_input("flights", [("main", "weather")])}, kinds={"duckdb"})
def warehouse_weather(weather: pa.RecordBatchReader, warehouse: DuckDBResource) -> dg.MaterializeResult[None]:
    """A table of one's own DuckDB: the reader streams, so the table may be larger than memory."""
    with warehouse.get_connection() as duck:
        duck.register("weather", weather)
        duck.execute("""
            CREATE OR REPLACE TABLE daily_weather AS
            SELECT origin, make_date(year, month, day) AS date, avg(temp) AS mean_temp, sum(precip) AS precip
            FROM weather GROUP BY ALL
        """)
        (rows,) = duck.execute("SELECT count(*) FROM daily_weather").fetchone() or (0,)
    return dg.MaterializeResult(metadata={"dagster/row_count": rows})

"""The whole code location: RuntimeDB's assets, and this project's downstream of them."""

import os

import dagster as dg
from dagster_duckdb import DuckDBResource

from flights_report.assets import airline_delays, delays_in_rain, warehouse_weather
from runtimedb_dagster import RuntimeDBIOManager, RuntimeDBResource, build_definitions

defs = dg.Definitions.merge(
    build_definitions(),
    dg.Definitions(
        assets=[airline_delays, delays_in_rain, warehouse_weather],
        resources={
            "runtimedb": RuntimeDBResource(),
            "runtimedb_io_manager": RuntimeDBIOManager(),
            "warehouse": DuckDBResource(database=os.environ.get("FLIGHTS_REPORT_DATABASE", "flights_report.duckdb")),
        },
        executor=dg.in_process_executor,
    ),
)

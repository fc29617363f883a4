"""The Dagster form of RuntimeDB: assets, sensors, schedules and jobs, made from the catalog."""

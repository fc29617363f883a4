"""All tables and columns of a database, by what BENCH_WITH names."""

import os
from pathlib import Path

from peer import URL, run

CREDENTIALS = URL.replace("postgresql", "postgresql+psycopg2", 1)

if os.environ["BENCH_WITH"] == "dlt":
    from dlt.sources.sql_database import sql_database

    def read(_table: str, _target: Path) -> None:
        """By dlt, which reflects what it will read."""
        sql_database(CREDENTIALS, reflection_level="full", defer_table_reflect=False)
else:
    from sqlalchemy import create_engine, inspect

    def read(_table: str, _target: Path) -> None:
        """By SQLAlchemy, in as few queries as it knows."""
        found = inspect(create_engine(CREDENTIALS)).get_multi_columns(schema="public")
        if not found:
            raise RuntimeError("nothing was found")


run(read)

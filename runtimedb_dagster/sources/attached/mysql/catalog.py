"""What MySQL and MariaDB are asked of their own catalog."""

from __future__ import annotations

__all__ = ["COLUMN", "DISCOVERY", "IS_VIEW", "LISTS", "SYSTEM"]

COLUMN = "name, type, nullable = 'YES', NULLIF(comment, '')"

SYSTEM = "'information_schema', 'performance_schema', 'mysql', 'sys'"

# Sequences, and what a session made for itself, are not tables to read. A view's comment is the word VIEW.
LISTS = {
    "tables": """
        SELECT CONVERT(TABLE_SCHEMA USING utf8mb4) AS schema_name, CONVERT(TABLE_NAME USING utf8mb4) AS table_name,
            CASE WHEN TABLE_TYPE = 'VIEW' THEN 'view'
                WHEN CREATE_OPTIONS LIKE '%partitioned%' THEN 'partitioned table' ELSE 'table' END AS kind,
            CONVERT(CASE WHEN TABLE_TYPE <> 'VIEW' THEN TABLE_COMMENT END USING utf8mb4) AS comment,
            CAST(TABLE_ROWS AS SIGNED) AS estimated_rows
        FROM information_schema.TABLES
        WHERE {chosen} AND TABLE_TYPE IN ('BASE TABLE', 'VIEW', 'SYSTEM VERSIONED')
    """,
    "columns": """
        SELECT CONVERT(TABLE_SCHEMA USING utf8mb4) AS schema_name, CONVERT(TABLE_NAME USING utf8mb4) AS table_name,
            CONVERT(COLUMN_NAME USING utf8mb4) AS name, CONVERT(COLUMN_TYPE USING utf8mb4) AS type,
            CONVERT(IS_NULLABLE USING utf8mb4) AS nullable, CONVERT(COLUMN_COMMENT USING utf8mb4) AS comment,
            CAST(ORDINAL_POSITION AS SIGNED) AS position{more}
        FROM information_schema.COLUMNS c WHERE {chosen}
    """,
    "keys": """
        SELECT CONVERT(TABLE_SCHEMA USING utf8mb4) AS schema_name, CONVERT(TABLE_NAME USING utf8mb4) AS table_name,
            CONVERT(COLUMN_NAME USING utf8mb4) AS name, CAST(SEQ_IN_INDEX AS SIGNED) AS position
        FROM information_schema.STATISTICS WHERE {chosen} AND INDEX_NAME = 'PRIMARY'
    """,
}

# Of one table: the server opens a view for each column that it is asked about.
IS_VIEW = """, EXISTS (
    SELECT 1 FROM information_schema.VIEWS v WHERE v.TABLE_SCHEMA = c.TABLE_SCHEMA AND v.TABLE_NAME = c.TABLE_NAME
) OR EXTRA LIKE '%VIRTUAL%' AS is_view"""

DISCOVERY = """
    WITH listed AS (
        SELECT schema_name, table_name, list({{
            'name': name, 'type': type, 'nullable': nullable = 'YES', 'comment': NULLIF(comment, '')
        }} ORDER BY position) AS columns FROM {columns} GROUP BY ALL
    ), keyed AS (
        SELECT schema_name, table_name, list(name ORDER BY position) AS primary_key FROM {keys} GROUP BY ALL
    )
    SELECT schema_name, table_name, kind, NULLIF(comment, ''), estimated_rows, coalesce(columns, []), primary_key
    FROM {tables} LEFT JOIN listed USING (schema_name, table_name) LEFT JOIN keyed USING (schema_name, table_name)
    ORDER BY schema_name, table_name
"""

"""What PostgreSQL is asked of its own catalog: by `pg_catalog` alone, in words that mean the same in every session."""

from __future__ import annotations

__all__ = [
    "AROUND",
    "BUILT_IN",
    "DESCRIBED",
    "LISTED",
    "NAMES",
    "READABLE",
    "RELATIONS",
    "WAL_RECEIVER",
    "WHOLE",
]

# Where DuckDB's connections would share no snapshot: on a replica, and on Amazon's servers, as it believes.
SNAPSHOTS = """
    SELECT NOT pg_catalog.pg_is_in_recovery()
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name LIKE 'rds%') AS shared,
        pg_catalog.current_setting('server_encoding') = 'SQL_ASCII' AS any_bytes
"""
# Asked by itself, for Amazon's Aurora refuses it.
WAL_RECEIVER = "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) AS receives"

TWINS = """
    SELECT pg_catalog.lower(n.nspname) AS schema_name, pg_catalog.lower(c.relname) AS table_name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') GROUP BY 1, 2 HAVING pg_catalog.count(*) > 1
"""
# A row for each of the twins, or one with NULL in their place: all in one question, for a server may be far away.
AROUND = f"""
    SELECT around.*, snapshots.*, twins.* FROM ({{surroundings}}) AS around
    CROSS JOIN ({SNAPSHOTS}) AS snapshots LEFT JOIN ({TWINS}) AS twins ON true
"""

# Why a table can't be locked, or read: no row if it is gone. A view locks what is beneath it by its owner's rights.
READABLE = """
    SELECT c.relkind AS kind, pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS usage,
        pg_catalog.has_table_privilege(c.oid, 'SELECT') AS whole,
        pg_catalog.has_any_column_privilege(c.oid, 'SELECT') AS some
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE {chosen}
"""

# Whether the name is still that of the table that was described, its partitions are the same, and all that a read reads
# is in the files in which its snapshot knows it. The functions answer for now, the tables for the snapshot. (A
# materialized view that was refreshed shows its new rows to older snapshots, too.)
WHOLE = """
    WITH RECURSIVE beneath AS (
        SELECT c.oid, c.relkind FROM pg_catalog.pg_class c WHERE c.oid = {oid}
        UNION
        SELECT c.oid, c.relkind FROM beneath CROSS JOIN LATERAL (
            SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = beneath.oid
            UNION ALL
            SELECT d.refobjid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d
                ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
                AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
            WHERE r.ev_class = beneath.oid AND beneath.relkind = 'v'
        ) next JOIN pg_catalog.pg_class c ON c.oid = next.oid
    )
    SELECT coalesce(pg_catalog.to_regclass({name})::oid = {oid}, false)
        AND NOT EXISTS (
            SELECT FROM beneath JOIN pg_catalog.pg_class c ON c.oid = beneath.oid
            WHERE c.relkind IN ('r', 'm') AND NOT coalesce(
                pg_catalog.pg_relation_filenode(c.oid) = c.relfilenode
                    OR c.relkind = 'm' AND pg_catalog.pg_relation_filenode(c.oid) IS NOT NULL, false)
        )
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_partition_tree({oid}) now
            WHERE now.relid::oid NOT IN (SELECT beneath.oid FROM beneath)
        ) AS whole
"""

# Names and comments as their bytes, where a server keeps any.
NAMES = """
    SELECT c.oid AS oid, pg_catalog.encode(pg_catalog.convert_to(n.nspname::text, 'SQL_ASCII'), 'hex') AS schema_name,
        pg_catalog.encode(pg_catalog.convert_to(c.relname::text, 'SQL_ASCII'), 'hex') AS table_name,
        pg_catalog.encode(pg_catalog.convert_to(pg_catalog.concat(
            pg_catalog.obj_description(c.oid, 'pg_class'), (
                SELECT pg_catalog.string_agg(pg_catalog.concat(
                    a.attname, ' ', pg_catalog.format_type(a.atttypid, a.atttypmod), ' ',
                    pg_catalog.col_description(c.oid, a.attnum)), ' ')
                FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
        ), 'SQL_ASCII'), 'hex') AS rest
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND NOT c.relispartition
        AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""

# `form` is what a type is made of that is not a built-in one; see `types.Form`.
RELATIONS = """
    WITH RECURSIVE relation AS (
        SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples, c.relpages
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND NOT c.relispartition
            AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND {chosen}
    ), made AS (
        SELECT t.oid, t.typtype, t.typbasetype AS base, t.typtypmod AS modifier, t.typnotnull AS needed, t.typelem,
            t.typndims AS dimensions
        FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
        UNION ALL
        SELECT made.oid, t.typtype, t.typbasetype,
            CASE WHEN made.modifier >= 0 THEN made.modifier ELSE t.typtypmod END, made.needed OR t.typnotnull,
            t.typelem, t.typndims
        FROM made JOIN pg_catalog.pg_type t ON t.oid = made.base WHERE t.typtype = 'd'
    ), domain AS (
        SELECT made.oid, made.base, made.modifier, made.needed FROM made
        JOIN pg_catalog.pg_type t ON t.oid = made.base WHERE t.typtype <> 'd'
    ), attribute AS (
        SELECT a.attrelid, a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
            NOT (relation.relkind IN ('r', 'p') AND (coalesce(domain.needed, false) OR a.attnotnull AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_constraint k
                WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY(k.conkey)
            ))) AS nullable,
            pg_catalog.col_description(a.attrelid, a.attnum) AS comment,
            CASE
                WHEN domain.oid IS NOT NULL AND b.typtype = 'b' AND b.typelem = 0
                    THEN pg_catalog.json_build_object('kind', 'domain', 'name',
                        pg_catalog.format_type(domain.base, domain.modifier))
                WHEN domain.oid IS NOT NULL THEN pg_catalog.json_build_object('kind', 'other')
                WHEN b.typtype = 'e' THEN pg_catalog.json_build_object('kind', 'enum')
                WHEN b.typcategory = 'A' AND element.typtype = 'e'
                    THEN pg_catalog.json_build_object('kind', 'enum', 'dimensions', 1)
                WHEN b.typcategory = 'A' AND (element.typtype <> 'b' OR n.nspname <> 'pg_catalog')
                    THEN pg_catalog.json_build_object('kind', 'other', 'dimensions', 1)
                WHEN b.typcategory = 'A' AND a.attndims > 1
                    THEN pg_catalog.json_build_object('kind', 'built-in', 'dimensions', a.attndims, 'name',
                        pg_catalog.replace(pg_catalog.format_type(a.atttypid, a.atttypmod), '[]', ''))
                WHEN b.typtype = 'c' THEN pg_catalog.json_build_object('kind', 'composite', 'fields', (
                    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                        f.attname, pg_catalog.format_type(f.atttypid, f.atttypmod)) ORDER BY f.attnum)
                    FROM pg_catalog.pg_attribute f
                    WHERE f.attrelid = b.typrelid AND f.attnum > 0 AND NOT f.attisdropped))
                WHEN b.typtype <> 'b' THEN pg_catalog.json_build_object('kind', 'other')
                WHEN n.nspname <> 'pg_catalog' THEN pg_catalog.json_build_object('kind', 'extension', 'name', b.typname)
            END AS form
        FROM relation JOIN pg_catalog.pg_attribute a ON a.attrelid = relation.oid
        LEFT JOIN domain ON domain.oid = a.atttypid
        JOIN pg_catalog.pg_type b ON b.oid = coalesce(domain.base, a.atttypid)
        LEFT JOIN pg_catalog.pg_type element ON element.oid = b.typelem
        JOIN pg_catalog.pg_namespace n ON n.oid = CASE
            WHEN b.typcategory = 'A' THEN element.typnamespace ELSE b.typnamespace END
        WHERE a.attnum > 0 AND NOT a.attisdropped
    ), listed AS (
        SELECT attrelid, pg_catalog.json_agg(pg_catalog.json_build_object(
            'name', attname, 'type', type, 'nullable', nullable, 'comment', comment, 'form', form
        ) ORDER BY attnum) AS columns FROM attribute GROUP BY attrelid
    )
"""

LISTED = """
    SELECT relation.nspname::text AS schema_name, relation.relname::text AS table_name,
        CASE relation.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
            WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS kind,
        pg_catalog.obj_description(relation.oid, 'pg_class') AS comment,
        CASE WHEN relation.reltuples >= 0 AND relation.relkind <> 'v' THEN relation.reltuples::bigint END AS rows,
        coalesce(listed.columns, '[]')::text AS columns,
        (SELECT pg_catalog.json_agg(a.attname ORDER BY pg_catalog.array_position(k.conkey, a.attnum))::text
            FROM pg_catalog.pg_constraint k
            JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY(k.conkey)
            WHERE k.conrelid = relation.oid AND k.contype = 'p') AS primary_key
    FROM relation LEFT JOIN listed ON listed.attrelid = relation.oid
    ORDER BY 1, 2
"""

DESCRIBED = """
    SELECT pg_catalog.pg_backend_pid() AS session, relation.relpages AS pages, relation.relkind AS kind,
        relation.oid AS oid, coalesce(listed.columns, '[]')::text AS columns
    FROM relation LEFT JOIN listed ON listed.attrelid = relation.oid
"""

# The same for a table of built-in types alone, no row for others: it is planned in half the time, which is most of
# what describing a small table takes.
BUILT_IN = """
    SELECT pg_catalog.pg_backend_pid() AS session, c.relpages AS pages, c.relkind AS kind, c.oid AS oid,
        coalesce((
            SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
                'nullable', NOT (c.relkind IN ('r', 'p') AND a.attnotnull AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'n'
                        AND NOT k.convalidated AND a.attnum = ANY(k.conkey)
                )), 'comment', pg_catalog.col_description(c.oid, a.attnum)
            ) ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ), '[]')::text AS columns
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND NOT c.relispartition AND {chosen} AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (t.typtype <> 'b' OR t.typcategory = 'A' OR t.typnamespace <> 'pg_catalog'::regnamespace))
"""

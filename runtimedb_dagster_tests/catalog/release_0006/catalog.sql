CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.clock (
    id integer NOT NULL,
    value bigint NOT NULL
);
CREATE SEQUENCE public.clock_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.clock_id_seq OWNED BY public.clock.id;
CREATE TABLE public.connections (
    id character varying(32) NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    source_type text NOT NULL,
    url text NOT NULL,
    options json NOT NULL,
    password_env text,
    created_at bigint NOT NULL,
    discovered_at bigint,
    discovery_error text,
    discovery_generation bigint NOT NULL
);
CREATE TABLE public.identity (
    id integer NOT NULL,
    catalog_id character varying(32) NOT NULL,
    storage_marked boolean NOT NULL,
    moved_to text
);
CREATE SEQUENCE public.identity_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.identity_id_seq OWNED BY public.identity.id;
CREATE TABLE public.leases (
    id character varying(32) NOT NULL,
    sequence bigint NOT NULL,
    expires_at bigint NOT NULL,
    lifetime bigint
);
CREATE TABLE public.pending_deletions (
    id character varying(32) NOT NULL,
    path text NOT NULL COLLATE pg_catalog."C",
    delete_after bigint NOT NULL,
    reason text NOT NULL,
    table_full_name text NOT NULL,
    retired_at_sequence bigint,
    attempts integer NOT NULL,
    last_error text,
    claimed_by character varying(32),
    claimed_until bigint,
    lifetime bigint
);
CREATE TABLE public.refresh_slots (
    ticket bigint NOT NULL,
    connection_id character varying(32) NOT NULL,
    owner text NOT NULL,
    expires_at bigint NOT NULL
);
CREATE TABLE public.tables (
    id character varying(32) NOT NULL,
    connection_id character varying(32) NOT NULL,
    schema_name text NOT NULL COLLATE pg_catalog."C",
    table_name text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL,
    columns json NOT NULL,
    primary_key json NOT NULL,
    comment text,
    estimated_rows bigint,
    discovered_at bigint NOT NULL,
    version_id character varying(32)
);
CREATE TABLE public.versions (
    id character varying(32) NOT NULL,
    connection_id character varying(32) NOT NULL,
    schema_name text NOT NULL COLLATE pg_catalog."C",
    table_name text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    generation bigint NOT NULL,
    published_at_sequence bigint NOT NULL,
    retired_at_sequence bigint,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    columns json NOT NULL,
    fingerprint text NOT NULL,
    created_at bigint NOT NULL,
    checked_at bigint NOT NULL,
    duration_ms bigint NOT NULL,
    previous_rows bigint
);
ALTER TABLE ONLY public.clock ALTER COLUMN id SET DEFAULT nextval('public.clock_id_seq'::regclass);
ALTER TABLE ONLY public.identity ALTER COLUMN id SET DEFAULT nextval('public.identity_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0006');
INSERT INTO public.clock VALUES (1, 32);
INSERT INTO public.connections VALUES ('8193ac6eb71441d6b8cfdf5df36b65e4', 'plain', 'sqlite', 'sqlite:////data/shop.db', '{"include": "orders"}', NULL, 1795912285059069, 1795912285137172, NULL, 5);
INSERT INTO public.connections VALUES ('8438cbbe305740c2aa4f304459e7c6e5', 'shop', 'sqlite', 'sqlite:////data/shop.db', '{"mask": "customers.email:sha256", "exclude_columns": "customers.ssn", "refresh_modified": "true"}', NULL, 1795912284958721, 1795912285554397, NULL, 24);
INSERT INTO public.identity VALUES (1, 'cae630b76214437997166f98801d76ea', true, NULL);
INSERT INTO public.leases VALUES ('dfea53d7414c46fbb18e28192fa58d08', 32, 1795912345768603, 60000000);
INSERT INTO public.pending_deletions VALUES ('8010e57f69e74f0baef3ab8bd5c6902b', '8438cbbe305740c2aa4f304459e7c6e5/main/dropped/dropped_vcbb9758222cb4d7a9a7edf728433485e.parquet', 1795915885554397, 'table dropped', 'shop.main.dropped', 25, 0, NULL, NULL, NULL, 3599996872);
INSERT INTO public.pending_deletions VALUES ('e840435d4cde488b8f15224bc3ee2eb1', '8438cbbe305740c2aa4f304459e7c6e5/main/orders/orders_v871f9e662f5b41c2b54b309c386af0d0.parquet', 1795915885651064, 'replaced', 'shop.main.orders', 28, 0, NULL, NULL, NULL, 3599997401);
INSERT INTO public.pending_deletions VALUES ('5924dc2b877a4c90aa4f472fe4580ae4', '8438cbbe305740c2aa4f304459e7c6e5/main/notes/notes_v9732e7d7e7d243488f2d56cbd20ff43c.parquet', 1795915885763489, 'purged', 'shop.main.notes', 31, 0, NULL, NULL, NULL, 3599998648);
INSERT INTO public.pending_deletions VALUES ('a5e751df357643548518616cc98c2321', '8438cbbe305740c2aa4f304459e7c6e5/main/empty/empty_ve56ad105494e49d7a9bac737a3c1b523.parquet', 1795912885767879, 'not published', 'shop.main.empty', NULL, 0, NULL, NULL, NULL, 599999881);
INSERT INTO public.tables VALUES ('08285966c897452fa10d7b453a709866', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'customers', 'table', '[{"name": "id", "type": "INTEGER", "nullable": false, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "name", "type": "TEXT", "nullable": false, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "email", "type": "TEXT", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "ssn", "type": "TEXT", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}]', '["id"]', NULL, NULL, 1795912285048412, '76f5e25d812f46df85aa6f10192d3047');
INSERT INTO public.tables VALUES ('856ac100736646b6bd0ce322c84a23ea', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'empty', 'table', '[{"name": "id", "type": "INTEGER", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}]', '[]', NULL, NULL, 1795912285048412, '69b20fed83ef4df19a5064768ee08c8d');
INSERT INTO public.tables VALUES ('035ae9359c77418e8b7655541418ecc0', '8193ac6eb71441d6b8cfdf5df36b65e4', 'main', 'orders', 'table', '[{"name": "id", "type": "INTEGER", "nullable": false, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "amount", "type": "NUMERIC", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "placed", "type": "DATE", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "note", "type": "TEXT", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}]', '["id"]', NULL, NULL, 1795912285137172, 'd8a58c6bbc4e42219cbc9023cfb6944e');
INSERT INTO public.tables VALUES ('51733f0dee764baa8577c7ed4529434c', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'orders', 'table', '[{"name": "id", "type": "INTEGER", "nullable": false, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "amount", "type": "NUMERIC", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "placed", "type": "DATE", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "note", "type": "TEXT", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}]', '["id"]', NULL, NULL, 1795912285048412, '1d8e28d3e76e4c50a9699fd50ddfe8ac');
INSERT INTO public.tables VALUES ('a19c80cc362848f8a0ac0d70bece2d52', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'notes', 'table', '[{"name": "id", "type": "INTEGER", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}, {"name": "body", "type": "TEXT", "nullable": true, "comment": null, "source_type": null, "declared": null, "base": null}]', '[]', NULL, NULL, 1795912285048412, NULL);
INSERT INTO public.versions VALUES ('69b20fed83ef4df19a5064768ee08c8d', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'empty', '8438cbbe305740c2aa4f304459e7c6e5/main/empty/empty_v69b20fed83ef4df19a5064768ee08c8d.parquet', 13, 19, NULL, 0, 284, '[{"name": "id", "type": "BIGINT", "nullable": true, "comment": null, "source_type": "INTEGER", "declared": null, "base": null}]', '2:84ef2345960f2faf126d286462196380', 1795912285278810, 1795912285278810, 28, NULL);
INSERT INTO public.versions VALUES ('d8a58c6bbc4e42219cbc9023cfb6944e', '8193ac6eb71441d6b8cfdf5df36b65e4', 'main', 'orders', '8193ac6eb71441d6b8cfdf5df36b65e4/main/orders/orders_vd8a58c6bbc4e42219cbc9023cfb6944e.parquet', 22, 23, NULL, 3, 1236, '[{"name": "id", "type": "BIGINT", "nullable": false, "comment": null, "source_type": "INTEGER", "declared": null, "base": null}, {"name": "amount", "type": "DOUBLE", "nullable": true, "comment": null, "source_type": "NUMERIC", "declared": "NUMERIC kept as DOUBLE, which is how SQLite stores it", "base": null}, {"name": "placed", "type": "DATE", "nullable": true, "comment": null, "source_type": "DATE", "declared": null, "base": null}, {"name": "note", "type": "VARCHAR", "nullable": true, "comment": null, "source_type": "TEXT", "declared": null, "base": null}]', '2:0841b855e811e1048c8c33993ebd7bd5', 1795912285452832, 1795912285452832, 10, NULL);
INSERT INTO public.versions VALUES ('cbb9758222cb4d7a9a7edf728433485e', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'dropped', '8438cbbe305740c2aa4f304459e7c6e5/main/dropped/dropped_vcbb9758222cb4d7a9a7edf728433485e.parquet', 12, 18, 25, 0, 286, '[{"name": "id", "type": "BIGINT", "nullable": true, "comment": null, "source_type": "INTEGER", "declared": null, "base": null}]', '2:84ef2345960f2faf126d286462196380', 1795912285273086, 1795912285273086, 27, NULL);
INSERT INTO public.versions VALUES ('871f9e662f5b41c2b54b309c386af0d0', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'orders', '8438cbbe305740c2aa4f304459e7c6e5/main/orders/orders_v871f9e662f5b41c2b54b309c386af0d0.parquet', 16, 20, 28, 3, 1235, '[{"name": "id", "type": "BIGINT", "nullable": false, "comment": null, "source_type": "INTEGER", "declared": null, "base": null}, {"name": "amount", "type": "DOUBLE", "nullable": true, "comment": null, "source_type": "NUMERIC", "declared": "NUMERIC kept as DOUBLE, which is how SQLite stores it", "base": null}, {"name": "placed", "type": "DATE", "nullable": true, "comment": null, "source_type": "DATE", "declared": null, "base": null}, {"name": "note", "type": "VARCHAR", "nullable": true, "comment": null, "source_type": "TEXT", "declared": null, "base": null}]', '2:0841b855e811e1048c8c33993ebd7bd5', 1795912285297782, 1795912285297782, 17, NULL);
INSERT INTO public.versions VALUES ('1d8e28d3e76e4c50a9699fd50ddfe8ac', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'orders', '8438cbbe305740c2aa4f304459e7c6e5/main/orders/orders_v1d8e28d3e76e4c50a9699fd50ddfe8ac.parquet', 27, 28, NULL, 4, 1250, '[{"name": "id", "type": "BIGINT", "nullable": false, "comment": null, "source_type": "INTEGER", "declared": null, "base": null}, {"name": "amount", "type": "DOUBLE", "nullable": true, "comment": null, "source_type": "NUMERIC", "declared": "NUMERIC kept as DOUBLE, which is how SQLite stores it", "base": null}, {"name": "placed", "type": "DATE", "nullable": true, "comment": null, "source_type": "DATE", "declared": null, "base": null}, {"name": "note", "type": "VARCHAR", "nullable": true, "comment": null, "source_type": "TEXT", "declared": null, "base": null}]', '2:2dfe1426bd93f61c0ccb6e423f868ccd', 1795912285651064, 1795912285651064, 8, 3);
INSERT INTO public.versions VALUES ('76f5e25d812f46df85aa6f10192d3047', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'customers', '8438cbbe305740c2aa4f304459e7c6e5/main/customers/customers_v76f5e25d812f46df85aa6f10192d3047.parquet', 30, 15, NULL, 2, 1214, '[{"name": "id", "type": "BIGINT", "nullable": false, "comment": null, "source_type": "INTEGER", "declared": null, "base": null}, {"name": "name", "type": "VARCHAR", "nullable": false, "comment": null, "source_type": "TEXT", "declared": null, "base": null}, {"name": "email", "type": "VARCHAR", "nullable": true, "comment": null, "source_type": "TEXT", "declared": "masked: sha256", "base": null}]', '2:f1e35236693593b995283c9e78da3f2a', 1795912285269103, 1795912285748950, 24, NULL);
INSERT INTO public.versions VALUES ('9732e7d7e7d243488f2d56cbd20ff43c', '8438cbbe305740c2aa4f304459e7c6e5', 'main', 'notes', '8438cbbe305740c2aa4f304459e7c6e5/main/notes/notes_v9732e7d7e7d243488f2d56cbd20ff43c.parquet', 14, 17, 31, 1, 632, '[{"name": "id", "type": "BIGINT", "nullable": true, "comment": null, "source_type": "INTEGER", "declared": null, "base": null}, {"name": "body", "type": "VARCHAR", "nullable": true, "comment": null, "source_type": "TEXT", "declared": null, "base": null}]', '2:e6dc761ee599fea51163b9faa8d926ef', 1795912285283133, 1795912285283133, 26, NULL);
SELECT pg_catalog.setval('public.clock_id_seq', 1, false);
SELECT pg_catalog.setval('public.identity_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.clock
    ADD CONSTRAINT clock_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_name_key UNIQUE (name);
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.pending_deletions
    ADD CONSTRAINT pending_deletions_path_key UNIQUE (path);
ALTER TABLE ONLY public.pending_deletions
    ADD CONSTRAINT pending_deletions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.refresh_slots
    ADD CONSTRAINT refresh_slots_pkey PRIMARY KEY (ticket);
ALTER TABLE ONLY public.tables
    ADD CONSTRAINT tables_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.tables
    ADD CONSTRAINT tables_version_id_key UNIQUE (version_id);
ALTER TABLE ONLY public.tables
    ADD CONSTRAINT uq_tables_address UNIQUE (connection_id, schema_name, table_name);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT versions_path_key UNIQUE (path);
ALTER TABLE ONLY public.versions
    ADD CONSTRAINT versions_pkey PRIMARY KEY (id);
CREATE INDEX ix_leases_expires_at ON public.leases USING btree (expires_at);
CREATE INDEX ix_pending_deletions_delete_after ON public.pending_deletions USING btree (delete_after);
CREATE INDEX ix_refresh_slots_connection_id ON public.refresh_slots USING btree (connection_id);
CREATE INDEX ix_versions_address ON public.versions USING btree (connection_id, schema_name, table_name);
CREATE UNIQUE INDEX uq_connections_name_folded ON public.connections USING btree (lower(name));
ALTER TABLE ONLY public.tables
    ADD CONSTRAINT tables_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connections(id);

//! Faults of tables, columns, constraints and indexes.

use super::faults;

pub(super) const FAULTS: &[super::Fault] = faults! {
    // Columns.
    Tables Warning "the column note on", "ALTER TABLE audit_logs ADD COLUMN note text";
    Tables Critical "is character varying instead of text", "ALTER TABLE audit_logs ALTER COLUMN outcome TYPE varchar";
    Tables Critical "is integer instead of bigint", "ALTER TABLE audit_retention_ledger ALTER COLUMN row_count TYPE integer";
    Tables Warning "has no default ('success'::text)", "ALTER TABLE audit_logs ALTER COLUMN outcome DROP DEFAULT";
    Tables Warning "has the default 'acme'::text", "ALTER TABLE audit_logs ALTER COLUMN tenant_id SET DEFAULT 'acme'";
    Tables Critical "the default of the column recorded_at on", "ALTER TABLE audit_logs ALTER COLUMN recorded_at SET DEFAULT '2000-01-01'";
    Tables Critical "the default of the column tx_id on public.audit_logs_2", "ALTER TABLE $month ALTER COLUMN tx_id SET DEFAULT 1";
    Tables Critical "the default of the column created_by on public.audit_legal_holds", "ALTER TABLE audit_legal_holds ALTER COLUMN created_by SET DEFAULT 'nobody'";
    Tables Warning "the column action on 10 tables", "ALTER TABLE audit_logs ALTER COLUMN action DROP NOT NULL";
    Tables Warning "has NOT NULL", "ALTER TABLE audit_logs ALTER COLUMN tenant_id SET NOT NULL";
    Tables Critical "has the identity always", "ALTER TABLE audit_legal_holds ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY";
    Tables Warning "has the collation", "ALTER TABLE audit_legal_holds ALTER COLUMN tenant_id TYPE text COLLATE \"C\"";
    Tables Info "the column metadata on", "ALTER TABLE audit_logs ALTER COLUMN metadata SET STORAGE EXTERNAL";
    Tables Info "has the compression pglz", "ALTER TABLE audit_logs_default ALTER COLUMN metadata SET COMPRESSION pglz";
    Tables Info "has the statistics 500", "ALTER TABLE audit_logs ALTER COLUMN tenant_id SET STATISTICS 500";
    Tables Info "has the options n_distinct=5", "ALTER TABLE audit_legal_holds ALTER COLUMN tenant_id SET (n_distinct = 5)";

    // Constraints.
    Tables Warning "the constraint no_x on", "ALTER TABLE audit_logs ADD CONSTRAINT no_x CHECK (action <> 'x')";
    Tables Warning "NOT VALID", "ALTER TABLE $month ADD CONSTRAINT late CHECK (action <> 'x') NOT VALID";
    Tables Critical "the constraint twice on", "ALTER TABLE audit_logs ADD CONSTRAINT twice UNIQUE (created_at, request_id)";
    Tables Critical "UNIQUE (request_id)", "ALTER TABLE $month ADD CONSTRAINT once UNIQUE (request_id)";
    Tables Critical "EXCLUDE", "ALTER TABLE audit_legal_holds ADD CONSTRAINT alone EXCLUDE (reason WITH =)";
    Tables Warning "FOREIGN KEY (tenant_id)", "CREATE TABLE tenants (id text PRIMARY KEY); ALTER TABLE audit_legal_holds ADD CONSTRAINT known FOREIGN KEY (tenant_id) REFERENCES tenants";
    Tables Warning "audit_legal_holds_reason_check on public.audit_legal_holds is missing", "ALTER TABLE audit_legal_holds DROP CONSTRAINT audit_legal_holds_reason_check";
    Tables Warning "audit_retention_writers_entry_fkey on public.audit_retention_writers is missing", "ALTER TABLE audit_retention_writers DROP CONSTRAINT audit_retention_writers_entry_fkey";
    Tables Warning "NOT VALID instead of", "ALTER TABLE audit_retention_ledger DROP CONSTRAINT audit_retention_ledger_digest_check; \
        ALTER TABLE audit_retention_ledger ADD CONSTRAINT audit_retention_ledger_digest_check CHECK (octet_length(digest) = 32) NOT VALID";
    Tables Warning "NOT ENFORCED instead of", "ALTER TABLE audit_retention_writers ALTER CONSTRAINT audit_retention_writers_entry_fkey NOT ENFORCED" since 18;
    Indexes Critical "stored twice", "ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_pkey";
    Indexes Critical "audit_roles_pkey", "ALTER TABLE audit_roles DROP CONSTRAINT audit_roles_pkey";
    Tables Warning "audit_roles_role_key on public.audit_roles is missing", "ALTER TABLE audit_roles DROP CONSTRAINT audit_roles_role_key";

    // Tables.
    Tables Critical "is unlogged", "ALTER TABLE $month SET UNLOGGED";
    Tables Critical "public.audit_legal_holds is unlogged", "ALTER TABLE audit_legal_holds SET UNLOGGED";
    Tables Info "has the options autovacuum_enabled=false", "ALTER TABLE $month SET (autovacuum_enabled = false)";
    Tables Info "has the toast options toast.autovacuum_enabled=false", "ALTER TABLE $month SET (toast.autovacuum_enabled = false)";
    Tables Info "has the replica identity full", "ALTER TABLE $month REPLICA IDENTITY FULL";
    Tables Critical "is postgres instead of trail_owner", "ALTER TABLE $month OWNER TO postgres";
    Tables Critical "the owner of public.__diesel_schema_migrations is postgres instead of trail_owner: what its owner adds", "ALTER TABLE __diesel_schema_migrations OWNER TO postgres";
    Migrations Warning "public.__diesel_schema_migrations is missing", "DROP TABLE __diesel_schema_migrations";
    Tables Critical "the owner of public.audit_retention_ledger is postgres", "ALTER TABLE audit_retention_ledger OWNER TO postgres";
    Tables Warning "has the parents public.older", "CREATE TABLE older (tenant_id text); ALTER TABLE audit_legal_holds INHERIT older";
    Tables Warning "has the partition of public.parts", "CREATE TABLE parts (LIKE audit_roles) PARTITION BY LIST (kind); ALTER TABLE parts ATTACH PARTITION audit_roles DEFAULT";
    Tables Warning "has the type public.kind_of", "CREATE TYPE kind_of AS (entry bigint, writer_id uuid, part bigint, row_count bigint, numbers int8multirange); ALTER TABLE audit_retention_writers OF kind_of";
    Tables Critical "belongs to the extension plpgsql", "ALTER EXTENSION plpgsql ADD TABLE audit_roles";
    Tables Warning "has the access method other_heap", "CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler; ALTER TABLE $month SET ACCESS METHOD other_heap" since 15;
    Tables Critical "public.audit_retention_declarations is missing", "DROP TABLE audit_retention_declarations";
    Tables Critical "public.audit_legal_holds is missing", "DROP TABLE audit_legal_holds";
    Tables Critical "public.audit_retention_ledger is missing", "DROP TABLE audit_retention_ledger CASCADE";
    DefaultPartition Warning "public.audit_logs_default is missing", "DROP TABLE audit_logs_default";
    Grants Warning "the owner has no INSERT on public.audit_logs", "REVOKE INSERT ON audit_logs FROM trail_owner";

    // Indexes.
    Indexes Warning "audit_logs_time on", "DROP INDEX audit_logs_time";
    Indexes Warning "audit_retention_declarations_entry on", "DROP INDEX audit_retention_declarations_entry";
    Indexes Warning "USING btree (tx_id) instead of USING brin (tx_id)", "DROP INDEX audit_logs_tx_id_brin; CREATE INDEX audit_logs_tx_id_brin ON audit_logs (tx_id)";
    Indexes Info "it slows down every insert", "CREATE INDEX extra ON audit_logs (actor_id)";
    Indexes Info "the index here on public.audit_logs_2", "CREATE INDEX here ON $month (outcome)";
    Indexes Critical "the index only_once on public.audit_logs_2", "CREATE UNIQUE INDEX only_once ON $month (request_id)";
    Indexes Critical "it can refuse rows, or leave them out", "CREATE UNIQUE INDEX all_once ON audit_logs (created_at, actor_id)";
    Indexes Warning "run as the user who inserts", "CREATE INDEX lowered ON $month (lower(action))";
    Indexes Warning "is not valid", "UPDATE pg_index SET indisvalid = false WHERE indrelid = '$month'::regclass AND indexrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs_time'::regclass)";
    Indexes Warning "is not valid", "UPDATE pg_index SET indisready = false WHERE indrelid = '$month'::regclass AND indexrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs_tx_id_brin'::regclass)";
    Indexes Warning "queries do not use its index", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '$month_pkey'::regclass";
    Indexes Warning "audit_logs_time on", "DROP INDEX audit_logs_time; CREATE INDEX audit_logs_time ON ONLY audit_logs (created_at, name(actor_id COLLATE \"C\"), name(resource_id COLLATE \"C\"), \
        name(request_id COLLATE \"C\"), name(tenant_id COLLATE \"C\"))";
    Indexes Warning "USING btree (action) instead of", "SELECT audit_logs_ensure_partitions(now() - interval '3 months', now()); SELECT audit_logs_index_closed_months(); DO $do$ DECLARE \
        month text := 'audit_logs_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') - interval '3 months', 'YYYY_MM'); BEGIN \
        EXECUTE format('DROP INDEX %I', month || '_by_actor'); EXECUTE format('CREATE INDEX %I ON %I (action)', month || '_by_actor', month); END $do$";

    Indexes Info "the options of the index audit_logs_tx_id_brin on public.audit_logs_2", "DO $do$ BEGIN EXECUTE format('ALTER INDEX %s SET (autosummarize = off)', (SELECT i.indexrelid::regclass \
        FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid WHERE i.indrelid = '$month'::regclass AND h.inhparent = 'audit_logs_tx_id_brin'::regclass)); END $do$";
    Indexes Info "has the options fillfactor='50'", "DO $do$ BEGIN EXECUTE format('ALTER INDEX %s SET (fillfactor = 50)', (SELECT i.indexrelid::regclass \
        FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid WHERE i.indrelid = 'audit_logs_default'::regclass AND h.inhparent = 'audit_logs_time'::regclass)); END $do$";
    Indexes Info "has the options fillfactor='40'", "ALTER INDEX audit_retention_declarations_entry SET (fillfactor = 40)";

    // The last: it renames a partition.
    UnattachedTables Info "a partition has the name public.mine instead of $month", "CREATE TABLE mine (LIKE audit_logs INCLUDING DEFAULTS); ALTER TABLE mine ENABLE ROW LEVEL SECURITY; ALTER TABLE mine OWNER TO trail_owner; \
        DROP TABLE $month; DO $do$ DECLARE m timestamptz := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'; BEGIN \
        EXECUTE format('ALTER TABLE audit_logs ATTACH PARTITION mine FOR VALUES FROM (%L) TO (%L)', m, m + interval '10 days'); END $do$; \
        CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON mine FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change(); \
        ALTER TABLE mine ENABLE ALWAYS TRIGGER audit_logs_no_truncate; ALTER TABLE mine ENABLE ALWAYS TRIGGER audit_logs_append_only";
};

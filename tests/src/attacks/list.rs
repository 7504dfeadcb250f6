//! The list of attacks.

/// An attack on a PostgreSQL database with rows, inside a transaction that is rolled back.
pub struct Attack {
    /// Its name in the documentation.
    pub what: &'static str,
    pub sql: &'static str,
    pub how: How,
}

#[derive(Clone, Copy, PartialEq)]
pub enum How {
    /// Counts the rows that the last statement returns or changes.
    Rows,
    /// Succeeds or fails.
    Done,
    /// Sends one line to `COPY … FROM STDIN`.
    Copy,
    /// As `Rows`, but not supported before PostgreSQL 15.
    RowsFrom15,
    /// As `Rows`, for each partition that holds a row, `$part`, and the row's time, `$at`.
    EachPartition,
    /// As `Done`, for every partition.
    EveryPartition,
}

macro_rules! attacks {
    ($($title:literal { $($what:literal $how:ident $sql:literal)* })*) => {
        /// All attacks, by their purpose.
        pub const ATTACKS: &[(&str, &[Attack])] =
            &[$(($title, &[$(Attack { what: $what, sql: $sql, how: How::$how }),*])),*];
    };
}

attacks! {
    "To change or remove rows" {
        "UPDATE" Rows "UPDATE audit_logs SET action = 'forged'"
        "UPDATE that moves a row to another month" Rows
            "UPDATE audit_logs SET created_at = created_at - interval '40 days'"
        "DELETE" Rows "DELETE FROM audit_logs"
        "TRUNCATE" Done "TRUNCATE audit_logs"
        "MERGE" RowsFrom15
            "MERGE INTO audit_logs a USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE"
        "INSERT … ON CONFLICT DO UPDATE" Rows
            "INSERT INTO audit_logs (id, created_at, action) VALUES ('00000000-0000-7000-8000-000000000001', '2031-05-05', 'forged')
             ON CONFLICT (id, created_at) DO UPDATE SET action = 'forged'"
        "UPDATE of a partition" EachPartition "UPDATE $part SET action = 'forged'"
        "DELETE from a partition" EachPartition "DELETE FROM $part"
        "TRUNCATE of a partition" EveryPartition "TRUNCATE $part"
        "UPDATE of a manually created partition" Rows "UPDATE made_by_hand SET action = 'forged'"
        "TRUNCATE of a manually created partition" Done "TRUNCATE made_by_hand"
        "DELETE of a row that was copied before" Done
            "CREATE TABLE audit_logs_moving (LIKE audit_logs); ALTER TABLE audit_logs_moving OWNER TO attack_owner;
             INSERT INTO audit_logs_moving SELECT * FROM audit_logs_default; DELETE FROM audit_logs_default; SET CONSTRAINTS ALL IMMEDIATE"
        "UPDATE of a legal hold" Rows "UPDATE audit_legal_holds SET reason = 'forged'"
        "DELETE from the retention's ledger" Rows "DELETE FROM audit_retention_ledger"
        "DELETE as a replica" Rows "SET session_replication_role = replica; DELETE FROM audit_logs"
        "DELETE from a partition as a replica" EachPartition
            "SET session_replication_role = replica; DELETE FROM $part"
        "TRUNCATE as a replica" Done "SET session_replication_role = replica; TRUNCATE audit_logs"
        "TRUNCATE of a partition as a replica" EveryPartition
            "SET session_replication_role = replica; TRUNCATE $part"
        "DELETE as a replica of a row that was copied before" Done
            "CREATE TABLE audit_logs_moving (LIKE audit_logs); ALTER TABLE audit_logs_moving OWNER TO attack_owner;
             INSERT INTO audit_logs_moving SELECT * FROM audit_logs_default; SET session_replication_role = replica;
             DELETE FROM audit_logs_default; SET CONSTRAINTS ALL IMMEDIATE"
    }
    "To forge entries" {
        "INSERT of an entry, every column of a caller" Rows
            "INSERT INTO audit_logs (id, created_at, tenant_id, actor_id, actor_type, on_behalf_of, action, outcome, resource_type, resource_id,
                                     ip_address, user_agent, request_id, trace_id, operation_id, metadata, writer_id, writer_seq)
             VALUES (gen_random_uuid(), now(), 't', 'a', 'user', 'b', 'x.y', 'denied', 'r', 'i', '::1', 'u', 'q', 'c', gen_random_uuid(), '{}', gen_random_uuid(), 1)"
        "INSERT of an action alone" Rows "INSERT INTO audit_logs (action) VALUES ('x.y')"
        "INSERT of an existing entry, ON CONFLICT DO NOTHING" Rows
            "INSERT INTO audit_logs (id, created_at, action) VALUES ('00000000-0000-7000-8000-000000000001', '2031-05-05', 'x') ON CONFLICT DO NOTHING"
        "INSERT of an existing entry" Rows
            "INSERT INTO audit_logs (id, created_at, action) VALUES ('00000000-0000-7000-8000-000000000001', '2031-05-05', 'x')"
        "INSERT with a recorded_at" Rows
            "INSERT INTO audit_logs (action, recorded_at) VALUES ('x', '2020-01-01')"
        "UPDATE of a position of the feed" Rows "UPDATE audit_feed_positions SET position = 'x'"
        "INSERT of a hold" Rows "INSERT INTO audit_legal_holds (id, reason) VALUES (9, 'x')"
        "INSERT into the retention's ledger" Rows
            "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason)
             VALUES (9, 'dropped', '2001-01', '2001-01-01', '2001-02-01', 0, sha256(''), 'x')"
        "INSERT with a tx_id" Rows "INSERT INTO audit_logs (action, tx_id) VALUES ('x', 1)"
        "INSERT into a partition" EachPartition "INSERT INTO $part (created_at, action) VALUES ($at, 'x')"
        "COPY" Copy "COPY audit_logs (action) FROM STDIN"
        "COPY with a recorded_at" Copy "COPY audit_logs (action, recorded_at) FROM STDIN"
        "a partition of one's own" Done
            "CREATE TABLE forged (LIKE audit_logs INCLUDING ALL);
             ALTER TABLE audit_logs ATTACH PARTITION forged FOR VALUES FROM ('1970-01-01') TO ('1970-02-01')"
    }
    "To read rows of others" {
        "SELECT" Rows "SELECT FROM audit_logs"
        "SELECT with a tenant set" Rows
            "SELECT set_config('audit.tenant_id', 'acme', true); SELECT FROM audit_logs"
        "SELECT of another tenant's rows" Rows
            "SELECT set_config('audit.tenant_id', 'acme', true); SELECT FROM audit_logs WHERE tenant_id <> 'acme'"
        "SELECT of rows without a tenant" Rows
            "SELECT set_config('audit.tenant_id', 'acme', true); SELECT FROM audit_logs WHERE tenant_id IS NULL"
        "SELECT with row_security = off" Rows "SET row_security = off; SELECT FROM audit_logs"
        "SELECT from a partition" EachPartition "SELECT FROM $part"
        "SELECT … FOR UPDATE" Rows "SELECT FROM audit_logs FOR UPDATE"
        "INSERT … RETURNING" Rows "INSERT INTO audit_logs (action) VALUES ('x') RETURNING recorded_at"
        "SELECT of the retention's ledger" Rows "SELECT FROM audit_retention_ledger"
        "SELECT of the legal holds" Rows "SELECT FROM audit_legal_holds"
        "SELECT of the positions of the feed" Rows "SELECT FROM audit_feed_positions"
        "the lines of an archive" Rows "SELECT audit_logs_lines('-infinity', 'infinity')"
        "the planner's statistics of tenants" Rows
            "SELECT FROM pg_stats WHERE tablename LIKE 'audit_logs%' AND attname = 'tenant_id'"
    }
    "To remove a defence" {
        "ALTER TYPE … USING, which changes values" Done
            "ALTER TABLE audit_logs ALTER action TYPE text USING 'forged'"
        "DROP COLUMN" Done "ALTER TABLE audit_logs DROP COLUMN actor_id"
        "another default" Done "ALTER TABLE audit_logs ALTER recorded_at SET DEFAULT '2001-01-01'"
        "SET UNLOGGED, which a crash empties" Done "ALTER TABLE audit_logs_default SET UNLOGGED"
        "DISABLE TRIGGER" Done "ALTER TABLE audit_logs DISABLE TRIGGER ALL"
        "DROP TRIGGER" Done "DROP TRIGGER audit_logs_append_only ON audit_logs"
        "another body for the trigger" Done
            "CREATE OR REPLACE FUNCTION audit_logs_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'"
        "a trigger of one's own" Done
            "CREATE TRIGGER mine BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        "a trigger of one's own on a partition" EveryPartition
            "CREATE TRIGGER mine BEFORE INSERT ON $part FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        "a rule of one's own" Done "CREATE RULE mine AS ON INSERT TO audit_logs DO ALSO NOTHING"
        "DETACH PARTITION" Done "ALTER TABLE audit_logs DETACH PARTITION audit_logs_default"
        "DETACH PARTITION, then DELETE" Rows
            "ALTER TABLE audit_logs DETACH PARTITION audit_logs_default; DELETE FROM audit_logs_default"
        "DETACH PARTITION, then TRUNCATE" Done
            "ALTER TABLE audit_logs DETACH PARTITION audit_logs_default; TRUNCATE audit_logs_default"
        "DROP of a partition" EveryPartition "DROP TABLE $part"
        "DROP TABLE" Done "DROP TABLE audit_logs"
        "DISABLE ROW LEVEL SECURITY" Done "ALTER TABLE audit_logs DISABLE ROW LEVEL SECURITY"
        "a policy of one's own" Done "CREATE POLICY mine ON audit_logs USING (true)"
        "another owner" Done "ALTER TABLE audit_logs OWNER TO CURRENT_USER"
        "GRANT" Done "GRANT ALL ON audit_logs TO PUBLIC;
             DO $$ BEGIN IF NOT has_table_privilege('attack_stranger', 'audit_logs', 'DELETE') THEN RAISE insufficient_privilege; END IF; END $$"
        "LOCK TABLE, which stops all writers" Done "LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE"
        "LOCK TABLE, which stops new partitions" Done "LOCK TABLE ONLY audit_logs IN SHARE UPDATE EXCLUSIVE MODE"
        "LOCK TABLE, which stops retention" Done "LOCK TABLE audit_retention_ledger IN SHARE UPDATE EXCLUSIVE MODE"
        "LOCK TABLE, which stops legal holds" Done "LOCK TABLE audit_legal_holds IN SHARE UPDATE EXCLUSIVE MODE"
        "another role for a part" Rows "UPDATE audit_roles SET role = role"
        "SET ROLE to the owner" Done "SET ROLE attack_owner"
        "SET ROLE to the auditor" Done "SET ROLE audit_auditor"
        "a table in the schema" Done "CREATE TABLE mine ()"
    }
    "To use the owner's functions" {
        "audit_logs_ensure_partitions" Done "SELECT audit_logs_ensure_partitions('2041-01-01', '2041-01-01')"
        "audit_logs_ensure_partitions for an upcoming month" Done
            "SELECT audit_logs_ensure_partitions(now() + interval '20 months', now() + interval '20 months')"
        "audit_logs_create_upcoming_partition" Done
            "SELECT audit_logs_create_upcoming_partition(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '20 months')"
        "audit_logs_create_upcoming_partition for another month" Done "SELECT audit_logs_create_upcoming_partition('2041-01-01')"
        "audit_logs_check_limit" Done "SELECT audit_logs_check_limit('2041-01-01', 480)"
        "audit_logs_lock_partitions" Done "SELECT audit_logs_lock_partitions()"
        "audit_logs_partition_name" Done "SELECT audit_logs_partition_name('2041-01-01')"
        "audit_logs_index_closed_months" Done "SELECT audit_logs_index_closed_months()"
        "audit_logs_segment_months" Done "SELECT audit_logs_segment_months()"
        "audit_logs_partitions" Done "SELECT audit_logs_partitions()"
        "audit_tenant_condition" Done "SELECT audit_tenant_condition('$1')"
        "audit_logs_add_time_index" Done "DROP INDEX audit_logs_time; CREATE INDEX audit_logs_time ON ONLY audit_logs (created_at, name(actor_id COLLATE \"C\"), name(resource_id COLLATE \"C\"), \
            name(request_id COLLATE \"C\"), name(tenant_id COLLATE \"C\")); SELECT audit_logs_add_time_index('audit_logs_default')"
        "audit_logs_drop_replaced_indexes" Done "SELECT audit_logs_drop_replaced_indexes()"
        "audit_logs_next_cut" Done "SELECT audit_logs_next_cut(now(), now(), now(), 1, 1, '1 hour')"
        "audit_logs_cut" Done "SELECT audit_logs_cut(partition, (from_time + interval '15 days')) FROM audit_logs_partitions() WHERE from_time > now() LIMIT 1"
        "audit_logs_attach" Done "ALTER TABLE audit_logs DETACH PARTITION audit_logs_2001_02; SELECT audit_logs_attach('audit_logs_2001_02', '2001-02-01Z', '2001-03-01Z')"
        "audit_logs_bounds" Done "SELECT audit_logs_bounds()"
        "audit_logs_first_gap" Done "SELECT audit_logs_first_gap('2001-02-01')"
        "audit_logs_segment_name" Done "SELECT audit_logs_segment_name('2001-02-01')"
        "audit_logs_create_table" Done "SELECT audit_logs_create_table(current_schema() || '.one_more')"
        "audit_logs_lock_exclusively" Done "SELECT audit_logs_lock_exclusively(ARRAY['audit_logs_2001_02'::regclass])"
        "audit_logs_lookup" Done "SELECT audit_logs_lookup(ARRAY[gen_random_uuid()], ARRAY[now()], ARRAY[NULL::uuid], ARRAY[NULL::bigint])"
        "audit_record_reading" Done "SELECT audit_record_reading('audit.viewed', 'actor:alice', 1, 'alice')"
        "audit_record_reading for another action" Done "SELECT audit_record_reading('auth.login', 'x', 1, 'alice')"
        "audit_logs_create_partition" Done "SELECT audit_logs_create_partition('2041-01-01')"
        "audit_qualify_functions" Done "SELECT audit_qualify_functions()"
        "audit_revoke_all" Done "SELECT audit_revoke_all('TABLE', 'audit_logs'::regclass)"
        "audit_lock_down_table" Done "SELECT audit_lock_down_table('audit_logs')"
        "audit_role" Done "SELECT audit_role('writer')"
        "audit_logs_months" Done "SELECT audit_logs_months()"
        "audit_logs_default_months" Done "SELECT audit_logs_default_months()"
        "audit_logs_move_month" Done "SELECT audit_logs_move_month('1999-01-01')"
        "audit_logs_check_moved" Done "SELECT audit_logs_check_moved()"
        "audit_logs_digest" Done "SELECT audit_logs_digest(now() - interval '1 hour', now())"
        "audit_logs_lines" Rows "SELECT audit_logs_lines(now() - interval '1 hour', now())"
        "audit_logs_line_query" Done "SELECT audit_logs_line_query()"
        "audit_logs_long_line" Done "SELECT audit_logs_long_line('00000000-0000-7000-8000-000000000001', '2031-05-05')"
        "audit_logs_has_row" Done
            "SELECT audit_logs_has_row('{\"id\": \"00000000-0000-7000-8000-000000000009\"}', '{}', '{}')"
        "audit_logs_restore_row" Done
            "CREATE TEMP TABLE audit_restore_pieces (name name, nth bigint, piece text);
             SELECT audit_logs_restore_row('{\"id\": \"00000000-0000-7000-8000-000000000009\", \"created_at\": \"2031-05-05\",
                 \"recorded_at\": \"2031-05-05\", \"tx_id\": 1, \"action\": \"x\", \"outcome\": \"x\"}', '{}', '{}')"
        "audit_retention_plan" Done "SELECT audit_retention_plan(13)"
        "audit_retention_lock" Done "SELECT audit_retention_lock()"
        "audit_retention_dependents" Done "SELECT audit_retention_dependents('{audit_logs_default}')"
        "audit_retention_drop_tables" Done "SELECT audit_retention_drop_tables('{made_by_hand}')"
        "audit_logs_drop_month" Done "SELECT audit_logs_drop_month('audit_logs_2001_02', 13, 'x', trust_clock => true)"
        "audit_feed_save" Done "SELECT audit_feed_save('siem', NULL, 'x')"
        "audit_hold_add" Done "SELECT audit_hold_add('x')"
        "audit_hold_release" Done "SELECT audit_hold_release(1, 'x')"
        "audit_hold_coverage" Done "SELECT audit_hold_coverage('acme')"
        "audit_holds_on" Done "SELECT audit_holds_on('audit_logs_default', '-infinity', 'infinity')"
    }
}

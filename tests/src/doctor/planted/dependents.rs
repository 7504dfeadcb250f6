//! Objects that depend on the trail, and faults of its continuity that can be repaired.

use super::faults;

pub(super) const FAULTS: &[super::Fault] = faults! {
    // Views.
    Dependents Warning "the view public.recent depends on the trail", "CREATE VIEW recent AS SELECT * FROM audit_logs";
    Dependents Critical "it shows the rows of every tenant", "CREATE VIEW everything AS SELECT * FROM audit_logs; ALTER VIEW everything OWNER TO trail_owner; GRANT SELECT ON everything TO PUBLIC";
    Dependents Critical "the view public.of_auditor depends on the trail (PUBLIC may read it)", "CREATE VIEW of_auditor AS SELECT * FROM audit_logs; ALTER VIEW of_auditor OWNER TO audit_auditor; GRANT SELECT ON of_auditor TO PUBLIC";
    Dependents Warning "the view public.careful depends on the trail", "CREATE VIEW careful WITH (security_invoker = true) AS SELECT * FROM audit_logs; GRANT SELECT ON careful TO PUBLIC" since 15;
    Dependents Warning "the materialized view public.copied depends on the trail", "CREATE MATERIALIZED VIEW copied AS SELECT * FROM audit_logs";
    Dependents Critical "the materialized view public.readable depends on the trail (PUBLIC may read it)", "CREATE MATERIALIZED VIEW readable AS SELECT * FROM $month; GRANT SELECT ON readable TO PUBLIC";
    Dependents Warning "the view public.outer_view depends on the trail", "CREATE VIEW inner_view AS SELECT 1 AS x FROM audit_legal_holds; CREATE VIEW outer_view AS SELECT x FROM inner_view";
    Dependents Warning "the view public.\"My \"\"View\"\"\" depends", "CREATE VIEW \"My \"\"View\"\"\" AS SELECT * FROM audit_retention_ledger";
    Dependents Warning "the view public.audit_report depends", "CREATE VIEW audit_report AS SELECT * FROM audit_logs";
    Dependents Warning "the view elsewhere.seen depends", "CREATE SCHEMA elsewhere; CREATE VIEW elsewhere.seen AS SELECT audit_role('writer')";

    // Functions, constraints, types.
    Dependents Warning "the function public.peek() depends on the trail", "CREATE FUNCTION peek() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM audit_logs)";
    Dependents Warning "the function public.of_row(", "CREATE FUNCTION of_row(audit_retention_ledger) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'";
    Dependents Warning "it can prevent months from being dropped", "CREATE TABLE points_to (entry bigint REFERENCES audit_retention_ledger)";
    Dependents Warning "the table constraint points_fk on public.points depends", "CREATE TABLE points (id uuid, at timestamptz, CONSTRAINT points_fk FOREIGN KEY (id, at) REFERENCES audit_logs)";
    Dependents Critical "its rows appear as rows of the table", "CREATE TABLE forged () INHERITS (audit_legal_holds)";
    Dependents Warning "the table column public.typed.entry depends", "CREATE TABLE typed (entry audit_legal_holds)";
    Dependents Warning "the composite type column public.composed.entry depends", "CREATE TYPE composed AS (entry audit_legal_holds)";
    Functions Info "the function public.audit_extra() is not part of the trail", "CREATE FUNCTION audit_extra() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE VIEW uses_extra AS SELECT audit_extra()";
    Dependents Info "default value", "CREATE TABLE with_ids (id uuid DEFAULT audit_uuid_v7())";
    Dependents Info "the trigger guarded on public.guarded depends", "CREATE TABLE guarded (x int); CREATE TRIGGER guarded BEFORE DELETE ON guarded FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change()";
    Dependents Info "the statistics object public.correlated depends", "CREATE STATISTICS correlated ON tenant_id, actor_id FROM audit_logs";
    Dependents Warning "the cast (public.audit_roles AS pg_catalog.text) depends", "CREATE CAST (audit_roles AS text) WITH INOUT";
    Dependents Warning "the aggregate public.chain(pg_catalog.bytea) depends", "CREATE AGGREGATE chain(bytea) (SFUNC = audit_digest_step, STYPE = bytea)";

    // Replication, events, transactions.
    Dependents Warning "the publication one depends", "CREATE PUBLICATION one FOR TABLE audit_logs";
    Dependents Warning "the publication month depends", "CREATE PUBLICATION month FOR TABLE $month";
    Dependents Warning "the publication everything depends", "CREATE PUBLICATION everything FOR ALL TABLES";
    Dependents Warning "the publication of_schema depends", "CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA public" since 15;
    Dependents Critical "the subscription incoming depends", "CREATE SUBSCRIPTION incoming CONNECTION 'dbname=x' PUBLICATION x WITH (connect = false, slot_name = NONE); \
        INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, 'audit_logs_default'::regclass, 'r' FROM pg_subscription";
    Dependents Warning "the event trigger watch depends", "CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION watch()";
    PreparedTransactions Warning "the prepared transaction 'it''s open' (postgres, since", "BEGIN; INSERT INTO audit_logs (action) VALUES ('x'); PREPARE TRANSACTION 'it''s open'";
    PreparedTransactions Warning "the prepared transaction 'ledger'", "BEGIN; LOCK TABLE audit_retention_ledger IN SHARE MODE; PREPARE TRANSACTION 'ledger'";

    // Names of partitions.
    UnattachedTables Warning "the view public.audit_logs_2040_01 is not attached", "CREATE VIEW audit_logs_2040_01 AS SELECT 1";
    UnattachedTables Warning "the table public.audit_logs_2041_01 is not attached", "CREATE TABLE audit_logs_2041_01 (LIKE audit_logs)";
    UnattachedTables Warning "the sequence public.audit_logs_2042_01 is not attached", "CREATE SEQUENCE audit_logs_2042_01";

    // Months. Those that are upcoming are created by their remedy, for two years.
    Indexes Warning "closed months, ", "SELECT audit_logs_ensure_partitions(now() - interval '4 months', now())";
    Continuity Warning "has neither a partition nor an entry in the ledger", "DO $do$ BEGIN EXECUTE format('DROP TABLE %I', 'audit_logs_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months', 'YYYY_MM')); END $do$";
    Continuity Warning "(3 months) have neither", "DO $do$ BEGIN FOR n IN 9 .. 11 LOOP EXECUTE format('DROP TABLE %I', 'audit_logs_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n), 'YYYY_MM')); END LOOP; END $do$";
    UpcomingPartitions Warning "this month, or a part of it, has no partition", "DROP TABLE $month";
};

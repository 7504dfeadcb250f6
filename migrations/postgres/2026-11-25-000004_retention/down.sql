-- Takes the holds and the ledger with it. What was moved and dropped stays moved and dropped.
SET LOCAL lock_timeout = '2s';

DROP TRIGGER audit_logs_moved_only ON audit_logs_default;
DROP FUNCTION audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea);
DROP FUNCTION audit_retention_take(regclass, timestamptz, timestamptz, pg_snapshot);
DROP FUNCTION audit_retention_record(audit_retention_ledger);
DROP FUNCTION audit_retention_check(integer, boolean, integer);
DROP FUNCTION audit_retention_turn();
DROP FUNCTION audit_logs_digest(timestamptz, timestamptz);
DROP AGGREGATE audit_digest(bytea);
DROP FUNCTION audit_digest_step(bytea, bytea);
DROP FUNCTION audit_retention_plan(integer, boolean);
DROP FUNCTION audit_logs_months();
DROP FUNCTION audit_holds_on(regclass, timestamptz, timestamptz);
DROP FUNCTION audit_hold_release(bigint, text);
DROP FUNCTION audit_hold_add(text, text, timestamptz, timestamptz);
DROP FUNCTION audit_logs_adopt_month(timestamp);
DROP FUNCTION audit_logs_stray_months();
DROP FUNCTION audit_logs_demand_moved();
DROP TABLE audit_retention_declarations, audit_retention_writers, audit_retention_ledger, audit_legal_holds;

-- As the first migration has it.
CREATE OR REPLACE FUNCTION audit_logs_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'audit_logs is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'UA001',
              HINT = 'Audit rows are never changed. Write a further row that corrects this one.';
END
$$;

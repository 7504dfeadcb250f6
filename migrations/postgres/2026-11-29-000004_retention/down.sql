-- Removes the holds and the ledger with their rows. Months that were dropped stay dropped.
SET LOCAL lock_timeout = '2s';

DROP FUNCTION audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea, boolean),
    audit_retention_drop(regclass, timestamptz, timestamptz, pg_snapshot),
    audit_retention_log(audit_retention_ledger), audit_retention_check(integer, boolean, integer, boolean),
    audit_retention_lock(), audit_logs_restore_row(json, name[], text[], jsonb),
    audit_logs_has_row(json, name[], text[], jsonb),
    audit_logs_digest(timestamptz, timestamptz), audit_logs_lines(timestamptz, timestamptz),
    audit_logs_long_line(uuid, timestamptz), audit_logs_line_query();
DROP AGGREGATE audit_digest(bytea);
DROP FUNCTION audit_digest_step(bytea, bytea), audit_retention_plan(integer, boolean), audit_logs_months(),
    audit_holds_on(regclass, timestamptz, timestamptz), audit_hold_coverage(text, timestamptz, timestamptz),
    audit_hold_release(bigint, text), audit_hold_add(text, text, timestamptz, timestamptz);
DROP TABLE audit_retention_declarations, audit_retention_writers, audit_retention_ledger, audit_legal_holds;

-- Removes the holds and the ledger with their rows. Months that were dropped stay dropped. Refuses that while a hold is
-- active or the ledger has an entry, unless this is set: SET audit.remove_evidence = 'on'.
SET LOCAL lock_timeout = '2s';

-- From here on no hold and no entry is added.
LOCK TABLE audit_legal_holds, audit_retention_ledger IN ACCESS EXCLUSIVE MODE;

DO $do$
DECLARE
    holds   bigint;
    entries bigint;
BEGIN
    IF current_setting('audit.remove_evidence', true) = 'on' THEN
        RETURN;
    ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- An older snapshot would not show what was added before the lock.
        RAISE EXCEPTION 'audit_logs: this migration is reverted only in a READ COMMITTED transaction'
            USING ERRCODE = 'UA002';
    END IF;
    holds := (SELECT count(*) FROM audit_legal_holds h WHERE h.releases IS NULL
              AND NOT EXISTS (SELECT FROM audit_legal_holds r WHERE r.releases = h.id));
    entries := (SELECT count(*) FROM audit_retention_ledger);
    IF holds > 0 OR entries > 0 THEN
        RAISE EXCEPTION 'audit_logs: % active holds and % entries of the ledger would be lost', holds, entries
            USING ERRCODE = 'UA002', HINT = 'To lose them, SET audit.remove_evidence = ''on'' (migrate --revert --force).';
    END IF;
END
$do$;

DROP FUNCTION audit_logs_drop_month(name, integer, text, boolean, integer, boolean, text, bytea, bytea, boolean),
    audit_retention_drop(timestamptz, timestamptz, pg_snapshot),
    audit_retention_drop_tables(regclass[]), audit_retention_dependents(regclass[]),
    audit_retention_log(audit_retention_ledger), audit_retention_check(integer, boolean, integer, boolean),
    audit_retention_lock(), audit_logs_restore_row(json, name[], text[], jsonb),
    audit_logs_has_row(json, name[], text[], jsonb),
    audit_logs_digest(timestamptz, timestamptz), audit_logs_lines(timestamptz, timestamptz),
    audit_logs_long_line(uuid, timestamptz), audit_logs_line_query();
DROP AGGREGATE audit_digest(bytea);
DROP FUNCTION audit_digest_step(bytea, bytea), audit_retention_plan(integer, boolean), audit_logs_months(),
    audit_holds_on(regclass, timestamptz, timestamptz), audit_hold_coverage(text, timestamptz, timestamptz),
    audit_tenant_condition(text),
    audit_hold_release(bigint, text), audit_hold_add(text, text, timestamptz, timestamptz);
DROP TABLE audit_retention_declarations, audit_retention_writers, audit_retention_ledger, audit_legal_holds;

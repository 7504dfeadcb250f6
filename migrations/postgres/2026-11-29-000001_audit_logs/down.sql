-- Removes the audit trail with every row in it.
SET LOCAL lock_timeout = '2s';

DROP TABLE audit_logs;
DROP FUNCTION audit_logs_check_moved(), audit_logs_refuse_change(), audit_lock_down_table(regclass),
    audit_revoke_all(text, oid), audit_qualify_functions(name), audit_uuid_v7();

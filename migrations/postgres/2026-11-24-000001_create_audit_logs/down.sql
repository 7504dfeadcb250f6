-- Removes the audit trail with every row in it.
DROP TABLE audit_logs;
DROP FUNCTION audit_logs_refuse_change();
DROP FUNCTION audit_uuid_v7();

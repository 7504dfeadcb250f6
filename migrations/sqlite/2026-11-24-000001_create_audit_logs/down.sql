-- Removes the audit trail with every row in it.
DROP TABLE audit_logs;

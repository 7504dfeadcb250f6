-- Takes the place of the migrated table: the same columns, defaults and indexes in one table, without
-- partitions and triggers.
ALTER TABLE audit_logs RENAME TO audit_logs_guarded;
CREATE TABLE audit_logs (LIKE audit_logs_guarded INCLUDING ALL);

-- Replaces the migrated table by one with the same columns, defaults and indexes, but without partitions and
-- triggers.
ALTER TABLE audit_logs RENAME TO audit_logs_guarded;
CREATE TABLE audit_logs (LIKE audit_logs_guarded INCLUDING ALL);

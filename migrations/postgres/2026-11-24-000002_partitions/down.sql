-- The months stay with their rows; only what makes new ones goes.
DROP FUNCTION audit_logs_index_closed_months();
DROP FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz);
DROP FUNCTION audit_logs_make_month(timestamp);

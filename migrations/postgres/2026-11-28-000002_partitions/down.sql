-- The partitions stay with their rows; only the functions that create and fill partitions go.
SET LOCAL lock_timeout = '2s';

DROP FUNCTION audit_logs_move_month(timestamp), audit_logs_default_months(), audit_logs_index_closed_months(),
    audit_logs_ensure_partitions(timestamptz, timestamptz), audit_logs_create_partition(timestamp);

-- The partitions stay with their rows; only the functions that create and fill partitions go.
SET LOCAL lock_timeout = '2s';

DROP FUNCTION audit_logs_move_month(timestamp, integer), audit_logs_default_months(),
    audit_logs_index_closed_months(), audit_logs_ensure_partitions(timestamptz, timestamptz, integer),
    audit_logs_create_upcoming_partition(timestamp), audit_logs_check_limit(timestamp, integer),
    audit_logs_create_partition(timestamp), audit_logs_first_gap(timestamp), audit_logs_segment_name(timestamp),
    audit_logs_partition_name(timestamp),
    audit_logs_lock_exclusively(regclass[]), audit_logs_attach(regclass, timestamptz, timestamptz),
    audit_logs_create_table(text), audit_logs_partitions(), audit_logs_bounds(),
    audit_logs_lock_partitions();

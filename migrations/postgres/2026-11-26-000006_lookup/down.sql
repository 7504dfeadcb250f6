SET LOCAL lock_timeout = '2s';

DROP FUNCTION audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[]);

SET LOCAL lock_timeout = '2s';

DROP FUNCTION audit_record_reading(text, text, bigint, text);

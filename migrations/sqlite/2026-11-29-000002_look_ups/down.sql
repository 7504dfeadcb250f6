CREATE INDEX audit_logs_created_at ON audit_logs (created_at);
DROP INDEX audit_logs_time;

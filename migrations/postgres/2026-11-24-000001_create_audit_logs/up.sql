-- The audit trail: one append-only table, partitioned by month on created_at.
-- Written for PostgreSQL 14 and newer, for any schema (whatever comes first in search_path).

-- RFC 9562 UUID version 7: 48 bits of Unix milliseconds, then random bits. Serves clients that
-- send no id; the audit writer makes its own, so that a repeated insert is recognised.
CREATE FUNCTION audit_uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid
    $$;

CREATE TABLE audit_logs (
    id            uuid        NOT NULL DEFAULT audit_uuid_v7(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id     text,
    actor_id      text,
    actor_type    text,
    on_behalf_of  text,
    action        text        NOT NULL,
    outcome       text        NOT NULL DEFAULT 'success',
    resource_type text,
    resource_id   text,
    ip_address    inet,
    user_agent    text,
    request_id    text,
    trace_id      text,
    operation_id  uuid,
    metadata      jsonb       DEFAULT '{}',
    writer_id     uuid,
    writer_seq    bigint,
    tx_id         bigint      NOT NULL DEFAULT (pg_current_xact_id()::text)::bigint,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE audit_logs IS 'Who did what, when, from where, with what outcome. Append-only: rows are inserted and never changed.';
COMMENT ON COLUMN audit_logs.id IS 'Identifies the entry together with created_at. UUID version 7 (RFC 9562), made by the caller''s process; by the database for clients that send none.';
COMMENT ON COLUMN audit_logs.created_at IS 'When it happened, by the caller''s clock, to the microsecond. Decides the monthly partition.';
COMMENT ON COLUMN audit_logs.recorded_at IS 'When the database took the row, by the database''s clock. No writer sets it.';
COMMENT ON COLUMN audit_logs.tenant_id IS 'The customer or account the event belongs to. Text and no foreign key: the record outlives what it names.';
COMMENT ON COLUMN audit_logs.actor_id IS 'Who did it.';
COMMENT ON COLUMN audit_logs.actor_type IS 'What kind of actor: user, service, api_key, system, anonymous. Readers accept other values.';
COMMENT ON COLUMN audit_logs.on_behalf_of IS 'Whom the actor acted for, in an impersonation or a delegation.';
COMMENT ON COLUMN audit_logs.action IS 'What was done, as noun.verb, for example auth.login. Actions that begin with audit. are the writer''s own.';
COMMENT ON COLUMN audit_logs.outcome IS 'How it ended: success, failure, denied, unknown. Readers accept other values.';
COMMENT ON COLUMN audit_logs.resource_type IS 'What kind of thing it was done to.';
COMMENT ON COLUMN audit_logs.resource_id IS 'Which thing it was done to.';
COMMENT ON COLUMN audit_logs.ip_address IS 'The network address it came from.';
COMMENT ON COLUMN audit_logs.user_agent IS 'The client software, as it named itself; at most 256 characters from the audit writer.';
COMMENT ON COLUMN audit_logs.request_id IS 'The request it was part of.';
COMMENT ON COLUMN audit_logs.trace_id IS 'The distributed trace it was part of (W3C Trace Context).';
COMMENT ON COLUMN audit_logs.operation_id IS 'Joins the row of an intent with the row of its outcome.';
COMMENT ON COLUMN audit_logs.metadata IS 'Whatever else is worth keeping, a JSON object. Null only after a redaction.';
COMMENT ON COLUMN audit_logs.writer_id IS 'The audit writer that sent the row; null for other clients and for inserts within a caller''s transaction.';
COMMENT ON COLUMN audit_logs.writer_seq IS 'The entry''s number in its writer, counted from 1 without gaps.';
COMMENT ON COLUMN audit_logs.tx_id IS 'The database transaction that inserted the row: how readers find rows that were committed late.';

-- Append-only. The row trigger is cloned to every partition; a TRUNCATE trigger is not, so each
-- partition gets its own. ENABLE ALWAYS: session_replication_role = replica must not switch it off.
CREATE FUNCTION audit_logs_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'audit_logs is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'UA001',
              HINT = 'Audit rows are never changed. Write a further row that corrects this one.';
END
$$;

CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change();
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();

-- Catches what no month covers, so that no client is ever refused for its date.
CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;
COMMENT ON TABLE audit_logs_default IS 'Rows of audit_logs that no month covers.';
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs_default
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();

-- One by one: versions of PostgreSQL differ in what recurses. The parent's setting is what partitions
-- made by hand inherit.
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_append_only;
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_no_truncate;
ALTER TABLE audit_logs_default ENABLE ALWAYS TRIGGER audit_logs_append_only;
ALTER TABLE audit_logs_default ENABLE ALWAYS TRIGGER audit_logs_no_truncate;

-- Indexes are the price of every insert; docs/decisions/0002-indexes.md has the figures. Look-ups by
-- actor, resource and request get theirs when a month has closed: audit_logs_index_closed_months().
CREATE INDEX audit_logs_tenant_timeline ON audit_logs (tenant_id, created_at);
COMMENT ON INDEX audit_logs_tenant_timeline IS 'Serves: WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 50.';
CREATE INDEX audit_logs_created_at_brin ON audit_logs USING brin (created_at) WITH (autosummarize = on);
COMMENT ON INDEX audit_logs_created_at_brin IS 'Serves: WHERE created_at >= $1 AND created_at < $2, across tenants.';
CREATE INDEX audit_logs_tx_id_brin ON audit_logs USING brin (tx_id) WITH (autosummarize = on);
COMMENT ON INDEX audit_logs_tx_id_brin IS 'Serves: WHERE tx_id >= $1, rows of recent transactions.';

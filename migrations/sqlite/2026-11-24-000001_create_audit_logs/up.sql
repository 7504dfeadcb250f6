-- The audit trail on SQLite: the columns of the PostgreSQL table, append-only as there.
-- Times are microseconds since 1970-01-01 UTC, ids are the 16 bytes of a UUID, JSON is text.
-- The defaults serve other clients and use nothing newer than SQLite 3.35: an id from here is a
-- random UUID (version 4), since a version 7 would need unhex() of SQLite 3.41.
CREATE TABLE audit_logs (
    id            BLOB   NOT NULL DEFAULT (CAST(
                      randomblob(6)
                      || substr(x'404142434445464748494a4b4c4d4e4f', abs(random() % 16) + 1, 1) || randomblob(1)
                      || substr(x'808182838485868788898a8b8c8d8e8f', abs(random() % 16) + 1, 1) || randomblob(7)
                      AS BLOB)),
    created_at    BIGINT NOT NULL DEFAULT (
                      CAST(strftime('%s', 'now') AS INTEGER) * 1000000
                      + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000),
    recorded_at   BIGINT NOT NULL DEFAULT (
                      CAST(strftime('%s', 'now') AS INTEGER) * 1000000
                      + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER) * 1000),
    tenant_id     TEXT,
    actor_id      TEXT,
    actor_type    TEXT,
    on_behalf_of  TEXT,
    action        TEXT   NOT NULL,
    outcome       TEXT   NOT NULL DEFAULT 'success',
    resource_type TEXT,
    resource_id   TEXT,
    ip_address    TEXT,
    user_agent    TEXT,
    request_id    TEXT,
    trace_id      TEXT,
    operation_id  BLOB,
    metadata      TEXT   DEFAULT '{}',
    writer_id     BLOB,
    writer_seq    BIGINT,
    tx_id         BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (id, created_at),
    -- SQLite keeps any value in any column; readers rely on these.
    CHECK (typeof(id) = 'blob' AND length(id) = 16),
    CHECK (typeof(created_at) = 'integer' AND typeof(recorded_at) = 'integer' AND typeof(tx_id) = 'integer'),
    CHECK (operation_id IS NULL OR (typeof(operation_id) = 'blob' AND length(operation_id) = 16)),
    CHECK (writer_id IS NULL OR (typeof(writer_id) = 'blob' AND length(writer_id) = 16)),
    CHECK (writer_seq IS NULL OR typeof(writer_seq) = 'integer')
) WITHOUT ROWID;

-- Serves: WHERE tenant_id = ?1 ORDER BY created_at DESC LIMIT 50.
CREATE INDEX audit_logs_tenant_timeline ON audit_logs (tenant_id, created_at);
-- Serves: ORDER BY created_at DESC LIMIT 50, and ranges of time across tenants.
CREATE INDEX audit_logs_created_at ON audit_logs (created_at);

CREATE TRIGGER audit_logs_no_update BEFORE UPDATE ON audit_logs
BEGIN
    SELECT RAISE(ABORT, 'audit_logs is append-only: UPDATE is refused');
END;
CREATE TRIGGER audit_logs_no_delete BEFORE DELETE ON audit_logs
BEGIN
    SELECT RAISE(ABORT, 'audit_logs is append-only: DELETE is refused');
END;
-- INSERT OR REPLACE would delete the old row without asking the DELETE trigger.
CREATE TRIGGER audit_logs_no_replace BEFORE INSERT ON audit_logs
WHEN EXISTS (SELECT 1 FROM audit_logs WHERE id = NEW.id AND created_at = NEW.created_at)
BEGIN
    SELECT RAISE(ABORT, 'audit_logs is append-only: an entry with this id and created_at is already there');
END;

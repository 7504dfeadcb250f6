-- The feed. One transaction writes at a time, so the order in which rows are numbered is that of commits.
CREATE TABLE audit_feed_order (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL,
    created_at BIGINT  NOT NULL
);
INSERT INTO audit_feed_order (id, created_at) SELECT id, created_at FROM audit_logs ORDER BY created_at, id;

CREATE TRIGGER audit_logs_number AFTER INSERT ON audit_logs
BEGIN
    INSERT INTO audit_feed_order (id, created_at) VALUES (NEW.id, NEW.created_at);
END;

-- No number is given twice, and none is missing.
CREATE TRIGGER audit_feed_order_no_update BEFORE UPDATE ON audit_feed_order
BEGIN
    SELECT RAISE(ABORT, 'audit_feed_order is append-only: UPDATE is refused');
END;
CREATE TRIGGER audit_feed_order_no_delete BEFORE DELETE ON audit_feed_order
BEGIN
    SELECT RAISE(ABORT, 'audit_feed_order is append-only: DELETE is refused');
END;

-- Identifies this file: a position belongs to one.
CREATE TABLE audit_feed_file (id BLOB NOT NULL CHECK (typeof(id) = 'blob' AND length(id) = 16));
INSERT INTO audit_feed_file (id) VALUES (randomblob(16));

-- Where readers are, by name.
CREATE TABLE audit_feed_positions (
    name     TEXT NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 200),
    position TEXT NOT NULL CHECK (length(position) BETWEEN 1 AND 1000000),
    saved_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

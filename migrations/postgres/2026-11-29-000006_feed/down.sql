-- Removes the stored positions: their readers start again.
SET LOCAL lock_timeout = '2s';

DROP FUNCTION audit_feed_save(text, text, text);
DROP TABLE audit_feed_positions;

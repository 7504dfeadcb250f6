-- Removes the order of the feed and the stored positions: their readers start again.
DROP TRIGGER audit_logs_number;
DROP TABLE audit_feed_positions;
DROP TABLE audit_feed_file;
DROP TABLE audit_feed_order;

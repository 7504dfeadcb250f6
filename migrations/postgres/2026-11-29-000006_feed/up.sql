-- Positions of readers of the feed, by name. docs/decisions/0024-feed.md has the reasons.
-- The feed itself needs the column tx_id and its index alone.

SET LOCAL lock_timeout = '2s';

CREATE TABLE audit_feed_positions (
    name     text        PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 200),
    position text        NOT NULL CHECK (octet_length(position) BETWEEN 1 AND 1000000),
    saved_by name        NOT NULL,
    saved_at timestamptz NOT NULL
);
SELECT audit_revoke_all('TABLE', 'audit_feed_positions'::regclass);

SET LOCAL check_function_bodies = off;

-- Saves a position under a name if the stored one is still "previous"; null is for none. Returns whether it did: two
-- readers of one name notice each other by that.
CREATE FUNCTION audit_feed_save(name text, previous text, "position" text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
#variable_conflict use_column
BEGIN
    IF audit_feed_save.previous IS NULL AND audit_feed_save.position IS NULL THEN
        RETURN NOT EXISTS (SELECT FROM @schema@.audit_feed_positions p WHERE p.name = audit_feed_save.name);
    ELSIF audit_feed_save.previous IS NULL THEN
        INSERT INTO @schema@.audit_feed_positions AS p (name, position, saved_by, saved_at)
        VALUES (audit_feed_save.name, audit_feed_save.position, session_user, clock_timestamp())
        ON CONFLICT DO NOTHING;
    ELSIF audit_feed_save.position IS NULL THEN
        DELETE FROM @schema@.audit_feed_positions p
        WHERE p.name = audit_feed_save.name AND p.position = audit_feed_save.previous;
    ELSE
        UPDATE @schema@.audit_feed_positions p
        SET position = audit_feed_save.position, saved_by = session_user, saved_at = clock_timestamp()
        WHERE p.name = audit_feed_save.name AND p.position = audit_feed_save.previous;
    END IF;
    RETURN FOUND;
END
$$;

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', 'audit_feed_save(text, text, text)'::regprocedure);

DO $do$
DECLARE
    auditor    constant name := audit_role('auditor');
    maintainer constant name := audit_role('maintainer');
BEGIN
    EXECUTE format('GRANT SELECT ON audit_feed_positions TO %I, %I', auditor, maintainer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_feed_save(text, text, text) TO %I', auditor);
END
$do$;

COMMENT ON TABLE audit_feed_positions IS
    'Where readers of the feed are, by name. No evidence: whoever changes it makes a reader skip rows or read some again.';
COMMENT ON COLUMN audit_feed_positions.name IS 'Which reader, for example the name of an exporter.';
COMMENT ON COLUMN audit_feed_positions.position IS 'The text of a position, as the feed returned it.';
COMMENT ON COLUMN audit_feed_positions.saved_by IS 'The user who logged in, whatever role was set since.';
COMMENT ON COLUMN audit_feed_positions.saved_at IS 'When it was saved.';
COMMENT ON FUNCTION audit_feed_save(text, text, text) IS
    'Saves the position of a reader of the feed, unless another reader has saved one meanwhile.';

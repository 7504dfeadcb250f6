-- The audit trail: one append-only table, partitioned by month on created_at, and what guards it.
-- For PostgreSQL 14 and newer, in any schema: the first one of search_path.
-- migrations/README.md explains @schema@ and the rules that every migration follows.

-- Function bodies name the schema, also within string literals. This file is ASCII, so that a database of any encoding
-- can read as far as here.
DO $do$ BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'audit_logs: the encoding of this database is %, and the trail needs UTF8: a text that cannot be '
            'converted to it could not be archived', current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Migrate a database that was created with ENCODING ''UTF8'' TEMPLATE template0.';
    ELSIF current_schema() IS NULL THEN
        RAISE EXCEPTION 'audit_logs: no schema of search_path exists: %', current_setting('search_path')
            USING ERRCODE = 'invalid_schema_name',
                  HINT = 'Create it first, or name another one in search_path.';
    ELSIF current_schema() ~ '[''$]|@schema@' OR position(chr(92) IN current_schema()) > 0 THEN
        RAISE EXCEPTION 'audit_logs: the schema % cannot hold the trail, its name has a single quote, a dollar sign, a '
            'backslash or @schema@', quote_ident(current_schema())
            USING ERRCODE = 'invalid_schema_name', HINT = 'Put a schema of another name first in search_path.';
    END IF;
END $do$;

-- RFC 9562 UUID version 7: 48 bits of Unix milliseconds, then random bits. It serves clients that send no
-- id; the audit writer sends its own, so that a repeated insert is recognised. A body of this form is bound
-- when the function is created: the caller's search_path has no influence on it.
CREATE FUNCTION audit_uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid;

-- Completes the functions that the current user has created in a schema: gives each the settings of the list below,
-- unless it has its own, and replaces @schema@ in its body by the name of the schema. Every migration that creates
-- functions calls this.
CREATE FUNCTION audit_qualify_functions(schema name DEFAULT current_schema()) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    SET check_function_bodies = on SET quote_all_identifiers = off
    AS $$
DECLARE
    -- In two parts: otherwise this function would find and change itself.
    placeholder constant text := '@' || 'schema@';
    -- Settings of the caller or the server must not change what a function does. row_security = off: a query that
    -- a policy would restrict fails instead. Not statement_timeout: PostgreSQL reads it when a statement begins.
    settings    constant text[] := ARRAY[
        'search_path = pg_catalog, pg_temp', 'datestyle = ISO', 'timezone = UTC', 'intervalstyle = postgres',
        'lock_timeout = ''10s''', 'row_security = off', 'default_tablespace = ''''',
        'default_table_access_method = heap'];
    -- Called for each row: a setting costs each call, and this one reads none.
    per_row     constant name[] := ARRAY['audit_digest_step'];
    f           record;
    setting     text;
BEGIN
    -- A body that is bound when it is created (prosqlbody) reads no search_path.
    FOR f IN
        SELECT p.oid, p.proname, p.prosqlbody IS NULL AND p.proname <> ALL (per_row) AS is_pinned,
               position(placeholder IN p.prosrc) > 0 AS is_open, coalesce(p.proconfig, '{}') AS own
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = schema AND p.proname LIKE 'audit!_%' ESCAPE '!' AND p.prokind = 'f'
          AND pg_get_userbyid(p.proowner) = current_user
    LOOP
        FOREACH setting IN ARRAY settings LOOP
            CONTINUE WHEN NOT f.is_pinned OR EXISTS (
                SELECT FROM unnest(f.own) AS had
                WHERE lower(split_part(had, '=', 1)) = split_part(setting, ' ', 1));
            EXECUTE format('ALTER FUNCTION %s SET %s', f.oid::regprocedure, setting);
        END LOOP;
        IF f.is_open THEN
            EXECUTE replace(pg_get_functiondef(f.oid), placeholder, quote_ident(schema));
        END IF;
    END LOOP;
END
$$;

-- Revokes every right on a TABLE (and its columns) or a FUNCTION, given by its oid, from everybody but its
-- owner. A new object is not without rights: everybody may execute a function, and ALTER DEFAULT PRIVILEGES
-- adds more.
CREATE FUNCTION audit_revoke_all(kind text, object oid) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    named   constant text := CASE kind
        WHEN 'TABLE' THEN object::regclass::text
        WHEN 'FUNCTION' THEN object::regprocedure::text
    END;
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM (SELECT relowner AS owner, relacl AS acl FROM pg_class WHERE kind = 'TABLE' AND oid = object
              UNION ALL
              SELECT relowner, attacl FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
              WHERE kind = 'TABLE' AND c.oid = object
              UNION ALL
              SELECT proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
              WHERE kind = 'FUNCTION' AND oid = object) o,
             aclexplode(o.acl) a
        WHERE a.grantee <> o.owner
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', kind, named, grantee);
    END LOOP;
END
$$;

-- The bodies that follow are complete only after audit_qualify_functions().
SET LOCAL check_function_bodies = off;

-- Leaves a table to its owner: no rights for others, and row security without a policy in case somebody
-- grants some. Partitions are like that: PostgreSQL checks the rights and policies of the table that a query
-- names, so a query that names audit_logs needs none on its partitions.
CREATE FUNCTION audit_lock_down_table(relation regclass) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM @schema@.audit_revoke_all('TABLE', relation);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
END
$$;

-- Refuses UPDATE, DELETE and TRUNCATE, with one exception: a row may leave the default partition if it has
-- just been copied, identical to the bit, into the table that is about to become the partition of its month
-- (audit_logs_move_month). audit_logs_check_moved() ensures that the table does become one.
CREATE FUNCTION audit_logs_refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    copied boolean := false;
BEGIN
    IF TG_OP = 'DELETE' AND TG_RELID = (
        SELECT partdefid FROM pg_partitioned_table WHERE partrelid = '@schema@.audit_logs'::regclass)
    THEN
        -- Only a plain table of the trail's owner: a view would run somebody else's functions.
        IF EXISTS (
            SELECT FROM pg_class c JOIN pg_class trail ON trail.oid = TG_RELID
            WHERE c.oid = to_regclass('@schema@.audit_logs_moving')
              AND c.relkind = 'r' AND c.relowner = trail.relowner)
        THEN
            -- *= compares bit by bit; = would take the JSON 1.0 for 1.
            copied := EXISTS (
                SELECT FROM @schema@.audit_logs_moving m
                WHERE m.id = OLD.id AND m.created_at = OLD.created_at AND m *= OLD);
        END IF;
        IF copied THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only: % on % is refused',
        CASE WHEN TG_TABLE_NAME LIKE 'audit!_%' ESCAPE '!' AND TG_TABLE_NAME NOT LIKE 'audit!_logs%' ESCAPE '!'
             THEN TG_TABLE_NAME ELSE 'audit_logs' END,
        TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'UA001',
              HINT = 'Audit rows are never changed. Write a further row that corrects this one.';
END
$$;

-- Checks, at the end of the transaction at the latest, that a row that left the default partition is in the
-- trail.
CREATE FUNCTION audit_logs_check_moved() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM @schema@.audit_logs a WHERE a.id = OLD.id AND a.created_at = OLD.created_at AND a *= OLD)
    THEN
        RAISE EXCEPTION 'audit_logs is append-only: DELETE on % is refused, the row was not moved into a month',
            TG_TABLE_NAME
            USING ERRCODE = 'UA001';
    END IF;
    RETURN NULL;
END
$$;

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', f)
FROM unnest(ARRAY[
    'audit_uuid_v7()',
    'audit_qualify_functions(name)',
    'audit_revoke_all(text, oid)',
    'audit_lock_down_table(regclass)',
    'audit_logs_check_moved()'
]::regprocedure[]) AS f;

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

-- Takes the rows of months that have no partition, so that no client is refused because of a date.
CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;

SELECT audit_lock_down_table('audit_logs'), audit_lock_down_table('audit_logs_default');

-- Partitions inherit the row trigger. They do not inherit a TRUNCATE trigger: each gets its own.
CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change();
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs_default
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_refuse_change();
CREATE CONSTRAINT TRIGGER audit_logs_moved_only AFTER DELETE ON audit_logs_default
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_logs_check_moved();

-- ALWAYS: session_replication_role = replica must not disable them. Each table separately, since versions of
-- PostgreSQL differ in what recurses. A partition that is created manually inherits the setting of audit_logs.
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_append_only;
ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_no_truncate;
ALTER TABLE audit_logs_default ENABLE ALWAYS TRIGGER audit_logs_append_only;
ALTER TABLE audit_logs_default ENABLE ALWAYS TRIGGER audit_logs_no_truncate;
ALTER TABLE audit_logs_default ENABLE ALWAYS TRIGGER audit_logs_moved_only;

-- Every index slows down every insert; docs/decisions/0002-indexes.md has the figures. The indexes for
-- look-ups by actor, resource and request are created once a month has ended: audit_logs_index_closed_months().
CREATE INDEX audit_logs_tenant_timeline ON audit_logs (tenant_id, created_at);
CREATE INDEX audit_logs_created_at_brin ON audit_logs USING brin (created_at) WITH (autosummarize = on);
CREATE INDEX audit_logs_tx_id_brin ON audit_logs USING brin (tx_id) WITH (autosummarize = on);

COMMENT ON TABLE audit_logs IS
    'Who did what, when, from where, with what outcome. Append-only: rows are inserted and never changed.';
COMMENT ON COLUMN audit_logs.id IS
    'Identifies the entry together with created_at. UUID version 7 (RFC 9562), made by the caller''s process; '
    'by the database for clients that send none.';
COMMENT ON COLUMN audit_logs.created_at IS
    'When it happened, by the caller''s clock, to the microsecond. Decides the monthly partition.';
COMMENT ON COLUMN audit_logs.recorded_at IS
    'When the database took the row, by the database''s clock. No writer sets it.';
COMMENT ON COLUMN audit_logs.tenant_id IS
    'The customer or account the event belongs to. Text and no foreign key: the record outlives what it names.';
COMMENT ON COLUMN audit_logs.actor_id IS 'Who did it.';
COMMENT ON COLUMN audit_logs.actor_type IS
    'What kind of actor: user, service, api_key, system, anonymous. Readers accept other values.';
COMMENT ON COLUMN audit_logs.on_behalf_of IS 'Whom the actor acted for, in an impersonation or a delegation.';
COMMENT ON COLUMN audit_logs.action IS
    'What was done, as noun.verb, for example auth.login. Actions that begin with audit. are the writer''s own.';
COMMENT ON COLUMN audit_logs.outcome IS
    'How it ended: success, failure, denied, unknown. Readers accept other values.';
COMMENT ON COLUMN audit_logs.resource_type IS 'What kind of thing it was done to.';
COMMENT ON COLUMN audit_logs.resource_id IS 'Which thing it was done to.';
COMMENT ON COLUMN audit_logs.ip_address IS 'The network address it came from.';
COMMENT ON COLUMN audit_logs.user_agent IS
    'The client software, as it named itself; at most 256 characters from the audit writer.';
COMMENT ON COLUMN audit_logs.request_id IS 'The request it was part of.';
COMMENT ON COLUMN audit_logs.trace_id IS 'The distributed trace it was part of (W3C Trace Context).';
COMMENT ON COLUMN audit_logs.operation_id IS 'Joins the row of an intent with the row of its outcome.';
COMMENT ON COLUMN audit_logs.metadata IS
    'Whatever else is worth keeping, a JSON object. Null only after a redaction.';
COMMENT ON COLUMN audit_logs.writer_id IS
    'The audit writer that sent the row; null for other clients and for inserts within a caller''s transaction.';
COMMENT ON COLUMN audit_logs.writer_seq IS 'The entry''s number in its writer, counted from 1 without gaps.';
COMMENT ON COLUMN audit_logs.tx_id IS
    'The database transaction that inserted the row: how readers find rows that were committed late.';

COMMENT ON TABLE audit_logs_default IS 'Rows of audit_logs whose month has no partition.';

COMMENT ON INDEX audit_logs_tenant_timeline IS
    'Serves: WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 50.';
COMMENT ON INDEX audit_logs_created_at_brin IS
    'Serves: WHERE created_at >= $1 AND created_at < $2, across tenants.';
COMMENT ON INDEX audit_logs_tx_id_brin IS 'Serves: WHERE tx_id >= $1, rows of recent transactions.';

COMMENT ON FUNCTION audit_qualify_functions(name) IS
    'For migrations: gives new functions their settings, and replaces @schema@ in their bodies by their schema.';
COMMENT ON FUNCTION audit_revoke_all(text, oid) IS
    'Revokes every right on a TABLE or a FUNCTION from everybody but its owner.';
COMMENT ON FUNCTION audit_lock_down_table(regclass) IS
    'Revokes every right on a table from everybody but its owner, and enables its row security.';

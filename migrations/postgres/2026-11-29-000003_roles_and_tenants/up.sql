-- Who may do what: four roles, row security by tenant, and no rights for anybody else.
-- docs/decisions/0010-roles-and-tenants.md has the reasons, docs/append-only.md what each role is refused.
--
-- The migration creates the roles that do not exist, which takes a superuser or CREATEROLE; it uses roles that
-- exist as they are. Their names are audit_writer, audit_reader, audit_auditor and audit_maintainer, or the
-- values of audit.writer_role, audit.reader_role, audit.auditor_role and audit.maintainer_role when this runs:
--     SET audit.writer_role = 'shop_audit_writer';                     in the session that migrates,
--     postgres://…?options=-c%20audit.writer_role%3Dshop_audit_writer  in the URL, for a program, or
--     ALTER DATABASE shop SET audit.writer_role = 'shop_audit_writer'; permanently, as a superuser.
-- A role may be renamed later (ALTER ROLE … RENAME): audit_roles identifies it by its oid.

-- Fail rather than make every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

SET LOCAL check_function_bodies = off;

-- The name of a role, for GRANT and CREATE POLICY in migrations:
--     EXECUTE format('GRANT SELECT ON … TO %I', audit_role('auditor'));
CREATE FUNCTION audit_role(kind text) RETURNS name
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    found name := (
        SELECT r.rolname FROM @schema@.audit_roles a JOIN pg_roles r ON r.oid = a.role
        WHERE a.kind = audit_role.kind);
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION 'audit_role: there is no role for %', coalesce(kind, 'null')
            USING ERRCODE = 'undefined_object';
    END IF;
    RETURN found;
END
$$;

-- Whether rows are stored, for a writer that may only insert. A batch whose acknowledgement was lost is sent
-- again with ON CONFLICT DO NOTHING, which does not distinguish a stored row from one that a trigger, a rule or
-- another unique index left out.
--
-- Returns a value for each (id, created_at), in order: true if the row is stored under this writer_id and
-- writer_seq, false if it is stored under others, null if it is not stored.
--
-- A caller learns no more than from an insert: the primary key rejects an id and time that are stored, and no
-- column is returned.
CREATE FUNCTION audit_logs_lookup(ids uuid[], times timestamptz[], writers uuid[], seqs bigint[]) RETURNS boolean[]
    LANGUAGE sql STABLE SECURITY DEFINER
    AS $$
    SELECT array_agg(
        (SELECT a.writer_id IS NOT DISTINCT FROM w.writer AND a.writer_seq IS NOT DISTINCT FROM w.seq
         FROM @schema@.audit_logs a WHERE a.id = w.id AND a.created_at = w.at)
        ORDER BY w.nth)
    FROM unnest(ids, times, writers, seqs) WITH ORDINALITY AS w (id, at, writer, seq, nth)
    $$;

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', f)
FROM unnest(ARRAY[
    'audit_role(text)',
    'audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[])'
]::regprocedure[]) AS f;

-- Which role of the cluster has which part.
CREATE TABLE audit_roles (
    kind text PRIMARY KEY CHECK (kind IN ('writer', 'reader', 'auditor', 'maintainer')),
    -- UNIQUE: one role with two parts would have the sum of their rights.
    role regrole NOT NULL UNIQUE
);
SELECT audit_revoke_all('TABLE', 'audit_roles'::regclass);

DO $do$
DECLARE
    kind    text;
    wanted  name;
    missing text[] := '{}';
    chosen  pg_roles;
BEGIN
    FOREACH kind IN ARRAY ARRAY['writer', 'reader', 'auditor', 'maintainer'] LOOP
        wanted := coalesce(nullif(current_setting(format('audit.%s_role', kind), true), ''), 'audit_' || kind);
        FOR attempt IN 1..10 LOOP
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
                END IF;
                -- From here on another database of the cluster cannot drop it.
                EXECUTE format('GRANT SELECT ON audit_roles TO %I', wanted);
                SELECT * INTO STRICT chosen FROM pg_roles WHERE rolname = wanted;
                EXIT;
            EXCEPTION
                WHEN insufficient_privilege THEN
                    missing := missing || format('CREATE ROLE %I NOLOGIN;', wanted);
                    EXIT;
                -- Another database's migration has created or dropped it meanwhile.
                WHEN duplicate_object OR undefined_object OR unique_violation OR lock_not_available THEN
                    IF attempt = 10 THEN
                        RAISE;
                    END IF;
            END;
        END LOOP;
        CONTINUE WHEN missing <> '{}';
        IF EXISTS (SELECT FROM audit_roles WHERE role::oid = chosen.oid) THEN
            RAISE EXCEPTION 'audit_logs: the role % cannot have two parts, it would have the sum of their rights',
                wanted
                USING ERRCODE = 'invalid_role_specification';
        END IF;
        INSERT INTO audit_roles VALUES (kind, chosen.oid);
        IF chosen.rolsuper OR chosen.rolbypassrls THEN
            RAISE EXCEPTION 'audit_logs: the role % is a superuser or has BYPASSRLS, so row security would not '
                'apply to it; name another one in the setting audit.%_role', wanted, kind
                USING ERRCODE = 'invalid_role_specification';
        END IF;
    END LOOP;
    IF missing <> '{}' THEN
        RAISE EXCEPTION 'audit_logs: % may not create the roles that this migration needs; a superuser or '
            'a role with CREATEROLE must run: %', current_user, array_to_string(missing, ' ')
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Then repeat the migration. The settings audit.writer_role, audit.reader_role, '
                         'audit.auditor_role and audit.maintainer_role choose other names.';
    END IF;
END
$do$;

DO $do$
DECLARE
    writer         constant name := audit_role('writer');
    reader         constant name := audit_role('reader');
    auditor        constant name := audit_role('auditor');
    maintainer     constant name := audit_role('maintainer');
    schema         constant name := current_schema();
    client_columns constant text := (
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'audit_logs'::regclass AND attnum > 0 AND NOT attisdropped
          AND attname NOT IN ('recorded_at', 'tx_id'));
    named          name;
    partition      regclass;
BEGIN
    -- Again, as rights may have been granted since the tables were created: from here on the four roles are the
    -- only access.
    FOR partition IN
        SELECT 'audit_logs'::regclass
        UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass
    LOOP
        PERFORM audit_lock_down_table(partition);
    END LOOP;

    FOR named IN SELECT audit_role(kind) FROM audit_roles LOOP
        -- Also where PUBLIC has it: hardening a database revokes that.
        IF has_schema_privilege(schema, 'USAGE WITH GRANT OPTION')
           OR NOT has_schema_privilege(named, schema, 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', schema, named);
        END IF;
        EXECUTE format('GRANT EXECUTE ON FUNCTION audit_role(text) TO %I', named);
    END LOOP;

    EXECUTE format('GRANT INSERT (%s) ON audit_logs TO %I', client_columns, writer);
    EXECUTE format('GRANT SELECT ON audit_logs TO %I, %I', reader, auditor);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_uuid_v7(),
                    audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[]) TO %I', writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz, integer),
                    audit_logs_check_limit(timestamp, integer) TO %I, %I', writer, maintainer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_create_upcoming_partition(timestamp) TO %I', writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_create_partition(timestamp),
                    audit_logs_index_closed_months(), audit_logs_default_months(),
                    audit_logs_move_month(timestamp, integer) TO %I', maintainer);

    -- They do not apply to the owner (no FORCE): its functions move and drop months, and an application that is
    -- the owner, as in development, reads its own rows.
    EXECUTE format('CREATE POLICY audit_logs_insert ON audit_logs FOR INSERT TO %I WITH CHECK (true)', writer);
    EXECUTE format('CREATE POLICY audit_logs_read_all ON audit_logs FOR SELECT TO %I USING (true)', auditor);
    -- A setting that was made for one transaction is '' afterwards, not null: both mean no tenant, and no row.
    EXECUTE format('CREATE POLICY audit_logs_read_tenant ON audit_logs FOR SELECT TO %I
                    USING (tenant_id = nullif(current_setting(''audit.tenant_id'', true), ''''))', reader);
END
$do$;

COMMENT ON TABLE audit_roles IS 'Which role writes, reads as a tenant, audits, maintains.';
COMMENT ON POLICY audit_logs_insert ON audit_logs IS 'Writing needs no tenant.';
COMMENT ON POLICY audit_logs_read_all ON audit_logs IS 'Auditors see every tenant''s rows.';
COMMENT ON POLICY audit_logs_read_tenant ON audit_logs IS
    'Readers see the rows of the tenant in audit.tenant_id; set it with set_config(''audit.tenant_id'', …, true), '
    'for the transaction alone.';
COMMENT ON FUNCTION audit_role(text) IS
    'The name of the role that has this part: writer, reader, auditor, maintainer.';
COMMENT ON FUNCTION audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[]) IS
    'Which rows of audit_logs are stored: true under this writer''s number, false under another, null not at all.';

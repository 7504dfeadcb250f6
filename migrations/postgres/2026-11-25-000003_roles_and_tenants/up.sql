-- Who may do what: four roles, row security by tenant, and nothing for anybody else.
-- docs/decisions/0010-roles-and-tenants.md has the reasons, docs/append-only.md who is refused what.
--
-- The roles are made if they are not there, which takes a superuser or CREATEROLE; roles that somebody
-- else has made before are taken as they are. Their names are audit_writer, audit_reader, audit_auditor
-- and audit_maintainer, or what the settings audit.writer_role, audit.reader_role, audit.auditor_role and
-- audit.maintainer_role name when this runs:
--     SET audit.writer_role = 'shop_audit_writer';                    in the session that runs it,
--     postgres://…?options=-c%20audit.writer_role%3Dshop_audit_writer  in the URL, for a program, or
--     ALTER DATABASE shop SET audit.writer_role = 'shop_audit_writer'; for good, as a superuser.
-- Renaming a role later (ALTER ROLE … RENAME) breaks nothing: it is known by its identity.

-- Rather fail than let every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

-- Which role of the cluster has which part.
CREATE TABLE audit_roles (
    kind text PRIMARY KEY CHECK (kind IN ('writer', 'reader', 'auditor', 'maintainer')),
    -- One role with two parts would have the sum of their rights.
    role regrole NOT NULL UNIQUE
);
COMMENT ON TABLE audit_roles IS 'Which role writes, reads as a tenant, audits, maintains.';

-- A better match in a caller's search_path would otherwise be called in place of these built-in
-- functions: a body of this kind is bound to them when it is defined.
CREATE OR REPLACE FUNCTION audit_uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                    FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid;

-- What follows runs with the owner's rights, and so looks nowhere but in pg_catalog: in the table's own
-- schema an application's role may often create functions. Its own things are named with @schema@.
DO $do$
DECLARE
    home constant text := quote_ident(current_schema());
BEGIN
EXECUTE replace($sql$

-- The name of a role, for GRANT and CREATE POLICY in migrations:
--     EXECUTE format('GRANT SELECT ON … TO %I', audit_role('auditor'));
CREATE FUNCTION @schema@.audit_role(kind text) RETURNS name
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    found name := (SELECT r.rolname FROM @schema@.audit_roles a JOIN pg_roles r ON r.oid = a.role WHERE a.kind = audit_role.kind);
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION 'audit_role: there is no role for %', coalesce(kind, 'null') USING ERRCODE = 'undefined_object';
    END IF;
    RETURN found;
END
$$;

-- Takes every right from everybody but the owner: on a TABLE (its columns too) or a FUNCTION, by oid.
-- A new one is not empty of rights: functions are executable by all, and ALTER DEFAULT PRIVILEGES adds.
CREATE FUNCTION @schema@.audit_owner_only(kind text, object oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    named constant text := CASE kind WHEN 'TABLE' THEN object::regclass::text WHEN 'FUNCTION' THEN object::regprocedure::text END;
    taker text;
BEGIN
    FOR taker IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
        FROM (SELECT relowner AS owner, relacl AS acl FROM pg_class WHERE kind = 'TABLE' AND oid = object
              UNION ALL
              SELECT relowner, attacl FROM pg_class c JOIN pg_attribute ON attrelid = c.oid WHERE kind = 'TABLE' AND c.oid = object
              UNION ALL
              SELECT proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc WHERE kind = 'FUNCTION' AND oid = object) o,
             aclexplode(o.acl) a
        WHERE a.grantee <> o.owner
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', kind, named, taker);
    END LOOP;
END
$$;

-- Makes a table the owner's alone: no rights, and row security without a policy should somebody be
-- given some. Partitions are like that, since rights and policies are those of the table that a query
-- names; who names audit_logs is not asked for the partition's.
CREATE FUNCTION @schema@.audit_close_table(relation regclass) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    PERFORM @schema@.audit_owner_only('TABLE', relation);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
END
$$;

-- Makes one month's partition. True: made now. False: it was there already, or rows of that month
-- lie in the default partition (said with a warning; they stay readable there).
--
-- CREATE … LIKE and ATTACH instead of PARTITION OF, which would lock the whole table against
-- inserts. ATTACH locks the default partition for a moment, hence the lock_timeout and the repeats:
-- a long reader delays the new month, never the writers.
CREATE OR REPLACE FUNCTION @schema@.audit_logs_make_month(month_start timestamp) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms'
    AS $$
DECLARE
    parent   constant regclass := '@schema@.audit_logs'::regclass;
    home     constant name := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent);
    part     constant name := 'audit_logs_' || to_char(month_start, 'YYYY_MM') || CASE WHEN month_start < '0001-01-01' THEN '_bc' ELSE '' END;
    starts   constant timestamptz := month_start AT TIME ZONE 'UTC';
    ends     constant timestamptz := (month_start + interval '1 month') AT TIME ZONE 'UTC';
    attempts int := 0;
BEGIN
    -- One maker at a time; the others find the month made. Released with the transaction.
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs partitions', parent::oid::bigint));
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = parent AND c.relname = part) THEN
        RETURN false;
    END IF;
    LOOP
        BEGIN
            EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMMENTS)', home, part, parent);
            EXECUTE format('CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON %I.%I
                            FOR EACH STATEMENT EXECUTE FUNCTION %I.audit_logs_refuse_change()', home, part, home);
            PERFORM @schema@.audit_close_table(format('%I.%I', home, part)::regclass);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)', parent, home, part, starts, ends);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_no_truncate', home, part);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_append_only', home, part);
            RETURN true;
        EXCEPTION
            WHEN check_violation THEN
                RAISE WARNING 'audit_logs: the month % was not made, rows of it lie in the default partition', to_char(month_start, 'YYYY-MM');
                RETURN false;
            WHEN lock_not_available THEN
                attempts := attempts + 1;
                IF attempts >= 20 THEN
                    RAISE EXCEPTION 'audit_logs: the month % was not made, other sessions held the table through % attempts', to_char(month_start, 'YYYY-MM'), attempts
                        USING ERRCODE = 'lock_not_available', HINT = 'Repeat it when the long queries on audit_logs have ended.';
                END IF;
                PERFORM pg_sleep(0.1);
        END;
    END LOOP;
END
$$;

-- Makes every month from the one of from_time to the one of to_time (both by UTC), at most 1200 in
-- one call. Gives back how many were made.
CREATE OR REPLACE FUNCTION @schema@.audit_logs_ensure_partitions(
    from_time timestamptz DEFAULT now(),
    to_time   timestamptz DEFAULT now() + interval '24 months'
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms'
    AS $$
DECLARE
    month_start timestamp := date_trunc('month', from_time AT TIME ZONE 'UTC');
    last_month  constant timestamp := date_trunc('month', to_time AT TIME ZONE 'UTC');
    made        integer := 0;
BEGIN
    IF from_time IS NULL OR to_time IS NULL OR NOT isfinite(from_time) OR NOT isfinite(to_time)
       OR last_month > month_start + interval '1200 months' THEN
        RAISE EXCEPTION 'audit_logs_ensure_partitions: % to % is not a range of at most 1200 months', from_time, to_time
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE month_start <= last_month LOOP
        IF @schema@.audit_logs_make_month(month_start) THEN
            made := made + 1;
        END IF;
        month_start := month_start + interval '1 month';
    END LOOP;
    RETURN made;
END
$$;

-- Gives the months that ended more than a day ago the indexes for look-ups by actor, resource and
-- request, and gives back how many indexes were made. A month that is still written to goes without:
-- three further b-trees would halve the rate of inserts. Late rows for a month wait while its indexes
-- are built, a second or two for a million rows; all other months are untouched.
CREATE OR REPLACE FUNCTION @schema@.audit_logs_index_closed_months() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms'
    AS $$
DECLARE
    month  record;
    wanted record;
    made   integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs partitions', '@schema@.audit_logs'::regclass::oid::bigint));
    FOR month IN
        SELECT n.nspname AS home, c.relname AS part
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = '@schema@.audit_logs'::regclass
          AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz < now() - interval '1 day'
        ORDER BY c.relname
    LOOP
        FOR wanted IN
            SELECT * FROM (VALUES
                ('_actor', '(actor_id, created_at)', 'WHERE actor_id = $1 ORDER BY created_at DESC LIMIT 50'),
                ('_resource', '(resource_id, created_at)', 'WHERE resource_type = $1 AND resource_id = $2 ORDER BY created_at DESC LIMIT 50'),
                ('_request', '(request_id) WHERE request_id IS NOT NULL', 'WHERE request_id = $1')
            ) AS w (suffix, body, serves)
        LOOP
            CONTINUE WHEN to_regclass(format('%I.%I', month.home, month.part || wanted.suffix)) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE INDEX %I ON %I.%I %s', month.part || wanted.suffix, month.home, month.part, wanted.body);
                EXECUTE format('COMMENT ON INDEX %I.%I IS %L', month.home, month.part || wanted.suffix, 'Serves: ' || wanted.serves || '.');
                made := made + 1;
            EXCEPTION
                WHEN program_limit_exceeded THEN
                    RAISE WARNING 'audit_logs: no index % on %, a value in it is too long for a b-tree', wanted.body, month.part;
                WHEN lock_not_available THEN
                    RAISE WARNING 'audit_logs: no index % on %, other sessions hold it; repeat it later', wanted.body, month.part;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

$sql$, '@schema@', home);
END
$do$;

COMMENT ON FUNCTION audit_role(text) IS 'The name of the role that has this part: writer, reader, auditor, maintainer.';
COMMENT ON FUNCTION audit_owner_only(text, oid) IS 'Takes every right on a TABLE or a FUNCTION from everybody but its owner.';
COMMENT ON FUNCTION audit_close_table(regclass) IS 'Takes every right on a table from everybody but its owner, and turns its row security on.';

DO $do$
DECLARE
    kind    text;
    wanted  name;
    missing text[] := '{}';
    chosen  pg_roles;
BEGIN
    PERFORM audit_owner_only('TABLE', 'audit_roles'::regclass);
    FOREACH kind IN ARRAY ARRAY['writer', 'reader', 'auditor', 'maintainer'] LOOP
        wanted := coalesce(nullif(current_setting(format('audit.%s_role', kind), true), ''), 'audit_' || kind);
        FOR attempt IN 1..10 LOOP
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
                END IF;
                -- From here on it cannot be dropped by another database of the cluster.
                EXECUTE format('GRANT SELECT ON audit_roles TO %I', wanted);
                SELECT * INTO STRICT chosen FROM pg_roles WHERE rolname = wanted;
                EXIT;
            EXCEPTION
                WHEN insufficient_privilege THEN
                    missing := missing || format('CREATE ROLE %I NOLOGIN;', wanted);
                    EXIT;
                -- Made or dropped by another database's migration meanwhile.
                WHEN duplicate_object OR undefined_object OR unique_violation OR lock_not_available THEN
                    IF attempt = 10 THEN
                        RAISE;
                    END IF;
            END;
        END LOOP;
        CONTINUE WHEN missing <> '{}';
        IF EXISTS (SELECT FROM audit_roles WHERE role::oid = chosen.oid) THEN
            RAISE EXCEPTION 'audit_logs: the role % cannot have two parts, it would have the sum of their rights', wanted
                USING ERRCODE = 'invalid_role_specification';
        END IF;
        INSERT INTO audit_roles VALUES (kind, chosen.oid);
        IF chosen.rolsuper OR chosen.rolbypassrls THEN
            RAISE EXCEPTION 'audit_logs: the role % is a superuser or has BYPASSRLS, so row security would not hold for it; name another one in the setting audit.%_role', wanted, kind
                USING ERRCODE = 'invalid_role_specification';
        END IF;
    END LOOP;
    IF missing <> '{}' THEN
        RAISE EXCEPTION 'audit_logs: % may not create the roles that this migration needs; have a superuser or a role with CREATEROLE run: %', current_user, array_to_string(missing, ' ')
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Then repeat. Other names can be set in audit.writer_role, audit.reader_role, audit.auditor_role, audit.maintainer_role.';
    END IF;
END
$do$;

DO $do$
DECLARE
    writer     constant name := audit_role('writer');
    reader     constant name := audit_role('reader');
    auditor    constant name := audit_role('auditor');
    maintainer constant name := audit_role('maintainer');
    home       constant name := current_schema();
    part       regclass;
    callers    constant text := (
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'audit_logs'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('recorded_at', 'tx_id'));
    named      name;
    f          regprocedure;
BEGIN
    -- From here on the four roles are the only way in.
    FOR part IN SELECT 'audit_logs'::regclass UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass LOOP
        PERFORM audit_close_table(part);
    END LOOP;
    FOREACH f IN ARRAY ARRAY['audit_uuid_v7()', 'audit_logs_make_month(timestamp)', 'audit_logs_ensure_partitions(timestamptz, timestamptz)',
                             'audit_logs_index_closed_months()', 'audit_role(text)', 'audit_owner_only(text, oid)',
                             'audit_close_table(regclass)']::regprocedure[] LOOP
        PERFORM audit_owner_only('FUNCTION', f);
    END LOOP;

    FOR named IN SELECT audit_role(kind) FROM audit_roles LOOP
        -- Also where PUBLIC has it: hardening a database takes that away.
        IF has_schema_privilege(home, 'USAGE WITH GRANT OPTION') OR NOT has_schema_privilege(named, home, 'USAGE') THEN
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', home, named);
        END IF;
        EXECUTE format('GRANT EXECUTE ON FUNCTION audit_role(text) TO %I', named);
    END LOOP;

    EXECUTE format('GRANT INSERT (%s) ON audit_logs TO %I', callers, writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_uuid_v7() TO %I', writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz) TO %I, %I', writer, maintainer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_index_closed_months() TO %I', maintainer);
    EXECUTE format('GRANT SELECT ON audit_logs TO %I, %I', reader, auditor);

    -- The owner is not bound by these (no FORCE): its functions move and drop months, and an application
    -- that is the owner, as in development, reads what it wrote.
    EXECUTE format('CREATE POLICY audit_logs_insert ON audit_logs FOR INSERT TO %I WITH CHECK (true)', writer);
    EXECUTE format('CREATE POLICY audit_logs_read_all ON audit_logs FOR SELECT TO %I USING (true)', auditor);
    -- A setting made for one transaction is '' afterwards, not null: both mean no tenant, and no row.
    EXECUTE format('CREATE POLICY audit_logs_read_tenant ON audit_logs FOR SELECT TO %I
                    USING (tenant_id = nullif(current_setting(''audit.tenant_id'', true), ''''))', reader);
END
$do$;
COMMENT ON POLICY audit_logs_insert ON audit_logs IS 'Writing needs no tenant.';
COMMENT ON POLICY audit_logs_read_all ON audit_logs IS 'Auditors see every tenant''s rows.';
COMMENT ON POLICY audit_logs_read_tenant ON audit_logs IS 'Readers see the rows of the tenant in audit.tenant_id; set it with set_config(''audit.tenant_id'', …, true), for the transaction alone.';

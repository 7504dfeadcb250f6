-- Removes the policies and rights in this database. A role goes only if nothing in the whole cluster
-- depends on it, nobody is a member of it and it cannot log in: other databases may use it.
SET LOCAL lock_timeout = '2s';

DROP POLICY audit_logs_insert ON audit_logs;
DROP POLICY audit_logs_read_all ON audit_logs;
DROP POLICY audit_logs_read_tenant ON audit_logs;

DO $do$
DECLARE
    part   regclass;
    f      regprocedure;
    named  name;
    home   constant name := current_schema();
    roles  constant name[] := (SELECT array_agg(audit_role(kind)) FROM audit_roles);
BEGIN
    FOR part IN SELECT 'audit_logs'::regclass UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass LOOP
        EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', part);
    END LOOP;
    FOREACH named IN ARRAY roles LOOP
        EXECUTE format('REVOKE ALL ON audit_logs, audit_roles FROM %I', named);
        EXECUTE format('REVOKE ALL ON FUNCTION audit_uuid_v7(), audit_role(text), audit_logs_ensure_partitions(timestamptz, timestamptz),
                        audit_logs_index_closed_months() FROM %I', named);
        -- Without the right to, there is nothing that up.sql could have granted.
        IF has_schema_privilege(home, 'USAGE WITH GRANT OPTION') THEN
            EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', home, named);
        END IF;
    END LOOP;

    GRANT EXECUTE ON FUNCTION audit_uuid_v7() TO PUBLIC;
    DROP FUNCTION audit_role(text), audit_close_table(regclass), audit_owner_only(text, oid);
    DROP TABLE audit_roles;

    FOREACH named IN ARRAY roles LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = named AND rolcanlogin);
        -- Since PostgreSQL 16 who creates a role is a member of it.
        CONTINUE WHEN EXISTS (SELECT FROM pg_auth_members WHERE pg_get_userbyid(roleid) = named AND pg_get_userbyid(member) <> current_user);
        BEGIN
            EXECUTE format('DROP ROLE %I', named);
        EXCEPTION
            WHEN dependent_objects_still_exist OR insufficient_privilege OR undefined_object OR lock_not_available THEN
                RAISE NOTICE 'the role % stays: %', named, SQLERRM;
        END;
    END LOOP;
END
$do$;

-- As the first two migrations have them.
CREATE OR REPLACE FUNCTION audit_uuid_v7() RETURNS uuid
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

-- Makes one month's partition. True: made now. False: it was there already, or rows of that month
-- lie in the default partition (said with a warning; they stay readable there).
--
-- CREATE … LIKE and ATTACH instead of PARTITION OF, which would lock the whole table against
-- inserts. ATTACH locks the default partition for a moment, hence the lock_timeout and the repeats:
-- a long reader delays the new month, never the writers.
CREATE OR REPLACE FUNCTION audit_logs_make_month(month_start timestamp) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    parent   constant regclass := 'audit_logs'::regclass;
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
CREATE OR REPLACE FUNCTION audit_logs_ensure_partitions(
    from_time timestamptz DEFAULT now(),
    to_time   timestamptz DEFAULT now() + interval '24 months'
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
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
        IF audit_logs_make_month(month_start) THEN
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
CREATE OR REPLACE FUNCTION audit_logs_index_closed_months() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    month  record;
    wanted record;
    made   integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs partitions', 'audit_logs'::regclass::oid::bigint));
    FOR month IN
        SELECT n.nspname AS home, c.relname AS part
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = 'audit_logs'::regclass
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

-- All run with the owner's rights: nothing a caller puts into its search_path may be found by them.
DO $$
DECLARE
    f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['audit_logs_make_month(timestamp)', 'audit_logs_ensure_partitions(timestamptz, timestamptz)',
                             'audit_logs_index_closed_months()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, %I, pg_temp', f, current_schema());
        EXECUTE format('ALTER FUNCTION %s SET lock_timeout = ''400ms''', f);
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END
$$;

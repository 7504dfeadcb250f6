-- Creates the monthly partitions of audit_logs in advance and on demand, and moves rows out of the default
-- partition.

-- Fail rather than make every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

SET LOCAL check_function_bodies = off;

-- Creates the partition of one month. True: created now. False: it existed already, or the default partition
-- has rows of that month (reported by a warning; they stay readable there).
--
-- CREATE … LIKE and ATTACH instead of PARTITION OF, which would lock the whole table against inserts. ATTACH
-- locks the default partition for a moment, hence the lock_timeout and the retries: a long reader delays the
-- new partition, never the writers.
CREATE FUNCTION audit_logs_create_partition(month_start timestamp) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms'
    SET timezone = 'UTC' SET datestyle = 'ISO'
    AS $$
DECLARE
    parent    constant regclass := '@schema@.audit_logs'::regclass;
    schema    constant name := (
        SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent);
    partition constant name := 'audit_logs_' || to_char(month_start, 'YYYY_MM')
        || CASE WHEN month_start < '0001-01-01' THEN '_bc' ELSE '' END;
    starts    constant timestamptz := month_start AT TIME ZONE 'UTC';
    ends      constant timestamptz := (month_start + interval '1 month') AT TIME ZONE 'UTC';
    attempts  int := 0;
BEGIN
    -- One session at a time creates partitions; the others then find the month. Released with the
    -- transaction. Waiting here blocks nobody, so it may take longer than waiting for a table.
    PERFORM set_config('lock_timeout', '5s', true);
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs partitions', parent::oid::bigint));
    PERFORM set_config('lock_timeout', '400ms', true);
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = parent AND c.relname = partition) THEN
        RETURN false;
    END IF;
    LOOP
        BEGIN
            EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMMENTS)',
                           schema, partition, parent);
            EXECUTE format('CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON %I.%I
                            FOR EACH STATEMENT EXECUTE FUNCTION %I.audit_logs_refuse_change()',
                           schema, partition, schema);
            PERFORM @schema@.audit_lock_down_table(format('%I.%I', schema, partition)::regclass);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                           parent, schema, partition, starts, ends);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_no_truncate', schema, partition);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_append_only', schema, partition);
            RETURN true;
        EXCEPTION
            WHEN check_violation THEN
                RAISE WARNING 'audit_logs: the partition of % was not created, the default partition has rows of it',
                    to_char(month_start, 'YYYY-MM');
                RETURN false;
            WHEN lock_not_available THEN
                attempts := attempts + 1;
                IF attempts >= 20 THEN
                    RAISE EXCEPTION 'audit_logs: the partition of % was not created, other sessions locked '
                        'the table during % attempts', to_char(month_start, 'YYYY-MM'), attempts
                        USING ERRCODE = 'lock_not_available',
                              HINT = 'Repeat it when the long queries on audit_logs have ended.';
                END IF;
                PERFORM pg_sleep(0.1);
        END;
    END LOOP;
END
$$;

-- Creates the partitions of all months from the one of from_time to the one of to_time (both in UTC), at most
-- 1200 in one call. Returns how many it created.
CREATE FUNCTION audit_logs_ensure_partitions(
    from_time timestamptz DEFAULT now(),
    to_time   timestamptz DEFAULT now() + interval '24 months'
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms'
    AS $$
DECLARE
    month_start timestamp := date_trunc('month', from_time AT TIME ZONE 'UTC');
    last_month  constant timestamp := date_trunc('month', to_time AT TIME ZONE 'UTC');
    created     integer := 0;
BEGIN
    IF from_time IS NULL OR to_time IS NULL OR NOT isfinite(from_time) OR NOT isfinite(to_time)
       OR last_month > month_start + interval '1200 months' THEN
        RAISE EXCEPTION 'audit_logs_ensure_partitions: % to % is not a range of at most 1200 months',
            from_time, to_time
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE month_start <= last_month LOOP
        IF @schema@.audit_logs_create_partition(month_start) THEN
            created := created + 1;
        END IF;
        month_start := month_start + interval '1 month';
    END LOOP;
    RETURN created;
END
$$;

-- Creates the indexes for look-ups by actor, resource and request on the months that ended more than a day
-- ago. Returns how many it created. A month that is still written to has none of them: three further b-trees
-- would halve the rate of inserts. Late rows for a month wait while its indexes are built, a second or two
-- for a million rows; all other months are unaffected.
CREATE FUNCTION audit_logs_index_closed_months() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms'
    SET timezone = 'UTC' SET datestyle = 'ISO'
    AS $$
DECLARE
    month   record;
    wanted  record;
    created integer := 0;
BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    PERFORM pg_advisory_xact_lock(
        hashtextextended('audit_logs partitions', '@schema@.audit_logs'::regclass::oid::bigint));
    PERFORM set_config('lock_timeout', '400ms', true);
    FOR month IN
        SELECT n.nspname AS schema, c.relname AS partition
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = '@schema@.audit_logs'::regclass
          AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([^'']+)''[)]')::timestamptz
              < now() - interval '1 day'
        ORDER BY c.relname
    LOOP
        FOR wanted IN
            SELECT * FROM (VALUES
                ('_actor', '(actor_id, created_at)',
                 'WHERE actor_id = $1 ORDER BY created_at DESC LIMIT 50'),
                ('_resource', '(resource_id, created_at)',
                 'WHERE resource_type = $1 AND resource_id = $2 ORDER BY created_at DESC LIMIT 50'),
                ('_request', '(request_id) WHERE request_id IS NOT NULL',
                 'WHERE request_id = $1')
            ) AS w (suffix, body, serves)
        LOOP
            CONTINUE WHEN
                to_regclass(format('%I.%I', month.schema, month.partition || wanted.suffix)) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE INDEX %I ON %I.%I %s',
                               month.partition || wanted.suffix, month.schema, month.partition, wanted.body);
                EXECUTE format('COMMENT ON INDEX %I.%I IS %L', month.schema, month.partition || wanted.suffix,
                               'Serves: ' || wanted.serves || '.');
                created := created + 1;
            EXCEPTION
                WHEN program_limit_exceeded THEN
                    RAISE WARNING 'audit_logs: no index % on %, a value in it is too long for a b-tree',
                        wanted.body, month.partition;
                WHEN lock_not_available THEN
                    RAISE WARNING 'audit_logs: no index % on %, other sessions have locked it; repeat it later',
                        wanted.body, month.partition;
            END;
        END LOOP;
    END LOOP;
    RETURN created;
END
$$;

-- The months of the rows in the default partition, as audit_logs_move_month takes them; null for times that no
-- month can hold, whose rows stay there. row_security = off: a query that a policy would restrict fails instead.
CREATE FUNCTION audit_logs_default_months() RETURNS TABLE (month_start timestamp, row_count bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT CASE WHEN created_at >= ''4713-01-01 BC'' AND created_at < ''294276-12-01''
                     THEN date_trunc(''month'', created_at AT TIME ZONE ''UTC'') END, count(*)
         FROM %s GROUP BY 1 ORDER BY 1',
        (SELECT partdefid::regclass FROM pg_partitioned_table WHERE partrelid = '@schema@.audit_logs'::regclass));
END
$$;

-- Moves the rows of a month from the default partition into a partition of their own. Returns how many it
-- moved. Readers of the table, and writers into the default partition, wait meanwhile, about 3 s for 100,000
-- rows; writers of all other months are unaffected.
CREATE FUNCTION audit_logs_move_month(month_start timestamp) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '400ms'
    SET timezone = 'UTC' SET datestyle = 'ISO'
    AS $$
DECLARE
    parent            constant regclass := '@schema@.audit_logs'::regclass;
    schema            constant name := (
        SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = parent);
    default_partition constant regclass := (SELECT partdefid FROM pg_partitioned_table WHERE partrelid = parent);
    partition         constant name := 'audit_logs_' || to_char(month_start, 'YYYY_MM')
        || CASE WHEN month_start < '0001-01-01' THEN '_bc' ELSE '' END;
    starts            constant timestamptz := month_start AT TIME ZONE 'UTC';
    ends              constant timestamptz := (month_start + interval '1 month') AT TIME ZONE 'UTC';
    attempts          int := 0;
    moved             bigint;
BEGIN
    IF month_start IS NULL OR month_start <> date_trunc('month', month_start) THEN
        RAISE EXCEPTION 'audit_logs_move_month: % is not the beginning of a month', month_start
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('audit_logs partitions', parent::oid::bigint));
            LOCK TABLE ONLY @schema@.audit_logs IN SHARE UPDATE EXCLUSIVE MODE;
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', default_partition);
            EXECUTE format('CREATE TABLE %I.audit_logs_moving
                            (LIKE %s INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMMENTS)', schema, parent);
            EXECUTE format('CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON %I.audit_logs_moving
                            FOR EACH STATEMENT EXECUTE FUNCTION %I.audit_logs_refuse_change()', schema, schema);
            PERFORM @schema@.audit_lock_down_table(format('%I.audit_logs_moving', schema)::regclass);
            EXECUTE format('INSERT INTO %I.audit_logs_moving SELECT * FROM %s
                            WHERE created_at >= $1 AND created_at < $2 ORDER BY created_at',
                           schema, default_partition)
                USING starts, ends;
            EXECUTE format('ALTER TABLE %I.audit_logs_moving ADD CONSTRAINT %I PRIMARY KEY (id, created_at)',
                           schema, partition || '_pkey');
            EXECUTE format('DELETE FROM %s WHERE created_at >= $1 AND created_at < $2', default_partition)
                USING starts, ends;
            GET DIAGNOSTICS moved = ROW_COUNT;
            EXECUTE format('ALTER TABLE %I.audit_logs_moving RENAME TO %I', schema, partition);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                           parent, schema, partition, starts, ends);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_no_truncate', schema, partition);
            EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER audit_logs_append_only', schema, partition);
            RETURN moved;
        EXCEPTION WHEN lock_not_available THEN
            attempts := attempts + 1;
            IF attempts >= 40 THEN
                RAISE EXCEPTION 'audit_logs: the rows of % were not moved, other sessions locked '
                    'the table during % attempts', to_char(month_start, 'YYYY-MM'), attempts
                    USING ERRCODE = 'lock_not_available',
                          HINT = 'Repeat it when the long queries on audit_logs have ended.';
            END IF;
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
END
$$;

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', f)
FROM unnest(ARRAY[
    'audit_logs_create_partition(timestamp)',
    'audit_logs_ensure_partitions(timestamptz, timestamptz)',
    'audit_logs_index_closed_months()',
    'audit_logs_default_months()',
    'audit_logs_move_month(timestamp)'
]::regprocedure[]) AS f;

COMMENT ON FUNCTION audit_logs_create_partition(timestamp) IS
    'Creates the partition of audit_logs for the month that begins at this UTC time.';
COMMENT ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz) IS
    'Creates the monthly partitions of audit_logs from one time to another; by default from now to 24 months ahead.';
COMMENT ON FUNCTION audit_logs_index_closed_months() IS
    'Creates the look-up indexes of the months of audit_logs that have ended; worth a call each month.';
COMMENT ON FUNCTION audit_logs_default_months() IS
    'The months of the rows in the default partition of audit_logs.';
COMMENT ON FUNCTION audit_logs_move_month(timestamp) IS
    'Moves the rows of one month from the default partition of audit_logs into a partition of their own.';

SELECT audit_logs_ensure_partitions(now() - interval '1 month');

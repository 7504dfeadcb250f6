-- Creates the monthly partitions of audit_logs in advance and on demand, and moves rows out of the default
-- partition.

-- Fail rather than make every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

SET LOCAL check_function_bodies = off;

-- One session at a time creates, indexes, moves or drops partitions; released with the transaction. Waiting here
-- blocks neither readers nor writers, so it may take longer than waiting for a table. SHARE UPDATE EXCLUSIVE is the only
-- mode that excludes itself and that neither a statement of a reader or writer nor PREPARE conflicts with: PREPARE locks
-- a table without any right on it (docs/decisions/0023-locks.md).
CREATE FUNCTION audit_logs_lock_partitions() RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '5s'
    AS $$
BEGIN
    LOCK TABLE ONLY @schema@.audit_logs IN SHARE UPDATE EXCLUSIVE MODE;
END
$$;

-- The partitions and their bounds, which are null for the default partition and infinite for a partition without one.
-- Waits for no lock on a partition.
CREATE FUNCTION audit_logs_bounds() RETURNS TABLE (partition oid, from_time timestamptz, to_time timestamptz)
    LANGUAGE sql STABLE
    AS $$
    SELECT c.oid,
           CASE WHEN bound.text LIKE '%FROM (MINVALUE)%' THEN '-infinity'
                ELSE substring(bound.text FROM 'FROM [(]''([^'']+)''[)]')::timestamptz END,
           CASE WHEN bound.text LIKE '%TO (MAXVALUE)%' THEN 'infinity'
                ELSE substring(bound.text FROM 'TO [(]''([^'']+)''[)]')::timestamptz END
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, 0) AS text) AS bound
    WHERE i.inhparent = '@schema@.audit_logs'::regclass
    $$;

-- The same with what can only be read with a lock on a partition. qualified_name is that of the snapshot, also if the
-- partition was dropped since. live_rows is what the planner would estimate: from the size of the table, also before it was
-- analyzed. table_bytes is that size, without indexes and long values.
CREATE FUNCTION audit_logs_partitions() RETURNS TABLE (
        partition regclass, partition_name name, from_time timestamptz, to_time timestamptz, live_rows bigint,
        table_bytes bigint, qualified_name text)
    LANGUAGE sql STABLE
    AS $$
    SELECT c.oid::regclass, c.relname, b.from_time, b.to_time,
           (size.bytes / current_setting('block_size')::integer
            * CASE WHEN c.relpages > 0 AND c.reltuples > 0 THEN c.reltuples / c.relpages ELSE 20 END)::bigint,
           size.bytes, format('%I.%I', n.nspname, c.relname)
    FROM @schema@.audit_logs_bounds() b
    JOIN pg_class c ON c.oid = b.partition
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT coalesce(pg_relation_size(c.oid), 0) AS bytes) AS size
    $$;

CREATE FUNCTION audit_logs_partition_name(month_start timestamp) RETURNS name
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF month_start IS NULL OR NOT isfinite(month_start) OR month_start <> date_trunc('month', month_start) THEN
        RAISE EXCEPTION 'audit_logs: % is not the beginning of a month', month_start
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN 'audit_logs_' || to_char(month_start, 'YYYY_MM')
        || CASE WHEN month_start < '0001-01-01' THEN '_bc' ELSE '' END;
END
$$;

-- A name for one more partition of a month.
CREATE FUNCTION audit_logs_segment_name(month_start timestamp) RETURNS name
    LANGUAGE sql STABLE
    AS $$
    SELECT (month.name || '_' || (
        SELECT coalesce(max(substring(c.relname FROM '^' || month.name || '_([0-9]{1,6})$')::integer), 1) + 1
        FROM pg_class c WHERE c.relnamespace = (
            SELECT relnamespace FROM pg_class WHERE oid = '@schema@.audit_logs'::regclass)))::name
    FROM (SELECT @schema@.audit_logs_partition_name(month_start) AS name) AS month
    $$;

-- The first part of a month that no partition covers, with the name of a partition for it. No row if there is none.
CREATE FUNCTION audit_logs_first_gap(month_start timestamp) RETURNS TABLE (
        from_time timestamptz, to_time timestamptz, partition_name name)
    LANGUAGE sql STABLE
    AS $$
    WITH month AS (
        SELECT month_start AT TIME ZONE 'UTC' AS starts, (month_start + interval '1 month') AT TIME ZONE 'UTC' AS ends,
               @schema@.audit_logs_partition_name(month_start) AS name),
    parts AS MATERIALIZED (
        SELECT p.from_time, p.to_time FROM @schema@.audit_logs_bounds() p, month
        WHERE p.from_time < month.ends AND p.to_time > month.starts)
    SELECT gap.starts, coalesce((SELECT min(p.from_time) FROM parts p WHERE p.from_time > gap.starts), month.ends),
           -- The whole month has its own name or none, another part of it the next one that is free.
           CASE WHEN (SELECT count(*) FROM parts) = 0 OR to_regclass(format('%s.%I', '@schema@', month.name)) IS NULL
                THEN month.name ELSE @schema@.audit_logs_segment_name(month_start) END
    FROM month, LATERAL (SELECT month.starts UNION SELECT p.to_time FROM parts p) AS gap (starts)
    WHERE gap.starts < month.ends
      AND NOT EXISTS (SELECT FROM parts p WHERE p.from_time <= gap.starts AND p.to_time > gap.starts)
    ORDER BY gap.starts LIMIT 1
    $$;

-- Creates a table that can become a partition of audit_logs, without rights for others. The name is qualified and quoted.
CREATE FUNCTION audit_logs_create_table(qualified_name text) RETURNS regclass
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMMENTS)',
                   qualified_name, '@schema@.audit_logs'::regclass);
    EXECUTE format('CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON %s
                    FOR EACH STATEMENT EXECUTE FUNCTION %s()',
                   qualified_name, '@schema@.audit_logs_refuse_change'::regproc);
    PERFORM @schema@.audit_lock_down_table(qualified_name::regclass);
    RETURN qualified_name::regclass;
END
$$;

-- Makes a table a partition of audit_logs, with its triggers always enabled. Locks the default partition for a moment,
-- hence the lock_timeout: its callers try again.
CREATE FUNCTION audit_logs_attach(partition regclass, starts timestamptz, ends timestamptz) RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '400ms'
    AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
                   '@schema@.audit_logs'::regclass, partition, starts, ends);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_logs_no_truncate,
                        ENABLE ALWAYS TRIGGER audit_logs_append_only', partition);
END
$$;

-- Locks audit_logs, its default partition and these partitions against everybody, in the order in which writers lock.
-- Until an attempt has all locks it waits for less than half a second for one partition, and 0.1 s more for each further
-- one: that is how long a reader in the way can delay a writer.
CREATE FUNCTION audit_logs_lock_exclusively(partitions regclass[]) RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '250ms'
    AS $$
DECLARE
    default_partition constant oid := (
        SELECT partdefid FROM pg_partitioned_table WHERE partrelid = '@schema@.audit_logs'::regclass);
BEGIN
    LOCK TABLE ONLY @schema@.audit_logs IN ACCESS EXCLUSIVE MODE;
    PERFORM set_config('lock_timeout', '100ms', true);
    IF default_partition <> 0 THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', default_partition::regclass);
    END IF;
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', array_to_string(partitions, ', '));
END
$$;

-- Creates the partition of one month, or of the first part of it that has none. True: created now. False: there is nothing
-- to create, or it cannot be created (reported by a warning): the default partition has rows of that time, which stay
-- readable there, or something else has its name.
--
-- CREATE … LIKE and ATTACH instead of PARTITION OF, which would lock the whole table against inserts. ATTACH
-- locks the default partition for a moment, hence the lock_timeout and the retries: a long reader delays the
-- new partition, never the writers.
CREATE FUNCTION audit_logs_create_partition(month_start timestamp) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '400ms'
    AS $$
DECLARE
    gap      record;
    attempts int := 0;
BEGIN
    PERFORM @schema@.audit_logs_partition_name(month_start);
    -- Once without and once with the lock: a month that exists locks nothing.
    FOR attempt IN 1..2 LOOP
        SELECT * INTO gap FROM @schema@.audit_logs_first_gap(month_start);
        IF gap.from_time IS NULL THEN
            RETURN false;
        END IF;
        PERFORM @schema@.audit_logs_lock_partitions();
    END LOOP;
    LOOP
        BEGIN
            PERFORM @schema@.audit_logs_attach(
                @schema@.audit_logs_create_table(format('%s.%I', '@schema@', gap.partition_name)),
                gap.from_time, gap.to_time);
            RETURN true;
        EXCEPTION
            WHEN check_violation THEN
                RAISE WARNING 'audit_logs: the partition of % was not created, the default partition has rows of it',
                    to_char(month_start, 'YYYY-MM');
                RETURN false;
            WHEN duplicate_table OR duplicate_object OR invalid_object_definition THEN
                RAISE WARNING 'audit_logs: the partition of % was not created: %',
                    to_char(month_start, 'YYYY-MM'), SQLERRM;
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

-- Raises an error if a part of a month has no partition and there are that many. Each one costs every
-- query over all months time and about eight locks, of max_locks_per_transaction * max_connections for all sessions
-- together: at some number no query over all months runs any longer.
CREATE FUNCTION audit_logs_check_limit(month_start timestamp, max_partitions integer) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
DECLARE
    others constant bigint := (SELECT count(*) FROM pg_inherits WHERE inhparent = '@schema@.audit_logs'::regclass);
BEGIN
    IF (others < max_partitions) IS NOT TRUE AND EXISTS (SELECT FROM @schema@.audit_logs_first_gap(month_start)) THEN
        RAISE EXCEPTION 'audit_logs: there is no partition of % and none is created, as there are % '
            'already and the limit is %', to_char(month_start, 'YYYY-MM'), others, max_partitions
            USING ERRCODE = 'configuration_limit_exceeded',
                  HINT = 'The default partition takes its rows. A maintainer may repeat it with a higher '
                         'max_partitions.';
    END IF;
END
$$;

-- The same for a writer, who may only create the months that a trail has anyway: from the previous one to the one in
-- 24 months. In a transaction that is left open the new partition would keep the default partition locked, so such
-- a transaction is ended after two seconds.
CREATE FUNCTION audit_logs_create_upcoming_partition(month_start timestamp) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    this_month constant timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
BEGIN
    IF (month_start BETWEEN this_month - interval '1 month' AND this_month + interval '24 months') IS NOT TRUE THEN
        RAISE EXCEPTION 'audit_logs: a writer may not create the partition of %, only those from % to %',
            to_char(month_start, 'YYYY-MM'), to_char(this_month - interval '1 month', 'YYYY-MM'),
            to_char(this_month + interval '24 months', 'YYYY-MM')
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Rows of other months go to the default partition. A maintainer may create partitions '
                         'for them.';
    END IF;
    PERFORM @schema@.audit_logs_check_limit(month_start, 480);
    IF NOT @schema@.audit_logs_create_partition(month_start) THEN
        RETURN false;
    END IF;
    PERFORM set_config('idle_in_transaction_session_timeout', '2s', true);
    RETURN true;
END
$$;

-- Creates the partitions of all months from the one of from_time to the one of to_time (both in UTC), as far as the
-- caller may. Returns how many it created. Runs with the rights of the caller.
CREATE FUNCTION audit_logs_ensure_partitions(
    from_time      timestamptz DEFAULT now(),
    to_time        timestamptz DEFAULT now() + interval '24 months',
    max_partitions integer     DEFAULT 480
) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    month_start    timestamp := date_trunc('month', from_time AT TIME ZONE 'UTC');
    last_month     constant timestamp := date_trunc('month', to_time AT TIME ZONE 'UTC');
    may_create_any constant boolean := has_function_privilege(
        '@schema@.audit_logs_create_partition(timestamp)'::regprocedure, 'EXECUTE');
    is_new         boolean;
    created        integer := 0;
BEGIN
    IF from_time IS NULL OR to_time IS NULL OR NOT isfinite(from_time) OR NOT isfinite(to_time)
       OR last_month > month_start + make_interval(months => max_partitions) THEN
        RAISE EXCEPTION 'audit_logs_ensure_partitions: % to % is not a range of at most % months', from_time, to_time,
            max_partitions
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE month_start <= last_month LOOP
        PERFORM @schema@.audit_logs_check_limit(month_start, max_partitions);
        IF may_create_any THEN
            is_new := @schema@.audit_logs_create_partition(month_start);
        ELSE
            is_new := @schema@.audit_logs_create_upcoming_partition(month_start);
        END IF;
        -- A month may lack more than one part.
        IF is_new THEN
            created := created + 1;
        ELSE
            month_start := month_start + interval '1 month';
        END IF;
    END LOOP;
    RETURN created;
END
$$;

-- Creates the indexes for look-ups by actor, resource and request on the months that ended more than a day
-- ago. Returns how many it created. A month that is still written to has none of them: three further b-trees
-- would halve the rate of inserts. Late rows for a month wait while its indexes are built, a second or two
-- for a million rows; all other months are unaffected.
CREATE FUNCTION audit_logs_index_closed_months() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '400ms'
    AS $$
DECLARE
    month   record;
    wanted  record;
    created integer := 0;
BEGIN
    PERFORM @schema@.audit_logs_lock_partitions();
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
-- month can hold, whose rows stay there.
CREATE FUNCTION audit_logs_default_months() RETURNS TABLE (month_start timestamp, row_count bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT CASE WHEN created_at >= ''4713-01-01 BC'' AND created_at < ''294276-12-01''
                     THEN date_trunc(''month'', created_at AT TIME ZONE ''UTC'') END, count(*)
         FROM %s GROUP BY 1 ORDER BY 1',
        (SELECT partdefid::regclass FROM pg_partitioned_table WHERE partrelid = '@schema@.audit_logs'::regclass));
END
$$;

-- Moves the rows of a month, or of the first part of it that has no partition, from the default partition into a
-- partition of their own. Returns how many it moved. Readers of the table, and writers into the default partition, wait meanwhile, about 3 s for 100,000
-- rows; writers of all other months are unaffected.
CREATE FUNCTION audit_logs_move_month(month_start timestamp, max_partitions integer DEFAULT 480) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '400ms'
    AS $$
DECLARE
    default_partition constant regclass := (
        SELECT partdefid FROM pg_partitioned_table WHERE partrelid = '@schema@.audit_logs'::regclass);
    gap               record;
    attempts          int := 0;
    moving            regclass;
    moved             bigint;
BEGIN
    PERFORM @schema@.audit_logs_partition_name(month_start);
    PERFORM @schema@.audit_logs_check_limit(month_start, max_partitions);
    LOOP
        BEGIN
            LOCK TABLE ONLY @schema@.audit_logs IN SHARE UPDATE EXCLUSIVE MODE;
            SELECT * INTO gap FROM @schema@.audit_logs_first_gap(month_start);
            IF gap.from_time IS NULL THEN
                RETURN 0;
            END IF;
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', default_partition);
            -- The name by which audit_logs_refuse_change() knows it.
            moving := @schema@.audit_logs_create_table('@schema@.audit_logs_moving');
            EXECUTE format('INSERT INTO %s SELECT * FROM %s
                            WHERE created_at >= $1 AND created_at < $2 ORDER BY created_at', moving, default_partition)
                USING gap.from_time, gap.to_time;
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I PRIMARY KEY (id, created_at)',
                           moving, gap.partition_name || '_pkey');
            EXECUTE format('DELETE FROM %s WHERE created_at >= $1 AND created_at < $2', default_partition)
                USING gap.from_time, gap.to_time;
            GET DIAGNOSTICS moved = ROW_COUNT;
            EXECUTE format('ALTER TABLE %s RENAME TO %I', moving, gap.partition_name);
            PERFORM @schema@.audit_logs_attach(moving, gap.from_time, gap.to_time);
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
    'audit_logs_lock_partitions()',
    'audit_logs_bounds()',
    'audit_logs_partitions()',
    'audit_logs_create_table(text)',
    'audit_logs_attach(regclass, timestamptz, timestamptz)',
    'audit_logs_lock_exclusively(regclass[])',
    'audit_logs_create_partition(timestamp)',
    'audit_logs_partition_name(timestamp)',
    'audit_logs_segment_name(timestamp)',
    'audit_logs_first_gap(timestamp)',
    'audit_logs_check_limit(timestamp, integer)',
    'audit_logs_create_upcoming_partition(timestamp)',
    'audit_logs_ensure_partitions(timestamptz, timestamptz, integer)',
    'audit_logs_index_closed_months()',
    'audit_logs_default_months()',
    'audit_logs_move_month(timestamp, integer)'
]::regprocedure[]) AS f;

COMMENT ON FUNCTION audit_logs_create_partition(timestamp) IS
    'Creates the partition of audit_logs for the month that begins at this UTC time.';
COMMENT ON FUNCTION audit_logs_bounds() IS 'The partitions of audit_logs, with their bounds.';
COMMENT ON FUNCTION audit_logs_partitions() IS 'The partitions of audit_logs, with their bounds and sizes.';
COMMENT ON FUNCTION audit_logs_create_table(text) IS 'Creates a table that can become a partition of audit_logs.';
COMMENT ON FUNCTION audit_logs_attach(regclass, timestamptz, timestamptz) IS 'Makes a table a partition of audit_logs.';
COMMENT ON FUNCTION audit_logs_lock_exclusively(regclass[]) IS
    'Locks audit_logs, its default partition and these partitions against everybody.';
COMMENT ON FUNCTION audit_logs_lock_partitions() IS 'One session at a time changes the partitions of audit_logs.';
COMMENT ON FUNCTION audit_logs_partition_name(timestamp) IS
    'The name of the partition of audit_logs for the month that begins at this UTC time.';
COMMENT ON FUNCTION audit_logs_segment_name(timestamp) IS 'A name for one more partition of a month of audit_logs.';
COMMENT ON FUNCTION audit_logs_first_gap(timestamp) IS
    'The first part of a month that no partition of audit_logs covers.';
COMMENT ON FUNCTION audit_logs_check_limit(timestamp, integer) IS
    'Refuses a new partition of audit_logs if there are this many.';
COMMENT ON FUNCTION audit_logs_create_upcoming_partition(timestamp) IS
    'Creates the partition of audit_logs for a month that a writer may create.';
COMMENT ON FUNCTION audit_logs_ensure_partitions(timestamptz, timestamptz, integer) IS
    'Creates the monthly partitions of audit_logs from one time to another; by default to the month in 24 months.';
COMMENT ON FUNCTION audit_logs_index_closed_months() IS
    'Creates the look-up indexes of the months of audit_logs that have ended; worth a call each month.';
COMMENT ON FUNCTION audit_logs_default_months() IS
    'The months of the rows in the default partition of audit_logs.';
COMMENT ON FUNCTION audit_logs_move_month(timestamp, integer) IS
    'Moves the rows of one month from the default partition of audit_logs into a partition of their own.';

SELECT audit_logs_ensure_partitions(now() - interval '1 month');

-- Look-ups by actor, resource, request and tenant that do not grow with the month that is written to: one index in the
-- order of time that carries what is looked for, further ones once a partition has ended, and months in segments.
-- docs/decisions/0021-look-ups.md has the reasons and the measurements.

-- Fail rather than make every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

SET LOCAL check_function_bodies = off;

-- Gives a partition the index audit_logs_time, and makes it a part of that of audit_logs. While it is built, rows for
-- this partition wait. Returns false if `auditlog migrate` is building it concurrently, or was interrupted.
CREATE FUNCTION audit_logs_add_time_index(partition regclass) RETURNS boolean
    LANGUAGE plpgsql SET lock_timeout = '1500ms'
    AS $$
DECLARE
    leaf     record;
    wanted   text;
    is_ready boolean;
BEGIN
    SELECT n.nspname AS schema, c.relname AS name INTO leaf
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = partition;
    wanted := format('%I.%I', leaf.schema, leaf.name || '_time');
    SELECT x.indisvalid AND x.indrelid = partition INTO is_ready FROM pg_index x WHERE x.indexrelid = to_regclass(wanted);
    IF is_ready IS FALSE THEN
        RAISE WARNING 'audit_logs: the index % is not complete; `auditlog migrate` builds it', wanted;
        RETURN false;
    ELSIF is_ready IS NULL THEN
        EXECUTE format(
            'CREATE INDEX %I ON %s (created_at, pg_catalog.name(actor_id COLLATE "C"),
                 pg_catalog.name(resource_id COLLATE "C"), pg_catalog.name(request_id COLLATE "C"),
                 pg_catalog.name(tenant_id COLLATE "C"))', leaf.name || '_time', partition);
    END IF;
    EXECUTE format('ALTER INDEX %s ATTACH PARTITION %s', '@schema@.audit_logs_time'::regclass, wanted);
    RETURN true;
END
$$;

-- Drops the indexes that audit_logs_time and those of the ended partitions replace, once nothing needs them.
CREATE FUNCTION audit_logs_drop_replaced_indexes() RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '100ms'
    AS $$
BEGIN
    IF to_regclass('@schema@.audit_logs_tenant_timeline') IS NULL
       OR EXISTS (SELECT FROM pg_index WHERE indexrelid = '@schema@.audit_logs_time'::regclass AND NOT indisvalid)
       OR EXISTS (SELECT FROM @schema@.audit_logs_partitions() p
                  WHERE p.to_time < now() - interval '1 hour' AND p.live_rows > 0 AND NOT EXISTS (
                      SELECT FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
                      WHERE x.indrelid = p.partition AND c.relname = p.partition_name || '_by_tenant')) THEN
        RETURN;
    END IF;
    LOCK TABLE @schema@.audit_logs IN ACCESS EXCLUSIVE MODE;
    DROP INDEX @schema@.audit_logs_tenant_timeline, @schema@.audit_logs_created_at_brin;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RAISE WARNING 'audit_logs: the replaced indexes were not dropped, other sessions have locked a partition; '
        'repeat it later';
END
$$;

DROP FUNCTION audit_logs_index_closed_months();

-- Creates the indexes for look-ups on the partitions that ended more than an hour ago, at most max_indexes in one
-- transaction. Returns how many it created. A partition that is still written to has none of them: each b-tree at a
-- random place costs an insert a third of its time. Late rows for a partition wait until the transaction ends: about
-- a second for an index of a million rows. All other partitions are unaffected.
--
-- lock_timeout: autovacuum gives way after deadlock_timeout, which is a second; with less, a partition that it works on
-- would get no index.
CREATE FUNCTION audit_logs_index_closed_months(max_indexes integer DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1500ms'
    AS $$
DECLARE
    leaf    record;
    wanted  record;
    created integer := 0;
BEGIN
    PERFORM @schema@.audit_logs_lock_partitions();
    FOR leaf IN
        SELECT p.partition, p.partition_name AS name, c.relnamespace::regnamespace::text AS schema,
               EXISTS (SELECT FROM pg_index x JOIN pg_inherits i ON i.inhrelid = x.indexrelid
                       WHERE x.indrelid = p.partition AND i.inhparent = '@schema@.audit_logs_time'::regclass) AS has_time
        FROM @schema@.audit_logs_partitions() p JOIN pg_class c ON c.oid = p.partition
        WHERE p.to_time < now() - interval '1 hour'
        ORDER BY p.from_time
    LOOP
        FOR wanted IN
            SELECT * FROM (VALUES
                ('_time', NULL, NULL, NULL),
                ('_by_tenant', NULL, '(tenant_id, created_at)',
                 'WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 50'),
                ('_by_actor', '_actor', '(actor_id, created_at, tenant_id)',
                 'WHERE actor_id = $1 ORDER BY created_at DESC LIMIT 50'),
                ('_by_resource', '_resource', '(resource_id, created_at, tenant_id)',
                 'WHERE resource_type = $1 AND resource_id = $2 ORDER BY created_at DESC LIMIT 50'),
                ('_by_request', '_request', '(request_id, created_at, tenant_id) WHERE request_id IS NOT NULL',
                 'WHERE request_id = $1')
            ) AS w (suffix, replaces, body, serves)
        LOOP
            CONTINUE WHEN CASE WHEN wanted.suffix = '_time' THEN leaf.has_time ELSE
                to_regclass(format('%s.%I', leaf.schema, leaf.name || wanted.suffix)) IS NOT NULL
                -- It was tried before.
                OR position(' ' || leaf.name || wanted.suffix || ':' IN obj_description(leaf.partition, 'pg_class')) > 0
                END;
            IF created >= max_indexes THEN
                RETURN created;
            END IF;
            BEGIN
                IF wanted.suffix = '_time' THEN
                    CONTINUE WHEN NOT @schema@.audit_logs_add_time_index(leaf.partition);
                ELSE
                    EXECUTE format('CREATE INDEX %I ON %s %s', leaf.name || wanted.suffix, leaf.partition, wanted.body);
                    EXECUTE format('COMMENT ON INDEX %s.%I IS %L', leaf.schema, leaf.name || wanted.suffix,
                                   'Serves: ' || wanted.serves || '.');
                    IF wanted.replaces IS NOT NULL
                       AND to_regclass(format('%s.%I', leaf.schema, leaf.name || wanted.replaces)) IS NOT NULL THEN
                        EXECUTE format('DROP INDEX %s.%I', leaf.schema, leaf.name || wanted.replaces);
                    END IF;
                END IF;
                created := created + 1;
            EXCEPTION
                WHEN program_limit_exceeded THEN
                    RAISE WARNING 'audit_logs: no index % on %, a value in it is too long for a b-tree',
                        wanted.body, leaf.partition;
                    EXECUTE format('COMMENT ON TABLE %s IS %L', leaf.partition, concat_ws(' ',
                        obj_description(leaf.partition, 'pg_class'),
                        'There is no ' || leaf.name || wanted.suffix || ': a value is too long for it.'));
                WHEN lock_not_available OR deadlock_detected THEN
                    RAISE WARNING 'audit_logs: no index % on %, other sessions have locked it; repeat it later',
                        coalesce(wanted.body, 'audit_logs_time'), leaf.partition;
                    -- Its other indexes would wait for the same session.
                    EXIT;
            END;
        END LOOP;
    END LOOP;
    PERFORM @schema@.audit_logs_drop_replaced_indexes();
    RETURN created;
END
$$;

-- Where a partition is to be cut, or null. A function of its arguments alone:
-- now_time, the time; from_time and to_time, the partition's bounds; partition_rows, its rows; segment_rows, how many a
-- segment should have; segment_time, how long it takes until that many are written.
CREATE FUNCTION audit_logs_next_cut(
    now_time timestamptz, from_time timestamptz, to_time timestamptz, partition_rows bigint, segment_rows bigint,
    segment_time interval
) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT CASE WHEN cut < to_time - interval '1 hour' AND cut > from_time THEN cut END
    FROM (SELECT CASE
        -- It is full. Rows from the near future may be there already, by the clocks of callers.
        WHEN partition_rows >= segment_rows AND from_time <= now_time THEN now_time + interval '10 minutes'
        -- A week ahead, so that a weekly job is enough.
        WHEN from_time >= now_time + interval '8 days' THEN NULL
        -- A remainder of less than a third of a segment is no segment.
        WHEN from_time + segment_time * 1.3 < to_time AND from_time + segment_time > now_time + interval '10 minutes'
            THEN from_time + segment_time END AS cut) AS planned
    $$;

-- Cuts a partition at a time: rows from then on get a partition of their own, also those that it holds by now. Returns
-- whether it did. Everybody waits while PostgreSQL reads the partition, and the default partition twice: 0.3 s for
-- 320 MiB in memory. So it does not, with a warning, if they are larger than max_bytes together, or if
-- more than 1,000 rows would move; nor if the trail has max_partitions.
CREATE FUNCTION audit_logs_cut(
    cut_partition regclass, cut_time timestamptz, max_partitions integer DEFAULT 150,
    max_bytes bigint DEFAULT 320 * 1024 * 1024
) RETURNS boolean
    LANGUAGE plpgsql SET lock_timeout = '250ms'
    AS $$
DECLARE
    parent            constant regclass := '@schema@.audit_logs'::regclass;
    default_partition constant oid := (SELECT partdefid FROM pg_partitioned_table WHERE partrelid = parent);
    added_name        text;
    added             regclass;
    bounds            record;
    attempts          int := 0;
    moved             bigint;
BEGIN
    PERFORM @schema@.audit_logs_lock_partitions();
    SELECT * INTO bounds FROM @schema@.audit_logs_partitions() p WHERE p.partition = cut_partition;
    IF (cut_time > bounds.from_time AND cut_time < bounds.to_time AND isfinite(bounds.from_time)
        AND bounds.to_time <= date_trunc('month', bounds.from_time) + interval '1 month') IS NOT TRUE THEN
        RAISE EXCEPTION 'audit_logs: % is not a time within the partition of a month, %', cut_time, cut_partition
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A partition that lacks an index of audit_logs would get it when it is attached, while everybody waits.
    IF (SELECT count(*) FROM @schema@.audit_logs_partitions()) >= max_partitions
       OR NOT EXISTS (SELECT FROM pg_index x JOIN pg_inherits i ON i.inhrelid = x.indexrelid
                      WHERE x.indrelid = cut_partition AND i.inhparent = '@schema@.audit_logs_time'::regclass) THEN
        RETURN false;
    END IF;
    IF bounds.table_bytes + 2 * coalesce(pg_relation_size(nullif(default_partition, 0)), 0) > max_bytes THEN
        RAISE WARNING 'audit_logs: % is not cut, because writers would wait while it or the default partition is read',
            cut_partition;
        RETURN false;
    END IF;
    added_name := format('%s.%I', '@schema@', @schema@.audit_logs_segment_name(
        date_trunc('month', bounds.from_time AT TIME ZONE 'UTC')));
    LOOP
        BEGIN
            PERFORM @schema@.audit_logs_lock_exclusively(ARRAY[cut_partition]);
            EXECUTE format('SELECT count(*) FROM (SELECT FROM %s WHERE created_at >= $1 LIMIT 1001) AS few',
                           cut_partition)
                INTO moved USING cut_time;
            IF moved > 1000 THEN
                RAISE WARNING 'audit_logs: % is not cut at %, more than 1,000 of its rows are dated later',
                    cut_partition, cut_time;
                RETURN false;
            END IF;
            EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', parent, cut_partition);
            added := @schema@.audit_logs_create_table(added_name);
            IF moved > 0 THEN
                EXECUTE format('INSERT INTO %s SELECT * FROM %s WHERE created_at >= $1', added, cut_partition)
                    USING cut_time;
                -- Only what is there now, identical to the bit. ATTACH refuses a row that is left.
                EXECUTE format('DELETE FROM %s AS old USING %s AS new
                                WHERE old.created_at >= $1 AND new.id = old.id AND new.created_at = old.created_at
                                  AND new *= old', cut_partition, added)
                    USING cut_time;
            END IF;
            PERFORM @schema@.audit_logs_attach(cut_partition, bounds.from_time, cut_time);
            PERFORM @schema@.audit_logs_attach(added, cut_time, bounds.to_time);
            RETURN true;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            attempts := attempts + 1;
            IF attempts >= 20 THEN
                RAISE EXCEPTION 'audit_logs: % was not cut, other sessions locked the table during % attempts',
                    cut_partition, attempts
                    USING ERRCODE = 'lock_not_available',
                          HINT = 'Repeat it when the long queries on audit_logs have ended.';
            END IF;
            -- Writers waited for half a second: they need time to catch up.
            PERFORM pg_sleep(least(0.25 * attempts, 1));
        END;
    END LOOP;
END
$$;

-- Cuts the partitions of this month and the next one into segments of about segment_rows, as far as they are needed in
-- the coming week, at most max_cuts in one transaction, which keeps the locks. Returns how many it added. A month of fewer
-- rows stays one partition. There are never more than max_partitions because of this: planning a query over all of them
-- would take longer than it saves. Each of the kept_months gets an equal share, so that later months have theirs.
CREATE FUNCTION audit_logs_segment_months(
    segment_rows bigint DEFAULT 750000, max_cuts integer DEFAULT 1, kept_months integer DEFAULT 13,
    max_partitions integer DEFAULT 150
) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    AS $$
DECLARE
    month         timestamptz;
    part          record;
    cut           timestamptz;
    rows_a_second double precision;
    share         bigint;
    segment_time  interval;
    wanted_rows   bigint;
    added         integer := 0;
BEGIN
    IF (segment_rows >= 1000 AND kept_months >= 1) IS NOT TRUE THEN
        RAISE EXCEPTION 'audit_logs: a segment has at least 1,000 rows, and at least one month is kept'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- As fast as in the last month or two, the running one included.
    SELECT sum(p.live_rows) / greatest(extract(epoch FROM now() - min(p.from_time)), 3600) INTO rows_a_second
    FROM @schema@.audit_logs_partitions() p
    WHERE p.from_time <= now() AND p.to_time > now() - interval '31 days' AND isfinite(p.from_time);
    -- What the months to come leave, for each month that is kept or there anyway.
    SELECT greatest(1, (max_partitions - count(*) FILTER (WHERE p.from_time > now() + interval '1 month'))
                       / greatest(kept_months, count(*) FILTER (
                             WHERE p.from_time <= now() AND p.from_time = date_trunc('month', p.from_time)))) INTO share
    FROM @schema@.audit_logs_partitions() p;
    segment_time := make_interval(secs => least(greatest(
        segment_rows / greatest(rows_a_second, 0.001), extract(epoch FROM interval '31 days') / share, 3600), 1e8));
    -- With a small share a segment has more rows.
    wanted_rows := greatest(segment_rows, (rows_a_second * extract(epoch FROM segment_time))::bigint);
    FOREACH month IN ARRAY ARRAY[date_trunc('month', now()), date_trunc('month', now()) + interval '1 month'] LOOP
        LOOP
            EXIT WHEN share <= (SELECT count(*) FROM @schema@.audit_logs_partitions() p
                                WHERE p.from_time >= month AND p.to_time <= month + interval '1 month');
            cut := NULL;
            -- The one that is written to now, in case it fills faster than was expected; then the last one.
            FOR part IN
                SELECT p.* FROM @schema@.audit_logs_partitions() p
                WHERE p.from_time >= month AND p.to_time <= month + interval '1 month'
                  AND (p.to_time = month + interval '1 month' OR p.from_time <= now() AND p.to_time > now())
                ORDER BY p.from_time
            LOOP
                cut := @schema@.audit_logs_next_cut(
                    now(), part.from_time, part.to_time, part.live_rows, wanted_rows, segment_time);
                EXIT WHEN cut IS NOT NULL;
            END LOOP;
            EXIT WHEN cut IS NULL OR added >= max_cuts
                OR NOT @schema@.audit_logs_cut(part.partition, cut, max_partitions);
            added := added + 1;
        END LOOP;
    END LOOP;
    RETURN added;
END
$$;

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', f)
FROM unnest(ARRAY[
    'audit_logs_add_time_index(regclass)',
    'audit_logs_drop_replaced_indexes()',
    'audit_logs_index_closed_months(integer)',
    'audit_logs_next_cut(timestamptz, timestamptz, timestamptz, bigint, bigint, interval)',
    'audit_logs_cut(regclass, timestamptz, integer, bigint)',
    'audit_logs_segment_months(bigint, integer, integer, integer)'
]::regprocedure[]) AS f;

DO $do$
DECLARE
    maintainer constant name := audit_role('maintainer');
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_index_closed_months(integer),
                    audit_logs_segment_months(bigint, integer, integer, integer) TO %I', maintainer);
END
$do$;

-- name() keeps the first 63 bytes of a text, is the same in all versions of PostgreSQL, and is leakproof, so that row
-- security permits it as the condition of an index. A row cannot be refused because of it, as its values are short.
CREATE INDEX audit_logs_time ON ONLY audit_logs (
    created_at, pg_catalog.name(actor_id COLLATE "C"), pg_catalog.name(resource_id COLLATE "C"),
    pg_catalog.name(request_id COLLATE "C"), pg_catalog.name(tenant_id COLLATE "C"));

-- Partitions with hardly a row at once: writers wait for this transaction. Others follow: those that have ended by
-- audit_logs_index_closed_months(), one that is written to by `auditlog migrate`, without blocking writers.
SELECT audit_logs_add_time_index(p.partition) FROM audit_logs_partitions() p WHERE p.table_bytes < 1024 * 1024;

SELECT audit_logs_drop_replaced_indexes();

-- The last, as it locks the table against everybody.
DO $do$
DECLARE
    reader constant name := audit_role('reader');
BEGIN
    -- Both halves say the same; the second is what an index can answer. The text alone decides between tenants whose
    -- names share their first 63 bytes.
    EXECUTE format('ALTER POLICY audit_logs_read_tenant ON audit_logs TO %I
                    USING (tenant_id = nullif(current_setting(''audit.tenant_id'', true), '''')
                           AND pg_catalog.name(tenant_id COLLATE "C")
                               = pg_catalog.name(nullif(current_setting(''audit.tenant_id'', true), '''')))', reader);
END
$do$;

COMMENT ON INDEX audit_logs_time IS
    'Serves: any order by time; and WHERE actor_id = $1 AND name(actor_id COLLATE "C") = name($1) ORDER BY created_at '
    'DESC LIMIT 50 on partitions that are written to; the same for resource_id, request_id and tenant_id.';
COMMENT ON POLICY audit_logs_read_tenant ON audit_logs IS
    'Readers see the rows of the tenant in audit.tenant_id; set it with set_config(''audit.tenant_id'', …, true), '
    'for the transaction alone.';
COMMENT ON FUNCTION audit_logs_add_time_index(regclass) IS 'Gives a partition of audit_logs the index audit_logs_time.';
COMMENT ON FUNCTION audit_logs_drop_replaced_indexes() IS
    'Drops the indexes of audit_logs that others have replaced.';
COMMENT ON FUNCTION audit_logs_index_closed_months(integer) IS
    'Creates the look-up indexes of the partitions of audit_logs that have ended; worth a call each day.';
COMMENT ON FUNCTION audit_logs_next_cut(timestamptz, timestamptz, timestamptz, bigint, bigint, interval) IS
    'Where a partition of audit_logs is to be cut.';
COMMENT ON FUNCTION audit_logs_cut(regclass, timestamptz, integer, bigint) IS 'Cuts a partition of audit_logs at a time.';
COMMENT ON FUNCTION audit_logs_segment_months(bigint, integer, integer, integer) IS
    'Cuts months of audit_logs that outgrow about a million rows into segments; worth calls each day, until it returns 0.';

-- Partitions stay as they are: a month in segments is not a whole month for the functions of before, which never drop
-- it. Building the index of all partitions blocks writers meanwhile.
SET LOCAL lock_timeout = '2s';

SET LOCAL check_function_bodies = off;

DO $do$
DECLARE
    index regclass;
BEGIN
    FOR index IN
        SELECT x.oid FROM pg_inherits i JOIN pg_index k ON k.indrelid = i.inhrelid JOIN pg_class x ON x.oid = k.indexrelid
        WHERE i.inhparent = 'audit_logs'::regclass AND x.relname ~ '_by_(tenant|actor|resource|request)$'
    LOOP
        EXECUTE format('DROP INDEX %s', index);
    END LOOP;
    EXECUTE format('ALTER POLICY audit_logs_read_tenant ON audit_logs TO %I
                    USING (tenant_id = nullif(current_setting(''audit.tenant_id'', true), ''''))', audit_role('reader'));
END $do$;

CREATE INDEX IF NOT EXISTS audit_logs_tenant_timeline ON audit_logs (tenant_id, created_at);
CREATE INDEX IF NOT EXISTS audit_logs_created_at_brin ON audit_logs USING brin (created_at) WITH (autosummarize = on);
DROP INDEX audit_logs_time;

COMMENT ON INDEX audit_logs_tenant_timeline IS
    'Serves: WHERE tenant_id = $1 ORDER BY created_at DESC LIMIT 50.';
COMMENT ON INDEX audit_logs_created_at_brin IS
    'Serves: WHERE created_at >= $1 AND created_at < $2, across tenants.';

DROP FUNCTION audit_logs_segment_months(bigint, integer, integer, integer), audit_logs_attach(regclass, timestamptz, timestamptz),
    audit_logs_cut(regclass, timestamptz, integer, bigint),
    audit_logs_next_cut(timestamptz, timestamptz, timestamptz, bigint, bigint, interval),
    audit_logs_index_closed_months(integer), audit_logs_drop_replaced_indexes(), audit_logs_add_time_index(regclass),
    audit_logs_months();

-- The functions of before, unchanged.
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

CREATE FUNCTION audit_logs_months() RETURNS TABLE (
        partition name, month text, from_time timestamptz, to_time timestamptz, whole_month boolean,
        has_rows boolean, row_count bigint, bytes bigint, relation regclass)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
DECLARE
    p record;
BEGIN
    FOR p IN
        SELECT c.oid, c.relname, c.reltuples, pg_get_expr(c.relpartbound, c.oid) AS bound,
               format('%I.%I', n.nspname, c.relname) AS qualified_name
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = '@schema@.audit_logs'::regclass
    LOOP
        partition := p.relname;
        relation := p.oid;
        from_time := substring(p.bound FROM 'FROM [(]''([^'']+)''[)]')::timestamptz;
        to_time := substring(p.bound FROM 'TO [(]''([^'']+)''[)]')::timestamptz;
        whole_month := coalesce(
            from_time = date_trunc('month', from_time) AND to_time = from_time + interval '1 month', false);
        month := CASE WHEN whole_month THEN
            to_char(from_time, 'YYYY-MM') || CASE WHEN from_time < '0001-01-01' THEN ' BC' ELSE '' END END;
        BEGIN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', p.qualified_name) INTO has_rows;
        EXCEPTION WHEN undefined_table THEN
            -- It was dropped meanwhile.
            CONTINUE;
        END;
        row_count := CASE WHEN has_rows THEN p.reltuples ELSE 0 END;
        IF has_rows AND row_count <= 0 THEN
            EXECUTE format('SELECT count(*) FROM %s', p.qualified_name) INTO row_count;
        END IF;
        bytes := pg_total_relation_size(p.oid);
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION audit_hold_coverage(
    tenant_id text DEFAULT NULL, from_time timestamptz DEFAULT NULL, to_time timestamptz DEFAULT NULL,
    OUT months bigint, OUT row_count bigint
)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET enable_seqscan = off
    AS $$
DECLARE
    partition text;
    found     bigint;
BEGIN
    months := 0;
    row_count := 0;
    FOR partition IN
        SELECT format('%I.%I', n.nspname, c.relname)
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE i.inhparent = '@schema@.audit_logs'::regclass ORDER BY i.inhrelid
    LOOP
        BEGIN
            EXECUTE format(
                'SELECT count(*) FROM (
                     SELECT FROM %s WHERE ($1 IS NULL OR tenant_id = $1) AND created_at >= $2
                     AND ($3 IS NULL OR created_at < $3) LIMIT $4) AS found',
                partition)
                INTO found
                USING tenant_id, coalesce(from_time, '-infinity'), to_time, greatest(100000 - row_count, 1);
        EXCEPTION WHEN undefined_table THEN
            -- It was dropped meanwhile.
            CONTINUE;
        END;
        months := months + (found > 0)::integer;
        row_count := row_count + found;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION audit_holds_on(partition regclass, starts timestamptz, ends timestamptz) RETURNS bigint[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
DECLARE
    hold   record;
    covers boolean;
    found  bigint[] := '{}';
BEGIN
    FOR hold IN
        SELECT h.* FROM @schema@.audit_legal_holds h
        WHERE h.releases IS NULL AND NOT EXISTS (SELECT FROM @schema@.audit_legal_holds r WHERE r.releases = h.id)
          AND coalesce(h.from_time < ends, true) AND coalesce(h.to_time > starts, true)
        ORDER BY h.id
    LOOP
        covers := hold.tenant_id IS NULL;
        IF NOT covers THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE tenant_id = $1 AND created_at >= $2
                            AND ($3 IS NULL OR created_at < $3))', partition)
                INTO covers
                USING hold.tenant_id, coalesce(greatest(hold.from_time, starts), '-infinity'),
                      least(hold.to_time, ends);
        END IF;
        IF covers THEN
            found := found || hold.id;
        END IF;
    END LOOP;
    RETURN found;
END
$$;

CREATE OR REPLACE FUNCTION audit_retention_plan(keep_months integer, trust_clock boolean DEFAULT false) RETURNS TABLE (
        partition name, month text, from_time timestamptz, to_time timestamptz, row_count bigint, bytes bigint,
        holds bigint[], relation regclass, verdict text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$
BEGIN
    IF keep_months IS NULL OR keep_months < 1 THEN
        RAISE EXCEPTION 'audit_logs: at least one month must be kept' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
        WITH months AS MATERIALIZED (
            SELECT m.*, @schema@.audit_holds_on(
                -- The default partition, which has no bounds, alone.
                CASE WHEN m.from_time IS NULL THEN m.relation ELSE '@schema@.audit_logs'::regclass END,
                m.from_time, m.to_time) AS holds
            FROM @schema@.audit_logs_months() m
        )
        SELECT m.partition, m.month, m.from_time, m.to_time, m.row_count, m.bytes, m.holds, m.relation,
               CASE WHEN NOT m.whole_month THEN 'not_monthly'
                    WHEN m.to_time > now() - make_interval(months => keep_months) THEN 'keep'
                    WHEN m.holds <> '{}' THEN 'held'
                    WHEN NOT trust_clock AND keep_months > (
                        SELECT count(*) FROM months l
                        WHERE l.whole_month AND l.has_rows AND l.from_time >= m.to_time AND l.from_time <= now())
                    THEN 'too_few_recent'
                    ELSE 'drop' END
        FROM months m
        ORDER BY m.from_time, m.partition;
END
$$;

CREATE OR REPLACE FUNCTION audit_retention_drop(
    partition regclass, starts timestamptz, ends timestamptz, before pg_snapshot
) RETURNS void
    LANGUAGE plpgsql SET lock_timeout = '100ms' SET enable_seqscan = off
    AS $$
DECLARE
    parent            constant regclass := '@schema@.audit_logs'::regclass;
    default_partition constant oid := (SELECT partdefid FROM pg_partitioned_table WHERE partrelid = parent);
    attempts          int := 0;
    late              boolean;
    holds             bigint[];
BEGIN
    LOOP
        BEGIN
            -- As audit_logs_lock_partitions(). Nobody waits behind this lock but maintenance.
            LOCK TABLE ONLY @schema@.audit_logs IN SHARE UPDATE EXCLUSIVE MODE;
            -- Waits for a hold that is being added.
            LOCK TABLE @schema@.audit_legal_holds IN SHARE UPDATE EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', '250ms', true);
            LOCK TABLE ONLY @schema@.audit_logs IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', '100ms', true);
            IF default_partition <> 0 THEN
                EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', default_partition::regclass);
            END IF;
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', partition);
            -- By the BRIN index on tx_id: milliseconds. Rows of another cluster may have any tx_id.
            EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE tx_id >= $1 AND tx_id < $2
                            AND NOT pg_visible_in_snapshot(tx_id::text::xid8, $3))', partition)
                INTO late
                USING pg_snapshot_xmin(before)::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                      before;
            IF late THEN
                RAISE EXCEPTION 'audit_logs: rows were inserted into % while it was being read; nothing was dropped',
                    partition
                    USING ERRCODE = 'UA003', HINT = 'Repeat it; an archive of it as well.';
            END IF;
            holds := @schema@.audit_holds_on(partition, starts, ends);
            IF holds <> '{}' THEN
                RAISE EXCEPTION 'audit_logs: % is under the legal holds %', partition, holds
                    USING ERRCODE = 'UA002';
            END IF;
            PERFORM @schema@.audit_retention_drop_tables(ARRAY[partition]);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            attempts := attempts + 1;
            IF attempts >= 60 THEN
                RAISE EXCEPTION 'audit_logs: % was not dropped, other sessions locked the table during % attempts',
                    partition, attempts
                    USING ERRCODE = 'lock_not_available',
                          HINT = 'Repeat it when the long queries on audit_logs have ended.';
            END IF;
            PERFORM pg_sleep(least(0.25 * attempts, 1));
        END;
    END LOOP;
END
$$;

DROP FUNCTION audit_logs_partitions(), audit_tenant_condition(text);

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', f)
FROM unnest(ARRAY['audit_logs_index_closed_months()', 'audit_logs_months()']::regprocedure[]) AS f;

DO $do$ BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_months() TO %I, %I',
                   audit_role('maintainer'), audit_role('auditor'));
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_index_closed_months() TO %I', audit_role('maintainer'));
END $do$;

COMMENT ON FUNCTION audit_logs_index_closed_months() IS
    'Creates the look-up indexes of the months of audit_logs that have ended; worth a call each month.';
COMMENT ON FUNCTION audit_logs_months() IS 'The partitions of audit_logs.';

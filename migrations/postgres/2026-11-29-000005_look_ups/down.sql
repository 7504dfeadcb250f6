-- Partitions stay as they are, also the segments of a month. Building the indexes of all partitions blocks writers
-- meanwhile.
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

DROP FUNCTION audit_logs_segment_months(bigint, integer, integer, integer),
    audit_logs_cut(regclass, timestamptz, integer, bigint),
    audit_logs_next_cut(timestamptz, timestamptz, timestamptz, bigint, bigint, interval),
    audit_logs_index_closed_months(integer), audit_logs_drop_replaced_indexes(), audit_logs_add_time_index(regclass);

-- As …000002_partitions has it.
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

SELECT audit_qualify_functions();

SELECT audit_revoke_all('FUNCTION', 'audit_logs_index_closed_months()'::regprocedure);

DO $do$ BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION audit_logs_index_closed_months() TO %I', audit_role('maintainer'));
END $do$;

COMMENT ON FUNCTION audit_logs_index_closed_months() IS
    'Creates the look-up indexes of the months of audit_logs that have ended; worth a call each month.';

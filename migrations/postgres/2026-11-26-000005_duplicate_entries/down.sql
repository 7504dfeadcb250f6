-- As 000004_retention has it.
SET LOCAL lock_timeout = '2s';

DO $do$
DECLARE
    home constant text := quote_ident(current_schema());
BEGIN
EXECUTE replace($sql$

-- Puts a month that is about to be dropped into the ledger.
CREATE OR REPLACE FUNCTION @schema@.audit_retention_record(entry @schema@.audit_retention_ledger) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
DECLARE
    made bigint;
BEGIN
    INSERT INTO @schema@.audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, archive, archive_sha256, keep_months, forced, reason)
    SELECT coalesce(max(id), 0) + 1, 'dropped', entry.month, entry.from_time, entry.to_time, entry.row_count, entry.digest,
           entry.archive, entry.archive_sha256, entry.keep_months, entry.forced, entry.reason
    FROM @schema@.audit_retention_ledger
    RETURNING id INTO made;
    -- Runs of numbers first, so that they are what is collected; numbers beyond a range's reach are no writer's.
    EXECUTE 'INSERT INTO @schema@.audit_retention_writers (entry, writer_id, row_count, numbers)
        SELECT $1, writer_id, sum(row_count), range_agg(int8range(first, last, ''[]'')) FROM (
            SELECT writer_id, count(*) AS row_count, min(writer_seq) AS first, max(writer_seq) AS last FROM (
                SELECT writer_id, writer_seq, writer_seq - dense_rank() OVER (PARTITION BY writer_id ORDER BY writer_seq) AS run
                FROM @schema@.audit_logs WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL
                  AND writer_seq BETWEEN 1 AND 9223372036854775806) AS numbered
            GROUP BY writer_id, run) AS runs
        GROUP BY writer_id' USING made, entry.from_time, entry.to_time;
    -- Of what it vouched for, the most is enough.
    EXECUTE 'INSERT INTO @schema@.audit_retention_declarations (entry, writer_id, action, metadata)
        SELECT $1, writer_id, action, metadata FROM @schema@.audit_logs
        WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL AND writer_seq IS NULL AND metadata IS NOT NULL
          AND action IN (''audit.writer_started'', ''audit.entries_lost'', ''audit.entry_quarantined'', ''audit.writer_stopped'')
        UNION ALL
        (SELECT DISTINCT ON (writer_id) $1, writer_id, action, metadata FROM @schema@.audit_logs
         WHERE created_at >= $2 AND created_at < $3 AND writer_id IS NOT NULL AND writer_seq IS NULL
           AND action = ''audit.writer_alive'' AND jsonb_typeof(metadata -> ''resolved_through'') = ''number''
         ORDER BY writer_id, metadata -> ''resolved_through'' DESC)' USING made, entry.from_time, entry.to_time;
    RETURN made;
END
$$;

$sql$, '@schema@', home);
END
$do$;

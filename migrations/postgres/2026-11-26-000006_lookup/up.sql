-- Whether rows are stored, for a writer that may only insert. A batch whose answer was lost is sent again
-- with ON CONFLICT DO NOTHING, which does not tell a stored row from one that a trigger, a rule or another
-- unique index left out.

-- Rather fail than let every writer queue behind this while it waits for a long query.
SET LOCAL lock_timeout = '2s';

DO $do$
DECLARE
    home constant text := quote_ident(current_schema());
BEGIN
EXECUTE replace($sql$

-- An answer for each (id, created_at), in order: true if the row is stored under this writer_id and
-- writer_seq, false if it is stored under others, null if it is not stored.
--
-- A caller learns no more than by an insert: the primary key rejects an id and time that are stored, and no
-- column comes back. row_security = off: should the owner be bound by a
-- policy some day, this fails instead of calling a hidden row absent.
CREATE FUNCTION @schema@.audit_logs_lookup(ids uuid[], times timestamptz[], writers uuid[], seqs bigint[]) RETURNS boolean[]
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
    AS $$
    SELECT array_agg(
        (SELECT a.writer_id IS NOT DISTINCT FROM w.writer AND a.writer_seq IS NOT DISTINCT FROM w.seq
         FROM @schema@.audit_logs a WHERE a.id = w.id AND a.created_at = w.at)
        ORDER BY w.nth)
    FROM unnest(ids, times, writers, seqs) WITH ORDINALITY AS w (id, at, writer, seq, nth)
    $$;

$sql$, '@schema@', home);
END
$do$;

DO $do$
DECLARE
    lookup constant regprocedure := 'audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[])';
BEGIN
    PERFORM audit_owner_only('FUNCTION', lookup);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', lookup, audit_role('writer'));
END
$do$;

COMMENT ON FUNCTION audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[]) IS 'Which rows of audit_logs are stored: true under this writer''s number, false under another, null not at all.';

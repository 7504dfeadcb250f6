-- Partitions that ended more than 35 days ago, so that even a monthly job has had its time, and lack a look-up index: the
-- first and the last of their months, how many months, and the schema.
WITH parts AS (
         SELECT c.oid, c.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([^'']+)''[)]')::timestamptz AS ends
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = @trail@ AND c.relkind = 'r'),
     lacking AS (
         SELECT DISTINCT date_trunc('month', ends - interval '1 microsecond') AS month FROM parts p
         WHERE ends < now() - interval '35 days' AND EXISTS (
             SELECT FROM unnest(ARRAY['_by_tenant', '_by_actor', '_by_resource', '_by_request']) AS suffix
             WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                               WHERE i.indrelid = p.oid AND x.relname = p.relname || suffix)
               -- A value is too long for it; audit_logs_index_closed_months() says so in the table's comment.
               AND coalesce(position(' ' || p.relname || suffix || ':' IN obj_description(p.oid, 'pg_class')), 0) = 0))
SELECT to_char(min(month), 'YYYY-MM'), to_char(max(month), 'YYYY-MM'), count(*)::text, min(c.relnamespace::regnamespace::text)
FROM lacking, pg_class c WHERE c.oid = @trail@ HAVING count(*) > 0

-- Partitions that ended more than 35 days ago, so that a monthly job has had its time, and lack a look-up index: the first
-- and the last of their months, how many months, and the schema.
WITH parts AS (
         SELECT c.oid, c.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([^'']+)''[)]')::timestamptz AS ends
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = @trail@ AND c.relkind = 'r'),
     lacking AS (
         SELECT DISTINCT date_trunc('month', ends - interval '1 microsecond') AS month FROM parts p
         WHERE ends < now() - interval '35 days' AND 4 > (
             SELECT count(*) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             WHERE i.indrelid = p.oid AND x.relname IN (p.relname || '_by_tenant', p.relname || '_by_actor',
                                                        p.relname || '_by_resource', p.relname || '_by_request')))
SELECT to_char(min(month), 'YYYY-MM'), to_char(max(month), 'YYYY-MM'), count(*)::text, min(c.relnamespace::regnamespace::text)
FROM lacking, pg_class c WHERE c.oid = @trail@ HAVING count(*) > 0

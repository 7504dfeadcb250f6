-- Months that ended more than 35 days ago, so that a monthly job has had its time, and lack a look-up index.
WITH months AS (
         SELECT c.oid, c.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO [(]''([^'']+)''[)]')::timestamptz AS ends
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = @trail@ AND c.relkind = 'r'),
     lacking AS (
         SELECT ends - interval '1 month' AS month FROM months m
         WHERE ends < now() - interval '35 days' AND 3 > (
             SELECT count(*) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             WHERE i.indrelid = m.oid AND x.relname IN (m.relname || '_actor', m.relname || '_resource', m.relname || '_request')))
SELECT to_char(min(month), 'YYYY-MM'), to_char(max(month), 'YYYY-MM'), count(*)::text, min(c.relnamespace::regnamespace::text)
FROM lacking, pg_class c WHERE c.oid = @trail@ HAVING count(*) > 0

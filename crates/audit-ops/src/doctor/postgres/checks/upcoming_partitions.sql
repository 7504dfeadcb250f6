-- Partitions must exist for this month and the next three. Counts the months up to the first gap.
WITH bounds AS (
         SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = @trail@),
     ranges AS MATERIALIZED (
         SELECT CASE WHEN bound ~ 'FROM [(]MINVALUE[)]' THEN '-infinity' ELSE substring(bound FROM 'FROM [(]''([^'']+)''[)]')::timestamptz END AS starts,
                CASE WHEN bound ~ 'TO [(]MAXVALUE[)]' THEN 'infinity' ELSE substring(bound FROM 'TO [(]''([^'']+)''[)]')::timestamptz END AS ends
         FROM bounds),
     months AS (
         SELECT n, date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n) AS month FROM generate_series(0, 36) n),
     first_gap AS (
         SELECT coalesce(min(n), 37) AS n FROM months
         CROSS JOIN LATERAL (SELECT month AT TIME ZONE 'UTC' AS month_starts, (month + interval '1 month') AT TIME ZONE 'UTC' AS month_ends) bounds
         -- A month may consist of several partitions.
         WHERE coalesce((SELECT sum(least(ends, month_ends) - greatest(starts, month_starts)) FROM ranges WHERE starts < month_ends AND ends > month_starts), '0')
               < month_ends - month_starts)
SELECT 'warning',
       CASE WHEN n = 0 THEN 'this month, or a part of it, has no partition: rows of that time go into the default partition' ELSE format('partitions exist only up to %s', to_char(now() AT TIME ZONE 'UTC' + make_interval(months => n - 1), 'YYYY-MM')) END,
       format(E'SELECT %s.audit_logs_ensure_partitions();\n-- each day; or with the command: auditlog partitions ensure', relnamespace::regnamespace)
FROM first_gap, pg_class c WHERE n <= 3 AND c.oid = @trail@

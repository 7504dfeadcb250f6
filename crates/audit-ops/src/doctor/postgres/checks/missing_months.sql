-- Ranges between the first and the last partition that have neither a partition nor an entry in the ledger: their months,
-- how many partitions there would be if each month had one, and the times of a range that is not whole months.
WITH bounds AS (
         SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = @trail@),
     covered AS (
         SELECT substring(bound FROM 'FROM [(]''([^'']+)''[)]')::timestamptz AS starts, substring(bound FROM 'TO [(]''([^'']+)''[)]')::timestamptz AS ends FROM bounds
         UNION ALL
         SELECT from_time, to_time FROM @schema@.audit_retention_ledger WHERE event = 'dropped'),
     -- The first month has a beginning, too.
     bounded AS (
         SELECT starts, ends FROM covered
         UNION ALL
         SELECT date_trunc('month', min(starts)), date_trunc('month', min(starts)) FROM covered WHERE isfinite(starts)),
     -- The end of what is covered before each range.
     ordered AS (
         SELECT starts, max(ends) OVER (ORDER BY starts, ends ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
         FROM bounded WHERE starts IS NOT NULL AND isfinite(starts) AND isfinite(ends)),
     gaps AS (
         SELECT before, starts, starts - interval '1 microsecond' AS last,
                before <> date_trunc('month', before) OR starts <> date_trunc('month', starts) AS is_partial
         FROM ordered WHERE starts > before),
     counted AS (
         SELECT *, ((extract(year FROM last) - extract(year FROM before)) * 12 + extract(month FROM last) - extract(month FROM before))::int + 1 AS months
         FROM gaps)
SELECT to_char(before, 'YYYY-MM'), to_char(last, 'YYYY-MM'), months::text, c.relnamespace::regnamespace::text,
       ((SELECT count(*) FROM bounds) + sum(months) OVER ())::text,
       CASE WHEN is_partial THEN format('from %s to %s', to_char(before, 'YYYY-MM-DD HH24:MI'), to_char(starts, 'YYYY-MM-DD HH24:MI')) ELSE '' END
FROM counted, pg_class c WHERE c.oid = @trail@ ORDER BY starts

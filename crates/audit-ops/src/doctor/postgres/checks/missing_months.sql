-- Ranges of months between the first and the last that have neither a partition nor an entry in the ledger, and how many
-- partitions there would be if each month had one.
WITH bounds AS (
         SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = @trail@),
     covered AS (
         SELECT substring(bound FROM 'FROM [(]''([^'']+)''[)]')::timestamptz AS starts, substring(bound FROM 'TO [(]''([^'']+)''[)]')::timestamptz AS ends FROM bounds
         UNION ALL
         SELECT from_time, to_time FROM @schema@.audit_retention_ledger WHERE event = 'dropped'),
     -- The end of what is covered before each range.
     ordered AS (
         SELECT starts, max(ends) OVER (ORDER BY starts, ends ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
         FROM covered WHERE starts IS NOT NULL AND isfinite(starts) AND isfinite(ends)),
     gaps AS (
         SELECT before, starts,
                ((extract(year FROM starts) - extract(year FROM before)) * 12 + extract(month FROM starts) - extract(month FROM before))::int AS months
         FROM ordered WHERE starts > before AND starts >= before + interval '1 month')
SELECT to_char(before, 'YYYY-MM'), to_char(starts - interval '1 month', 'YYYY-MM'), months::text, c.relnamespace::regnamespace::text,
       ((SELECT count(*) FROM bounds) + sum(months) OVER ())::text
FROM gaps, pg_class c WHERE c.oid = @trail@ ORDER BY starts

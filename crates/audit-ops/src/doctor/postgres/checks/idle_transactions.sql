-- Sessions that have been idle in a transaction for five seconds and hold a lock on a table of the trail. Only their own
-- user and a member of pg_read_all_stats see that they are idle.
WITH tables AS (@tables_of_trail@),
     idle AS (
         SELECT a.pid, a.usename, a.xact_start, a.state_change FROM pg_stat_activity a
         WHERE a.state LIKE 'idle in transaction%' AND a.state_change < clock_timestamp() - interval '5 seconds'
           AND EXISTS (SELECT FROM pg_locks l JOIN tables t ON t.oid = l.relation
                       WHERE l.pid = a.pid AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.granted))
SELECT 'warning',
       format('sessions that are idle in a transaction and hold locks on the trail: %s (%s), the first since %s', count(*),
              (SELECT string_agg(DISTINCT quote_ident(usename), ', ') FROM idle), min(xact_start)::timestamptz(0)),
       format(E'-- find out why they do not commit; this ends them, and rolls back what they did:\nSELECT pg_terminate_backend(pid) FROM unnest(ARRAY[%s]) AS pid;\n-- idle_in_transaction_session_timeout ends such transactions in future', string_agg(pid::text, ', ' ORDER BY pid))
FROM idle HAVING count(*) > 0

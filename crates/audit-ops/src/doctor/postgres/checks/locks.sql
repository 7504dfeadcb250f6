-- Sessions that wait for a lock on a table of the trail, hold one that stops its readers or writers, or hold any without
-- having a role of the trail: the session, its transaction, its user, what it does, which locks, and whom it waits for.
-- Everybody may see locks and the users of sessions.
WITH RECURSIVE known (oid, part) AS (VALUES @roles@),
     members AS (SELECT oid FROM known UNION SELECT m.member FROM pg_auth_members m JOIN members ON members.oid = m.roleid),
     tables AS (@tables_of_trail@),
     locks AS (
         SELECT l.pid, l.virtualtransaction, a.usename, l.mode, l.relation,
                CASE WHEN NOT l.granted THEN 'waits'
                     WHEN l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') THEN 'stops'
                     WHEN NOT r.rolsuper AND r.oid NOT IN (SELECT oid FROM members) THEN 'foreign' END AS does
         FROM pg_locks l JOIN tables t ON t.oid = l.relation
         LEFT JOIN pg_stat_activity a ON a.pid = l.pid LEFT JOIN pg_roles r ON r.oid = a.usesysid
         WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.pid IS NOT NULL AND l.pid <> pg_backend_pid())
SELECT pid::text, virtualtransaction, coalesce(quote_ident(usename), 'the server'), does,
       string_agg(DISTINCT format('%s on %s', mode, relation::regclass), ', '),
       coalesce((SELECT string_agg(DISTINCT CASE WHEN b = 0 THEN 'a prepared transaction' ELSE format('%s (%s)', b, coalesce(quote_ident(a.usename), 'the server')) END, ', ')
                 FROM unnest(pg_blocking_pids(l.pid)) b LEFT JOIN pg_stat_activity a ON a.pid = b WHERE l.does = 'waits'), '')
FROM locks l WHERE does IS NOT NULL GROUP BY pid, virtualtransaction, usename, does ORDER BY pid, does

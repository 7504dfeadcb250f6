-- Prepared transactions that hold locks on a table of the trail.
WITH tables AS (@tables_of_trail@)
SELECT 'warning',
       format('the prepared transaction %L (%I, since %s) holds locks on the trail: it outlasts every session and a restart, and stops months from being created and dropped', x.gid, x.owner, date_trunc('second', x.prepared)),
       format('ROLLBACK PREPARED %L;', x.gid)
FROM pg_prepared_xacts x
WHERE x.database = current_database() AND EXISTS (
    SELECT FROM pg_locks own JOIN pg_locks l ON l.virtualtransaction = own.virtualtransaction AND l.pid IS NULL
    WHERE own.locktype = 'transactionid' AND own.transactionid = x.transaction AND own.pid IS NULL
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.relation IN (SELECT oid FROM tables))

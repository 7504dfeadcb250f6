-- The numbers of holds and of the ledger's entries begin with 1 and have no gaps.
WITH numbers AS (
         SELECT tableoid::regclass::text AS name, id FROM @schema@.audit_retention_ledger UNION ALL
         SELECT tableoid::regclass::text, id FROM @schema@.audit_legal_holds),
     ordered AS (SELECT name, id, coalesce(lag(id) OVER (PARTITION BY name ORDER BY id), 0) AS before FROM numbers)
SELECT name, (before + 1)::text, (id - 1)::text FROM ordered WHERE id <> before + 1 ORDER BY name, id LIMIT 100

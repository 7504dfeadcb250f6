-- Every table named like a partition must be attached, and every partition must be one that the functions created.
WITH trail AS (SELECT oid, relnamespace FROM pg_class WHERE oid = 'audit_logs'::regclass)
SELECT 'warning', format('%s is not attached to audit_logs: queries do not find its rows, and nothing protects them', c.oid::regclass),
       format(E'ALTER TABLE audit_logs ATTACH PARTITION %s FOR VALUES FROM (…) TO (…);\n-- or, if it was detached on purpose, archive it and drop it', c.oid::regclass)
FROM pg_class c, trail
WHERE c.relnamespace = trail.relnamespace AND c.relkind IN ('r', 'p', 'f', 'm') AND c.oid <> trail.oid AND c.relname LIKE 'audit!_logs!_%' ESCAPE '!'
  AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
UNION ALL
SELECT 'warning', format('the detachment of %s from audit_logs is incomplete', i.inhrelid::regclass), format('ALTER TABLE audit_logs DETACH PARTITION %s FINALIZE;', i.inhrelid::regclass)
FROM pg_inherits i, trail WHERE i.inhparent = trail.oid AND i.inhdetachpending
UNION ALL
SELECT CASE WHEN c.relkind = 'f' THEN 'critical' ELSE 'info' END,
       format(CASE WHEN c.relkind = 'f' THEN 'the partition %s is a foreign table: its rows can be changed elsewhere' ELSE 'the partition %s was created manually' END, c.oid::regclass),
       format(E'-- protect it as the other partitions are: SELECT audit_lock_down_table(%L);\n-- and apply the remedies of TRIGGERS', c.oid::regclass)
FROM pg_partition_tree('audit_logs') t JOIN pg_class c ON c.oid = t.relid
WHERE t.level > 0 AND c.relname !~ '^audit_logs_(default|[0-9]{4,}_[0-9]{2}(_bc)?)$'

-- Each index must exist on every partition and be valid.
WITH wanted (name, body, primary_key) AS (
         VALUES ('audit_logs_pkey', '', true),
                ('audit_logs_tenant_timeline', '(tenant_id, created_at)', false),
                ('audit_logs_created_at_brin', 'USING brin (created_at) WITH (autosummarize = on)', false),
                ('audit_logs_tx_id_brin', 'USING brin (tx_id) WITH (autosummarize = on)', false))
SELECT CASE WHEN primary_key THEN 'critical' ELSE 'warning' END,
       CASE WHEN primary_key THEN 'the primary key is missing: an entry that is sent again is stored twice' ELSE format('the index %s is missing', name) END,
       CASE WHEN primary_key THEN 'ALTER TABLE audit_logs ADD PRIMARY KEY (id, created_at);' ELSE format('CREATE INDEX %I ON audit_logs %s;', name, body) END
FROM wanted w
WHERE NOT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                  WHERE i.indrelid = 'audit_logs'::regclass AND CASE WHEN primary_key THEN i.indisprimary ELSE c.relname = w.name END)
UNION ALL
SELECT 'warning', format('the index %s on %s is not valid: queries do not use it', i.indexrelid::regclass, i.indrelid::regclass),
       CASE WHEN c.relkind = 'I' THEN format(E'-- an index of the same columns is missing on a partition, or not attached:\nDROP INDEX %s;\n-- then create it again', i.indexrelid::regclass)
            ELSE format('REINDEX INDEX CONCURRENTLY %s;', i.indexrelid::regclass) END
FROM pg_partition_tree('audit_logs') t JOIN pg_index i ON i.indrelid = t.relid JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)

-- Tables and partitions. An attribute with its usual value has no line.
SELECT t.month, 'table', t.label, '', v.attribute, v.value
FROM tables t CROSS JOIN trail JOIN grantee o ON o.oid = t.relowner
LEFT JOIN pg_am am ON am.oid = t.relam LEFT JOIN pg_tablespace ts ON ts.oid = t.reltablespace
LEFT JOIN pg_class toast ON toast.oid = t.reltoastrelid
CROSS JOIN LATERAL (SELECT pg_get_expr(t.relpartbound, t.oid) AS bound) x
CROSS JOIN LATERAL (
    SELECT substring(x.bound FROM 'FROM [(]''([^'']+)''[)]')::timestamptz AS starts, substring(x.bound FROM 'TO [(]''([^'']+)''[)]')::timestamptz AS ends) b
CROSS JOIN LATERAL (SELECT 'audit_logs_' || to_char(b.starts, 'YYYY_MM') || CASE WHEN b.starts < '0001-01-01' THEN '_bc' ELSE '' END AS name) m
CROSS JOIN LATERAL (VALUES
    ('', CASE t.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' END),
    ('owner', o.name),
    ('persistence', CASE t.relpersistence WHEN 'u' THEN 'unlogged' WHEN 't' THEN 'temporary' END),
    ('access method', nullif(am.amname, 'heap')),
    ('tablespace', quote_ident(ts.spcname)),
    ('options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(t.reloptions) o)),
    ('toast options', (SELECT string_agg('toast.' || o, ', ' ORDER BY o) FROM unnest(toast.reloptions) o)),
    ('replica identity', CASE t.relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing' WHEN 'i' THEN 'an index' END),
    ('row security', CASE WHEN t.relrowsecurity THEN 'on' END),
    ('forced row security', CASE WHEN t.relforcerowsecurity THEN 'on' END),
    ('partition key', pg_get_partkeydef(t.oid)),
    ('partition', CASE WHEN t.is_default THEN 'DEFAULT' WHEN t.month <> 0 THEN 'of a month' END),
    ('detachment', CASE WHEN t.inhdetachpending THEN 'incomplete' END),
    ('type', CASE WHEN t.reloftype <> 0 THEN format_type(t.reloftype, NULL) END),
    ('partition of', CASE WHEN NOT t.in_trail AND t.relispartition THEN (SELECT i.inhparent::regclass::text FROM pg_inherits i WHERE i.inhrelid = t.oid) END),
    ('parents', (SELECT string_agg(i.inhparent::regclass::text, ', ') FROM pg_inherits i WHERE i.inhrelid = t.oid AND NOT t.in_trail AND NOT t.relispartition)),
    ('name', CASE WHEN t.month <> 0 AND (t.relnamespace <> trail.relnamespace OR t.relname !~ '^audit_logs_[0-9]{4,}_[0-9]{2}(_bc)?(_[0-9]+)?$') THEN concat_ws(' instead of ', t.oid::regclass, m.name) END),
    -- A segment of a month has a number at the end of its name, except the first.
    ('bounds', CASE WHEN t.month <> 0 AND (b.starts IS NULL OR b.ends IS NULL OR b.ends > date_trunc('month', b.starts) + interval '1 month'
                      OR b.starts <> date_trunc('month', b.starts) AND t.relname !~ ('^' || m.name || '_[0-9]+$')
                      OR t.relname ~ '^audit_logs_[0-9]{4,}_[0-9]{2}(_bc)?(_[0-9]+)?$' AND t.relname <> m.name AND t.relname !~ ('^' || m.name || '_[0-9]+$'))
                    THEN x.bound END),
    ('column order', CASE WHEN t.in_trail AND (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0 AND NOT attisdropped)
                       <> (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = trail.oid AND attnum > 0 AND NOT attisdropped) THEN 'not that of audit_logs' END),
    ('foreign key triggers', CASE WHEN EXISTS (SELECT FROM pg_trigger g JOIN pg_constraint k ON k.oid = g.tgconstraint
                                   WHERE g.tgrelid = t.oid AND k.contype <> 't' AND g.tgenabled <> 'O') THEN 'not enabled' END),
    ('extension', (SELECT quote_ident(e.extname) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = t.oid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass)),
    ('rights that the owner lacks', (SELECT string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) FROM aclexplode(acldefault('r', t.relowner)) a
                   WHERE t.relacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(t.relacl) e WHERE e.grantee = t.relowner AND e.privilege_type = a.privilege_type)))
) v (attribute, value)
WHERE v.value IS NOT NULL
UNION ALL
-- Security labels belong to extensions; they mask columns, for example.
SELECT 0, 'label', '', format('%s %s', l.objtype, l.objname), l.provider, l.label
FROM pg_seclabels l WHERE l.classoid = 'pg_class'::regclass AND l.objoid IN (SELECT oid FROM tables)
UNION ALL
-- Relations with names that partitions have or will have, outside the trail.
SELECT 0, 'relation', '', c.oid::regclass::text, '',
       CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' WHEN 'f' THEN 'foreign table' ELSE 'table' END
FROM pg_class c CROSS JOIN trail
WHERE c.relnamespace = trail.relnamespace AND c.relname LIKE 'audit!_logs!_%' ESCAPE '!' AND c.relkind NOT IN ('i', 'I', 't') AND c.oid NOT IN (SELECT oid FROM tables)

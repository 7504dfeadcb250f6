-- Columns. An attribute with its usual value has no line.
SELECT t.month, 'column', t.label, quote_ident(a.attname), v.attribute, v.value
FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_collation k ON k.oid = a.attcollation AND a.attcollation <> y.typcollation
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
CROSS JOIN LATERAL (VALUES
    ('', format_type(a.atttypid, a.atttypmod)),
    -- A column that was dropped and created again has another position, and lost its values.
    ('position', CASE WHEN NOT t.in_trail THEN a.attnum::text END),
    ('collation', k.oid::regcollation::text),
    ('NOT NULL', CASE WHEN EXISTS (SELECT FROM pg_constraint n WHERE n.conrelid = t.oid AND n.contype = 'n' AND n.conkey[1] = a.attnum AND NOT n.convalidated) THEN 'not validated'
                      WHEN a.attnotnull THEN 'yes' END),
    ('default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END),
    ('generated', CASE WHEN a.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid) END),
    ('identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END),
    ('storage', CASE WHEN a.attstorage <> y.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
    ('compression', CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' END),
    ('statistics', CASE WHEN coalesce(a.attstattarget::int, -1) <> -1 THEN a.attstattarget::text END),
    ('options', (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(a.attoptions) o))
) v (attribute, value)
WHERE v.value IS NOT NULL AND t.relkind IN ('r', 'p', 'f')
UNION ALL
-- A constraint of a partition that comes from audit_logs has the name of that one.
SELECT t.month, 'constraint', t.label, coalesce('of ' || quote_ident(p.conname), quote_ident(c.conname)), v.attribute, v.value
FROM tables t JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype NOT IN ('n', 't')
LEFT JOIN pg_constraint p ON p.oid = c.conparentid
LEFT JOIN pg_index i ON i.indexrelid = c.conindid AND c.contype IN ('p', 'u', 'x')
CROSS JOIN LATERAL (VALUES
    ('', pg_get_constraintdef(c.oid)),
    ('index', CASE WHEN NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'not valid' END)
) v (attribute, value)
WHERE v.value IS NOT NULL
UNION ALL
-- Indexes without a constraint. The look-up index of a closed month has the name @month@_actor, for example.
SELECT t.month, 'index', t.label,
       CASE WHEN p.oid IS NOT NULL THEN 'of ' || quote_ident(p.relname)
            WHEN t.month <> 0 AND starts_with(x.relname, t.relname || '_') THEN '@month@' || substr(x.relname, length(t.relname) + 1)
            ELSE quote_ident(x.relname) END, v.attribute, v.value
FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_inherits h ON h.inhrelid = x.oid LEFT JOIN pg_class p ON p.oid = h.inhparent
CROSS JOIN LATERAL (VALUES
    -- What follows the names of index and table.
    ('', regexp_replace(substr(pg_get_indexdef(x.oid), length(format('CREATE %sINDEX %I ON %s%s ', CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname,
                                                         CASE WHEN x.relkind = 'I' THEN 'ONLY ' END, t.oid::regclass)) + 1),
                        -- The options are an attribute.
                        ' WITH [(][^)]*[)]', '')),
    ('options', (SELECT string_agg(format('%s=%L', split_part(o, '=', 1), split_part(o, '=', 2)), ', ' ORDER BY o) FROM unnest(x.reloptions) o)),
    ('tablespace', (SELECT quote_ident(spcname) FROM pg_tablespace WHERE oid = x.reltablespace)),
    ('unique', CASE WHEN i.indisunique THEN 'yes' END),
    ('expressions', CASE WHEN i.indexprs IS NOT NULL THEN 'yes' END),
    ('validity', CASE WHEN NOT (i.indisvalid AND i.indisready AND i.indislive) THEN 'not valid' END)
) v (attribute, value)
WHERE v.value IS NOT NULL AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = x.oid AND c.conrelid = t.oid AND c.contype IN ('p', 'u', 'x'))

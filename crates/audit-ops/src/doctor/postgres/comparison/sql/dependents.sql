-- What depends on the trail, through any number of views: the kind, the name, and a statement that removes it.
SELECT 0, 'dependent', '', i.identity, v.attribute, v.value
FROM (SELECT DISTINCT d.classid, d.objid, d.objsubid FROM (
        SELECT classid, objid, objsubid FROM dependents
        UNION ALL SELECT 'pg_statistic_ext'::regclass::oid, s.oid, 0 FROM pg_statistic_ext s JOIN tables t ON t.oid = s.stxrelid) d) d
CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_attrdef a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_roles o ON o.oid = c.relowner
LEFT JOIN pg_inherits h ON d.classid = 'pg_class'::regclass AND h.inhrelid = d.objid AND h.inhparent IN (SELECT oid FROM tables)
CROSS JOIN LATERAL (VALUES
    ('', CASE WHEN h.inhrelid IS NOT NULL THEN 'child table' ELSE i.type END),
    ('remove', CASE
        WHEN c.relispartition AND h.inhrelid IS NOT NULL THEN format('ALTER TABLE %s DETACH PARTITION %s', h.inhparent::regclass, i.identity)
        WHEN h.inhrelid IS NOT NULL THEN format('ALTER TABLE %s NO INHERIT %s', i.identity, h.inhparent::regclass)
        WHEN k.oid IS NOT NULL AND k.conrelid <> 0 THEN format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
        WHEN a.oid IS NOT NULL THEN format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', a.adrelid::regclass, (SELECT attname FROM pg_attribute WHERE attrelid = a.adrelid AND attnum = a.adnum))
        WHEN i.type = 'table column' THEN format('ALTER TABLE %s DROP COLUMN %I', c.oid::regclass, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = d.objsubid))
        WHEN i.type = 'composite type column' THEN format('ALTER TYPE %s DROP ATTRIBUTE %I', c.oid::regclass, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = d.objsubid))
        WHEN i.type = 'foreign table column' THEN format('ALTER FOREIGN TABLE %s DROP COLUMN %I', c.oid::regclass, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = d.objsubid))
        -- The dependents of a view are in this list too.
        WHEN c.relkind IN ('v', 'm') THEN format('DROP %s IF EXISTS %s CASCADE', upper(i.type), i.identity)
        ELSE format('DROP %s IF EXISTS %s', CASE i.type WHEN 'statistics object' THEN 'STATISTICS' WHEN 'composite type' THEN 'TYPE' ELSE upper(i.type) END, i.identity) END),
    -- A view without security_invoker reads with the rights of its owner, and a materialized view is a copy.
    ('reads every tenant for', CASE WHEN c.relkind IN ('v', 'm') AND NOT coalesce('security_invoker=true' = ANY (c.reloptions) OR 'security_invoker=on' = ANY (c.reloptions), false)
            AND (o.rolsuper OR o.rolbypassrls OR EXISTS (SELECT FROM known WHERE known.part IN ('owner', 'auditor') AND pg_has_role(c.relowner, known.oid, 'USAGE')))
        THEN (SELECT string_agg(DISTINCT g.name, ', ' ORDER BY g.name) FROM aclexplode(c.relacl) e JOIN grantee g ON g.oid = e.grantee WHERE e.grantee <> c.relowner) END)
) v (attribute, value)
-- The constraint of a partition follows that of its table.
WHERE v.value IS NOT NULL AND coalesce(k.conparentid, 0) = 0
UNION ALL
SELECT 0, 'dependent', '', quote_ident(e.evtname), v.attribute, v.value
FROM pg_event_trigger e CROSS JOIN LATERAL (VALUES ('', 'event trigger'), ('remove', 'DROP EVENT TRIGGER ' || quote_ident(e.evtname))) v (attribute, value)
WHERE e.evtenabled <> 'D'
UNION ALL
SELECT 0, 'dependent', '', quote_ident(p.pubname), v.attribute, v.value
FROM (SELECT u.pubname, 'DROP PUBLICATION ' || quote_ident(u.pubname) AS remove FROM pg_publication u WHERE u.puballtables
      UNION ALL
      SELECT u.pubname, string_agg(format('ALTER PUBLICATION %I DROP TABLE %s', u.pubname, r.prrelid::regclass), E';\n' ORDER BY r.prrelid::regclass::text)
      FROM pg_publication u JOIN pg_publication_rel r ON r.prpubid = u.oid JOIN tables t ON t.oid = r.prrelid GROUP BY u.pubname
      @schema_publications@) p
CROSS JOIN LATERAL (VALUES ('', 'publication'), ('remove', p.remove)) v (attribute, value)
UNION ALL
SELECT 0, 'dependent', '', quote_ident(s.subname), v.attribute, v.value
FROM (SELECT DISTINCT s.subname FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid JOIN tables t ON t.oid = r.srrelid) s
CROSS JOIN LATERAL (VALUES ('', 'subscription'), ('remove', 'DROP SUBSCRIPTION ' || quote_ident(s.subname))) v (attribute, value)

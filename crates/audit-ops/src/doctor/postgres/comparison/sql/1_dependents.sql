-- Everything that depends on a table, a row type or a function of the trail and is not itself part of it.
own (classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, oid FROM tables UNION ALL
    SELECT 'pg_type'::regclass, t.oid FROM pg_type t JOIN tables c ON c.reltype = t.oid AND t.oid <> 0 OR t.typelem = c.reltype AND c.reltype <> 0 UNION ALL
    SELECT 'pg_proc'::regclass, oid FROM functions UNION ALL
    SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM tables UNION ALL SELECT reltoastrelid FROM tables) UNION ALL
    SELECT 'pg_class'::regclass, reltoastrelid FROM tables UNION ALL
    SELECT 'pg_attrdef'::regclass, oid FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM tables) UNION ALL
    SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid IN (SELECT oid FROM tables) UNION ALL
    SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM tables) OR tgisinternal UNION ALL
    SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid IN (SELECT oid FROM tables) UNION ALL
    SELECT 'pg_rewrite'::regclass, oid FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM tables) UNION ALL
    SELECT 'pg_publication_rel'::regclass, oid FROM pg_publication_rel UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext UNION ALL
    -- Columns of identity have a sequence.
    SELECT d.classid, d.objid FROM pg_depend d JOIN tables t ON d.refobjid = t.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('i', 'a') AND d.classid = 'pg_class'::regclass),
-- The rule of a view stands for the view.
dependents (classid, objid, objsubid) AS (
    SELECT x.classid, x.objid, x.objsubid
    FROM own JOIN pg_depend d ON d.refclassid = own.classid AND d.refobjid = own.objid
    CROSS JOIN LATERAL (
        SELECT 'pg_class'::regclass::oid AS classid, r.ev_class AS objid, 0 AS objsubid FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND v.relkind IN ('v', 'm')
        UNION ALL
        SELECT d.classid, d.objid, d.objsubid WHERE NOT EXISTS (SELECT FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND v.relkind IN ('v', 'm'))) x
    WHERE (d.classid, d.objid) NOT IN (SELECT classid, objid FROM own) AND (x.classid, x.objid) NOT IN (SELECT classid, objid FROM own)
    UNION
    SELECT x.classid, x.objid, x.objsubid
    FROM dependents v JOIN pg_depend d ON v.classid = 'pg_class'::regclass AND d.refclassid = v.classid AND d.refobjid = v.objid AND d.deptype = 'n'
    CROSS JOIN LATERAL (
        SELECT 'pg_class'::regclass::oid AS classid, r.ev_class AS objid, 0 AS objsubid FROM pg_rewrite r WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        UNION ALL
        SELECT d.classid, d.objid, d.objsubid WHERE d.classid <> 'pg_rewrite'::regclass) x
    WHERE (x.classid, x.objid) <> (v.classid, v.objid) AND v.objsubid = 0
      AND EXISTS (SELECT FROM pg_class c WHERE c.oid = v.objid AND c.relkind IN ('v', 'm'))),

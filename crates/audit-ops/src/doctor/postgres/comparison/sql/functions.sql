-- Functions and aggregates. The attributes are clauses of CREATE FUNCTION; those with their usual value have no line.
SELECT 0, 'function', '', f.label, v.attribute, v.value
FROM functions f JOIN pg_language l ON l.oid = f.prolang JOIN grantee o ON o.oid = f.proowner LEFT JOIN pg_aggregate a ON a.aggfnoid = f.oid
CROSS JOIN LATERAL (VALUES
    ('', CASE f.prokind WHEN 'f' THEN 'FUNCTION' WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'WINDOW' END),
    ('owner', o.name),
    ('arguments', pg_get_function_arguments(f.oid)),
    ('result', pg_get_function_result(f.oid)),
    ('language', quote_ident(l.lanname)),
    ('body', CASE WHEN f.prokind <> 'a' THEN coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) END),
    ('kind of body', CASE WHEN pg_get_function_sqlbody(f.oid) IS NOT NULL THEN 'SQL' END),
    ('library', f.probin),
    ('security', CASE WHEN f.prosecdef THEN 'SECURITY DEFINER' END),
    ('volatility', CASE f.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' END),
    ('strictness', CASE WHEN f.proisstrict AND f.prokind <> 'a' THEN 'STRICT' END),
    ('parallel', CASE f.proparallel WHEN 's' THEN 'PARALLEL SAFE' WHEN 'r' THEN 'PARALLEL RESTRICTED' END),
    ('leakproof', CASE WHEN f.proleakproof THEN 'LEAKPROOF' END),
    ('cost', CASE WHEN f.procost <> CASE WHEN l.lanname IN ('internal', 'c') THEN 1 ELSE 100 END AND f.prokind <> 'a' THEN 'COST ' || f.procost END),
    ('rows', CASE WHEN f.prorows <> CASE WHEN f.proretset THEN 1000 ELSE 0 END THEN 'ROWS ' || f.prorows END),
    ('support', CASE WHEN f.prosupport <> 0 THEN 'SUPPORT ' || f.prosupport::regproc END),
    ('aggregate', CASE WHEN a.aggfnoid IS NOT NULL THEN format('SFUNC = %s, STYPE = %s', a.aggtransfn, format_type(a.aggtranstype, NULL))
        || CASE WHEN a.agginitval IS NOT NULL THEN format(', INITCOND = %L', a.agginitval) ELSE '' END
        || concat(CASE WHEN a.aggfinalfn <> 0 THEN ', FINALFUNC = ' || a.aggfinalfn END, CASE WHEN a.aggcombinefn <> 0 THEN ', COMBINEFUNC = ' || a.aggcombinefn END,
                  CASE WHEN a.aggmtransfn <> 0 THEN ', MSFUNC = ' || a.aggmtransfn END, CASE WHEN a.aggsortop <> 0 THEN ', SORTOP = ' || a.aggsortop::regoper END,
                  CASE WHEN a.aggserialfn <> 0 THEN ', SERIALFUNC = ' || a.aggserialfn END, CASE WHEN a.aggkind <> 'n' THEN ', kind ' || a.aggkind::text END) END),
    ('extension', (SELECT quote_ident(e.extname) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                   WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass)),
    ('rights that the owner lacks', CASE WHEN f.proacl IS NOT NULL AND NOT EXISTS (SELECT FROM aclexplode(f.proacl) e WHERE e.grantee = f.proowner) THEN 'EXECUTE' END)
) v (attribute, value)
WHERE v.value IS NOT NULL
UNION ALL
-- Under quote_all_identifiers these two names were stored with quotes, which changes nothing.
SELECT 0, 'function', '', f.label, 'setting ' || split_part(s, '=', 1),
       format('SET %s = %s', split_part(s, '=', 1), CASE WHEN split_part(s, '=', 1) = 'search_path' THEN regexp_replace(substr(s, position('=' IN s) + 1), '"(pg_catalog|pg_temp)"', '\1', 'g') ELSE quote_literal(substr(s, position('=' IN s) + 1)) END)
FROM functions f, unnest(f.proconfig) s

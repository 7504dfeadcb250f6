-- Only the trail's roles may have rights on it, and each must have those that the migrations grant.
WITH parts AS (
         SELECT relid::oid AS rel, relid = 'audit_logs'::regclass AS is_trail FROM pg_partition_tree('audit_logs')
         UNION ALL
         SELECT oid, NULL FROM pg_class WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'audit_logs'::regclass)
           AND relname IN ('audit_legal_holds', 'audit_retention_ledger', 'audit_retention_writers', 'audit_retention_declarations')),
     granted AS (
         SELECT p.rel, p.is_trail, NULL::name AS col, c.relrowsecurity, a.grantee, a.privilege_type AS what
         FROM parts p JOIN pg_class c ON c.oid = p.rel, aclexplode(c.relacl) a WHERE a.grantee <> c.relowner
         UNION ALL
         SELECT p.rel, p.is_trail, t.attname, c.relrowsecurity, a.grantee, a.privilege_type
         FROM parts p JOIN pg_class c ON c.oid = p.rel JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a
         WHERE a.grantee <> c.relowner AND NOT t.attisdropped),
     known AS (SELECT kind, role::oid AS role FROM audit_roles),
     unexpected AS (
         SELECT g.*, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS grantee_name,
                CASE WHEN g.is_trail AND g.what = 'INSERT' AND (g.col IS NULL OR g.col IN ('recorded_at', 'tx_id')) THEN 'critical'
                     WHEN g.is_trail IS NOT TRUE AND g.what = 'INSERT' THEN 'critical'
                     WHEN NOT g.is_trail AND g.what = 'SELECT' AND NOT g.relrowsecurity THEN 'critical'
                     ELSE 'warning' END AS severity
         FROM granted g LEFT JOIN known k ON k.role = g.grantee
         WHERE CASE WHEN g.is_trail THEN
                        NOT (coalesce(k.kind = 'writer', false) AND g.what = 'INSERT' AND g.col IS NOT NULL AND g.col NOT IN ('recorded_at', 'tx_id'))
                        AND NOT (coalesce(k.kind IN ('reader', 'auditor'), false) AND g.what = 'SELECT')
                    WHEN g.is_trail IS NULL THEN NOT (coalesce(k.kind IN ('auditor', 'maintainer'), false) AND g.what = 'SELECT')
                    ELSE true END),
     client_columns AS (
         SELECT attname FROM pg_attribute
         WHERE attrelid = 'audit_logs'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('recorded_at', 'tx_id'))
SELECT severity, format('%s may %s %s', grantee_name, what, rel::regclass) || coalesce(' (' || string_agg(quote_ident(col), ', ' ORDER BY col) || ')', ''),
       format('REVOKE %s%s ON %s FROM %s;', what, ' (' || string_agg(quote_ident(col), ', ' ORDER BY col) || ')', rel::regclass, grantee_name)
FROM unexpected GROUP BY severity, grantee_name, what, rel
UNION ALL
SELECT 'warning', format('%s, the writer''s role, may not INSERT %s', role::regrole, string_agg(attname, ', ' ORDER BY attname)),
       format('GRANT INSERT (%s) ON audit_logs TO %s;', string_agg(quote_ident(attname), ', ' ORDER BY attname), role::regrole)
FROM known, client_columns WHERE kind = 'writer' AND NOT has_column_privilege(role, 'audit_logs'::regclass, attname, 'INSERT') GROUP BY role
UNION ALL
SELECT 'warning', format('%s, the %s''s role, may not SELECT', role::regrole, kind), format('GRANT SELECT ON audit_logs TO %s;', role::regrole)
FROM known WHERE kind IN ('reader', 'auditor') AND NOT has_table_privilege(role, 'audit_logs'::regclass, 'SELECT')

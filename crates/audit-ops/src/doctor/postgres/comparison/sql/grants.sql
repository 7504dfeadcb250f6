-- Explicit rights of everybody but the owner, one line for each. The relation is the object as GRANT names it.
SELECT t.month, 'grant', CASE WHEN t.month <> 0 THEN 'TABLE @month@' ELSE 'TABLE ' || t.label END, g.name, a.privilege_type || coalesce(' (' || quote_ident(r.attname) || ')', ''),
       CASE WHEN bool_or(a.is_grantable) THEN 'with grant option' ELSE 'yes' END
FROM tables t
CROSS JOIN LATERAL (SELECT NULL::name AS attname, t.relacl AS acl UNION ALL
                    SELECT attname, attacl FROM pg_attribute WHERE attrelid = t.oid AND NOT attisdropped AND attacl IS NOT NULL) r
CROSS JOIN LATERAL aclexplode(r.acl) a JOIN grantee g ON g.oid = a.grantee
WHERE a.grantee <> t.relowner
GROUP BY t.month, t.label, g.name, a.privilege_type, r.attname
UNION ALL
SELECT 0, 'grant', CASE f.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || f.label, g.name, a.privilege_type, CASE WHEN bool_or(a.is_grantable) THEN 'with grant option' ELSE 'yes' END
FROM functions f CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a JOIN grantee g ON g.oid = a.grantee
WHERE a.grantee <> f.proowner
GROUP BY f.prokind, f.label, g.name, a.privilege_type
UNION ALL
-- The schema: USAGE of its own roles and their members is needed.
SELECT 0, 'grant', 'SCHEMA ' || quote_ident(n.nspname), g.name, a.privilege_type, CASE WHEN bool_or(a.is_grantable) THEN 'with grant option' ELSE 'yes' END
FROM trail JOIN pg_namespace n ON n.oid = trail.relnamespace CROSS JOIN LATERAL aclexplode(n.nspacl) a JOIN grantee g ON g.oid = a.grantee
WHERE a.grantee <> n.nspowner AND a.grantee <> trail.owner
  AND NOT (a.privilege_type = 'USAGE' AND NOT a.is_grantable AND (a.grantee IN (SELECT oid FROM known) OR a.grantee IN (SELECT oid FROM members)))
GROUP BY n.nspname, g.name, a.privilege_type
UNION ALL
SELECT 0, 'usage', trail.schema, quote_ident(r.rolname), '', 'yes'
FROM trail, known JOIN pg_roles r ON r.oid = known.oid WHERE has_schema_privilege(r.oid, trail.relnamespace, 'USAGE') AND known.part <> 'owner'
UNION ALL
-- Rights that objects of the owner will have.
SELECT 0, 'default privileges', format('FOR ROLE %I%s', o.rolname, ' IN SCHEMA ' || quote_ident(n.nspname)), g.name,
       CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'S' THEN 'SEQUENCES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END,
       string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
FROM trail JOIN pg_default_acl d ON d.defaclrole = trail.owner AND d.defaclnamespace IN (0, trail.relnamespace)
JOIN pg_roles o ON o.oid = d.defaclrole LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
CROSS JOIN LATERAL aclexplode(d.defaclacl) a JOIN grantee g ON g.oid = a.grantee
WHERE a.grantee <> trail.owner AND d.defaclobjtype IN ('r', 'f')
  AND NOT (d.defaclnamespace = 0 AND a.grantee = 0 AND d.defaclobjtype = 'f')
GROUP BY o.rolname, n.nspname, g.name, d.defaclobjtype

-- The four roles must exist, without privileges of their own.
WITH wanted (kind) AS (VALUES ('writer'), ('reader'), ('auditor'), ('maintainer'))
SELECT 'warning',
       CASE WHEN a.kind IS NULL THEN format('the role for the %s is missing', w.kind) ELSE format('the role for the %s was dropped', w.kind) END,
       format(E'CREATE ROLE %I NOLOGIN;\nINSERT INTO audit_roles VALUES (%L, %L) ON CONFLICT (kind) DO UPDATE SET role = excluded.role;\n-- then grant it the rights and policies of the migrations',
              'audit_' || w.kind, w.kind, 'audit_' || w.kind)
FROM wanted w LEFT JOIN audit_roles a USING (kind) LEFT JOIN pg_roles r ON r.oid = a.role
WHERE r.oid IS NULL
UNION ALL
SELECT 'critical', format('%s, the role of the %s, is a superuser or has BYPASSRLS', r.rolname, a.kind), format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS;', r.rolname)
FROM audit_roles a JOIN pg_roles r ON r.oid = a.role
WHERE r.rolsuper OR r.rolbypassrls
UNION ALL
SELECT 'critical', format('%s, the role of the %s, is a member of %s', r.rolname, a.kind, g.rolname), format('REVOKE %I FROM %I;', g.rolname, r.rolname)
FROM audit_roles a JOIN pg_roles r ON r.oid = a.role JOIN pg_auth_members m ON m.member = r.oid JOIN pg_roles g ON g.oid = m.roleid

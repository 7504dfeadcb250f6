-- The four roles must exist, and audit_roles must name those that have the rights.
WITH wanted (kind) AS (VALUES ('writer'), ('reader'), ('auditor'), ('maintainer'))
SELECT 'warning',
       CASE WHEN a.kind IS NULL THEN format('the role for the %s is missing', w.kind) ELSE format('the role for the %s was dropped', w.kind) END,
       format(E'DO $do$ BEGIN\n  IF to_regrole(%1$L) IS NULL THEN CREATE ROLE %1$I NOLOGIN; END IF;\nEND $do$;\n'
              'INSERT INTO %3$s.audit_roles VALUES (%2$L, %1$L) ON CONFLICT (kind) DO UPDATE SET role = excluded.role;\n'
              '-- then run the doctor again: it lists the rights that the role needs', 'audit_' || w.kind, w.kind, t.relnamespace::regnamespace)
FROM pg_class t, wanted w LEFT JOIN @schema@.audit_roles a USING (kind) LEFT JOIN pg_roles r ON r.oid = a.role
WHERE t.oid = @trail@ AND r.oid IS NULL
UNION ALL
-- If the role of the policy has the rights of the part, and the one in audit_roles has none, then audit_roles was changed.
SELECT 'critical', format('audit_roles names %s as the %s, but %s has the rights', n.rolname, a.kind, r.rolname),
       format(E'UPDATE %s.audit_roles SET role = %L WHERE kind = %L;\n-- then run the doctor again, and skip its other remedies for these roles', t.relnamespace::regnamespace, quote_ident(r.rolname), a.kind)
FROM pg_class t JOIN (VALUES ('writer', 'audit_logs_insert', 'audit_logs_lookup'), ('auditor', 'audit_logs_read_all', 'audit_logs_digest')) w (kind, policy, function) ON true
JOIN pg_policy p ON p.polrelid = t.oid AND p.polname = w.policy AND array_length(p.polroles, 1) = 1
JOIN pg_roles r ON r.oid = p.polroles[1]
JOIN @schema@.audit_roles a ON a.kind = w.kind AND a.role <> r.oid JOIN pg_roles n ON n.oid = a.role
JOIN pg_proc f ON f.proname = w.function AND f.pronamespace = t.relnamespace
WHERE t.oid = @trail@ AND EXISTS (SELECT FROM aclexplode(f.proacl) e WHERE e.grantee = r.oid) AND NOT EXISTS (SELECT FROM aclexplode(f.proacl) e WHERE e.grantee = n.oid)

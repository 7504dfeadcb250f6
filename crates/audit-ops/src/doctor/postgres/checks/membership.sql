-- This user must have a suitable combination of the four roles. The check USER covers the owner and superusers.
WITH me AS (
         SELECT r.oid, r.rolname FROM pg_roles r, pg_class c
         WHERE r.rolname = current_user AND c.oid = @trail@ AND NOT r.rolsuper AND NOT pg_has_role(r.oid, c.relowner, 'MEMBER')),
     memberships AS (
         SELECT me.rolname, p.polname, part.rolname AS part,
                CASE p.polname WHEN 'audit_logs_insert' THEN 'writer' WHEN 'audit_logs_read_tenant' THEN 'reader' WHEN 'audit_logs_read_all' THEN 'auditor' END AS kind
         -- By the policies, which everybody may read: a user without a role may not read audit_roles.
         FROM me, pg_policy p, pg_roles part
         WHERE p.polrelid = @trail@ AND part.oid = ANY (p.polroles) AND pg_has_role(me.oid, part.oid, 'MEMBER')
         UNION ALL
         SELECT me.rolname, NULL, part.rolname, 'maintainer'
         FROM me, pg_proc f, aclexplode(f.proacl) a, pg_roles part
         -- Others may create functions of the same name with other arguments, or this one if it is missing.
         WHERE f.proname = 'audit_logs_index_closed_months' AND oidvectortypes(f.proargtypes) = 'integer'
           AND (@known_owner@ IS NULL OR f.proowner = @owner@)
           AND f.pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = @trail@) AND a.grantee <> f.proowner
           AND part.oid = a.grantee AND pg_has_role(me.oid, part.oid, 'MEMBER'))
SELECT 'warning', format('%s is not a member of any of the trail''s roles', rolname), format('GRANT audit_writer TO %I;', rolname) || E'\n-- or audit_reader, audit_auditor, audit_maintainer, as it needs'
FROM me WHERE NOT EXISTS (SELECT FROM memberships)
UNION ALL
SELECT 'warning',
       format('%s has the roles %s: a login that writes or reads as a tenant should not be an auditor or maintainer too', min(rolname), string_agg(part, ', ' ORDER BY kind)),
       string_agg(format('REVOKE %I FROM %I;', part, rolname), E'\n' ORDER BY kind) FILTER (WHERE kind IN ('auditor', 'maintainer'))
FROM memberships
HAVING bool_or(kind IN ('auditor', 'maintainer')) AND bool_or(kind IN ('writer', 'reader'))
UNION ALL
SELECT 'info', format('%s sees every tenant, as a member of %s', rolname, part), NULL FROM memberships WHERE kind = 'auditor'

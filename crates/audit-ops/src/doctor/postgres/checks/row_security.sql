-- Row security must be on, and each policy must be as the migrations created it.
WITH wanted (polname, cmd, kind, using_text, check_text) AS (
         VALUES ('audit_logs_insert', 'a', 'writer', NULL, 'true'),
                ('audit_logs_read_all', 'r', 'auditor', 'true', NULL),
                ('audit_logs_read_tenant', 'r', 'reader', '(tenant_id = NULLIF(current_setting(''audit.tenant_id''::text, true), ''''::text))', NULL)),
     existing AS (
         SELECT polname::text, polcmd::text AS cmd, polroles, polpermissive,
                pg_get_expr(polqual, polrelid) AS using_text, pg_get_expr(polwithcheck, polrelid) AS check_text
         FROM pg_policy WHERE polrelid = 'audit_logs'::regclass),
     expected AS (
         SELECT w.*, format('CREATE POLICY %I ON audit_logs FOR %s TO %s', w.polname, CASE w.cmd WHEN 'a' THEN 'INSERT' ELSE 'SELECT' END, a.role)
                     || coalesce(' USING (' || w.using_text || ')', '') || coalesce(' WITH CHECK (' || w.check_text || ')', '') || ';' AS remedy,
                a.role::oid AS role
         FROM wanted w LEFT JOIN audit_roles a USING (kind))
SELECT CASE WHEN t.level = 0 THEN 'critical' ELSE 'warning' END,
       CASE WHEN t.level = 0 THEN 'row security is off on audit_logs: a reader sees every tenant' ELSE format('row security is off on the partition %s', t.relid) END,
       format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', t.relid)
FROM pg_partition_tree('audit_logs') t JOIN pg_class c ON c.oid = t.relid WHERE NOT c.relrowsecurity
UNION ALL
SELECT 'warning', format('the policy %s is missing: operations that it allows are refused', w.polname), w.remedy
FROM expected w WHERE NOT EXISTS (SELECT FROM existing m WHERE m.polname = w.polname)
UNION ALL
SELECT 'critical', format('the policy %s was changed', w.polname), format(E'DROP POLICY %I ON audit_logs;\n%s', w.polname, w.remedy)
FROM expected w JOIN existing m USING (polname)
WHERE (m.cmd, m.using_text, m.check_text) IS DISTINCT FROM (w.cmd, w.using_text, w.check_text) OR NOT m.polpermissive
   OR m.polroles <> ARRAY[w.role]
UNION ALL
SELECT CASE WHEN m.polpermissive THEN 'critical' ELSE 'warning' END,
       format('the policy %s is not part of the trail%s', m.polname, CASE WHEN m.polpermissive THEN ': it allows more' ELSE '' END),
       format('DROP POLICY %I ON audit_logs;', m.polname)
FROM existing m WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.polname = m.polname)
UNION ALL
SELECT 'warning', format('the partition %2$s has the policy %1$s: partitions must have none', p.polname, p.polrelid::regclass), format('DROP POLICY %I ON %s;', p.polname, p.polrelid::regclass)
FROM pg_policy p JOIN pg_partition_tree('audit_logs') t ON t.relid = p.polrelid WHERE t.level > 0

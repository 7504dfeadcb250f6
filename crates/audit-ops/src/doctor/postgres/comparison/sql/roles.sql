-- The trail's roles: their attributes, what they are members of, and who is a member of them.
SELECT 0, 'role', known.part, quote_ident(r.rolname), v.attribute, v.value
FROM known JOIN pg_roles r ON r.oid = known.oid
CROSS JOIN LATERAL (VALUES
    ('', 'yes'),
    ('SUPERUSER', CASE WHEN r.rolsuper THEN CASE WHEN r.oid = 10 THEN 'the first superuser' ELSE 'yes' END END),
    ('BYPASSRLS', CASE WHEN r.rolbypassrls AND NOT r.rolsuper THEN 'yes' END),
    ('REPLICATION', CASE WHEN r.rolreplication AND NOT r.rolsuper THEN 'yes' END),
    ('CREATEROLE', CASE WHEN r.rolcreaterole AND known.part <> 'owner' THEN 'yes' END),
    ('CREATEDB', CASE WHEN r.rolcreatedb AND known.part <> 'owner' THEN 'yes' END),
    ('LOGIN', CASE WHEN r.rolcanlogin AND known.part <> 'owner' THEN 'yes' END)
) v (attribute, value)
WHERE v.value IS NOT NULL
UNION ALL
-- A role with CREATEROLE administers the roles that it creates (PostgreSQL 16), without being allowed to use them.
SELECT 0, 'member', quote_ident(g.rolname), quote_ident(m.rolname), v.attribute, v.value
FROM (SELECT roleid, member, bool_or(admin_option) AS admin,
             bool_or(coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, true) OR coalesce((to_jsonb(a) ->> 'set_option')::boolean, true)) AS may_use,
             array_agg(DISTINCT a.grantor) FILTER (WHERE a.grantor <> 10 AND to_jsonb(a) ? 'set_option') AS grantors, bool_or(a.grantor = 10 OR NOT to_jsonb(a) ? 'set_option') AS by_superuser
      FROM pg_auth_members a GROUP BY roleid, member) a
JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
LEFT JOIN known to_known ON to_known.oid = a.roleid LEFT JOIN known of_known ON of_known.oid = a.member
CROSS JOIN LATERAL (VALUES
    ('', coalesce(to_known.part, 'another role')),
    ('member', coalesce(of_known.part, CASE WHEN m.rolsuper THEN 'a superuser' WHEN m.rolname = current_user THEN 'this user' WHEN m.rolcreaterole THEN 'with CREATEROLE' ELSE 'another role' END)),
    ('admin', CASE WHEN a.admin THEN 'yes' END),
    ('use', CASE WHEN a.may_use THEN 'yes' END),
    -- From PostgreSQL 16 on, each grantor's grant is revoked separately.
    ('remove', concat_ws(E';\n', CASE WHEN a.by_superuser THEN format('REVOKE %I FROM %I CASCADE', g.rolname, m.rolname) END,
        (SELECT string_agg(format('REVOKE %I FROM %I GRANTED BY %I CASCADE', g.rolname, m.rolname, pg_get_userbyid(x)), E';\n') FROM unnest(a.grantors) x)))
) v (attribute, value)
WHERE v.value IS NOT NULL AND (to_known.oid IS NOT NULL OR of_known.oid IS NOT NULL)
UNION ALL
-- Logins with parts that exclude each other.
SELECT 0, 'combination', '', quote_ident(m.rolname), '', string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname)
FROM (SELECT DISTINCT oid FROM members) x JOIN pg_roles m ON m.oid = x.oid CROSS JOIN known JOIN pg_roles r ON r.oid = known.oid
WHERE NOT m.rolsuper AND m.rolname <> current_user AND known.part <> 'owner' AND NOT pg_has_role(m.oid, (SELECT owner FROM trail), 'USAGE')
  AND pg_has_role(m.oid, known.oid, 'USAGE') AND m.oid NOT IN (SELECT k.oid FROM known k)
GROUP BY m.rolname HAVING bool_or(known.part IN ('writer', 'reader')) AND bool_or(known.part IN ('auditor', 'maintainer'))
UNION ALL
-- Attributes of the members of the trail's roles. This user has a check of its own.
SELECT 0, 'login', 'member', quote_ident(m.rolname), v.attribute, v.value
FROM (SELECT DISTINCT oid FROM members) x JOIN pg_roles m ON m.oid = x.oid
CROSS JOIN LATERAL (SELECT bool_or(known.part IN ('auditor', 'owner')) AS reads_all FROM known WHERE pg_has_role(m.oid, known.oid, 'USAGE')) k
CROSS JOIN LATERAL (VALUES
    ('SUPERUSER', CASE WHEN m.rolsuper AND m.oid <> 10 THEN 'yes' END),
    ('BYPASSRLS', CASE WHEN m.rolbypassrls AND NOT m.rolsuper THEN CASE WHEN k.reads_all THEN 'reads all' ELSE 'yes' END END),
    ('REPLICATION', CASE WHEN m.rolreplication AND NOT m.rolsuper THEN 'yes' END),
    ('CREATEROLE', CASE WHEN m.rolcreaterole AND NOT m.rolsuper THEN CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'any role' ELSE 'its own roles' END END)
) v (attribute, value)
WHERE v.value IS NOT NULL AND m.rolname <> current_user AND m.oid NOT IN (SELECT oid FROM known)
UNION ALL
-- Roles of PostgreSQL that reach the trail past its rights, and their members.
SELECT 0, 'login', 'predefined', quote_ident(m.rolname), g.rolname::text, CASE WHEN m.oid IN (SELECT oid FROM members) THEN 'of the trail' ELSE 'yes' END
FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE g.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files', 'pg_write_all_data', 'pg_read_all_data', 'pg_maintain', 'pg_signal_backend')
  AND NOT m.rolsuper AND m.rolname <> current_user AND m.oid NOT IN (SELECT oid FROM known)
UNION ALL
-- The owner of the database may drop it.
SELECT 0, 'database', '', quote_ident(b.datname), 'owner', quote_ident(r.rolname)
FROM trail JOIN pg_database b ON b.datname = current_database() JOIN pg_roles r ON r.oid = b.datdba
WHERE r.oid <> trail.owner AND NOT r.rolsuper AND r.rolname <> current_user
UNION ALL
-- The owner of the schema may drop the tables in it.
SELECT 0, 'schema', '', trail.schema, 'owner', CASE WHEN n.nspowner = 6171 THEN 'the database''s, ' || d.name ELSE s.name END
FROM trail JOIN pg_namespace n ON n.oid = trail.relnamespace JOIN grantee s ON s.oid = n.nspowner
JOIN pg_database b ON b.datname = current_database() JOIN grantee d ON d.oid = b.datdba
JOIN pg_roles r ON r.oid = CASE WHEN n.nspowner = 6171 THEN b.datdba ELSE n.nspowner END
WHERE r.oid <> trail.owner AND NOT r.rolsuper
UNION ALL
-- Settings of the database, of the trail's roles and of their members. Those that name the roles, and a search_path that leads
-- to the trail before any other audit_logs, are needed.
SELECT 0, 'setting', CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ROLE ALL' WHEN s.setrole = 0 THEN format('DATABASE %I', current_database())
           WHEN s.setdatabase = 0 THEN format('ROLE %I', r.rolname) ELSE format('ROLE %I IN DATABASE %I', r.rolname, current_database()) END,
       quote_ident(split_part(c, '=', 1)), '', substr(c, position('=' IN c) + 1)
FROM pg_db_role_setting s CROSS JOIN trail LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN LATERAL unnest(s.setconfig) c
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  AND (s.setrole = 0 OR s.setrole IN (SELECT oid FROM known) OR s.setrole IN (SELECT oid FROM members))
  AND c !~ '^audit\.(writer|reader|auditor|maintainer)_role='
  AND NOT (split_part(c, '=', 1) = 'search_path' AND trail.relnamespace IS NOT DISTINCT FROM (
      SELECT n.oid FROM unnest(string_to_array(replace(substr(c, position('=' IN c) + 1), ', ', ','), ',')) WITH ORDINALITY p (element, nth)
      JOIN pg_namespace n ON p.element IN (quote_ident(n.nspname), '"' || replace(n.nspname, '"', '""') || '"') OR p.element = '"$user"' AND n.nspname = r.rolname
      JOIN pg_class a ON a.relnamespace = n.oid AND a.relname = 'audit_logs' ORDER BY nth LIMIT 1))

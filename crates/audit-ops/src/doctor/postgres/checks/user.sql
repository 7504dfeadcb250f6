-- This user must not be able to bypass the rights on the trail. The owner of its schema may drop the tables in it, and the
-- owner of the database all of it.
WITH me AS (SELECT * FROM pg_roles WHERE rolname = current_user),
     trail AS (SELECT c.relowner, n.nspowner, n.nspname, b.datdba, b.datname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_database b ON b.datname = current_database() WHERE c.oid = @trail@)
SELECT 'critical',
       format('%s is a superuser: it can remove the protection of the rows, and sees every tenant', rolname),
       'CREATE ROLE app LOGIN PASSWORD ''…''; GRANT audit_writer TO app;' || E'\n-- and put that user into the application''s URL'
FROM me WHERE rolsuper
UNION ALL
SELECT 'critical',
       format('%s is, or may become, %s, the owner of audit_logs: it can remove the protection of the rows', rolname, pg_get_userbyid(relowner)),
       CASE WHEN relowner = me.oid THEN 'CREATE ROLE app LOGIN PASSWORD ''…''; GRANT audit_writer TO app;' || E'\n-- and put that user into the application''s URL'
            ELSE format('REVOKE %I FROM %I;', pg_get_userbyid(relowner), rolname) END
FROM me, trail WHERE NOT rolsuper AND pg_has_role(me.oid, relowner, 'MEMBER')
UNION ALL
SELECT 'critical',
       format('%s is, or may become, the owner of the schema %s: it can drop audit_logs', rolname, nspname),
       coalesce(format('ALTER SCHEMA %I OWNER TO ', nspname) || @known_owner@ || ';', @unclear@)
FROM me, trail WHERE NOT rolsuper AND NOT pg_has_role(me.oid, relowner, 'MEMBER') AND pg_has_role(me.oid, nspowner, 'MEMBER')
UNION ALL
SELECT 'critical',
       format('%s is, or may become, the owner of the database %s: it can drop it, and the trail with it', rolname, datname),
       coalesce(format('ALTER DATABASE %I OWNER TO ', datname) || @known_owner@ || ';', @unclear@)
FROM me, trail WHERE NOT rolsuper AND NOT pg_has_role(me.oid, relowner, 'MEMBER') AND pg_has_role(me.oid, datdba, 'MEMBER')
UNION ALL
SELECT 'critical', format('%s has BYPASSRLS: it sees every tenant', rolname), format('ALTER ROLE %I NOBYPASSRLS;', rolname)
FROM me WHERE rolbypassrls AND NOT rolsuper
UNION ALL
SELECT 'warning', format('%s has CREATEROLE: before PostgreSQL 16 it can give itself any role', rolname), format('ALTER ROLE %I NOCREATEROLE;', rolname)
FROM me WHERE rolcreaterole AND NOT rolsuper
UNION ALL
SELECT 'warning', format('%s has REPLICATION: it can copy the whole server, including every tenant''s rows', rolname), format('ALTER ROLE %I NOREPLICATION;', rolname)
FROM me WHERE rolreplication AND NOT rolsuper
UNION ALL
SELECT CASE WHEN r.rolname IN ('pg_write_server_files', 'pg_execute_server_program', 'pg_read_server_files') THEN 'critical' ELSE 'warning' END,
       format('%s is a member of %s, which bypasses the rights on tables', me.rolname, r.rolname),
       format('REVOKE %I FROM %I;', r.rolname, me.rolname)
FROM me, pg_roles r
WHERE NOT me.rolsuper AND pg_has_role(me.oid, r.oid, 'MEMBER')
  AND r.rolname IN ('pg_write_server_files', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_all_data', 'pg_read_all_data', 'pg_maintain')

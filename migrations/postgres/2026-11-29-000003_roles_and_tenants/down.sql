-- Removes the policies and the roles' rights in this database. A role is dropped only if nothing in the whole
-- cluster depends on it, it has no members and it cannot log in: other databases may use it.
SET LOCAL lock_timeout = '2s';

DROP POLICY audit_logs_insert ON audit_logs;
DROP POLICY audit_logs_read_all ON audit_logs;
DROP POLICY audit_logs_read_tenant ON audit_logs;

DROP FUNCTION audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[]);

DO $do$
DECLARE
    named  name;
    schema constant name := current_schema();
    roles  constant name[] := (SELECT array_agg(audit_role(kind)) FROM audit_roles);
BEGIN
    FOREACH named IN ARRAY roles LOOP
        EXECUTE format('REVOKE ALL ON audit_logs, audit_roles FROM %I', named);
        EXECUTE format('REVOKE ALL ON FUNCTION audit_role(text), audit_uuid_v7(),
                        audit_logs_ensure_partitions(timestamptz, timestamptz, integer),
                        audit_logs_check_limit(timestamp, integer), audit_logs_create_partition(timestamp),
                        audit_logs_create_upcoming_partition(timestamp), audit_logs_index_closed_months(),
                        audit_logs_default_months(), audit_logs_move_month(timestamp, integer) FROM %I', named);
        -- Without this right, up.sql cannot have granted anything on the schema.
        IF has_schema_privilege(schema, 'USAGE WITH GRANT OPTION') THEN
            EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', schema, named);
        END IF;
    END LOOP;

    DROP FUNCTION audit_role(text);
    DROP TABLE audit_roles;

    FOREACH named IN ARRAY roles LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = named AND rolcanlogin);
        -- Since PostgreSQL 16 the creator of a role is a member of it.
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_auth_members
            WHERE pg_get_userbyid(roleid) = named AND pg_get_userbyid(member) <> current_user);
        BEGIN
            EXECUTE format('DROP ROLE %I', named);
        EXCEPTION
            WHEN dependent_objects_still_exist OR insufficient_privilege OR undefined_object OR lock_not_available
            THEN
                RAISE NOTICE 'the role % stays: %', named, SQLERRM;
        END;
    END LOOP;
END
$do$;

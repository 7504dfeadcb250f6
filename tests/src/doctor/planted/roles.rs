//! Faults of the trail's roles and of settings.

use super::faults;

pub(super) const FAULTS: &[super::Fault] = faults! {
    Roles Critical "audit_writer, the role of the writer, has SUPERUSER", "ALTER ROLE audit_writer SUPERUSER";
    Roles Critical "audit_reader, the role of the reader, has BYPASSRLS", "ALTER ROLE audit_reader BYPASSRLS";
    Roles Warning "has CREATEROLE", "ALTER ROLE audit_maintainer CREATEROLE";
    Roles Warning "has REPLICATION", "ALTER ROLE audit_auditor REPLICATION";
    Roles Info "has CREATEDB", "ALTER ROLE audit_auditor CREATEDB";
    Roles Info "has LOGIN", "ALTER ROLE audit_writer LOGIN";
    Roles Warning "trail_owner, the role of the owner, has SUPERUSER", "ALTER ROLE trail_owner SUPERUSER";
    Roles Info "trail_owner, the role of the owner, has BYPASSRLS", "ALTER ROLE trail_owner BYPASSRLS";
    Roles Warning "trail_owner, the role of the owner, has REPLICATION", "ALTER ROLE trail_owner REPLICATION";

    Roles Critical "mallory is a member of trail_owner: it can remove the protection", "CREATE ROLE mallory; GRANT trail_owner TO mallory";
    Roles Warning "mallory is a member of trail_owner: it can make itself the owner", "GRANT trail_owner TO mallory WITH ADMIN TRUE, INHERIT FALSE, SET FALSE" since 16;
    Roles Critical "mallory is a member of trail_owner: it can remove", "GRANT trail_owner TO mallory WITH INHERIT FALSE, SET TRUE" since 16;
    Roles Critical "audit_writer is a member of audit_auditor", "GRANT audit_auditor TO audit_writer";
    Roles Critical "audit_maintainer is a member of pg_read_all_data", "GRANT pg_read_all_data TO audit_maintainer";
    Roles Critical "audit_reader is a member of pg_monitor", "GRANT pg_monitor TO audit_reader";
    Roles Warning "trail_owner is a member of pg_write_server_files", "GRANT pg_write_server_files TO trail_owner";
    Roles Info "trail_owner is a member of pg_monitor", "GRANT pg_monitor TO trail_owner";
    Roles Info "mallory is a member of audit_maintainer", "GRANT audit_maintainer TO mallory";
    Roles Warning "it can give the role to others", "GRANT audit_writer TO mallory WITH ADMIN OPTION";
    Roles Warning "mallory has the roles audit_auditor, audit_writer", "GRANT audit_auditor, audit_writer TO mallory";
    Roles Warning "mallory has the roles audit_maintainer, audit_reader", "CREATE ROLE between; GRANT audit_maintainer, audit_reader TO between; GRANT between TO mallory";
    Roles Info "mallory is a member of audit_auditor", "CREATE ROLE admin CREATEROLE; GRANT audit_auditor TO admin WITH ADMIN TRUE, INHERIT FALSE, SET FALSE; SET ROLE admin; GRANT audit_auditor TO mallory; RESET ROLE" since 16;
    Roles Critical "the owner of the schema public is mallory", "ALTER SCHEMA public OWNER TO mallory";
    Roles Warning "the role for the maintainer is missing", "DELETE FROM audit_roles WHERE kind = 'maintainer'";
    Roles Critical "audit_roles names eve as the auditor, but audit_auditor has the rights", "CREATE ROLE eve; UPDATE audit_roles SET role = 'eve' WHERE kind = 'auditor'";

    Roles Critical "audit_roles names eve as the maintainer, but audit_maintainer has the rights", "UPDATE audit_roles SET role = 'eve' WHERE kind = 'maintainer'";
    Roles Critical "audit_roles names eve as the maintainer, but audit_maintainer has the rights", "GRANT EXECUTE ON FUNCTION audit_logs_drop_month TO eve; UPDATE audit_roles SET role = 'eve' WHERE kind = 'maintainer'";
    Roles Critical "audit_roles names eve as the reader, but audit_reader has the rights", "UPDATE audit_roles SET role = 'eve' WHERE kind = 'reader'";
    Roles Critical "audit_roles names eve as the writer, but audit_writer has the rights", "ALTER POLICY audit_logs_insert ON audit_logs TO eve; UPDATE audit_roles SET role = 'eve' WHERE kind = 'writer'";
    Roles Warning "the owner of the database $db is mallory: it can drop the database", "ALTER DATABASE $db OWNER TO mallory";

    // Attributes and roles of logins, beside their part of the trail.
    Roles Critical "mallory, a member of one of the trail's roles, has BYPASSRLS", "GRANT audit_reader TO mallory; ALTER ROLE mallory BYPASSRLS";
    Roles Info "it sees every tenant in any case", "GRANT audit_auditor TO mallory; ALTER ROLE mallory BYPASSRLS";
    Roles Critical "mallory, a member of one of the trail's roles, has SUPERUSER", "GRANT audit_reader TO mallory; ALTER ROLE mallory SUPERUSER";
    Roles Warning "mallory, a member of one of the trail's roles, has REPLICATION", "GRANT audit_writer TO mallory; ALTER ROLE mallory REPLICATION";
    Roles Info "mallory, a member of one of the trail's roles, has CREATEROLE", "GRANT audit_writer TO mallory; ALTER ROLE mallory CREATEROLE" since 16;
    Roles Critical "mallory is a member of pg_write_all_data: it can forge holds", "GRANT pg_write_all_data TO mallory";
    Roles Warning "mallory is a member of pg_execute_server_program", "GRANT pg_execute_server_program TO mallory";
    Roles Critical "mallory is a member of pg_write_server_files", "GRANT audit_writer, pg_write_server_files TO mallory";
    Roles Warning "mallory is a member of pg_read_server_files", "GRANT pg_read_server_files TO mallory";
    Roles Info "mallory is a member of pg_read_all_data", "GRANT pg_read_all_data TO mallory";
    Roles Info "mallory is a member of pg_signal_backend", "GRANT pg_signal_backend TO mallory";
    Roles Warning "mallory is a member of pg_maintain", "GRANT pg_maintain TO mallory" since 17;

    Settings Warning "search_path is set to evil, public for ROLE $app", "CREATE SCHEMA evil; CREATE TABLE evil.audit_logs (id uuid); ALTER ROLE $app SET search_path = evil, public";
    Settings Critical "\"audit.tenant_id\" is set to acme for DATABASE", "ALTER DATABASE $db SET audit.tenant_id = 'acme'";
    Settings Warning "session_replication_role is set to replica for ROLE audit_writer", "ALTER ROLE audit_writer SET session_replication_role = replica";
    Settings Warning "row_security is set to off for ROLE trail_owner", "ALTER ROLE trail_owner SET row_security = off";
    Settings Warning "event_triggers is set to off for ROLE trail_owner", "ALTER ROLE trail_owner SET event_triggers = off" since 17;
    Settings Warning "synchronous_commit is set to off for ROLE $app", "ALTER ROLE $app SET synchronous_commit = off";
    Settings Warning "default_tablespace is set to", "ALTER DATABASE $db SET default_tablespace = 'pg_default'";
    Settings Info "work_mem is set to 1GB for ROLE $app IN DATABASE $db", "ALTER ROLE $app IN DATABASE $db SET work_mem = '1GB'";
    Settings Info "maintenance_work_mem is set to 1GB for ROLE ALL", "ALTER ROLE ALL SET maintenance_work_mem = '1GB'";
    Settings Warning "search_path is set to", "ALTER ROLE trail_owner SET search_path = other";
};

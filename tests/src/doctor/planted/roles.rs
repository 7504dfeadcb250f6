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

    Settings Critical "\"audit.tenant_id\" is set to acme for DATABASE", "ALTER DATABASE $db SET audit.tenant_id = 'acme'";
    Settings Warning "session_replication_role is set to replica for ROLE audit_writer", "ALTER ROLE audit_writer SET session_replication_role = replica";
    Settings Warning "row_security is set to off for ROLE trail_owner", "ALTER ROLE trail_owner SET row_security = off";
    Settings Warning "synchronous_commit is set to off for ROLE $app", "ALTER ROLE $app SET synchronous_commit = off";
    Settings Warning "default_tablespace is set to", "ALTER DATABASE $db SET default_tablespace = 'pg_default'";
    Settings Info "work_mem is set to 1GB for ROLE $app IN DATABASE $db", "ALTER ROLE $app IN DATABASE $db SET work_mem = '1GB'";
    Settings Info "maintenance_work_mem is set to 1GB for ROLE ALL", "ALTER ROLE ALL SET maintenance_work_mem = '1GB'";
    Settings Warning "search_path is set to", "ALTER ROLE trail_owner SET search_path = other";
};

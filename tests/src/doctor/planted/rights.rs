//! Faults of rights on the trail's objects.

use super::faults;

pub(super) const FAULTS: &[super::Fault] = faults! {
    // On audit_logs.
    Grants Warning "audit_writer may UPDATE (action) on public.audit_logs: only the triggers refuse it", "GRANT UPDATE (action) ON audit_logs TO audit_writer";
    Grants Warning "PUBLIC may DELETE on public.audit_logs", "GRANT DELETE ON audit_logs TO PUBLIC";
    Grants Warning "audit_maintainer may TRUNCATE on public.audit_logs", "GRANT TRUNCATE ON audit_logs TO audit_maintainer";
    Grants Warning "audit_reader may TRIGGER on public.audit_logs", "GRANT TRIGGER ON audit_logs TO audit_reader";
    Grants Warning "$app may REFERENCES on public.audit_logs", "GRANT REFERENCES ON audit_logs TO $app";
    Grants Warning "audit_writer may MAINTAIN on public.audit_logs", "GRANT MAINTAIN ON audit_logs TO audit_writer" since 17;
    Grants Critical "audit_writer may INSERT (recorded_at) on public.audit_logs", "GRANT INSERT (recorded_at) ON audit_logs TO audit_writer";
    Grants Critical "$app may INSERT (recorded_at); INSERT (tx_id) on public.audit_logs", "GRANT INSERT (recorded_at, tx_id) ON audit_logs TO $app";
    Grants Critical "audit_writer may INSERT on public.audit_logs", "GRANT INSERT ON audit_logs TO audit_writer";
    Grants Warning "$app may INSERT (action); INSERT (id) on public.audit_logs", "GRANT INSERT (id, action) ON audit_logs TO $app";
    Grants Warning "PUBLIC may SELECT on public.audit_logs", "GRANT SELECT ON audit_logs TO PUBLIC";
    Grants Warning "audit_writer may SELECT (action) on public.audit_logs", "GRANT SELECT (action) ON audit_logs TO audit_writer";
    Grants Warning "with grant option", "GRANT SELECT ON audit_logs TO audit_auditor WITH GRANT OPTION";
    Grants Warning "with grant option", "GRANT INSERT (action) ON audit_logs TO audit_writer WITH GRANT OPTION";
    Grants Warning "$app may SELECT on public.audit_logs", "GRANT SELECT ON audit_logs TO $app WITH GRANT OPTION; SET ROLE $app; GRANT SELECT ON audit_logs TO PUBLIC";
    Grants Warning "audit_writer may not INSERT (trace_id) on public.audit_logs", "REVOKE INSERT (trace_id) ON audit_logs FROM audit_writer";
    Grants Warning "audit_reader may not SELECT on public.audit_logs", "REVOKE SELECT ON audit_logs FROM audit_reader";
    Grants Warning "audit_writer may not INSERT (action); INSERT (actor_id)", "REVOKE INSERT ON audit_logs FROM audit_writer";

    // On partitions.
    Grants Critical "audit_writer may INSERT on public.audit_logs_default", "GRANT INSERT ON audit_logs_default TO audit_writer";
    Grants Critical "audit_writer may INSERT (id) on public.audit_logs_2", "GRANT INSERT (id) ON $month TO audit_writer";
    Grants Warning "audit_reader may SELECT on public.audit_logs_2", "GRANT SELECT ON $month TO audit_reader";
    Grants Warning "PUBLIC may SELECT on 9 tables", "DO $do$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass LOOP EXECUTE format('GRANT SELECT ON %s TO PUBLIC', p); END LOOP; END $do$";
    Grants Warning "$app may DELETE; UPDATE", "GRANT DELETE, UPDATE ON audit_logs_default TO $app";

    // On the other tables.
    Grants Critical "$app may INSERT on public.audit_retention_ledger", "GRANT INSERT ON audit_retention_ledger TO $app";
    Grants Critical "audit_maintainer may INSERT on public.audit_legal_holds", "GRANT INSERT ON audit_legal_holds TO audit_maintainer";
    Grants Warning "PUBLIC may SELECT on public.audit_legal_holds", "GRANT SELECT ON audit_legal_holds TO PUBLIC";
    Grants Critical "audit_writer may UPDATE (role) on public.audit_roles", "GRANT UPDATE (role) ON audit_roles TO audit_writer";
    Grants Critical "audit_maintainer may DELETE on public.audit_roles", "GRANT DELETE ON audit_roles TO audit_maintainer";
    Grants Warning "audit_writer may not SELECT on public.audit_roles", "REVOKE SELECT ON audit_roles FROM audit_writer";
    // Then the roles are known by the rights that they have.
    Grants Warning "audit_auditor may not SELECT on public.audit_roles", "REVOKE SELECT ON audit_roles FROM audit_auditor";
    Grants Warning "audit_maintainer may not SELECT on public.audit_retention_ledger", "REVOKE SELECT ON audit_retention_ledger FROM audit_maintainer";

    Grants Critical "$app may TRIGGER on public.__diesel_schema_migrations", "GRANT TRIGGER ON __diesel_schema_migrations TO $app";
    Grants Critical "$app may INSERT on public.__diesel_schema_migrations", "GRANT INSERT ON __diesel_schema_migrations TO $app";

    // On functions.
    Grants Critical "audit_writer may EXECUTE on FUNCTION public.audit_logs_drop_month(", "GRANT EXECUTE ON FUNCTION audit_logs_drop_month TO audit_writer";
    Grants Critical "PUBLIC may EXECUTE on FUNCTION public.audit_hold_release(", "GRANT EXECUTE ON FUNCTION audit_hold_release TO PUBLIC";
    Grants Warning "PUBLIC may EXECUTE on FUNCTION public.audit_logs_ensure_partitions(", "GRANT EXECUTE ON FUNCTION audit_logs_ensure_partitions TO PUBLIC";
    Grants Warning "PUBLIC may EXECUTE on FUNCTION public.audit_logs_create_upcoming_partition(", "GRANT EXECUTE ON FUNCTION audit_logs_create_upcoming_partition TO PUBLIC";
    Grants Warning "audit_writer may EXECUTE on FUNCTION public.audit_logs_create_partition(", "GRANT EXECUTE ON FUNCTION audit_logs_create_partition TO audit_writer";
    Grants Critical "audit_maintainer may EXECUTE on FUNCTION public.audit_logs_lines(", "GRANT EXECUTE ON FUNCTION audit_logs_lines TO audit_maintainer";
    Grants Critical "audit_writer may EXECUTE on FUNCTION public.audit_hold_coverage(", "GRANT EXECUTE ON FUNCTION audit_hold_coverage TO audit_writer";
    Grants Critical "PUBLIC may EXECUTE on FUNCTION public.audit_revoke_all(", "GRANT EXECUTE ON FUNCTION audit_revoke_all TO PUBLIC";
    Grants Critical "$app may EXECUTE on FUNCTION public.audit_digest(bytea)", "GRANT EXECUTE ON FUNCTION audit_digest(bytea) TO $app";
    Grants Warning "with grant option", "GRANT EXECUTE ON FUNCTION audit_role(text) TO audit_reader WITH GRANT OPTION";
    Grants Warning "audit_writer may not EXECUTE on FUNCTION public.audit_logs_lookup(", "REVOKE EXECUTE ON FUNCTION audit_logs_lookup FROM audit_writer";
    Grants Warning "audit_maintainer may not EXECUTE on FUNCTION public.audit_logs_drop_month(", "REVOKE EXECUTE ON FUNCTION audit_logs_drop_month FROM audit_maintainer";

    // On the schema, and on what the owner creates.
    Grants Warning "PUBLIC may CREATE on SCHEMA public", "GRANT CREATE ON SCHEMA public TO PUBLIC";
    Grants Warning "audit_writer may CREATE on SCHEMA public", "GRANT CREATE ON SCHEMA public TO audit_writer";
    Grants Info "audit_writer may USAGE on SCHEMA public, with grant option", "GRANT USAGE ON SCHEMA public TO audit_writer WITH GRANT OPTION";
    Grants Warning "audit_writer may not use the schema public", "GRANT USAGE ON SCHEMA public TO audit_auditor, trail_owner; REVOKE USAGE ON SCHEMA public FROM PUBLIC";
    Grants Warning "PUBLIC will have SELECT on new TABLES (FOR ROLE trail_owner)", "ALTER DEFAULT PRIVILEGES FOR ROLE trail_owner GRANT SELECT ON TABLES TO PUBLIC";
    Grants Warning "$app will have DELETE, INSERT on new TABLES (FOR ROLE trail_owner IN SCHEMA public)", "ALTER DEFAULT PRIVILEGES FOR ROLE trail_owner IN SCHEMA public GRANT INSERT, DELETE ON TABLES TO $app";
    Grants Warning "audit_reader will have EXECUTE on new FUNCTIONS", "ALTER DEFAULT PRIVILEGES FOR ROLE trail_owner IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO audit_reader";
};

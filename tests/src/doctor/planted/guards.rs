//! Faults of triggers, rules, row security and policies.

use super::faults;

pub(super) const FAULTS: &[super::Fault] = faults! {
    // Triggers of the trail.
    Triggers Critical "the trigger audit_logs_append_only on 10 tables (public.audit_logs to", "DROP TRIGGER audit_logs_append_only ON audit_logs";
    Triggers Critical "audit_logs_no_truncate on public.audit_logs_default is missing", "DROP TRIGGER audit_logs_no_truncate ON audit_logs_default";
    Triggers Critical "audit_logs_no_truncate on public.audit_logs is missing", "DROP TRIGGER audit_logs_no_truncate ON audit_logs";
    Triggers Critical "audit_logs_moved_only on public.audit_logs_default is missing", "DROP TRIGGER audit_logs_moved_only ON audit_logs_default";
    Triggers Critical "the definition of the trigger audit_logs_moved_only", "DROP TRIGGER audit_logs_moved_only ON audit_logs_default; \
        CREATE TRIGGER audit_logs_moved_only AFTER DELETE ON audit_logs_default FOR EACH ROW EXECUTE FUNCTION audit_logs_check_moved(); \
        ALTER TABLE audit_logs_default ENABLE ALWAYS TRIGGER audit_logs_moved_only";
    Triggers Critical "is disabled", "ALTER TABLE $month DISABLE TRIGGER audit_logs_append_only";
    Triggers Critical "is disabled", "ALTER TABLE audit_logs DISABLE TRIGGER ALL";
    Triggers Warning "is disabled in replica mode", "ALTER TABLE $month ENABLE TRIGGER audit_logs_no_truncate";
    Triggers Critical "is disabled except in replica mode", "ALTER TABLE audit_logs_default ENABLE REPLICA TRIGGER audit_logs_append_only";
    Triggers Critical "the trigger audit_logs_no_truncate on 8 tables", "DO $do$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass \
        AND inhrelid <> 'audit_logs_default'::regclass LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER audit_logs_no_truncate', p); END LOOP; END $do$";
    Triggers Critical "the definition of the trigger audit_logs_append_only on", "DROP TRIGGER audit_logs_append_only ON audit_logs; \
        CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs FOR EACH ROW WHEN (OLD.action <> 'x') EXECUTE FUNCTION audit_logs_refuse_change(); \
        ALTER TABLE audit_logs ENABLE ALWAYS TRIGGER audit_logs_append_only";
    Triggers Critical "the definition of the trigger audit_logs_append_only on", "DROP TRIGGER audit_logs_append_only ON audit_logs; \
        CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OF action OR DELETE ON audit_logs FOR EACH ROW EXECUTE FUNCTION audit_logs_refuse_change()";
    Triggers Critical "the definition of the trigger audit_append_only on public.audit_legal_holds", "CREATE FUNCTION agree() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'; \
        DROP TRIGGER audit_append_only ON audit_legal_holds; CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit_legal_holds FOR EACH ROW EXECUTE FUNCTION agree()";
    Triggers Critical "audit_append_only on public.audit_retention_ledger is missing", "DROP TRIGGER audit_append_only ON audit_retention_ledger";
    Triggers Critical "audit_no_truncate on public.audit_retention_writers is missing", "DROP TRIGGER audit_no_truncate ON audit_retention_writers";
    Triggers Critical "audit_append_only on public.audit_retention_declarations is disabled", "ALTER TABLE audit_retention_declarations DISABLE TRIGGER USER";
    Triggers Warning "has the foreign key triggers not enabled", "ALTER TABLE audit_retention_writers DISABLE TRIGGER ALL";

    // Others.
    OtherTriggers Critical "the trigger swallow on", "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER swallow BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION swallow()";
    OtherTriggers Critical "the trigger early on public.audit_legal_holds", "CREATE TRIGGER early BEFORE INSERT ON audit_legal_holds FOR EACH ROW EXECUTE FUNCTION swallow()";
    OtherTriggers Critical "the trigger early on public.audit_retention_ledger", "CREATE TRIGGER early BEFORE INSERT ON audit_retention_ledger FOR EACH ROW EXECUTE FUNCTION swallow()";
    OtherTriggers Critical "the trigger later on public.__diesel_schema_migrations", "CREATE TRIGGER later AFTER INSERT ON __diesel_schema_migrations FOR EACH ROW EXECUTE FUNCTION swallow()";
    OtherTriggers Warning "the trigger note on public.audit_logs_2", "CREATE TRIGGER note AFTER INSERT ON $month FOR EACH ROW EXECUTE FUNCTION swallow()";
    OtherTriggers Warning "the trigger changes on public.audit_roles", "CREATE TRIGGER changes BEFORE UPDATE ON audit_roles FOR EACH ROW EXECUTE FUNCTION swallow()";
    OtherTriggers Warning "the trigger statements on public.audit_logs", "CREATE TRIGGER statements AFTER INSERT ON audit_logs FOR EACH STATEMENT EXECUTE FUNCTION swallow()";
    OtherTriggers Warning "the trigger off on public.audit_logs_default", "CREATE TRIGGER off BEFORE INSERT ON audit_logs_default FOR EACH ROW EXECUTE FUNCTION swallow(); ALTER TABLE audit_logs_default DISABLE TRIGGER off";
    OtherTriggers Critical "the rule nothing on public.audit_logs ", "CREATE RULE nothing AS ON DELETE TO audit_logs DO INSTEAD NOTHING";
    OtherTriggers Critical "the rule nowhere on public.audit_retention_ledger ", "CREATE RULE nowhere AS ON INSERT TO audit_retention_ledger DO INSTEAD NOTHING";
    OtherTriggers Critical "the rule \"a \"\"rule\"\"\" on public.audit_logs_2", "CREATE RULE \"a \"\"rule\"\"\" AS ON UPDATE TO $month DO INSTEAD NOTHING";

    // Row security.
    RowSecurity Critical "row security is off for public.audit_logs: a reader", "ALTER TABLE audit_logs DISABLE ROW LEVEL SECURITY";
    RowSecurity Warning "row security is off for public.audit_logs_default", "ALTER TABLE audit_logs_default DISABLE ROW LEVEL SECURITY";
    RowSecurity Warning "row security is off for 8 tables", "DO $do$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass \
        AND inhrelid <> 'audit_logs_default'::regclass LOOP EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', p); END LOOP; END $do$";
    RowSecurity Warning "row security is forced for public.audit_logs:", "ALTER TABLE audit_logs FORCE ROW LEVEL SECURITY";
    RowSecurity Warning "row security is forced for public.audit_logs_2", "ALTER TABLE $month FORCE ROW LEVEL SECURITY";
    RowSecurity Warning "row security is on for public.audit_legal_holds", "ALTER TABLE audit_legal_holds ENABLE ROW LEVEL SECURITY";
    RowSecurity Warning "the policy audit_logs_insert on public.audit_logs is missing", "DROP POLICY audit_logs_insert ON audit_logs";
    RowSecurity Critical "the definition of the policy audit_logs_read_tenant", "ALTER POLICY audit_logs_read_tenant ON audit_logs USING (true)";
    RowSecurity Critical "the definition of the policy audit_logs_read_tenant", "ALTER POLICY audit_logs_read_tenant ON audit_logs USING (tenant_id = current_setting('audit.tenant_id', true))";
    RowSecurity Critical "the definition of the policy audit_logs_read_all", "ALTER POLICY audit_logs_read_all ON audit_logs TO audit_auditor, audit_reader";
    RowSecurity Critical "the definition of the policy audit_logs_insert", "DROP POLICY audit_logs_insert ON audit_logs; CREATE POLICY audit_logs_insert ON audit_logs FOR ALL TO audit_writer USING (true) WITH CHECK (true)";
    RowSecurity Critical "the policy let_it_be on public.audit_logs is not part of the trail", "CREATE POLICY let_it_be ON audit_logs FOR SELECT USING (action = 'x')";
    RowSecurity Warning "the policy less on public.audit_logs is not part of the trail", "CREATE POLICY less ON audit_logs AS RESTRICTIVE FOR SELECT USING (true)";
    RowSecurity Warning "the policy here on public.audit_logs_2", "CREATE POLICY here ON $month FOR SELECT USING (true)";
    RowSecurity Warning "the policy held on public.audit_legal_holds", "CREATE POLICY held ON audit_legal_holds USING (true)";
};

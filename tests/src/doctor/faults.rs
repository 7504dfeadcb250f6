//! Is each fault found that is planted, and gone when it is mended?

use audit_ops::doctor::{Code, Finding, Options, Severity};

use super::place::Place;

/// How a planted fault is mended.
enum Mend {
    /// By the SQL of its own remedy, as the superuser.
    Remedy,
    Sql(&'static str),
}
use Mend::{Remedy, Sql};

/// What is worse than an information, of one code.
fn bad(findings: &[Finding], code: Code) -> Vec<Finding> {
    let bad = |finding: &&Finding| finding.code == code && finding.severity > Severity::Ok;
    let unchecked = |finding: &&Finding| !finding.found.starts_with("not checked");
    findings.iter().filter(bad).filter(unchecked).cloned().collect()
}

struct Fault {
    roles: &'static [&'static str],
    /// Whom the doctor connects as; none: the application's login.
    login: Option<&'static str>,
    code: Code,
    severity: Severity,
    /// Of what is found.
    says: &'static str,
    plant: &'static str,
    mend: Mend,
}

impl Fault {
    async fn found_then_mended(self) {
        let place = Place::with(self.roles).await;
        let login = self.login.unwrap_or(&place.app);
        let look = async || bad(&place.findings_of(login, &Options::default()).await, self.code);
        let before = look().await;
        assert!(
            !before.iter().any(|finding| finding.found.contains(self.says)),
            "{before:#?}"
        );
        place.admin(self.plant).await;
        let found = look().await;
        let this = found.iter().find(|finding| finding.found.contains(self.says));
        let this = this.unwrap_or_else(|| panic!("{}: {:?} is not among {found:#?}", self.plant, self.says));
        assert_eq!(this.severity, self.severity, "{this:#?}");
        match self.mend {
            Sql(sql) => place.admin(sql).await,
            Remedy => {
                let new = found.iter().filter(|finding| !before.contains(finding));
                for remedy in new.filter_map(|finding| finding.remedy.as_deref()) {
                    place.admin(remedy).await;
                }
            }
        }
        let after = look().await;
        assert_eq!(after, before, "after {:?}", this.remedy);
    }
}

macro_rules! faults {
    ($($name:ident: $roles:tt $(as $login:literal)?, $code:ident $severity:ident $says:literal, $plant:expr, $mend:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let login: &[&str] = &[$($login)?];
            let fault = Fault {
                roles: &$roles, login: login.first().copied(), code: Code::$code, severity: Severity::$severity, says: $says,
                plant: $plant, mend: $mend,
            };
            fault.found_then_mended().await;
        }
    )*};
}

faults! {
    // Who.
    a_superuser: ["writer"], User Critical "is a superuser", "ALTER ROLE $app SUPERUSER", Sql("ALTER ROLE $app NOSUPERUSER");
    an_owner: ["writer"], User Critical "the owner of audit_logs", "GRANT trail_owner TO $app", Remedy;
    an_owner_of_the_schema: ["writer"], User Critical "the owner of the schema", "CREATE ROLE $app_s; ALTER SCHEMA public OWNER TO $app_s; GRANT $app_s TO $app", Remedy;
    bypassing_row_security: ["reader"], User Critical "has BYPASSRLS", "ALTER ROLE $app BYPASSRLS", Remedy;
    creating_roles: ["writer"], User Warning "has CREATEROLE", "ALTER ROLE $app CREATEROLE", Remedy;
    replicating: ["writer"], User Warning "has REPLICATION", "ALTER ROLE $app REPLICATION", Remedy;
    running_programs: ["writer"], User Critical "pg_execute_server_program", "GRANT pg_execute_server_program TO $app", Remedy;
    writing_everything: ["writer"], User Warning "pg_write_all_data", "GRANT pg_write_all_data TO $app", Remedy;
    no_role: ["writer"], Membership Warning "not a member of any of the trail's roles", "REVOKE audit_writer FROM $app", Remedy;
    a_role_too_many: ["writer"], Membership Warning "audit_auditor, audit_writer", "GRANT audit_auditor TO $app", Remedy;
    a_maintaining_reader: ["reader"], Membership Warning "audit_maintainer, audit_reader", "GRANT audit_maintainer TO $app", Remedy;
    a_missing_role: ["writer"], Roles Warning "the role for the maintainer is missing", "DELETE FROM audit_roles WHERE kind = 'maintainer'",
        Sql("INSERT INTO audit_roles VALUES ('maintainer', 'audit_maintainer')");
    a_role_within_another: ["writer"], Roles Critical "is a member of pg_monitor", "CREATE ROLE $app_m IN ROLE pg_monitor; UPDATE audit_roles SET role = '$app_m' WHERE kind = 'maintainer'", Remedy;
    a_role_that_may_all: ["writer"], Roles Critical "is a superuser", "CREATE ROLE $app_m SUPERUSER; UPDATE audit_roles SET role = '$app_m' WHERE kind = 'maintainer'", Remedy;

    // Rights.
    updating: ["writer"], Grants Warning "may UPDATE audit_logs (action)", "GRANT UPDATE (action) ON audit_logs TO audit_writer", Remedy;
    everybody_deletes: ["writer"], Grants Warning "PUBLIC may DELETE", "GRANT DELETE ON audit_logs TO PUBLIC", Remedy;
    forging_times: ["writer"], Grants Critical "may INSERT audit_logs (recorded_at)", "GRANT INSERT (recorded_at) ON audit_logs TO audit_writer", Remedy;
    forging_everything: ["writer"], Grants Critical "may INSERT audit_logs", "GRANT INSERT ON audit_logs TO audit_writer",
        // It takes the columns' rights with it.
        Sql("REVOKE INSERT ON audit_logs FROM audit_writer; GRANT INSERT (id, created_at, tenant_id, actor_id, actor_type, on_behalf_of, action, outcome, resource_type, \
             resource_id, ip_address, user_agent, request_id, trace_id, operation_id, metadata, writer_id, writer_seq) ON audit_logs TO audit_writer");
    inserting_into_a_partition: ["writer"], Grants Critical "may INSERT audit_logs_default", "GRANT INSERT ON audit_logs_default TO audit_writer", Remedy;
    reading_a_partition: ["reader"], Grants Warning "may SELECT audit_logs_default", "GRANT SELECT ON audit_logs_default TO audit_reader", Remedy;
    a_writer_without_a_column: ["writer"], Grants Warning "may not INSERT trace_id", "REVOKE INSERT (trace_id) ON audit_logs FROM audit_writer", Remedy;
    a_reader_without_a_right: ["writer"], Grants Warning "the reader's role, may not SELECT", "REVOKE SELECT ON audit_logs FROM audit_reader", Remedy;
    no_row_security: ["reader"], RowSecurity Critical "a reader sees every tenant", "ALTER TABLE audit_logs DISABLE ROW LEVEL SECURITY", Remedy;
    no_row_security_on_a_partition: ["reader"], RowSecurity Warning "off on the partition audit_logs_default", "ALTER TABLE audit_logs_default DISABLE ROW LEVEL SECURITY", Remedy;
    a_policy_gone: ["reader"], RowSecurity Warning "audit_logs_insert is missing", "DROP POLICY audit_logs_insert ON audit_logs", Remedy;
    a_policy_for_all_tenants: ["reader"], RowSecurity Critical "audit_logs_read_tenant was changed", "ALTER POLICY audit_logs_read_tenant ON audit_logs USING (true)", Remedy;
    a_policy_for_others: ["reader"], RowSecurity Critical "audit_logs_read_all was changed", "ALTER POLICY audit_logs_read_all ON audit_logs TO audit_auditor, audit_reader", Remedy;
    a_policy_more: ["reader"], RowSecurity Critical "let_it_be is not part of the trail", "CREATE POLICY let_it_be ON audit_logs FOR SELECT USING (action = 'x')", Remedy;

    // What is built.
    no_row_trigger: ["writer"], Triggers Critical "nothing refuses DELETE, UPDATE on audit_logs", "DROP TRIGGER audit_logs_append_only ON audit_logs", Remedy;
    no_truncate_trigger: ["writer"], Triggers Critical "nothing refuses TRUNCATE on audit_logs_default", "DROP TRIGGER audit_logs_no_truncate ON audit_logs_default", Remedy;
    a_trigger_off: ["writer"], Triggers Critical "is disabled on", "ALTER TABLE $month DISABLE TRIGGER audit_logs_append_only", Remedy;
    a_trigger_that_sleeps: ["writer"], Triggers Warning "is disabled in replica mode", "ALTER TABLE $month ENABLE TRIGGER audit_logs_no_truncate", Remedy;
    a_trigger_with_a_condition: ["writer"], Triggers Critical "nothing refuses DELETE, UPDATE on audit_logs, ",
        "DROP TRIGGER audit_logs_append_only ON audit_logs; CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs FOR EACH ROW WHEN (OLD.action <> 'x') EXECUTE FUNCTION audit_logs_refuse_change()", Remedy;
    a_partition_made_by_hand: ["writer"], Triggers Critical "nothing refuses TRUNCATE on mine", "CREATE TABLE mine PARTITION OF audit_logs FOR VALUES FROM ('2040-01-01') TO ('2040-02-01')", Remedy;
    a_partition_made_by_hand_is_told: ["writer"], StrayTables Info "the partition mine was created manually", "CREATE TABLE mine PARTITION OF audit_logs FOR VALUES FROM ('2040-01-01') TO ('2040-02-01')", Sql("DROP TABLE mine");
    a_trigger_that_swallows: ["writer"], StrangeTriggers Critical "can change or drop it",
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER swallow BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION swallow()", Remedy;
    a_trigger_that_notes: ["writer"], StrangeTriggers Warning "the trigger note on",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER note AFTER INSERT ON $month FOR EACH ROW EXECUTE FUNCTION note()", Remedy;
    a_rule: ["writer"], StrangeTriggers Critical "the rule nothing on audit_logs", "CREATE RULE nothing AS ON DELETE TO audit_logs DO INSTEAD NOTHING", Remedy;
    a_function_that_refuses_nothing: ["writer"], Functions Critical "the body of audit_logs_refuse_change() differs",
        "ALTER FUNCTION audit_logs_refuse_change() RENAME TO audit_kept; CREATE FUNCTION audit_logs_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
         ALTER FUNCTION audit_logs_refuse_change() OWNER TO trail_owner",
        Sql("DROP FUNCTION audit_logs_refuse_change(); ALTER FUNCTION audit_kept() RENAME TO audit_logs_refuse_change");
    a_function_gone: ["writer"], Functions Warning "functions are missing: audit_logs_index_closed_months", "ALTER FUNCTION audit_logs_index_closed_months() RENAME TO gone",
        Sql("ALTER FUNCTION gone() RENAME TO audit_logs_index_closed_months");
    a_function_with_the_callers_path: ["writer"], Functions Critical "in the caller's search_path", "ALTER FUNCTION audit_logs_create_partition(timestamp) RESET search_path", Remedy;
    a_function_for_everybody: ["writer"], Functions Warning "everybody may execute audit_logs_ensure_partitions", "GRANT EXECUTE ON FUNCTION audit_logs_ensure_partitions TO PUBLIC", Remedy;
    a_function_of_another: ["writer"], Functions Critical "not to the table's owner", "ALTER FUNCTION audit_logs_create_partition(timestamp) OWNER TO postgres", Remedy;
    a_function_with_the_callers_rights: ["writer"], Functions Warning "with the rights of its caller", "ALTER FUNCTION audit_logs_index_closed_months() SECURITY INVOKER", Remedy;
    an_index_gone: ["writer"], Indexes Warning "audit_logs_tenant_timeline is missing", "DROP INDEX audit_logs_tenant_timeline", Remedy;
    an_index_not_valid: ["writer"], Indexes Warning "is not valid", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '$month_pkey'::regclass", Remedy;
    no_primary_key: ["writer"], Indexes Critical "stored twice", "ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_pkey", Remedy;
    few_months: ["writer"], MonthsAhead Warning "partitions exist only up to",
        "DO $do$ DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass AND inhrelid::regclass::text ~ '\\d' ORDER BY inhrelid::regclass::text OFFSET 4 LOOP \
         EXECUTE format('DROP TABLE %s', part); END LOOP; END $do$", Remedy;
    no_month_now: ["writer"], MonthsAhead Warning "this month has no partition", "DROP TABLE $month", Remedy;
    no_default_partition: ["writer"], DefaultPartition Warning "there is no default partition", "DROP TABLE audit_logs_default", Remedy;
    rows_in_the_default_partition: [] as "trail_owner", DefaultPartition Warning "holds rows: 1", "INSERT INTO audit_logs (created_at, action) VALUES ('1999-01-01', 'x')", Remedy;
    a_detached_month: ["writer"], StrayTables Warning "audit_logs_1998_01 is not attached to audit_logs",
        "SELECT audit_logs_ensure_partitions('1998-01-01', '1998-01-01'); ALTER TABLE audit_logs DETACH PARTITION audit_logs_1998_01", Sql("DROP TABLE audit_logs_1998_01");
    a_migration_pending: [] as "trail_owner", Migrations Warning "lacks the migrations 20261128000003", "DELETE FROM __diesel_schema_migrations WHERE version = '20261128000003'",
        Sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('20261128000003')");
    no_table: ["writer"], Migrations Critical "no table audit_logs", "ALTER DATABASE $db SET search_path = pg_catalog", Sql("ALTER DATABASE $db RESET search_path");

    // How it is set up.
    commits_not_synced: ["writer"], Durability Warning "synchronous_commit is off", "ALTER DATABASE $db SET synchronous_commit = off", Remedy;
    a_replica: ["writer"], ReplicaMode Warning "session_replication_role is replica", "ALTER DATABASE $db SET session_replication_role = replica", Sql("ALTER DATABASE $db RESET session_replication_role");
    rows_in_the_log: ["writer"], ServerLog Info "log_statement is mod", "ALTER DATABASE $db SET log_statement = mod", Sql("ALTER DATABASE $db RESET log_statement");
    slow_rows_in_the_log: ["writer"], ServerLog Info "log_min_duration_statement is 0", "ALTER DATABASE $db SET log_min_duration_statement = 0", Sql("ALTER DATABASE $db RESET log_min_duration_statement");
    a_short_timeout: ["writer"], Timeouts Warning "statement_timeout is 50 ms", "ALTER ROLE $app SET statement_timeout = 50", Remedy;
    an_idle_timeout: ["writer"], Timeouts Info "idle_session_timeout is 1000 ms", "ALTER ROLE $app SET idle_session_timeout = 1000", Remedy;
    read_only: ["writer"], Writable Warning "no statement was tried", "ALTER ROLE $app SET default_transaction_read_only = on", Sql("ALTER ROLE $app RESET default_transaction_read_only");

    // Tried.
    writing_refused: ["writer"], Writable Critical "rows are refused", "ALTER TABLE audit_logs ADD CHECK (action <> 'audit.probe')", Sql("ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_action_check");
    writing_swallowed: ["writer"], Writable Critical "of 2 rows inserted 0 were stored",
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER swallow BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION swallow()", Sql("DROP TRIGGER swallow ON audit_logs");
    an_update_done: ["writer", "reader"], RowUpdate Critical "UPDATE was carried out on a stored row",
        "GRANT UPDATE (metadata) ON audit_logs TO audit_writer; CREATE POLICY u ON audit_logs FOR UPDATE USING (true); DROP TRIGGER audit_logs_append_only ON audit_logs", Sql("REVOKE UPDATE (metadata) ON audit_logs FROM audit_writer");
    an_update_that_finds_no_row: ["writer", "reader"], RowUpdate Warning "only row security hid the row", "GRANT UPDATE ON audit_logs TO $app", Remedy;
    an_update_without_reading: ["writer"], RowUpdate Warning "there is no row that this user may both insert and read", "GRANT UPDATE (outcome) ON audit_logs TO $app", Remedy;
    a_delete_done: ["writer", "reader"], RowDelete Critical "DELETE was carried out on a stored row",
        "GRANT DELETE ON audit_logs TO $app; CREATE POLICY d ON audit_logs FOR DELETE USING (true); ALTER TABLE audit_logs DISABLE TRIGGER audit_logs_append_only; ALTER TABLE $month DISABLE TRIGGER audit_logs_append_only",
        Sql("ALTER TABLE $month ENABLE ALWAYS TRIGGER audit_logs_append_only");
    an_update_in_replica_mode: [] as "postgres", RowUpdate Critical "in replica mode", "ALTER TABLE $month ENABLE TRIGGER audit_logs_append_only", Sql("ALTER TABLE $month ENABLE ALWAYS TRIGGER audit_logs_append_only");
    a_forged_time: ["writer"], Forgery Critical "a recorded_at of this user's choice", "GRANT INSERT (recorded_at) ON audit_logs TO $app", Sql("REVOKE INSERT (recorded_at) ON audit_logs FROM $app");
    a_forged_transaction: ["writer"], Forgery Critical "a tx_id of this user's choice", "GRANT INSERT (tx_id) ON audit_logs TO $app", Sql("REVOKE INSERT (tx_id) ON audit_logs FROM $app");
    another_tenants_rows: ["writer", "reader"], TenantRead Critical "sees a row of another: the policies allow it", "ALTER POLICY audit_logs_read_tenant ON audit_logs USING (true)",
        Sql("ALTER POLICY audit_logs_read_tenant ON audit_logs USING (tenant_id = nullif(current_setting('audit.tenant_id', true), ''))");
    rows_without_a_tenant: ["reader"], TenantRead Critical "no tenant set", "INSERT INTO audit_logs (tenant_id, action) VALUES ('acme', 'x'); ALTER POLICY audit_logs_read_tenant ON audit_logs USING (true)",
        Sql("ALTER POLICY audit_logs_read_tenant ON audit_logs USING (tenant_id = nullif(current_setting('audit.tenant_id', true), ''))");
    past_row_security: ["writer", "reader"], TenantRead Critical "row security does not apply to this user", "ALTER ROLE $app BYPASSRLS", Sql("ALTER ROLE $app NOBYPASSRLS");
    a_table_beside: ["writer"], CreateTable Warning "can create tables and functions in the trail's schema public", "GRANT CREATE ON SCHEMA public TO PUBLIC", Remedy;
}

#[tokio::test]
async fn partitions_are_reached_past_the_table() {
    for (grant, severity) in [
        ("INSERT", Severity::Critical),
        ("DELETE", Severity::Warning),
        ("SELECT", Severity::Warning),
    ] {
        let place = Place::with(&["writer"]).await;
        place.admin(&format!("GRANT {grant} ON $month TO $app")).await;
        let found = bad(&place.findings().await, Code::PartitionAccess);
        assert_eq!((found.len(), found[0].severity), (1, severity), "{found:#?}");
        assert!(
            found[0].found.contains(&format!("may {grant} in audit_logs_2")),
            "{found:#?}"
        );
    }
    let place = Place::with(&["reader"]).await;
    place.admin("GRANT SELECT ON audit_logs_default TO $app; ALTER TABLE audit_logs_default DISABLE ROW LEVEL SECURITY").await;
    let found = bad(&place.findings().await, Code::PartitionAccess);
    assert_eq!(
        (found.len(), found[0].severity),
        (1, Severity::Critical),
        "{found:#?}"
    );
}

/// A maintainer may empty it, but nobody but the owner may look into it.
#[tokio::test]
async fn who_may_not_read_the_default_partition_goes_by_its_size() {
    let place = Place::with(&["writer"]).await;
    let found = async || {
        let findings = place.findings().await;
        findings
            .into_iter()
            .find(|finding| finding.code == Code::DefaultPartition)
            .unwrap()
    };
    assert_eq!(found().await.severity, Severity::Ok);
    place
        .admin("INSERT INTO audit_logs (created_at, action) VALUES ('1999-01-01', 'x')")
        .await;
    let this = found().await;
    assert!(
        this.severity == Severity::Info && this.found.contains("may hold rows"),
        "{this:#?}"
    );
}

/// The tables that tell of what was dropped are part of the trail.
#[tokio::test]
async fn the_ledger_is_guarded_as_well() {
    let place = Place::with(&["writer"]).await;
    place.admin("DROP TRIGGER audit_append_only ON audit_retention_ledger; GRANT INSERT ON audit_legal_holds TO $app").await;
    let findings = place.findings().await;
    let triggers = bad(&findings, Code::Triggers);
    assert!(
        triggers[0]
            .found
            .contains("nothing refuses DELETE, UPDATE on audit_retention_ledger"),
        "{triggers:#?}"
    );
    let grants = bad(&findings, Code::Grants);
    assert!(
        grants[0].severity == Severity::Critical && grants[0].found.contains("INSERT audit_legal_holds"),
        "{grants:#?}"
    );
    for remedy in [&triggers[0], &grants[0]].map(|finding| finding.remedy.clone().unwrap()) {
        place.admin(&remedy).await;
    }
    let findings = place.findings().await;
    assert!(
        bad(&findings, Code::Triggers).is_empty() && bad(&findings, Code::Grants).is_empty(),
        "{findings:#?}"
    );
}

//! Planted faults: each is found, and gone once its remedy has been applied.

use audit_ops::doctor::{Code, Finding, Options, Severity};

use super::fixture::DoctorFixture;
use crate::attacks::fixture::connect;
use crate::support::wait_for;

/// How a planted fault is fixed.
enum Fix {
    /// With the SQL of the finding's remedy, as the superuser.
    Remedy,
    Sql(&'static str),
}
use Fix::{Remedy, Sql};

/// The findings with one code that are more than information.
fn bad(findings: &[Finding], code: Code) -> Vec<Finding> {
    let bad = |finding: &&Finding| finding.code == code && finding.severity > Severity::Ok;
    let unchecked = |finding: &&Finding| !finding.found.starts_with("not checked");
    findings.iter().filter(bad).filter(unchecked).cloned().collect()
}

struct Fault {
    roles: &'static [&'static str],
    /// The login of the doctor; by default the application's login.
    login: Option<&'static str>,
    code: Code,
    severity: Severity,
    /// A part of the text of the finding.
    says: &'static str,
    plant: &'static str,
    fix: Fix,
}

impl Fault {
    async fn assert_found_and_fixed(self) {
        let fixture = DoctorFixture::with(self.roles).await;
        let login = self.login.unwrap_or(&fixture.app);
        let look = async || bad(&fixture.findings_of(login, &Options::default()).await, self.code);
        let before = look().await;
        assert!(
            !before.iter().any(|finding| finding.found.contains(self.says)),
            "{before:#?}"
        );
        fixture.admin(self.plant).await;
        let found = look().await;
        let this = found.iter().find(|finding| finding.found.contains(self.says));
        let this = this.unwrap_or_else(|| panic!("{}: {:?} is not among {found:#?}", self.plant, self.says));
        assert_eq!(this.severity, self.severity, "{this:#?}");
        match self.fix {
            Sql(sql) => fixture.admin(sql).await,
            Remedy => {
                let new = found.iter().filter(|finding| !before.contains(finding));
                for remedy in new.filter_map(|finding| finding.remedy.as_deref()) {
                    fixture.remedy(remedy).await.unwrap();
                }
            }
        }
        let after = look().await;
        assert_eq!(after, before, "after {:?}", this.remedy);
    }
}

macro_rules! faults {
    ($($name:ident: $roles:tt $(as $login:literal)?, $code:ident $severity:ident $says:literal, $plant:expr, $fix:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let login: &[&str] = &[$($login)?];
            let fault = Fault {
                roles: &$roles, login: login.first().copied(), code: Code::$code, severity: Severity::$severity, says: $says,
                plant: $plant, fix: $fix,
            };
            fault.assert_found_and_fixed().await;
        }
    )*};
}

faults! {
    // The user.
    a_superuser_login_is_found: ["writer"], User Critical "is a superuser", "ALTER ROLE $app SUPERUSER", Sql("ALTER ROLE $app NOSUPERUSER");
    a_login_that_owns_the_table_is_found: ["writer"], User Critical "the owner of audit_logs", "GRANT trail_owner TO $app", Remedy;
    a_login_that_owns_the_schema_is_found: ["writer"], User Critical "the owner of the schema", "CREATE ROLE $app_s; ALTER SCHEMA public OWNER TO $app_s; GRANT $app_s TO $app", Remedy;
    a_login_that_owns_the_database_is_found: ["writer"], User Critical "the owner of the database", "CREATE ROLE $app_d; ALTER DATABASE $db OWNER TO $app_d; GRANT $app_d TO $app", Remedy;
    a_login_with_bypassrls_is_found: ["reader"], User Critical "has BYPASSRLS", "ALTER ROLE $app BYPASSRLS", Remedy;
    a_login_with_createrole_is_found: ["writer"], User Warning "has CREATEROLE", "ALTER ROLE $app CREATEROLE", Remedy;
    a_login_with_replication_is_found: ["writer"], User Warning "has REPLICATION", "ALTER ROLE $app REPLICATION", Remedy;
    a_login_that_may_run_programs_is_found: ["writer"], User Critical "pg_execute_server_program", "GRANT pg_execute_server_program TO $app", Remedy;
    a_login_that_may_write_all_data_is_found: ["writer"], User Warning "pg_write_all_data", "GRANT pg_write_all_data TO $app", Remedy;
    a_login_without_a_role_is_found: ["writer"], Membership Warning "not a member of any of the trail's roles", "REVOKE audit_writer FROM $app", Remedy;
    a_login_with_an_additional_role_is_found: ["writer"], Membership Warning "audit_auditor, audit_writer", "GRANT audit_auditor TO $app", Remedy;
    a_reader_that_is_also_maintainer_is_found: ["reader"], Membership Warning "audit_maintainer, audit_reader", "GRANT audit_maintainer TO $app", Remedy;

    // Partitions and migrations.
    few_upcoming_partitions_are_found: ["writer"], UpcomingPartitions Warning "partitions exist only up to",
        "DO $do$ DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass AND inhrelid::regclass::text ~ '\\d' ORDER BY inhrelid::regclass::text OFFSET 4 LOOP \
         EXECUTE format('DROP TABLE %s', part); END LOOP; END $do$", Remedy;
    rows_in_the_default_partition_are_found: [] as "trail_owner", DefaultPartition Warning "holds rows: 1", "INSERT INTO audit_logs (created_at, action) VALUES ('1999-01-01', 'x')", Remedy;
    a_pending_migration_is_found: [] as "trail_owner", Migrations Warning "lacks the migrations 20261129000003", "DELETE FROM __diesel_schema_migrations WHERE version = '20261129000003'",
        Sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('20261129000003')");
    a_missing_table_is_found: ["writer"], Migrations Critical "no table audit_logs", "ALTER DATABASE $db SET search_path = pg_catalog", Sql("ALTER DATABASE $db RESET search_path");

    // Settings.
    commits_that_are_not_synced_are_found: ["writer"], Durability Warning "synchronous_commit is off", "ALTER DATABASE $db SET synchronous_commit = off", Remedy;
    replica_mode_is_found: ["writer"], ReplicaMode Warning "session_replication_role is replica", "ALTER DATABASE $db SET session_replication_role = replica", Sql("ALTER DATABASE $db RESET session_replication_role");
    statements_in_the_server_log_are_found: ["writer"], ServerLog Info "log_statement is mod", "ALTER DATABASE $db SET log_statement = mod", Sql("ALTER DATABASE $db RESET log_statement");
    slow_statements_in_the_server_log_are_found: ["writer"], ServerLog Info "log_min_duration_statement is 0", "ALTER DATABASE $db SET log_min_duration_statement = 0", Sql("ALTER DATABASE $db RESET log_min_duration_statement");
    a_short_statement_timeout_is_found: ["writer"], Timeouts Warning "statement_timeout is 50 ms", "ALTER ROLE $app SET statement_timeout = 50", Remedy;
    an_idle_session_timeout_is_found: ["writer"], Timeouts Info "idle_session_timeout is 1000 ms", "ALTER ROLE $app SET idle_session_timeout = 1000", Remedy;
    a_read_only_login_is_found: ["writer"], Writable Warning "no statement was tried", "ALTER ROLE $app SET default_transaction_read_only = on", Sql("ALTER ROLE $app RESET default_transaction_read_only");

    // Attempts.
    a_constraint_that_refuses_rows_is_found: ["writer"], Writable Critical "rows are refused", "ALTER TABLE audit_logs ADD CHECK (action <> 'audit.probe')", Sql("ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_action_check");
    a_trigger_that_swallows_rows_is_found: ["writer"], Writable Critical "of 2 rows inserted 0 were stored",
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER swallow BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION swallow()", Sql("DROP TRIGGER swallow ON audit_logs");
    an_update_that_succeeds_is_found: ["writer", "reader"], RowUpdate Critical "UPDATE was carried out on a stored row",
        "GRANT UPDATE (metadata) ON audit_logs TO audit_writer; CREATE POLICY u ON audit_logs FOR UPDATE USING (true); DROP TRIGGER audit_logs_append_only ON audit_logs", Sql("REVOKE UPDATE (metadata) ON audit_logs FROM audit_writer");
    an_update_that_only_row_security_stops_is_found: ["writer", "reader"], RowUpdate Warning "only row security hid the row", "GRANT UPDATE ON audit_logs TO $app", Remedy;
    an_update_privilege_without_select_is_found: ["writer"], RowUpdate Warning "there is no row that this user may both insert and read", "GRANT UPDATE (outcome) ON audit_logs TO $app", Remedy;
    a_delete_that_succeeds_is_found: ["writer", "reader"], RowDelete Critical "DELETE was carried out on a stored row",
        "GRANT DELETE ON audit_logs TO $app; CREATE POLICY d ON audit_logs FOR DELETE USING (true); ALTER TABLE audit_logs DISABLE TRIGGER audit_logs_append_only; ALTER TABLE $month DISABLE TRIGGER audit_logs_append_only",
        Sql("ALTER TABLE $month ENABLE ALWAYS TRIGGER audit_logs_append_only");
    an_update_that_succeeds_in_replica_mode_is_found: [] as "postgres", RowUpdate Critical "in replica mode", "ALTER TABLE $month ENABLE TRIGGER audit_logs_append_only", Sql("ALTER TABLE $month ENABLE ALWAYS TRIGGER audit_logs_append_only");
    a_forged_recorded_at_is_found: ["writer"], Forgery Critical "a recorded_at of this user's choice", "GRANT INSERT (recorded_at) ON audit_logs TO $app", Sql("REVOKE INSERT (recorded_at) ON audit_logs FROM $app");
    a_forged_tx_id_is_found: ["writer"], Forgery Critical "a tx_id of this user's choice", "GRANT INSERT (tx_id) ON audit_logs TO $app", Sql("REVOKE INSERT (tx_id) ON audit_logs FROM $app");
    visible_rows_of_another_tenant_are_found: ["writer", "reader"], TenantRead Critical "sees a row of another: the policies allow it", "ALTER POLICY audit_logs_read_tenant ON audit_logs USING (true)",
        Sql("ALTER POLICY audit_logs_read_tenant ON audit_logs USING (tenant_id = nullif(current_setting('audit.tenant_id', true), ''))");
    visible_rows_without_a_tenant_set_are_found: ["reader"], TenantRead Critical "no tenant set", "INSERT INTO audit_logs (tenant_id, action) VALUES ('acme', 'x'); ALTER POLICY audit_logs_read_tenant ON audit_logs USING (true)",
        Sql("ALTER POLICY audit_logs_read_tenant ON audit_logs USING (tenant_id = nullif(current_setting('audit.tenant_id', true), ''))");
    a_login_that_bypasses_row_security_is_found: ["writer", "reader"], TenantRead Critical "row security does not apply to this user", "ALTER ROLE $app BYPASSRLS", Sql("ALTER ROLE $app NOBYPASSRLS");
    a_privilege_to_create_tables_is_found: ["writer"], CreateTable Warning "can create tables and functions in the trail's schema public", "GRANT CREATE ON SCHEMA public TO PUBLIC", Remedy;
}

#[tokio::test]
async fn direct_access_to_partitions_is_found() {
    for (grant, severity) in [
        ("INSERT", Severity::Critical),
        ("DELETE", Severity::Warning),
        ("SELECT", Severity::Warning),
    ] {
        let fixture = DoctorFixture::with(&["writer"]).await;
        fixture.admin(&format!("GRANT {grant} ON $month TO $app")).await;
        let found = bad(&fixture.findings().await, Code::PartitionAccess);
        assert_eq!((found.len(), found[0].severity), (1, severity), "{found:#?}");
        assert!(
            found[0].found.contains(&format!("may {grant} in audit_logs_2")),
            "{found:#?}"
        );
    }
    let fixture = DoctorFixture::with(&["reader"]).await;
    fixture.admin("GRANT SELECT ON audit_logs_default TO $app; ALTER TABLE audit_logs_default DISABLE ROW LEVEL SECURITY").await;
    let found = bad(&fixture.findings().await, Code::PartitionAccess);
    assert_eq!(
        (found.len(), found[0].severity),
        (1, Severity::Critical),
        "{found:#?}"
    );
}

/// Only the owner may read the default partition.
#[tokio::test]
async fn the_size_of_the_default_partition_is_reported_to_users_who_may_not_read_it() {
    let fixture = DoctorFixture::with(&["writer"]).await;
    let found = async || {
        let findings = fixture.findings().await;
        findings
            .into_iter()
            .find(|finding| finding.code == Code::DefaultPartition)
            .unwrap()
    };
    assert_eq!(found().await.severity, Severity::Ok);
    fixture
        .admin("INSERT INTO audit_logs (created_at, action) VALUES ('1999-01-01', 'x')")
        .await;
    let this = found().await;
    assert!(
        this.severity == Severity::Info && this.found.contains("may hold rows"),
        "{this:#?}"
    );
}

/// These rows cannot be removed, so each fault has a database of its own.
#[tokio::test]
async fn gaps_in_the_ledger_and_dates_in_the_future_are_found() {
    let ledger = "INSERT INTO audit_retention_ledger (id, event, month, from_time, to_time, row_count, digest, reason, done_at) \
                  SELECT n, 'dropped', '2001-01', '2001-01-01', '2001-02-01', 0, sha256(''), 'x', ";
    for (plant, severity, says) in [
        (format!("{ledger} now() FROM unnest(ARRAY[1, 2, 5]) n"), Severity::Critical, "the numbers 3 to 4 are missing in public.audit_retention_ledger"),
        (format!("{ledger} now() FROM unnest(ARRAY[2]) n"), Severity::Critical, "the number 1 is missing in public.audit_retention_ledger"),
        (format!("{ledger} now() + interval '1 day' FROM unnest(ARRAY[1]) n"), Severity::Warning, "the entry 1 of public.audit_retention_ledger is dated"),
        (format!("{ledger} now() FROM unnest(ARRAY[1]) n"), Severity::Warning, "have neither a partition nor an entry in the ledger"),
        ("INSERT INTO audit_legal_holds (id, reason) VALUES (1, 'x'), (3, 'x')".to_owned(), Severity::Critical, "the number 2 is missing in public.audit_legal_holds"),
        ("INSERT INTO audit_legal_holds (id, reason, created_at) VALUES (1, 'x', now() + interval '1 year')".to_owned(), Severity::Warning, "the entry 1 of public.audit_legal_holds is dated"),
        ("INSERT INTO audit_logs (action, created_at) VALUES ('x', now() + interval '20 minutes')".to_owned(), Severity::Warning, "entries whose created_at is more than 10 minutes in the future: 1"),
        ("INSERT INTO audit_logs (action, recorded_at) VALUES ('x', now() + interval '1 day')".to_owned(), Severity::Warning, "entries whose recorded_at is more than 10 minutes in the future: 1"),
    ] {
        let fixture = DoctorFixture::with(&["auditor"]).await;
        assert_eq!(bad(&fixture.findings().await, Code::Continuity), []);
        fixture.admin(&plant).await;
        let found = bad(&fixture.findings().await, Code::Continuity);
        assert!(
            found.iter().any(|finding| finding.severity == severity && finding.found.contains(says)),
            "{plant}: {found:#?}"
        );
    }
}

/// A month that was dropped with a record is no gap.
#[tokio::test]
async fn a_dropped_month_is_no_gap() {
    let fixture = DoctorFixture::with(&["auditor"]).await;
    fixture
        .admin(
            "SELECT audit_logs_ensure_partitions(now() - interval '16 months', now()); SELECT audit_logs_index_closed_months(); \
             INSERT INTO audit_logs (action, created_at) SELECT 'x', now() - make_interval(months => n) FROM generate_series(0, 16) n",
        )
        .await;
    let before = bad(&fixture.findings().await, Code::Continuity);
    assert_eq!(before, []);
    let month = "'audit_logs_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') - interval '15 months', 'YYYY_MM')";
    fixture
        .admin(&format!(
            "SELECT audit_logs_drop_month(({month})::name, 12, 'too old')"
        ))
        .await;
    assert_eq!(bad(&fixture.findings().await, Code::Continuity), []);
}

/// One partition of a wrong date must not have the trail filled with empty ones.
#[tokio::test]
async fn a_gap_of_more_months_than_a_trail_may_have_partitions_is_not_to_be_filled() {
    let fixture = DoctorFixture::with(&["auditor"]).await;
    let remedies = async || {
        let found = bad(&fixture.findings().await, Code::Continuity);
        let remedies: Vec<String> = found.into_iter().filter_map(|finding| finding.remedy).collect();
        remedies.join("\n")
    };
    let ensure = "SELECT audit_logs_ensure_partitions('1999-01-15', '1999-01-15')";
    fixture.admin(ensure).await;
    assert!(
        remedies()
            .await
            .contains("audit_logs_ensure_partitions('1999-02-01")
    );
    fixture.admin(&ensure.replace("1999", "1970")).await;
    let text = remedies().await;
    assert!(
        text.contains(
            "480 are the limit; if there never were any, allow it (--allow): months 1970-02..1998-12"
        ) && !text.contains("ensure_partitions"),
        "{text}"
    );
}

#[tokio::test]
async fn a_session_that_is_idle_in_a_transaction_with_locks_is_found_and_ended() {
    let fixture = DoctorFixture::with(&["writer"]).await;
    let [holds_none, holds_some] = [
        connect(&fixture.app_url()).await,
        connect(&fixture.app_url()).await,
    ];
    holds_none.batch_execute("BEGIN; SELECT 1").await.unwrap();
    holds_some
        .batch_execute("BEGIN; INSERT INTO audit_logs (action) VALUES ('x')")
        .await
        .unwrap();
    let found = async || bad(&fixture.findings().await, Code::IdleTransactions);
    wait_for("the session to be found", async || !found().await.is_empty()).await;
    let this = found().await.remove(0);
    assert_eq!(this.severity, Severity::Warning);
    let says = format!("1 ({}), the first since 2", fixture.app);
    assert!(this.found.contains(&says), "{this:#?}");
    fixture.remedy(this.remedy.as_deref().unwrap()).await.unwrap();
    wait_for("the session to end", async || found().await.is_empty()).await;
    assert!(holds_some.batch_execute("COMMIT").await.is_err());
    holds_none.batch_execute("COMMIT").await.unwrap();
}

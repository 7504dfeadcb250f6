//! The doctor on SQLite.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use audit_ops::doctor::{Code, DoctorError, Options, Severity, examine};
use db_services::audit::{AuditEntry, insert};
use db_services::client::Database;

use super::fixture::{faults, findings, of};
use crate::support::TestDb;

/// A migrated file that only its owner may open.
struct SqliteDoctorFixture {
    db: TestDb,
    path: PathBuf,
}

impl SqliteDoctorFixture {
    async fn new() -> Self {
        let db = TestDb::sqlite().await;
        let path = db.database.sqlite_path().unwrap().to_owned();
        let fixture = Self { db, path };
        fixture.mode(0o600);
        insert(&mut fixture.db.connection().await, &AuditEntry::new("x"))
            .await
            .unwrap();
        fixture
    }

    fn mode(&self, mode: u32) {
        std::fs::set_permissions(&self.path, PermissionsExt::from_mode(mode)).unwrap();
    }

    async fn faults(&self) -> Vec<String> {
        faults(&findings(&self.db.url, &Options::default()).await)
    }

    /// Asserts that this fault is found, and no other code.
    async fn assert_only_fault(&self, beginning: &str) {
        let found = self.faults().await;
        let code = beginning.split(' ').next().unwrap();
        assert!(
            found.iter().any(|fault| fault.starts_with(beginning)),
            "{beginning}: {found:#?}"
        );
        assert!(
            found.iter().all(|fault| fault.starts_with(code)),
            "{beginning}: {found:#?}"
        );
    }
}

#[tokio::test]
async fn a_sound_sqlite_file_has_no_findings() {
    let fixture = SqliteDoctorFixture::new().await;
    let findings = findings(&fixture.db.url, &Options::default()).await;
    assert_eq!(faults(&findings), [""; 0]);
    for code in [
        Code::Writable,
        Code::RowUpdate,
        Code::RowDelete,
        Code::Triggers,
        Code::OtherTriggers,
        Code::Migrations,
        Code::SqliteFile,
        Code::SqliteJournal,
        Code::Durability,
        Code::ReplicaMode,
    ] {
        assert!(
            of(&findings, code)
                .iter()
                .all(|finding| finding.severity == Severity::Ok),
            "{code:?}"
        );
        assert!(!of(&findings, code).is_empty(), "{code:?}");
    }
}

#[tokio::test]
async fn an_examination_leaves_no_trace_in_an_sqlite_file() {
    let fixture = SqliteDoctorFixture::new().await;
    // Checkpointed, so that the file contains everything.
    let SqliteDoctorFixture { db, path } = fixture;
    let url = db.url.clone();
    db.sql("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    let before = std::fs::read(&path).unwrap();
    let examined = findings(&url, &Options::default()).await;
    assert!(of(&examined, Code::Writable)[0].found.contains("was inserted"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(db.count().await, 1);
}

#[tokio::test]
async fn a_rollback_journal_is_found_and_left_unchanged() {
    let fixture = SqliteDoctorFixture::new().await;
    let url = fixture.db.url.clone();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    fixture
        .db
        .sql(&format!("VACUUM INTO '{}'", copy.display()))
        .await
        .unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o600)).unwrap();
    let copied = format!("sqlite://{}", copy.display());
    for _ in 0..2 {
        let found = faults(&findings(&copied, &Options::default()).await);
        assert!(
            found
                .iter()
                .any(|fault| fault.starts_with("SQLITE_JOURNAL warning")),
            "{found:#?}"
        );
    }
    assert_eq!(faults(&findings(&url, &Options::default()).await), [""; 0]);
}

#[tokio::test]
async fn file_permissions_of_other_users_are_found() {
    let fixture = SqliteDoctorFixture::new().await;
    for (mode, beginning) in [
        (0o644, "SQLITE_FILE warning: others may read"),
        (0o620, "SQLITE_FILE critical: others may write"),
    ] {
        fixture.mode(mode);
        fixture.assert_only_fault(beginning).await;
    }
    fixture.mode(0o600);
    assert_eq!(fixture.faults().await, [""; 0]);
    let around = fixture.path.parent().unwrap();
    let was = std::fs::metadata(around).unwrap().permissions();
    std::fs::set_permissions(around, PermissionsExt::from_mode(0o777)).unwrap();
    fixture
        .assert_only_fault("SQLITE_FILE critical: others may replace")
        .await;
    std::fs::set_permissions(around, was).unwrap();
    assert_eq!(fixture.faults().await, [""; 0]);
}

#[tokio::test]
async fn each_missing_trigger_is_found() {
    for (trigger, code, attempt) in [
        (
            "no_update",
            "ROW_UPDATE",
            "UPDATE was carried out on a stored row",
        ),
        (
            "no_delete",
            "ROW_DELETE",
            "DELETE FROM was carried out on a stored row",
        ),
        (
            "no_replace",
            "ROW_UPDATE",
            "INSERT OR REPLACE INTO was carried out on a stored row",
        ),
    ] {
        let fixture = SqliteDoctorFixture::new().await;
        fixture
            .db
            .sql(&format!("DROP TRIGGER audit_logs_{trigger}"))
            .await
            .unwrap();
        let found = findings(&fixture.db.url, &Options::default()).await;
        let found_faults = faults(&found);
        let begins = format!("TRIGGERS critical: missing or changed: CREATE TRIGGER audit_logs_{trigger}");
        assert!(
            found_faults.iter().any(|fault| fault.starts_with(&begins)),
            "{found_faults:#?}"
        );
        assert!(
            found_faults
                .iter()
                .any(|fault| fault.starts_with(code) && fault.contains(attempt)),
            "{found_faults:#?}"
        );
        fixture
            .db
            .sql(of(&found, Code::Triggers)[0].remedy.as_deref().unwrap())
            .await
            .unwrap();
        assert_eq!(fixture.faults().await, [""; 0]);
    }
}

#[tokio::test]
async fn foreign_triggers_and_missing_migrations_are_found() {
    let fixture = SqliteDoctorFixture::new().await;
    fixture
        .db
        .sql("CREATE TRIGGER other AFTER INSERT ON audit_logs BEGIN SELECT 1; END")
        .await
        .unwrap();
    fixture
        .assert_only_fault(
            "OTHER_TRIGGERS warning: a trigger that is not part of the trail: CREATE TRIGGER other",
        )
        .await;
    fixture.db.sql("DROP TRIGGER other").await.unwrap();
    fixture
        .db
        .sql("CREATE TRIGGER other BEFORE INSERT ON audit_logs BEGIN SELECT RAISE(IGNORE); END")
        .await
        .unwrap();
    let found_faults = fixture.faults().await;
    assert!(
        found_faults
            .iter()
            .any(|fault| fault.starts_with("WRITABLE critical: an inserted row was not stored")),
        "{found_faults:#?}"
    );
    fixture
        .db
        .sql("DROP TRIGGER other; DELETE FROM __diesel_schema_migrations")
        .await
        .unwrap();
    fixture
        .assert_only_fault("MIGRATIONS warning: the database lacks the migrations 20261124000001")
        .await;
}

#[tokio::test]
async fn a_database_that_is_no_sqlite_file_is_an_error() {
    let memory = examine(
        &Database::from_url("sqlite::memory:").unwrap(),
        &Options::default(),
    )
    .await;
    assert!(matches!(memory, Err(DoctorError::InMemory(_))), "{memory:?}");
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.db");
    std::fs::write(&text, "not a database, but some text that is long enough").unwrap();
    for path in [text, dir.path().join("missing.db")] {
        let url = format!("sqlite://{}", path.display());
        let examined = examine(&Database::from_url(&url).unwrap(), &Options::default()).await;
        assert!(matches!(examined, Err(DoctorError::File { .. })), "{examined:?}");
        assert!(
            path.ends_with("text.db") || !path.exists(),
            "the file was created"
        );
        assert!(
            path.ends_with("text.db") || !path.exists(),
            "the file was not created"
        );
    }
}

//! A secret reaches neither the table nor the spool, the quarantine and the log.

use std::path::Path;

use db_services::audit::scrub::Secret;
use db_services::audit::spool::Quarantine;
use db_services::audit::{AuditEntry, AuditWriter, Durability, insert, insert_many};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::captured_logs;
use crate::support::{TIMEOUT, TestDb, on_both, run_sql, wait_for};

/// Secrets of several shapes. Put together here, so that no scanner objects to the file.
fn secrets() -> [String; 5] {
    let [a, b] = ["A1b2C3d4E5f6G7h8J9k0", "mN5pQ7rS9tU1vW3x"];
    [
        format!("ghp_{a}{b}"),
        format!("sk_live_{a}"),
        format!("AKIA{}", "QZ7RT4WX2BN5KM3V"),
        format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ7{a}.{b}"),
        "4242 4242 4242 4242".to_owned(),
    ]
}

const NAMED: &str = "correct horse";
const DECLARED: &str = "battery staple";

/// An entry with secrets in all places.
fn entry(action: &str) -> AuditEntry {
    let [key, stripe, aws, jwt, card] = secrets();
    AuditEntry::new(action)
        .tenant("acme")
        .resource("card", card)
        .user_agent(format!("curl {aws}"))
        .request_id(&*key)
        .metadata(json!({
            "password": NAMED,
            "nested": [{"Set-Cookie": [NAMED]}, {"note": format!("failed for {stripe}")}],
            "url": format!("postgres://app:{}@db/x", NAMED.replace(' ', "-")),
            "headers": {"authorization": format!("Bearer {jwt}")},
        }))
        .detail("declared", Secret(DECLARED))
        .ip_text(format!("unreadable {jwt}"))
}

/// Asserts that no secret is in these bytes.
fn assert_clean(place: &str, bytes: &[u8]) {
    let secrets = secrets();
    let hyphenated = NAMED.replace(' ', "-");
    let all = secrets
        .iter()
        .map(String::as_str)
        .chain([NAMED, DECLARED, &hyphenated]);
    for secret in all {
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in the {place}");
    }
}

/// All bytes of the files of a directory, those below it too.
fn bytes_of(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        all.extend(if path.is_dir() {
            bytes_of(&path)
        } else {
            // A segment of the spool may be removed meanwhile.
            std::fs::read(&path).unwrap_or_default()
        });
    }
    all
}

async fn assert_rows_are_clean(db: &TestDb, rows: usize) {
    let stored = db.rows().await;
    assert_eq!(stored.len(), rows);
    for row in stored {
        let text = format!("{row:?}");
        assert_clean("table", text.as_bytes());
        let metadata: Value = serde_json::from_str(&row.metadata.unwrap().to_string()).unwrap();
        assert_eq!(metadata["password"], "[scrubbed: name]");
        assert_eq!(metadata["declared"], "[scrubbed]");
    }
}

on_both! {
    async fn a_secret_never_reaches_the_table_on_any_path(db: TestDb) {
        let (writer, guard) = db.writer();
        writer.write(entry("a.writer"));
        writer.write_all([entry("a.writer"), entry("a.writer")]);
        guard.shutdown(TIMEOUT).await;
        let conn = &mut db.connection().await;
        insert(conn, &entry("an.insert")).await.unwrap();
        insert_many(conn, &[entry("an.insert"), entry("an.insert")]).await.unwrap();
        assert_rows_are_clean(&db, 6).await;
    }

    async fn a_secret_never_reaches_the_spool_the_quarantine_and_the_log(db: TestDb) {
        captured_logs::start_capturing();
        db.sql(match db.is_postgres() {
            true => "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'rude.word')",
            false => "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'rude.word' \
                      BEGIN SELECT RAISE(ABORT, 'rude'); END",
        })
        .await
        .unwrap();
        // The entries stay in the spool until its files have been read.
        let mut holder = db.hold_table().await;
        let dir = TempDir::new().unwrap();
        let builder = AuditWriter::builder(db.database.clone());
        let (writer, guard) = builder.durability(Durability::WriteAhead(dir.path().to_owned())).start().unwrap();
        let delivered = writer.write_all([entry("rude.word"), entry("kind.word")]).counts().await;
        assert_eq!(delivered.spooled, 2, "{delivered:?}");
        let spooled = bytes_of(dir.path());
        assert!(contains(&spooled, b"kind.word"), "the spool has the entries");
        assert_clean("spool", &spooled);
        run_sql(&mut holder, "ROLLBACK").await.unwrap();
        // A shutdown would leave them in the spool while the writer still waits for its next attempt.
        wait_for("the entries in the table and the quarantine", async || {
            db.count().await == 1 && Quarantine::open(dir.path()).unwrap().list().unwrap().len() == 1
        })
        .await;
        guard.shutdown(TIMEOUT).await;
        let kept = bytes_of(dir.path());
        assert!(contains(&kept, b"rude.word"), "the quarantine has the entry");
        assert_clean("quarantine", &kept);
        let log = captured_logs::of(&db.database.to_string()).join("\n");
        assert!(log.contains("quarantine"), "{log}");
        assert_clean("log", log.as_bytes());
        assert_rows_are_clean(&db, 1).await;
    }
}

/// The entries wait in the spool while the database is away.
#[tokio::test]
async fn a_secret_never_reaches_the_spool_of_an_outage() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing/audit.db");
    let db = TestDb::at(format!("sqlite://{}", missing.display()));
    let spool = dir.path().join("spool");
    let (writer, guard) = db
        .builder()
        .durability(Durability::Spill(spool.clone()))
        .start()
        .unwrap();
    writer.write(entry("a.spooled"));
    wait_for("the entry in the spool", async || {
        contains(&bytes_of(&spool), b"a.spooled")
    })
    .await;
    assert_clean("spool", &bytes_of(&spool));
    guard.shutdown(std::time::Duration::ZERO).await;
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

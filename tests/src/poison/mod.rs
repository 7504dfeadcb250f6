//! Entries and rows with extreme content crash nothing and do not affect their neighbours.

mod entries;
mod rejected_rows;

use std::path::Path;

use db_services::audit::spool::Quarantine;
use db_services::audit::{
    self, AuditEntry, AuditWriter, Delivery, DropReason, Durability, Verdict, verify_writers,
};
use entries::{assert_all_stored, assert_limited, nested, write_poison};
use serde_json::json;
use tempfile::TempDir;

use crate::spool::fast_retry;
use crate::support::{TIMEOUT, TestDb, numbered, on_both, wait_for};

fn spilling(db: &TestDb, dir: &Path) -> (AuditWriter, audit::WriterGuard) {
    let spill = Durability::Spill(dir.to_owned());
    db.builder()
        .durability(spill)
        .retry(fast_retry())
        .start()
        .unwrap()
}

on_both! {
    async fn entries_with_extreme_content_are_stored_within_limits(db: TestDb) {
        let (writer, guard) = db.writer();
        let wanted = write_poison(&writer);
        assert_limited(&wanted);
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!((report.committed, report.quarantined, report.lost), (wanted.len() as u64, 0, 0));
        assert_all_stored(&db, &wanted).await;
    }

    async fn entries_with_extreme_content_are_stored_through_the_spool(db: TestDb) {
        let dir = TempDir::new().unwrap();
        db.sql("ALTER TABLE audit_logs RENAME TO hidden").await.unwrap();
        let (writer, guard) = spilling(&db, dir.path());
        let wanted = write_poison(&writer);
        wait_for("the spool", async || writer.stats().spooled == wanted.len() as u64).await;
        db.sql("ALTER TABLE hidden RENAME TO audit_logs").await.unwrap();
        wait_for("the replay", async || writer.stats().committed == wanted.len() as u64).await;
        guard.shutdown(TIMEOUT).await;
        assert_all_stored(&db, &wanted).await;
        assert!(!Quarantine::exists(dir.path()));
    }

    async fn dropping_deeply_nested_entries_does_not_overflow_the_stack(db: TestDb) {
        let (writer, guard) = db.builder().queue_bytes(4 << 10).start().unwrap();
        let small_stack = |writer: AuditWriter| {
            let write = move || writer.write_all((0..9).map(|_| AuditEntry::new("x").metadata(nested(100_000))));
            std::thread::Builder::new().stack_size(2 << 20).spawn(write).unwrap().join().unwrap()
        };
        assert_eq!(small_stack(writer.clone()).await, Delivery::Dropped(DropReason::QueueFull));
        assert!(writer.write(AuditEntry::new("neighbour")).await.is_durable());
        guard.shutdown(TIMEOUT).await;
        assert_eq!(small_stack(writer).await, Delivery::Dropped(DropReason::ShutDown));
        assert_eq!(db.count().await, 1);
    }

    async fn forged_records_of_a_writer_do_not_affect_other_accounts(db: TestDb) {
        let (writer, guard) = db.writer();
        assert!(writer.write_all(numbered(10)).await.is_durable());
        guard.shutdown(TIMEOUT).await;
        let writer = match db.is_postgres() {
            true => "'01234567-89ab-cdef-0123-456789abcdef'",
            false => "x'0123456789abcdef0123456789abcdef'",
        };
        let mut texts = vec![
            "null".to_owned(),
            "[]".to_owned(),
            r#"{"ranges":[[1,18446744073709551615],[0,18446744073709551615,18446744073709551615],[5],"x"]}"#.to_owned(),
            r#"{"last_seq":18446744073709551615}"#.to_owned(),
            r#"{"resolved_through":1E400}"#.to_owned(),
            format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)),
        ];
        if !db.is_postgres() {
            texts.extend([String::new(), "no json".to_owned()]);
        }
        for text in texts {
            for action in ["writer_started", "writer_alive", "writer_stopped", "entries_lost", "entry_quarantined", "unheard_of"] {
                db.sql(&format!("INSERT INTO audit_logs (action, writer_id, metadata) VALUES ('audit.{action}', {writer}, '{text}')")).await.unwrap();
            }
        }
        for seq in [i64::MAX, -1, 0, 7] {
            db.sql(&format!("INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES ('forged', {writer}, {seq})")).await.unwrap();
        }
        if db.is_postgres() {
            for time in ["infinity", "-infinity", "294276-12-31"] {
                db.sql(&format!("INSERT INTO audit_logs (action, writer_id, created_at) VALUES ('forged', {writer}, '{time}')")).await.unwrap();
            }
        } else {
            db.sql(&format!("INSERT INTO audit_logs (action, writer_id, metadata) VALUES (CAST(x'61756469742eff' AS TEXT), {writer}, x'ff00')")).await.unwrap();
        }
        let accounts = verify_writers(&mut db.connection().await).await.unwrap();
        assert_eq!(accounts.len(), 2);
        let honest = accounts.iter().find(|account| account.service.is_some()).unwrap();
        assert_eq!((honest.verdict, honest.stored), (Verdict::Complete, 10));
    }
}

#[tokio::test]
async fn any_text_in_an_sqlite_column_is_read() {
    let db = TestDb::sqlite().await;
    let texts = [
        "'no json'",
        "''",
        "x'fffe'",
        "CAST(x'7bff7d' AS TEXT)",
        "CAST(x'00' AS TEXT)",
        "42",
        "1e999",
        "'{\"n\":1E400}'",
    ];
    for text in texts {
        let columns = "action, outcome, tenant_id, actor_id, actor_type, on_behalf_of, resource_type, resource_id, ip_address, \
             user_agent, request_id, trace_id, metadata";
        let values = vec![text; 13].join(", ");
        db.sql(&format!("INSERT INTO audit_logs ({columns}) VALUES ({values})"))
            .await
            .unwrap();
    }
    let rows = db.rows().await;
    assert_eq!((rows.len(), db.count().await), (texts.len(), texts.len() as i64));
    for row in &rows {
        let text = Some(row.action.clone());
        assert_eq!(
            (
                &row.actor_id,
                row.metadata.as_ref().map(|json| json.as_str().to_owned())
            ),
            (&text, text.clone())
        );
        assert_eq!(row.ip_address, None);
    }
    assert!(rows.iter().any(|row| row.action == "{\u{FFFD}}") && rows.iter().any(|row| row.action == "\0"));
}

#[tokio::test]
async fn json_that_postgresql_rejects_from_other_clients_is_accepted_from_a_writer() {
    let db = TestDb::postgres().await;
    for bad in [r#"{"a":"\u0000"}"#, r#"{"a":"\ud800"}"#, "{", "NaN"] {
        let sql = format!("INSERT INTO audit_logs (action, metadata) VALUES ('x', '{bad}')");
        assert!(db.sql(&sql).await.is_err(), "{bad}");
    }
    let (writer, _guard) = db.writer();
    let entry = AuditEntry::new("x").metadata(json!({"a": "\0", "b": "\\ud800", "c": "NaN"}));
    assert_eq!(writer.write(entry).await, Delivery::Committed);
    assert_eq!(
        db.rows().await[0].metadata.as_ref().unwrap().parse().unwrap(),
        json!({"a": "\u{FFFD}", "b": "\\ud800", "c": "NaN"})
    );
}

//! The table alone shows whether an entry is missing.

use db_services::audit::{AuditEntry, Verdict, WriterAccount, verify_writers};

use crate::support::{TIMEOUT, TestDb, numbered, on_both};

async fn accounts(db: &TestDb) -> Vec<WriterAccount> {
    verify_writers(&mut db.connection().await).await.unwrap()
}

/// Removes rows, bypassing the triggers.
async fn remove(db: &TestDb, condition: &str) {
    if db.is_postgres() {
        let sql = format!(
            "ALTER TABLE audit_logs DISABLE TRIGGER ALL; DELETE FROM audit_logs WHERE {condition}; \
             ALTER TABLE audit_logs ENABLE TRIGGER ALL"
        );
        db.sql(&sql).await.unwrap();
    } else {
        db.sql(&format!(
            "DROP TRIGGER audit_logs_no_delete; DELETE FROM audit_logs WHERE {condition}"
        ))
        .await
        .unwrap();
    }
}

/// Inserts a record as the only writer.
async fn declare(db: &TestDb, action: &str, metadata: &str) {
    db.sql(&format!(
        "INSERT INTO audit_logs (action, writer_id, metadata) \
         SELECT '{action}', writer_id, '{metadata}' FROM audit_logs WHERE writer_seq = 1"
    ))
    .await
    .unwrap();
}

on_both! {
    async fn a_writer_with_a_clean_end_is_complete(db: TestDb) {
        let (writer, guard) =
            db.builder().service("shop").queue_capacity(4_000).start().unwrap();
        for entry in numbered(2_345) {
            drop(writer.write(entry));
        }
        guard.shutdown(TIMEOUT).await;
        let found = &accounts(&db).await[..];
        let [account] = found else { panic!("{found:?}") };
        assert_eq!((account.verdict, account.stored, account.missing), (Verdict::Complete, 2_345, 0));
        assert_eq!((account.service.as_deref(), account.accepted_unknown_at_most), (Some("shop"), Some(0)));
        assert_eq!(db.count().await, 2_345, "the records of a writer are not entries");
    }

    async fn a_running_writer_is_open_with_a_bound_on_missing_entries(db: TestDb) {
        let (writer, _guard) = db.builder().queue_capacity(700).start().unwrap();
        assert!(writer.write_all(numbered(10)).await.is_durable());
        let account = &accounts(&db).await[0];
        assert_eq!((account.verdict, account.stored, account.accepted_unknown_at_most), (Verdict::Open, 10, Some(700)));
    }

    async fn a_removed_row_is_reported_as_missing(db: TestDb) {
        let (writer, guard) = db.writer();
        assert!(writer.write_all(numbered(100)).await.is_durable());
        guard.shutdown(TIMEOUT).await;
        assert_eq!(accounts(&db).await[0].verdict, Verdict::Complete);
        remove(&db, "resource_id IN ('20', '21', '99')").await;
        let account = &accounts(&db).await[0];
        assert_eq!((account.verdict, account.missing), (Verdict::Missing, 3));
        assert_eq!(account.missing_ranges, [(21, 22), (100, 100)]);
    }

    async fn a_number_declared_as_a_duplicate_is_not_missing(db: TestDb) {
        let (writer, guard) = db.writer();
        assert!(writer.write_all(numbered(5)).await.is_durable());
        guard.shutdown(TIMEOUT).await;
        remove(&db, "resource_id = '2'").await;
        let account = &accounts(&db).await[0];
        assert_eq!((account.verdict, &account.missing_ranges[..]), (Verdict::Missing, &[(3, 3)][..]));
        declare(&db, "audit.entries_duplicate", r#"{"ranges": [[3, 3]], "count": 1}"#).await;
        let account = &accounts(&db).await[0];
        assert_eq!(
            (account.verdict, account.stored, account.repeated, account.missing),
            (Verdict::Complete, 4, 1, 0)
        );
    }

    async fn a_number_declared_as_rejected_twice_counts_once_until_it_is_stored(db: TestDb) {
        let (writer, guard) = db.writer();
        assert!(writer.write_all(numbered(5)).await.is_durable());
        guard.shutdown(TIMEOUT).await;
        // The writer declares it, and then the writer that replays its spool.
        for sqlstate in ["23514", "22021"] {
            let record = format!(r#"{{"seq": 3, "sqlstate": "{sqlstate}"}}"#);
            declare(&db, "audit.entry_quarantined", &record).await;
        }
        let account = &accounts(&db).await[0];
        assert_eq!((account.verdict, account.stored, account.quarantined), (Verdict::Complete, 5, 0));
        remove(&db, "resource_id = '2'").await;
        let account = &accounts(&db).await[0];
        assert_eq!(
            (account.verdict, account.stored, account.quarantined, account.missing),
            (Verdict::Declared, 4, 1, 0)
        );
    }

    async fn each_writer_has_its_own_account(db: TestDb) {
        for _ in 0..3 {
            let (writer, guard) = db.writer();
            assert!(writer.write(AuditEntry::new("x")).await.is_durable());
            guard.shutdown(TIMEOUT).await;
        }
        // Rows of other clients have no writer id.
        db.sql("INSERT INTO audit_logs (action) VALUES ('by.hand')").await.unwrap();
        let accounts = accounts(&db).await;
        assert_eq!(accounts.len(), 3);
        assert!(accounts.iter().all(|account| account.verdict == Verdict::Complete));
    }

    async fn an_impossible_sequence_number_changes_no_account(db: TestDb) {
        let (writer, guard) = db.writer();
        assert!(writer.write_all(numbered(3)).await.is_durable());
        guard.shutdown(TIMEOUT).await;
        let before = accounts(&db).await;
        for number in ["-5", "0", "-9223372036854775808"] {
            let same = "SELECT writer_id FROM audit_logs WHERE writer_seq = 1";
            db.sql(&format!("INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES ('forged', ({same}), {number})")).await.unwrap();
        }
        let after = accounts(&db).await;
        assert_eq!((after[0].verdict, after[0].stored, after[0].missing), (Verdict::Complete, 3, before[0].missing));
    }

    async fn a_caller_cannot_write_a_record_of_a_writer(db: TestDb) {
        let (writer, guard) = db.writer();
        assert!(writer.write(AuditEntry::new("audit.writer_stopped").metadata(serde_json::json!({"last_seq": 0}))).await.is_durable());
        assert_eq!(accounts(&db).await[0].verdict, Verdict::Open);
        guard.shutdown(TIMEOUT).await;
        assert_eq!(db.rows().await[0].action, "app.audit.writer_stopped");
    }
}

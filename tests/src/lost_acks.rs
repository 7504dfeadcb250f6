//! Batches that were committed although the acknowledgement was lost are stored once.

use std::time::Duration;

use db_services::audit::{
    AuditEntry, AuditWriterBuilder, Delivery, Durability, RetryPolicy, Verdict, WriterGuard, verify_writers,
};
use db_services::client::Database;
use db_test::{Network, Proxy, Server};
use tempfile::TempDir;

use crate::support::{TIMEOUT, TestDb, numbered, wait_for, writer_to};

/// Retries soon, and does not spill to the spool.
fn retry_without_spilling() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    policy.first_pause = Duration::from_millis(5);
    policy.longest_pause = Duration::from_millis(50);
    policy.spill_after = TIMEOUT;
    policy
}

/// The builder of a writer through a proxy that loses answers.
fn builder(proxy: &Proxy, durability: Durability) -> AuditWriterBuilder {
    writer_to(Database::from_url(proxy.url()).unwrap())
        .durability(durability)
        .retry(retry_without_spilling())
        .receipt_timeout(TIMEOUT)
}

fn durabilities(dir: &TempDir) -> [Durability; 3] {
    let dir = || dir.path().to_owned();
    [
        Durability::Memory,
        Durability::Spill(dir()),
        Durability::WriteAhead(dir()),
    ]
}

async fn wait_for_lost_answers(proxy: &Proxy, more: u64) {
    let before = proxy.seen().answers_lost;
    wait_for("lost answers", async || {
        proxy.seen().answers_lost >= before + more
    })
    .await;
}

/// Asserts that this number of entries is stored, each once, and that no number is missing.
async fn assert_stored_once(db: &TestDb, entries: u64) {
    let found = db
        .text(
            "SELECT concat_ws(' ', count(*), count(DISTINCT id), max(writer_seq)) AS value \
             FROM audit_logs WHERE writer_seq IS NOT NULL",
        )
        .await;
    assert_eq!(found, format!("{entries} {entries} {entries}"));
    let account = &verify_writers(&mut db.connection().await).await.unwrap()[0];
    assert_eq!(
        (account.verdict, account.stored),
        (Verdict::Complete, entries),
        "{account:?}"
    );
}

/// Shuts the writer down. This many entries are committed, each once, and none is spooled or quarantined.
async fn assert_all_committed(guard: WriterGuard, db: &TestDb, spool: &TempDir, entries: u64) {
    let report = guard.shutdown(TIMEOUT).await;
    assert_eq!(
        (report.committed, report.quarantined, report.lost, report.unknown),
        (entries, 0, 0, 0)
    );
    assert_stored_once(db, entries).await;
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_answer_was_lost_is_committed_once_and_its_receipt_says_so() {
    let dir = TempDir::new().unwrap();
    for durability in durabilities(&dir) {
        let db = TestDb::postgres().await;
        let proxy = Proxy::to(&db.url).unwrap();
        let ahead = matches!(durability, Durability::WriteAhead(_));
        let (writer, guard) = builder(&proxy, durability).start().unwrap();
        proxy.set(Network::LosesAnswers).unwrap();
        let receipt = writer.write(AuditEntry::new("test.one"));
        wait_for_lost_answers(&proxy, 1).await;
        assert_eq!(
            (db.count().await, writer.stats().committed),
            (1, 0),
            "stored, but not acknowledged"
        );
        proxy.set(Network::Passes).unwrap();
        let delivery = receipt.await;
        if ahead {
            assert!(delivery.is_durable(), "at its sync or at its commit: {delivery}");
        } else {
            assert_eq!(delivery, Delivery::Committed);
        }
        wait_for("the retry", async || writer.stats().committed == 1).await;
        assert_all_committed(guard, &db, &dir, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_whose_answers_were_lost_are_committed_once() {
    let dir = TempDir::new().unwrap();
    for durability in durabilities(&dir) {
        let db = TestDb::postgres().await;
        let proxy = Proxy::to(&db.url).unwrap();
        let ahead = matches!(durability, Durability::WriteAhead(_));
        let (writer, guard) = builder(&proxy, durability).start().unwrap();
        proxy.set(Network::LosesAnswers).unwrap();
        let receipt = writer.write_all(numbered(2_500));
        wait_for_lost_answers(&proxy, 3).await;
        assert!(
            db.count().await >= 1_000,
            "a batch is stored, but not acknowledged"
        );
        assert_eq!(writer.stats().committed, 0);
        proxy.set(Network::Passes).unwrap();
        let counts = receipt.counts().await;
        let spooled = if ahead { counts.spooled } else { 0 };
        assert_eq!(counts.committed + spooled, 2_500, "{counts:?}");
        wait_for("the retries", async || writer.stats().committed == 2_500).await;
        assert_all_committed(guard, &db, &dir, 2_500).await;
    }
}

/// The writer's role may only insert, and on an older database it cannot look up which rows are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_answer_was_lost_is_committed_once_for_an_insert_only_role() {
    let server = Server::start(&[]).unwrap();
    for sql in ["", "DROP FUNCTION audit_logs_lookup"] {
        let db = TestDb::on(&server);
        let name = db.url.rsplit('/').next().unwrap().to_owned();
        let role = format!("app_{name}");
        let login = format!("CREATE ROLE {role} LOGIN PASSWORD 'hush'; GRANT audit_writer TO {role}; {sql}");
        db.sql(&login).await.unwrap();
        let url = server.url_as(&role, "hush", &name);
        let refused = TestDb::at(url.clone())
            .sql("SELECT id FROM audit_logs")
            .await
            .unwrap_err();
        assert!(refused.contains("permission denied"), "{refused}");

        let proxy = Proxy::to(&url).unwrap();
        let (writer, guard) = builder(&proxy, Durability::Memory).start().unwrap();
        proxy.set(Network::LosesAnswers).unwrap();
        let receipt = writer.write_all(numbered(1_000));
        wait_for("the commit", async || db.count().await == 1_000).await;
        assert_eq!(writer.stats().committed, 0, "stored, but not acknowledged");
        proxy.set(Network::Passes).unwrap();
        assert_eq!(receipt.counts().await.committed, 1_000);
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!(
            (report.committed, report.quarantined, report.lost, report.unknown),
            (1_000, 0, 0, 0)
        );
        assert_stored_once(&db, 1_000).await;
    }
}

/// A duplicate from a retry must not be taken for a rejected row, nor a rejected row for a duplicate.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_rejected_rows_are_distinguished() {
    let dir = TempDir::new().unwrap();
    for durability in durabilities(&dir) {
        let db = TestDb::postgres().await;
        db.sql("ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'rude.word')")
            .await
            .unwrap();
        let proxy = Proxy::to(&db.url).unwrap();
        let (writer, guard) = builder(&proxy, durability).start().unwrap();
        for round in 0..10 {
            proxy.set(Network::LosesAnswers).unwrap();
            let entries = numbered(100).enumerate().map(|(n, entry)| match n {
                37 => AuditEntry::new("rude.word"),
                _ => entry,
            });
            let receipt = writer.write_all(entries);
            wait_for_lost_answers(&proxy, 1).await;
            proxy.set(Network::Passes).unwrap();
            let counts = receipt.counts().await;
            assert_eq!(
                counts.committed + counts.spooled + counts.quarantined,
                100,
                "{counts:?}"
            );
            // The batch is halved to find the rejected row; lose some of these answers too.
            if round % 2 == 0 {
                proxy.set(Network::LosesAnswers).unwrap();
                drop(writer.write_all(numbered(50)));
                wait_for_lost_answers(&proxy, 2).await;
                proxy.set(Network::Passes).unwrap();
            }
        }
        let stored = 10 * 99 + 5 * 50;
        wait_for("all of them", async || writer.stats().committed == stored).await;
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!(
            (report.committed, report.quarantined, report.lost),
            (stored, 10, 0)
        );
        let found = db
            .text(
                "SELECT concat_ws(' ', count(*), count(DISTINCT id)) AS value \
                 FROM audit_logs WHERE writer_seq IS NOT NULL",
            )
            .await;
        assert_eq!(found, format!("{stored} {stored}"));
    }
}

//! Rows that the database rejects or skips do not affect their neighbours.

use db_services::audit::spool::{Quarantine, ReplayScope};
use db_services::audit::{self, AuditEntry, Verdict, verify_writers};
use tempfile::TempDir;

use super::spilling;
use crate::spool::fast_retry;
use crate::support::{
    TIMEOUT, TestDb, add_skipping_trigger, make_requests_unique, numbered, on_both, wait_for,
};

/// Adds a rule, as an operator might, that rejects some rows.
async fn add_rule(db: &TestDb, rule: &str) {
    let sql = match db.is_postgres() {
        true => format!("ALTER TABLE audit_logs ADD CONSTRAINT rule CHECK (NOT ({rule}))"),
        false => format!(
            "CREATE TRIGGER rule BEFORE INSERT ON audit_logs WHEN {} BEGIN SELECT RAISE(ABORT, 'rule'); END",
            rule.replace("action", "NEW.action")
        ),
    };
    db.sql(&sql).await.unwrap();
}

/// The sequence numbers that records declare as quarantined.
async fn declared_quarantined(db: &TestDb) -> Vec<u64> {
    let mut conn = db.connection().await;
    let rows = audit::latest_with_records(&mut conn, 1_000_000).await.unwrap();
    let records = rows.iter().filter(|row| row.action == "audit.entry_quarantined");
    let mut numbers: Vec<u64> = records
        .map(|row| {
            row.metadata.as_ref().unwrap().parse().unwrap()["seq"]
                .as_u64()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

on_both! {
    async fn neighbours_of_rows_that_a_rule_rejects_are_stored(db: TestDb) {
        add_rule(&db, "action LIKE 'rude.%'").await;
        for spooled in [true, false] {
            let dir = TempDir::new().unwrap();
            let (writer, guard) = if spooled { spilling(&db, dir.path()) } else { db.writer() };
            let before = db.count().await;
            // At both ends of the batch, side by side, and alone among others.
            let rude = [0_u64, 499, 500, 501, 999];
            let entries = (0_u64..).zip(numbered(1_000)).map(|(n, mut entry)| {
                if rude.contains(&n) {
                    entry.action = format!("rude.{n}").into();
                }
                entry
            });
            drop(writer.write_all(entries));
            wait_for("all of it", async || writer.stats().committed + writer.stats().quarantined == 1_000).await;
            assert_eq!((writer.stats().committed, writer.stats().quarantined), (995, 5));
            assert!(writer.write(AuditEntry::new("polite")).await.is_durable());
            // On a slow machine it goes through the spool, and would be left there for the next writer.
            wait_for("the accepted entry", async || writer.stats().committed == 996).await;
            let report = guard.shutdown(TIMEOUT).await;
            assert_eq!((report.committed, report.quarantined, report.lost), (996, 5, 0));
            assert_eq!(db.count().await - before, 996);

            assert_eq!(Quarantine::exists(dir.path()), spooled);
            if spooled {
                let quarantined = Quarantine::open(dir.path()).unwrap().list().unwrap();
                let mut actions: Vec<_> = quarantined.iter().map(|quarantined| quarantined.entry.as_ref().unwrap().action.clone()).collect();
                actions.sort();
                assert_eq!(actions, ["rude.0", "rude.499", "rude.500", "rude.501", "rude.999"]);
                assert!(quarantined.iter().all(|quarantined| quarantined.reason.contains("rule")), "{quarantined:?}");
            }
            let writers = if spooled { 1 } else { 2 };
            let numbers: Vec<u64> = rude.iter().flat_map(|n| vec![n + 1; writers]).collect();
            assert_eq!(declared_quarantined(&db).await, numbers);
            let accounts = verify_writers(&mut db.connection().await).await.unwrap();
            assert_eq!((accounts[0].verdict, accounts[0].quarantined), (Verdict::Declared, 5));
        }
    }

    async fn entries_that_a_trigger_skips_are_quarantined_and_their_neighbours_are_stored(db: TestDb) {
        add_skipping_trigger(&db).await;
        for spooled in [true, false] {
            let before = db.count().await;
            let dir = TempDir::new().unwrap();
            let (writer, guard) = if spooled { spilling(&db, dir.path()) } else { db.writer() };
            let entries = (0..1_000).zip(numbered(1_000)).map(|(n, mut entry)| {
                if [0, 500, 999].contains(&n) {
                    entry.action = format!("skipped.{n}").into();
                }
                entry
            });
            let counts = writer.write_all(entries).counts().await;
            assert_eq!(counts.committed + counts.spooled + counts.quarantined, 1_000, "{counts:?}");
            wait_for("all of it", async || writer.stats().committed + writer.stats().quarantined == 1_000).await;
            let report = guard.shutdown(TIMEOUT).await;
            assert_eq!((report.committed, report.quarantined, report.lost), (997, 3, 0));
            assert_eq!(db.count().await - before, 997);
            if spooled {
                let quarantined = Quarantine::open(dir.path()).unwrap().list().unwrap();
                assert_eq!(quarantined.len(), 3);
                assert!(quarantined.iter().all(|quarantined| quarantined.reason.contains("skipped the row")), "{quarantined:?}");
                // A retry leaves them in the quarantine, because they are still not stored.
                let mut quarantine = Quarantine::open(dir.path()).unwrap();
                let report = quarantine.retry(&db.database, ReplayScope::SameDatabase).await.unwrap();
                assert_eq!((report.stored, report.rejected.values().sum::<u64>()), (0, 3), "{report:?}");
            }
        }
    }

    async fn entries_that_another_unique_index_rejects_are_quarantined(db: TestDb) {
        make_requests_unique(&db).await;
        let (writer, guard) = db.writer();
        let entries = (0..100).zip(numbered(100)).map(|(n, entry)| match n % 50 {
            7 => entry.request_id("r1"),
            _ => entry,
        });
        let counts = writer.write_all(entries).counts().await;
        assert_eq!((counts.committed, counts.quarantined), (99, 1), "{counts:?}");
        let report = guard.shutdown(TIMEOUT).await;
        assert_eq!((report.committed, report.quarantined, report.lost), (99, 1, 0));
        assert_eq!(db.count().await, 99);
    }

    async fn a_rejected_row_is_quarantined_only_after_another_row_is_accepted(db: TestDb) {
        // Until the database accepts another entry, it may be misconfigured: the row is retried, not quarantined.
        add_rule(&db, "action NOT LIKE 'shop.%'").await;
        for spooled in [true, false] {
            let dir = TempDir::new().unwrap();
            let (writer, guard) = if spooled { spilling(&db, dir.path()) } else { db.writer() };
            drop(writer.write(AuditEntry::new("rude.word")));
            wait_for("attempts", async || writer.stats().retries >= 2).await;
            assert_eq!(writer.stats().quarantined, 0);
            drop(writer.write(AuditEntry::new("shop.order")));
            wait_for("both", async || writer.stats().committed == 1 && writer.stats().quarantined == 1).await;
            let report = guard.shutdown(TIMEOUT).await;
            assert_eq!((report.committed, report.quarantined, report.lost, report.spooled), (1, 1, 0, 0));
        }
        assert_eq!(db.count().await, 2);
    }
}

/// A trigger can raise any error, including one that counts as transient. Such a row is not quarantined, and
/// does not block others.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_a_transient_error_does_not_block_other_rows() {
    let db = TestDb::postgres().await;
    db.sql(
        "CREATE FUNCTION in_use() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.action = 'stuck' THEN RAISE EXCEPTION 'in use' USING ERRCODE = '55006'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER in_use BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION in_use()",
    )
    .await
    .unwrap();
    let (writer, guard) = db.builder().retry(fast_retry()).start().unwrap();
    let neighbours = numbered(9).chain([AuditEntry::new("stuck")]).chain(numbered(90));
    drop(writer.write_all(neighbours));
    wait_for("an attempt", async || writer.stats().retries > 0).await;
    for entry in numbered(200) {
        drop(writer.write(entry));
    }
    wait_for("all others", async || writer.stats().committed == 299).await;
    let stats = writer.stats();
    assert_eq!(
        (stats.quarantined, stats.dropped, stats.queued),
        (0, 0, 1),
        "{stats:?}"
    );
    db.sql("DROP TRIGGER in_use ON audit_logs").await.unwrap();
    wait_for("the row itself", async || writer.stats().committed == 300).await;
    assert_eq!(guard.shutdown(TIMEOUT).await.committed, 300);
    assert_eq!(db.count().await, 300);
}

//! Every entry is stored once or declared lost, through outages of the database and the network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use db_services::audit::{AuditEntry, AuditWriter, Durability, RetryPolicy, Verdict, verify_writers};
use db_services::client::{Connection, Database};
use db_test::{Network, Proxy, Server};
use diesel_async::SimpleAsyncConnection;
use tempfile::TempDir;

use crate::support::{TIMEOUT, TestDb, wait_for, writer_to};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// Connections break, and new ones are refused.
    Cut,
    /// Everything is slow.
    Slow,
    /// Nothing is answered, and what was sent arrives after the client has given up.
    Hang,
    /// Connections are reset within a batch.
    Reset,
    /// Batches are committed, and the answers are lost.
    AnswersLost,
    /// The server is killed, and recovers from its log.
    Restart,
    /// The server is read-only, like one that has become a standby.
    ReadOnly,
}

const ALL: [Outage; 7] = [
    Outage::Cut,
    Outage::Slow,
    Outage::Hang,
    Outage::Reset,
    Outage::AnswersLost,
    Outage::Restart,
    Outage::ReadOnly,
];

/// A database, and a proxy to it.
struct OutageFixture {
    db: TestDb,
    /// A private server, for an outage of the server itself.
    server: Option<Server>,
    /// The server's maintenance database.
    maintenance: Database,
    proxy: Proxy,
}

impl OutageFixture {
    fn new(db: TestDb, server: Option<Server>) -> Self {
        let maintenance = match &server {
            Some(server) => server.url("postgres"),
            None => db_test::server_url().unwrap(),
        };
        let proxy = Proxy::to(&db.url).unwrap();
        Self {
            db,
            server,
            maintenance: Database::from_url(&maintenance).unwrap(),
            proxy,
        }
    }

    async fn of(outages: &[Outage]) -> Self {
        if outages.contains(&Outage::Restart) {
            let server = Server::start(&[]).unwrap();
            Self::new(TestDb::on(&server), Some(server))
        } else {
            Self::new(TestDb::postgres().await, None)
        }
    }

    async fn begin(&self, outage: Outage) {
        let network = match outage {
            Outage::Cut => Network::Cut,
            Outage::Slow => Network::Slow(Duration::from_millis(5)),
            Outage::Hang => Network::Hangs,
            Outage::Reset => Network::ResetsAfter(60_000),
            Outage::AnswersLost => Network::LosesAnswers,
            Outage::Restart => return self.server.as_ref().unwrap().stop_immediate().unwrap(),
            Outage::ReadOnly => return self.set_read_only(true).await,
        };
        self.proxy.set(network).unwrap();
    }

    async fn end(&self, outage: Outage) {
        match outage {
            Outage::Restart => self.server.as_ref().unwrap().start_again().unwrap(),
            Outage::ReadOnly => self.set_read_only(false).await,
            _ => self.proxy.set(Network::Passes).unwrap(),
        }
    }

    async fn set_read_only(&self, read_only: bool) {
        let name = self.db.url.rsplit('/').next().unwrap().split('?').next().unwrap();
        // From another database: in this one nothing may be changed.
        let Connection::Postgres(mut conn) = self.maintenance.connection().await.unwrap() else {
            unreachable!()
        };
        // Two statements: the setting must be committed before a client reconnects.
        for sql in [
            format!("ALTER DATABASE {name} SET default_transaction_read_only = {read_only}"),
            format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = '{name}' AND application_name = 'audit-writer'"
            ),
        ] {
            conn.batch_execute(&sql).await.unwrap();
        }
    }

    /// How often the writer was affected by the outage.
    fn times_met(&self, outage: Outage, writer: &AuditWriter) -> u64 {
        let (seen, retries) = (self.proxy.seen(), writer.stats().retries);
        match outage {
            Outage::Slow => seen.slowed,
            Outage::Reset => seen.reset.min(retries),
            Outage::AnswersLost => seen.answers_lost.min(retries),
            Outage::Cut | Outage::Hang | Outage::Restart | Outage::ReadOnly => retries,
        }
    }
}

/// Retries soon, with a short timeout for an attempt.
fn fast_retry() -> RetryPolicy {
    let mut policy = crate::spool::fast_retry();
    policy.attempt_timeout = Duration::from_secs(2);
    policy
}

/// Writes entries, and remembers which of them the queue refused.
struct Producer {
    writer: AuditWriter,
    /// The most entries in the queue; the producer waits above this.
    max_queued: Option<usize>,
    given: u64,
    refused: BTreeSet<u64>,
}

impl Producer {
    async fn write(&mut self, count: u64) {
        for _ in 0..count {
            if let Some(max_queued) = self.max_queued.filter(|_| self.given.is_multiple_of(100)) {
                let writer = &self.writer;
                wait_for("room in the queue", async || writer.stats().queued < max_queued).await;
            }
            self.given += 1;
            let before = self.writer.stats().dropped;
            drop(
                self.writer
                    .write(AuditEntry::new("test.outage").resource("number", self.given.to_string())),
            );
            if self.writer.stats().dropped > before {
                self.refused.insert(self.given);
            }
        }
    }

    /// Writes during each outage in turn, and afterwards until entries are committed again.
    async fn write_through(&mut self, fixture: &OutageFixture, outages: &[Outage], count: u64) {
        let writer = self.writer.clone();
        for &outage in outages {
            let times_met = fixture.times_met(outage, &writer);
            fixture.begin(outage).await;
            self.write(count).await;
            // While the database accepts nothing, a writer with a spool must use it.
            let spools = self.max_queued.is_some() && !matches!(outage, Outage::Slow | Outage::Reset);
            wait_for(&format!("{outage:?}"), async || {
                fixture.times_met(outage, &writer) > times_met && (!spools || writer.stats().spooled > 0)
            })
            .await;
            fixture.end(outage).await;
            let committed = writer.stats().committed;
            self.write(100).await;
            wait_for(&format!("the end of {outage:?}"), async || {
                writer.stats().committed > committed
            })
            .await;
        }
    }
}

/// Waits until everything is committed, as long as there is progress.
async fn wait_until_all_committed(writer: &AuditWriter) {
    loop {
        let stats = writer.stats();
        if stats.committed + stats.dropped == stats.submitted {
            return;
        }
        wait_for("a further batch", async || {
            writer.stats().committed > stats.committed
        })
        .await;
    }
}

/// Writes through outages with a spool, and asserts that every entry is stored once.
async fn assert_spooled_and_stored_once(outages: &[Outage], count: u64) {
    let (fixture, dir) = (OutageFixture::of(outages).await, TempDir::new().unwrap());
    let (writer, guard) = writer_to(Database::from_url(fixture.proxy.url()).unwrap())
        .durability(Durability::Spill(dir.path().to_owned()))
        .retry(fast_retry())
        .start()
        .unwrap();
    let mut producer = Producer {
        writer,
        max_queued: Some(20_000),
        given: 0,
        refused: BTreeSet::new(),
    };
    producer.write_through(&fixture, outages, count).await;
    wait_until_all_committed(&producer.writer).await;
    let (given, report) = (producer.given, guard.shutdown(TIMEOUT).await);
    assert_eq!(
        (report.committed, report.spooled, report.lost, report.quarantined),
        (given, 0, 0, 0)
    );
    let found = fixture
        .db
        .text(
            "SELECT concat_ws(' ', count(*), count(DISTINCT id), count(DISTINCT resource_id), \
             count(DISTINCT writer_seq), min(writer_seq), max(writer_seq)) AS value \
             FROM audit_logs WHERE writer_seq IS NOT NULL",
        )
        .await;
    assert_eq!(found, format!("{given} {given} {given} {given} 1 {given}"));
    let account = &verify_writers(&mut fixture.db.connection().await).await.unwrap()[0];
    assert_eq!(
        (account.verdict, account.stored),
        (Verdict::Complete, given),
        "{account:?}"
    );
}

/// Writes through outages without a spool, and asserts that each number is stored or declared lost.
async fn assert_stored_or_declared_lost(outages: &[Outage], count: u64) {
    let fixture = OutageFixture::of(outages).await;
    let counted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&counted);
    let (writer, guard) = writer_to(Database::from_url(fixture.proxy.url()).unwrap())
        .queue_capacity(1_500)
        .on_loss(move |loss| {
            counter.fetch_add(loss.count, Ordering::SeqCst);
        })
        .retry(fast_retry())
        .start()
        .unwrap();
    let mut producer = Producer {
        writer,
        max_queued: None,
        given: 0,
        refused: BTreeSet::new(),
    };
    producer.write_through(&fixture, outages, count).await;
    wait_until_all_committed(&producer.writer).await;
    let (given, lost, report) = (
        producer.given,
        producer.refused.len() as u64,
        guard.shutdown(TIMEOUT).await,
    );
    assert!(
        lost > 0 && lost < given,
        "{lost} of {given}: the test shows nothing"
    );
    assert_eq!(
        (report.committed, report.lost),
        (given - lost, lost),
        "{report:?}"
    );
    assert_eq!(counted.load(Ordering::SeqCst), lost);
    let stored = fixture
        .db
        .text("SELECT string_agg(writer_seq::text, ' ' ORDER BY writer_seq) AS value FROM audit_logs")
        .await;
    let expected: Vec<String> = (1..=given)
        .filter(|seq| !producer.refused.contains(seq))
        .map(|seq| seq.to_string())
        .collect();
    assert!(
        stored == expected.join(" "),
        "{} rows for {} entries",
        stored.split(' ').count(),
        expected.len()
    );
    assert!(declared_lost(&fixture.db).await == producer.refused.into_iter().collect::<Vec<_>>());
    let account = &verify_writers(&mut fixture.db.connection().await).await.unwrap()[0];
    assert_eq!(
        (
            account.verdict,
            account.stored,
            account.declared_lost,
            account.missing,
            account.reused_numbers
        ),
        (Verdict::Declared, given - lost, lost, 0, 0)
    );
}

/// The numbers that a writer declared lost, in order.
async fn declared_lost(db: &TestDb) -> Vec<u64> {
    let records = db
        .text(
            "SELECT string_agg(metadata::text, E'\\n') AS value FROM audit_logs \
             WHERE action = 'audit.entries_lost'",
        )
        .await;
    let mut numbers = Vec::new();
    for line in records.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["reason"], "queue_full");
        let before = numbers.len();
        for range in record["ranges"].as_array().unwrap() {
            let range: Vec<u64> = range
                .as_array()
                .unwrap()
                .iter()
                .map(|end| end.as_u64().unwrap())
                .collect();
            assert_eq!(range.len(), 2, "few enough ranges to be listed exactly");
            numbers.extend(range[0]..=range[1]);
        }
        assert_eq!(record["count"], numbers.len() - before);
    }
    numbers.sort_unstable();
    numbers
}

/// 200,000 entries through all outages.
#[tokio::test(flavor = "multi_thread")]
async fn entries_arrive_once_through_all_outages_with_a_spool() {
    assert_spooled_and_stored_once(&ALL, 200_000 / ALL.len() as u64 + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_stored_or_declared_lost_through_all_outages_without_a_spool() {
    assert_stored_or_declared_lost(&ALL, 10_000).await;
}

/// Defines a test for each outage.
macro_rules! single_outages {
    ($($name:ident: $outage:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            assert_spooled_and_stored_once(&[Outage::$outage], 4_000).await;
            assert_stored_or_declared_lost(&[Outage::$outage], 4_000).await;
        }
    )*};
}

single_outages! {
    entries_are_accounted_for_when_connections_are_cut: Cut;
    entries_are_accounted_for_on_a_slow_network: Slow;
    entries_are_accounted_for_when_the_network_hangs: Hang;
    entries_are_accounted_for_when_connections_are_reset_within_a_batch: Reset;
    entries_are_accounted_for_when_answers_are_lost: AnswersLost;
    entries_are_accounted_for_when_the_server_crashes: Restart;
    entries_are_accounted_for_when_the_server_is_read_only: ReadOnly;
}

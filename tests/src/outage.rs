//! Does every entry arrive, or stand declared as lost, whatever happens to the database and on the way?

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

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Connections break, new ones are refused.
    Cut,
    /// Everything takes long.
    Slow,
    /// Nothing is answered, and what was sent arrives when nobody waits for it any more.
    Hang,
    /// Connections are reset in the middle of a batch.
    Reset,
    /// Batches are committed, and the answers lost.
    AnswersLost,
    /// The server is killed, and recovers from its log.
    Restart,
    /// The server takes no changes, as one that has become a standby.
    ReadOnly,
}

const ALL: [Trouble; 7] = [
    Trouble::Cut,
    Trouble::Slow,
    Trouble::Hang,
    Trouble::Reset,
    Trouble::AnswersLost,
    Trouble::Restart,
    Trouble::ReadOnly,
];

/// A database, and the way to it on which things go wrong.
struct Site {
    db: TestDb,
    /// A server of its own, where that is to be mistreated.
    server: Option<Server>,
    /// The server's maintenance database.
    maintenance: Database,
    proxy: Proxy,
}

impl Site {
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

    async fn of(troubles: &[Trouble]) -> Self {
        if troubles.contains(&Trouble::Restart) {
            let server = Server::start(&[]).unwrap();
            Self::new(TestDb::on(&server), Some(server))
        } else {
            Self::new(TestDb::postgres().await, None)
        }
    }

    async fn begin(&self, trouble: Trouble) {
        let network = match trouble {
            Trouble::Cut => Network::Cut,
            Trouble::Slow => Network::Slow(Duration::from_millis(5)),
            Trouble::Hang => Network::Hangs,
            Trouble::Reset => Network::ResetsAfter(60_000),
            Trouble::AnswersLost => Network::LosesAnswers,
            Trouble::Restart => return self.server.as_ref().unwrap().stop_immediate().unwrap(),
            Trouble::ReadOnly => return self.set_read_only(true).await,
        };
        self.proxy.set(network).unwrap();
    }

    async fn end(&self, trouble: Trouble) {
        match trouble {
            Trouble::Restart => self.server.as_ref().unwrap().start_again().unwrap(),
            Trouble::ReadOnly => self.set_read_only(false).await,
            _ => self.proxy.set(Network::Passes).unwrap(),
        }
    }

    async fn set_read_only(&self, read_only: bool) {
        let name = self.db.url.rsplit('/').next().unwrap().split('?').next().unwrap();
        // From another database: in this one nothing may be changed.
        let Connection::Postgres(mut conn) = self.maintenance.connection().await.unwrap() else {
            unreachable!()
        };
        // Two statements: who is cut off must find the setting there when it returns.
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

    /// How often the writer has met the trouble.
    fn felt(&self, trouble: Trouble, writer: &AuditWriter) -> u64 {
        let (seen, retries) = (self.proxy.seen(), writer.stats().retries);
        match trouble {
            Trouble::Slow => seen.slowed,
            Trouble::Reset => seen.reset.min(retries),
            Trouble::AnswersLost => seen.answers_lost.min(retries),
            Trouble::Cut | Trouble::Hang | Trouble::Restart | Trouble::ReadOnly => retries,
        }
    }
}

/// Tries again soon, and gives up on an attempt soon enough to be waited for.
fn hasty() -> RetryPolicy {
    let mut policy = crate::spool::hasty();
    policy.attempt_timeout = Duration::from_secs(2);
    policy
}

/// Who writes entries, and remembers which were refused.
struct Producer {
    writer: AuditWriter,
    /// The most entries that it lets wait; then it waits itself.
    pace: Option<usize>,
    given: u64,
    refused: BTreeSet<u64>,
}

impl Producer {
    async fn write(&mut self, count: u64) {
        for _ in 0..count {
            if let Some(pace) = self.pace.filter(|_| self.given.is_multiple_of(100)) {
                let writer = &self.writer;
                wait_for("room in the queue", async || writer.stats().queued < pace).await;
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

    /// Writes while each trouble in turn is there, and on until entries arrive again.
    async fn go_through(&mut self, site: &Site, troubles: &[Trouble], count: u64) {
        let writer = self.writer.clone();
        for &trouble in troubles {
            let felt = site.felt(trouble, &writer);
            site.begin(trouble).await;
            self.write(count).await;
            // Where nothing goes through, a writer with a spool must have turned to it.
            let spools = self.pace.is_some() && !matches!(trouble, Trouble::Slow | Trouble::Reset);
            wait_for(&format!("{trouble:?}"), async || {
                site.felt(trouble, &writer) > felt && (!spools || writer.stats().spooled > 0)
            })
            .await;
            site.end(trouble).await;
            let committed = writer.stats().committed;
            self.write(100).await;
            wait_for(&format!("the end of {trouble:?}"), async || {
                writer.stats().committed > committed
            })
            .await;
        }
    }
}

/// Waits until everything is committed, for as long as it goes on.
async fn all_committed(writer: &AuditWriter) {
    loop {
        let stats = writer.stats();
        if stats.committed + stats.dropped == stats.given {
            return;
        }
        wait_for("a further batch", async || {
            writer.stats().committed > stats.committed
        })
        .await;
    }
}

/// Everything that was given arrives, and arrives once.
async fn spill(troubles: &[Trouble], count: u64) {
    let (site, dir) = (Site::of(troubles).await, TempDir::new().unwrap());
    let (writer, guard) = writer_to(Database::from_url(site.proxy.url()).unwrap())
        .durability(Durability::Spill(dir.path().to_owned()))
        .retry(hasty())
        .start()
        .unwrap();
    let mut producer = Producer {
        writer,
        pace: Some(20_000),
        given: 0,
        refused: BTreeSet::new(),
    };
    producer.go_through(&site, troubles, count).await;
    all_committed(&producer.writer).await;
    let (given, report) = (producer.given, guard.shutdown(TIMEOUT).await);
    assert_eq!(
        (report.committed, report.spooled, report.lost, report.quarantined),
        (given, 0, 0, 0)
    );
    let found = site
        .db
        .text(
            "SELECT concat_ws(' ', count(*), count(DISTINCT id), count(DISTINCT resource_id), \
             count(DISTINCT writer_seq), min(writer_seq), max(writer_seq)) AS value \
             FROM audit_logs WHERE writer_seq IS NOT NULL",
        )
        .await;
    assert_eq!(found, format!("{given} {given} {given} {given} 1 {given}"));
    let account = &verify_writers(&mut site.db.connection().await).await.unwrap()[0];
    assert_eq!(
        (account.verdict, account.stored),
        (Verdict::Complete, given),
        "{account:?}"
    );
}

/// What was given is stored or declared lost, number by number.
async fn memory(troubles: &[Trouble], count: u64) {
    let site = Site::of(troubles).await;
    let heard = Arc::new(AtomicU64::new(0));
    let hearing = Arc::clone(&heard);
    let (writer, guard) = writer_to(Database::from_url(site.proxy.url()).unwrap())
        .queue_capacity(1_500)
        .on_loss(move |loss| {
            hearing.fetch_add(loss.count, Ordering::SeqCst);
        })
        .retry(hasty())
        .start()
        .unwrap();
    let mut producer = Producer {
        writer,
        pace: None,
        given: 0,
        refused: BTreeSet::new(),
    };
    producer.go_through(&site, troubles, count).await;
    all_committed(&producer.writer).await;
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
    assert_eq!(heard.load(Ordering::SeqCst), lost);
    let stored = site
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
    assert!(declared_lost(&site.db).await == producer.refused.into_iter().collect::<Vec<_>>());
    let account = &verify_writers(&mut site.db.connection().await).await.unwrap()[0];
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
    let said = db
        .text(
            "SELECT string_agg(metadata::text, E'\\n') AS value FROM audit_logs \
             WHERE action = 'audit.entries_lost'",
        )
        .await;
    let mut numbers = Vec::new();
    for line in said.lines() {
        let said: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(said["reason"], "queue_full");
        let before = numbers.len();
        for range in said["ranges"].as_array().unwrap() {
            let range: Vec<u64> = range
                .as_array()
                .unwrap()
                .iter()
                .map(|end| end.as_u64().unwrap())
                .collect();
            assert_eq!(range.len(), 2, "few enough to be told apart");
            numbers.extend(range[0]..=range[1]);
        }
        assert_eq!(said["count"], numbers.len() - before);
    }
    numbers.sort_unstable();
    numbers
}

/// 200,000 entries on a server to which all of it happens.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_spool_everything_arrives_once() {
    spill(&ALL, 200_000 / ALL.len() as u64 + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_what_is_not_stored_is_declared_lost() {
    memory(&ALL, 10_000).await;
}

/// Makes a test for each trouble alone.
macro_rules! alone {
    ($($name:ident: $trouble:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            spill(&[Trouble::$trouble], 4_000).await;
            memory(&[Trouble::$trouble], 4_000).await;
        }
    )*};
}

alone! {
    a_database_that_is_cut_off: Cut;
    a_database_that_is_slow: Slow;
    a_database_that_hangs: Hang;
    connections_that_are_reset_within_a_batch: Reset;
    answers_that_are_lost: AnswersLost;
    a_server_that_is_killed: Restart;
    a_server_that_takes_no_changes: ReadOnly;
}

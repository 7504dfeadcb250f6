//! Creating, moving and dropping partitions does not block writers, even while a long reader blocks the
//! maintenance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use audit_ops::OpsError;
use audit_ops::partitions::{self, MAX_PARTITIONS};
use audit_ops::retention::{self, RetentionPolicy};
use chrono::{DateTime, Utc};
use db_services::audit::{AuditEntry, AuditWriter, Delivery, Verdict, verify_writers};
use db_services::client::{Connection, Database};
use db_test::{Server, wait_for};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use tokio::task::JoinHandle;

use crate::support::{TIMEOUT, writer_to};

/// How long a session waits for a lock before the server logs it. Maintenance gives up after less than
/// half a second; the rest is for a machine under load.
const LONG_WAIT: &str = "3s";

/// How long a reader is in the way at least: an INSERT that waited for it would be logged.
const LONG_READ: Duration = Duration::from_secs(6);

/// A server that logs every session that waits for a lock for long.
struct WatchedServer {
    _server: Server,
    url: String,
    database: Database,
}

impl WatchedServer {
    fn start() -> Self {
        let server = Server::start(&[
            ("log_lock_waits", "on"),
            ("deadlock_timeout", LONG_WAIT),
            ("logging_collector", "on"),
            ("log_filename", "server.log"),
        ])
        .unwrap();
        let url = server.migrated().unwrap();
        let database = Database::from_url(&url).unwrap();
        Self {
            _server: server,
            url,
            database,
        }
    }

    async fn session(&self) -> AsyncPgConnection {
        AsyncPgConnection::establish(&self.url).await.unwrap()
    }

    async fn sql(&self, sql: &str) {
        self.session()
            .await
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn number(&self, sql: &str) -> i64 {
        use diesel_async::RunQueryDsl;
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            value: i64,
        }
        let Connection::Postgres(mut conn) = self.database.connection().await.unwrap() else {
            unreachable!()
        };
        diesel::sql_query(sql)
            .get_result::<Row>(&mut conn)
            .await
            .unwrap()
            .value
    }

    /// How many long waits for a lock of this mode the server has logged.
    async fn long_waits(&self, mode: &str) -> i64 {
        let sql = format!(
            "SELECT count(*) AS value FROM regexp_matches(pg_read_file('log/server.log'), 'still waiting for {mode} on', 'g')"
        );
        self.number(&sql).await
    }

    /// A session with an open transaction that has read everything.
    async fn reader(&self) -> AsyncPgConnection {
        let mut session = self.session().await;
        session
            .batch_execute("BEGIN; SELECT count(*) FROM audit_logs")
            .await
            .unwrap();
        session
    }

    /// True if a session waits for an ACCESS EXCLUSIVE lock on a table.
    async fn has_exclusive_waiter(&self, table: &str) -> bool {
        let sql = format!(
            "SELECT count(*) AS value FROM pg_locks WHERE relation = '{table}'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"
        );
        self.number(&sql).await > 0
    }
}

/// Writes entries one after the other until `stop` is set, some of them with an old time. Returns the number
/// of entries and the longest time that one took.
fn producer(writer: AuditWriter, stop: Arc<AtomicBool>, old: DateTime<Utc>) -> JoinHandle<(i64, Duration)> {
    tokio::spawn(async move {
        let (mut written, mut longest) = (0, Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let entry = AuditEntry::new("test.write");
            let entry = if written % 20 == 19 {
                entry.created_at(old)
            } else {
                entry
            };
            let begun = Instant::now();
            assert_eq!(writer.write(entry).await, Delivery::Committed);
            longest = longest.max(begun.elapsed());
            written += 1;
        }
        (written, longest)
    })
}

async fn drop_due_months(mut conn: Connection) -> Result<(), OpsError> {
    let rule = RetentionPolicy::keep(13);
    let plan = retention::plan(&mut conn, &rule).await?;
    let due: Vec<_> = plan
        .into_iter()
        .filter(|month| month.is_droppable())
        .take(2)
        .collect();
    assert_eq!(due.len(), 2);
    for month in due {
        retention::drop_month(&mut conn, &month.name, &rule, None).await?;
    }
    Ok(())
}

async fn create_partitions(mut conn: Connection) -> Result<(), OpsError> {
    let (from, to) = (
        "2010-01-01T00:00:00Z".parse().unwrap(),
        "2010-12-01T00:00:00Z".parse().unwrap(),
    );
    let created = partitions::ensure(&mut conn, from, to, MAX_PARTITIONS, |_, _| {}).await?;
    assert_eq!(created, 12);
    Ok(())
}

async fn move_default_partition(mut conn: Connection) -> Result<(), OpsError> {
    let months = partitions::default_partition_months(&mut conn).await?;
    assert_eq!(months.len(), 1);
    assert!(partitions::move_month(&mut conn, &months[0], MAX_PARTITIONS).await? > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_are_not_blocked_while_partitions_are_created_moved_and_dropped() {
    let db = WatchedServer::start();
    assert_long_waits_are_logged(&db).await;
    db.sql(
        "SELECT audit_logs_ensure_partitions(now() - interval '24 months', now()); \
         INSERT INTO audit_logs (created_at, action) SELECT now() - m * interval '1 month', 'old' FROM generate_series(0, 24) m, generate_series(1, 50)",
    )
    .await;
    let old: DateTime<Utc> = "2015-03-10T00:00:00Z".parse().unwrap();
    let (writer, guard) = writer_to(db.database.clone()).start().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..2)
        .map(|_| producer(writer.clone(), Arc::clone(&stop), old))
        .collect();

    let connection = async || db.database.connection().await.unwrap();
    let dropping = drop_due_months(connection().await);
    run_against_a_reader(&db, &writer, "audit_logs", dropping).await;
    let creating = create_partitions(connection().await);
    run_against_a_reader(&db, &writer, "audit_logs_default", creating).await;
    let moving = move_default_partition(connection().await);
    run_against_a_reader(&db, &writer, "audit_logs_default", moving).await;
    let before = writer.stats().committed;
    wait_for("some more entries", async || {
        writer.stats().committed > before + 200
    })
    .await;

    stop.store(true, Ordering::Relaxed);
    let (mut written, mut longest) = (0, Duration::ZERO);
    for producer in producers {
        let (one, took) = producer.await.unwrap();
        (written, longest) = (written + one, longest.max(took));
    }
    let stats = writer.stats();
    let report = guard.shutdown(TIMEOUT).await;
    println!("{written} entries; the slowest took {longest:?}; {stats:?}");
    assert_eq!(
        (report.committed, report.lost, report.quarantined),
        (written as u64, 0, 0)
    );
    assert_eq!(
        db.number("SELECT count(*) AS value FROM audit_logs WHERE action = 'test.write'")
            .await,
        written
    );
    let accounts = verify_writers(&mut db.database.connection().await.unwrap())
        .await
        .unwrap();
    assert_eq!(
        accounts.iter().map(|account| account.verdict).collect::<Vec<_>>(),
        [Verdict::Complete]
    );
    // No INSERT waited for long: maintenance that holds one up gives up before.
    assert_eq!(
        db.long_waits("RowExclusiveLock").await,
        1,
        "only the wait that the test caused"
    );
}

/// Asserts that the server logs a blocked INSERT. Otherwise its log would prove nothing.
async fn assert_long_waits_are_logged(db: &WatchedServer) {
    db.sql("CREATE TABLE held (x int)").await;
    let mut holder = db.session().await;
    holder.batch_execute("BEGIN; LOCK TABLE held").await.unwrap();
    let mut writer = db.session().await;
    let held = tokio::spawn(async move { writer.batch_execute("INSERT INTO held VALUES (1)").await });
    wait_for("the line in the log", async || {
        db.long_waits("RowExclusiveLock").await == 1
    })
    .await;
    holder.batch_execute("COMMIT").await.unwrap();
    held.await.unwrap().unwrap();
}

/// Runs work that must wait for a long reader, while writers go on. The work waits about ten seconds
/// at most before it fails.
async fn run_against_a_reader(
    db: &WatchedServer,
    writer: &AuditWriter,
    locks: &str,
    work: impl Future<Output = Result<(), OpsError>> + Send + 'static,
) {
    let mut reader = db.reader().await;
    let begun = Instant::now();
    let work = tokio::spawn(work);
    wait_for("the work to wait for the reader", async || {
        db.has_exclusive_waiter(locks).await
    })
    .await;
    let before = writer.stats().committed;
    wait_for("entries to be committed meanwhile", async || {
        writer.stats().committed > before + 200
    })
    .await;
    tokio::time::sleep(LONG_READ.saturating_sub(begun.elapsed())).await;
    assert!(!work.is_finished(), "the work still waits for the reader");
    reader.batch_execute("COMMIT").await.unwrap();
    work.await.unwrap().unwrap();
}

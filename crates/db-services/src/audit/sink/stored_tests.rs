//! `Ok` of a sink means that every row is stored, whatever indexes, triggers and rules an operator has added
//! and however little its user may do.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use db_schema::NewAuditLog;
use db_test::{Network, Proxy, Server, wait_for};
use tokio_postgres::Client;
use uuid::Uuid;

use super::test_database::{TestDatabase, TestSink, client, rows};
use audit_core::writer::SinkErrorKind;

use super::{Attempt, Rows};
use crate::audit::row::LogRow;

const LOOK_UP: &str = "audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[])";

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]).unwrap());

/// A database, and a login that may only insert.
struct InsertOnly {
    admin: Client,
    url: String,
}

impl InsertOnly {
    /// A member of `audit_writer`; one that may look rows up, or may not.
    async fn new(may_look_up: bool) -> Self {
        let url = SERVER.migrated().unwrap();
        let name = url.rsplit('/').next().unwrap().to_owned();
        let admin = client(&url).await;
        let role = format!("writer_{}", Uuid::now_v7().simple());
        let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'hush'; GRANT audit_writer TO {role}");
        admin.batch_execute(&sql).await.unwrap();
        if !may_look_up {
            let sql = format!("REVOKE EXECUTE ON FUNCTION {LOOK_UP} FROM audit_writer");
            admin.batch_execute(&sql).await.unwrap();
        }
        let url = SERVER.url_as(&role, "hush", &name);
        let writer = client(&url).await;
        for sql in [
            "SELECT id FROM audit_logs",
            "INSERT INTO audit_logs (action) VALUES ('x') RETURNING id",
        ] {
            let error = writer.batch_execute(sql).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42501", "it may only insert");
        }
        let call = "SELECT audit_logs_lookup('{}', '{}', '{}', '{}')";
        assert_eq!(writer.batch_execute(call).await.is_ok(), may_look_up);
        Self { admin, url }
    }

    async fn count(&self, condition: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM audit_logs WHERE {condition}");
        self.admin.query_one(&sql, &[]).await.unwrap().get(0)
    }
}

/// The rows as those of a writer, numbered from this one.
fn numbered(rows: &[LogRow], first: i64) -> Rows {
    static WRITER: LazyLock<Uuid> = LazyLock::new(Uuid::now_v7);
    let number = |(row, seq): (&LogRow, i64)| {
        NewAuditLog {
            writer_id: Some(*WRITER),
            writer_seq: Some(seq),
            ..(**row).clone()
        }
        .into()
    };
    Arc::new(rows.iter().zip(first..).map(number).collect())
}

fn many(count: i64) -> Rows {
    let rows: Vec<_> = (0..count).map(|_| rows(["many"])[0].clone()).collect();
    numbered(&rows, 1)
}

/// Halves a batch as the writer does until each row is stored or rejected alone; returns the rejected
/// actions with the reasons.
async fn bisect(sink: &mut TestSink, rows: &Rows) -> Vec<(String, String)> {
    let mut rejected = Vec::new();
    let mut parts = vec![(Arc::clone(rows), Attempt::First)];
    while let Some((part, attempt)) = parts.pop() {
        match sink.attempt(&part, attempt).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind, SinkErrorKind::RowRejected, "{error:?}");
                match &part[..] {
                    [row] => rejected.push((row.action.to_string(), error.reason)),
                    rows => {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        parts.push((Arc::new(second.to_vec()), Attempt::Retry));
                        parts.push((Arc::new(first.to_vec()), Attempt::Retry));
                    }
                }
            }
        }
    }
    rejected
}

/// Skips the rows whose action begins with `skipped`, without an error.
async fn skip_some(database: &TestDatabase) {
    let sql = match database.is_postgres() {
        true => SKIP_SOME,
        false => {
            "CREATE TRIGGER skip BEFORE INSERT ON audit_logs WHEN NEW.action LIKE 'skipped%' \
             BEGIN SELECT RAISE(IGNORE); END"
        }
    };
    database.sql(sql).await;
}

const SKIP_SOME: &str = "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN IF NEW.action LIKE 'skipped%' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
     CREATE TRIGGER skip BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION skip()";

#[tokio::test]
async fn a_row_that_a_trigger_skips_is_rejected_and_its_neighbours_are_stored() {
    for database in TestDatabase::both().await {
        skip_some(&database).await;
        database
            .sql("INSERT INTO audit_logs (action) VALUES ('skipped here')")
            .await;
        assert_eq!(
            database.stored().await,
            [""; 0],
            "the trigger skips without an error"
        );
        let mut sink = TestSink::to(&database.url);
        for attempt in [Attempt::First, Attempt::Retry] {
            let error = sink
                .attempt(&rows(["kept", "skipped"]), attempt)
                .await
                .unwrap_err();
            assert_eq!(error.kind, SinkErrorKind::RowRejected, "{attempt:?}: {error:?}");
        }
        let batch = rows(["a", "skipped.1", "b", "c", "skipped.2"]);
        let rejected = bisect(&mut sink, &batch).await;
        assert_eq!(
            rejected.iter().map(|(action, _)| action).collect::<Vec<_>>(),
            ["skipped.1", "skipped.2"]
        );
        for (_, reason) in rejected {
            assert!(
                reason.contains("a trigger or rule of audit_logs skipped the row"),
                "{reason}"
            );
        }
        let stored = database.stored().await;
        assert_eq!(
            stored
                .iter()
                .filter(|action| action.as_str() != "kept")
                .collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
    }
}

#[tokio::test]
async fn a_trigger_that_skips_every_row_is_a_misconfiguration() {
    for database in TestDatabase::both().await {
        let sql = match database.is_postgres() {
            true => "CREATE RULE skip_all AS ON INSERT TO audit_logs DO INSTEAD NOTHING",
            false => "CREATE TRIGGER skip_all BEFORE INSERT ON audit_logs BEGIN SELECT RAISE(IGNORE); END",
        };
        database.sql(sql).await;
        let mut sink = TestSink::to(&database.url);
        let error = sink.write(&rows(["a", "b"])).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Misconfigured, "{error:?}");
        assert!(error.reason.contains("skipped the row"), "{error:?}");
        assert_eq!(database.stored().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_row_that_another_unique_index_rejects_is_rejected_and_its_neighbours_are_stored() {
    for database in TestDatabase::both().await {
        let sql = match database.is_postgres() {
            true => {
                "CREATE UNIQUE INDEX one_each ON audit_logs_default (request_id); \
                     DO $$ DECLARE month regclass; BEGIN \
                     FOR month IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass LOOP \
                     EXECUTE format('CREATE UNIQUE INDEX ON %s (request_id)', month); END LOOP; END $$"
            }
            false => "CREATE UNIQUE INDEX one_each ON audit_logs (request_id)",
        };
        database.sql(sql).await;
        let request = |action: &str| {
            let row = NewAuditLog {
                request_id: Some("r1".into()),
                ..(*rows([action])[0]).clone()
            };
            LogRow::from(row)
        };
        let mut sink = TestSink::to(&database.url);
        sink.write(&Arc::new(vec![request("first")])).await.unwrap();
        assert_eq!(database.stored().await, ["first"]);
        let batch = Arc::new(vec![
            rows(["a"])[0].clone(),
            request("second"),
            rows(["b"])[0].clone(),
        ]);
        for attempt in [Attempt::First, Attempt::Retry] {
            let error = sink.attempt(&batch, attempt).await.unwrap_err();
            assert_eq!(error.kind, SinkErrorKind::RowRejected, "{attempt:?}: {error:?}");
        }
        let rejected = bisect(&mut sink, &batch).await;
        assert!(
            matches!(&rejected[..], [(action, reason)] if action == "second" && reason.contains("request_id")),
            "{rejected:?}"
        );
        // Stored rows and the rejected one, sent again together.
        assert_eq!(bisect(&mut sink, &batch).await.len(), 1);
        assert_eq!(database.stored().await, ["a", "b", "first"]);
    }
}

#[tokio::test]
async fn a_unique_index_of_a_triggers_table_does_not_pass_for_the_primary_key() {
    let database = TestDatabase::postgres();
    database
        .sql(
            "CREATE TABLE copies (action text PRIMARY KEY); \
             CREATE FUNCTION copy() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO copies VALUES (NEW.action); RETURN NULL; END $$; \
             CREATE TRIGGER copy AFTER INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION copy()",
        )
        .await;
    let mut sink = TestSink::to(&database.url);
    sink.write(&rows(["once"])).await.unwrap();
    let error = sink.write(&rows(["once"])).await.unwrap_err();
    assert_eq!(
        (error.kind, error.sqlstate.as_deref()),
        (SinkErrorKind::RowRejected, Some("23505"))
    );
    assert_eq!(database.stored().await, ["once"]);
}

#[tokio::test]
async fn an_insert_only_role_learns_of_every_row_whether_it_is_stored() {
    for may_look_up in [true, false] {
        let database = InsertOnly::new(may_look_up).await;
        database.admin.batch_execute(SKIP_SOME).await.unwrap();
        let mut sink = TestSink::to(&database.url);
        let stored = numbered(&rows(["a", "b", "c"]), 1);
        sink.write(&stored).await.unwrap();
        for attempt in [Attempt::First, Attempt::Retry] {
            assert_eq!(
                sink.attempt(&stored, attempt).await.unwrap().duplicates,
                [0; 0],
                "may look up: {may_look_up}"
            );
        }
        let mut batch = stored.to_vec();
        batch.extend(rows(["d", "skipped", "e"]).iter().cloned());
        let rejected = bisect(&mut sink, &numbered(&batch, 1)).await;
        assert!(
            matches!(&rejected[..], [(action, _)] if action == "skipped"),
            "{rejected:?}"
        );
        assert_eq!(database.count("true").await, 5);
    }
}

/// As a database of an earlier version has it.
#[tokio::test]
async fn a_sink_works_without_the_look_up_function() {
    let database = InsertOnly::new(true).await;
    database
        .admin
        .batch_execute(&format!("DROP FUNCTION {LOOK_UP}"))
        .await
        .unwrap();
    let mut sink = TestSink::to(&database.url);
    let batch = many(10);
    for _ in 0..2 {
        assert_eq!(sink.write(&batch).await.unwrap().duplicates, [0; 0]);
    }
    assert_eq!(database.count("true").await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rows_whose_answer_was_lost_are_known_to_be_stored() {
    for may_look_up in [true, false] {
        let database = InsertOnly::new(may_look_up).await;
        let proxy = Proxy::to(&database.url).unwrap();
        let mut sink = TestSink::within(proxy.url(), Duration::from_secs(60));
        let batch = many(1_000);
        sink.write(&rows(["before"])).await.unwrap();
        proxy.set(Network::LosesAnswers).unwrap();
        let error = sink.write(&batch).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Transient, "{error:?}");
        wait_for("the commit", async || {
            database.count("action = 'many'").await == 1_000
        })
        .await;
        proxy.set(Network::Passes).unwrap();
        let written = sink.attempt(&batch, Attempt::Retry).await.unwrap();
        assert_eq!(written.duplicates, [0; 0], "may look up: {may_look_up}");
        assert_eq!(database.count("action = 'many'").await, 1_000);
    }
}

#[tokio::test]
async fn an_entry_written_twice_in_one_batch_is_one_duplicate() {
    for database in TestDatabase::both().await {
        let mut sink = TestSink::to(&database.url);
        let entries = rows(["a", "b"]);
        let batch = numbered(&[entries[0].clone(), entries[1].clone(), entries[0].clone()], 1);
        for attempt in [Attempt::First, Attempt::Retry] {
            assert_eq!(
                sink.attempt(&batch, attempt).await.unwrap().duplicates,
                [2],
                "{attempt:?}"
            );
        }
        assert_eq!(database.stored().await, ["a", "b"]);
    }
}

#[tokio::test]
async fn an_entry_written_again_in_a_later_batch_is_a_duplicate() {
    for database in TestDatabase::both().await {
        let mut sink = TestSink::to(&database.url);
        let entries = rows(["a", "b"]);
        let first = numbered(&entries, 1);
        assert_eq!(sink.write(&first).await.unwrap().duplicates, [0; 0]);
        let second = numbered(&[rows(["c"])[0].clone(), entries[0].clone()], 3);
        for attempt in [Attempt::First, Attempt::Retry] {
            assert_eq!(
                sink.attempt(&second, attempt).await.unwrap().duplicates,
                [1],
                "{attempt:?}"
            );
            assert_eq!(
                sink.attempt(&first, attempt).await.unwrap().duplicates,
                [0; 0],
                "{attempt:?}"
            );
        }
        assert_eq!(database.stored().await, ["a", "b", "c"]);
    }
}

/// A role that may not look rows up sees what two rows of one batch have in common, and no more.
#[tokio::test]
async fn an_insert_only_role_without_the_look_up_sees_duplicates_within_a_batch() {
    let database = InsertOnly::new(false).await;
    let mut sink = TestSink::to(&database.url);
    let entry = rows(["a"]);
    let batch = numbered(&[entry[0].clone(), entry[0].clone()], 1);
    assert_eq!(sink.write(&batch).await.unwrap().duplicates, [1]);
    assert_eq!(sink.write(&numbered(&entry, 3)).await.unwrap().duplicates, [0; 0]);
    assert_eq!(database.count("writer_seq = 1").await, 1);
    assert_eq!(database.count("true").await, 1);
}

/// Re-runs itself in a process of its own, which then opens files until it may open no more.
#[test]
fn a_process_without_file_descriptors_is_a_transient_error() {
    const CHILD: &str = "AUDIT_TEST_WITHOUT_FILE_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "audit::sink::stored_tests::a_process_without_file_descriptors_is_a_transient_error";
        let program = std::env::current_exe().unwrap();
        let test = format!("ulimit -n 64; exec \"$0\" --exact {name} --nocapture");
        let output = std::process::Command::new("sh")
            .args(["-c", &test])
            .arg(program)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("audit.db").display());
        crate::client::Database::from_url(&url)
            .unwrap()
            .migrate()
            .await
            .unwrap();
        let mut sink = TestSink::to(&url);
        let held: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        assert!(std::fs::File::open(dir.path()).is_err(), "it may open no more");
        let error = sink.write(&rows(["a"])).await.unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::Transient, "{error:?}");
        assert!(error.reason.contains("cannot open a file now"), "{error:?}");
        drop(held);
        sink.write(&rows(["a"])).await.unwrap();
    });
}

#[tokio::test]
async fn the_longest_attempt_timeout_does_not_panic() {
    for database in TestDatabase::both().await {
        TestSink::within(&database.url, Duration::MAX)
            .write(&rows(["a"]))
            .await
            .unwrap();
        assert_eq!(database.stored().await, ["a"]);
    }
}

#[tokio::test]
async fn a_session_that_the_server_ended_while_it_was_idle_is_no_failed_attempt() {
    let db = TestDatabase::postgres();
    let mut sink = TestSink::to(&db.url);
    sink.write(&rows(["first"])).await.unwrap();
    let url = db.url.clone();
    let end = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let sql = "WITH idle AS MATERIALIZED (SELECT pid FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name = 'audit-writer') \
                   SELECT count(*) FROM idle WHERE pg_terminate_backend(pid, 60000)";
        runtime.block_on(async {
            client(&url)
                .await
                .query_one(sql, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
        })
    };
    // On another thread: this one, which runs the sink's connection, does not hear of it before the next batch.
    assert_eq!(std::thread::spawn(end).join().unwrap(), 1, "the session exists");
    sink.write(&rows(["second"])).await.unwrap();
    assert_eq!(db.stored().await, ["first", "second"]);
}

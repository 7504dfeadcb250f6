//! Maintenance takes turns by locks that a login without rights cannot take, and its errors name who is in the way.

use audit_ops::holds::{self, HoldScope};
use audit_ops::partitions::{self, MAX_PARTITIONS};
use audit_ops::session;
use db_services::client::Connection;
use db_test::{Server, wait_for};
use tokio_postgres::Client;

use crate::attacks::fixture::{connect, text};
use crate::retention::rule;
use crate::support::TestDb;

/// A server, a database on it, and a login that may do nothing but connect.
async fn with_a_plain_login() -> (Server, TestDb, String) {
    let server = Server::start(&[("max_prepared_transactions", "5")]).unwrap();
    let db = TestDb::on(&server);
    db.sql("CREATE ROLE plain LOGIN PASSWORD 'pw'").await.unwrap();
    let url = server.url_as("plain", "pw", db.url.rsplit('/').next().unwrap());
    (server, db, url)
}

async fn pid(client: &Client) -> String {
    text(client, "SELECT pg_backend_pid()::text").await.remove(0)
}

/// PREPARE locks the tables of its statement, and nobody checks the right to it until it is executed.
const PREPARED: [&str; 8] = [
    "UPDATE audit_retention_ledger SET id = 1",
    "INSERT INTO audit_retention_ledger (id) VALUES (1)",
    "DELETE FROM audit_legal_holds",
    "INSERT INTO audit_legal_holds (id) VALUES (1)",
    "SELECT FROM audit_legal_holds FOR UPDATE",
    "DELETE FROM audit_retention_writers",
    "DELETE FROM audit_retention_declarations",
    "UPDATE audit_roles SET kind = 'x'",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_that_a_login_without_rights_prepares_stops_a_hold_or_a_drop() {
    let (_server, db, url) = with_a_plain_login().await;
    db.sql("SELECT audit_logs_ensure_partitions('2001-01-01', '2001-02-01')")
        .await
        .unwrap();
    // With the last one it stays without a session, and after a restart of the server.
    let plain = connect(&url).await;
    let mut statements = String::from("BEGIN");
    for (nth, sql) in PREPARED.iter().enumerate() {
        statements += &format!("; PREPARE s{nth} AS {sql}");
    }
    plain.batch_execute(&statements).await.unwrap();
    let held = "SELECT count(DISTINCT relation)::text AS value FROM pg_locks \
                WHERE mode = 'RowExclusiveLock' AND granted AND relation::regclass::text LIKE 'audit%'";
    assert_eq!(db.text(held).await, "5", "it has the locks");
    let maintain = "SELECT audit_hold_add('a hold', 'nobody'), audit_hold_release(1, 'over'), audit_retention_lock(); \
                    SELECT audit_logs_drop_month('audit_logs_2001_01', 13, 'x', trust_clock => true)";
    db.sql(maintain).await.unwrap();
    assert_eq!(db.text(held).await, "5", "it still has them");

    plain
        .batch_execute(
            "PREPARE p AS INSERT INTO audit_logs (action) VALUES ('x'); PREPARE TRANSACTION 'evil'",
        )
        .await
        .unwrap();
    let held = "SELECT count(*)::text AS value FROM pg_locks WHERE pid IS NULL AND relation = 'audit_logs'::regclass";
    assert_eq!(db.text(held).await, "1");
    db.sql(
        "SELECT audit_hold_add('another', 'nobody'), audit_logs_lock_partitions(), audit_logs_index_closed_months(), \
         audit_logs_ensure_partitions('2001-04-01', '2001-04-01')",
    )
    .await
    .unwrap();
    plain.batch_execute("ROLLBACK PREPARED 'evil'").await.unwrap();
}

/// The error of an operation, as the command has it.
async fn error_of<T>(
    db: &TestDb,
    work: impl AsyncFnOnce(&mut Connection) -> Result<T, audit_ops::OpsError>,
) -> String {
    let mut conn = session::connect(&db.database).await.unwrap();
    let done = session::bounded_long(&mut conn, work).await.map(drop);
    done.expect_err("somebody is in the way").to_string()
}

/// A reader, a login without rights, its statement that waits for a lock, and a prepared transaction.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_every_session_that_holds_a_lock_or_waits_for_one() {
    let (_server, db, url) = with_a_plain_login().await;
    let (reader, plain, gone, rule) = (
        connect(&db.url).await,
        connect(&url).await,
        connect(&url).await,
        connect(&url).await,
    );
    reader
        .batch_execute("BEGIN; SELECT FROM audit_logs_default")
        .await
        .unwrap();
    plain
        .batch_execute("BEGIN; PREPARE s AS DELETE FROM audit_logs_default")
        .await
        .unwrap();
    gone.batch_execute(
        "BEGIN; PREPARE s AS SELECT FROM audit_logs_default; PREPARE TRANSACTION 'left behind'",
    )
    .await
    .unwrap();
    let waiter = pid(&rule).await;
    let waiting = tokio::spawn(async move {
        rule.batch_execute("CREATE RULE r AS ON INSERT TO audit_logs_default DO INSTEAD NOTHING")
            .await
    });
    wait_for("the rule to wait", async || {
        let waits =
            "SELECT count(*)::text AS value FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted";
        db.text(waits).await != "0"
    })
    .await;
    let month = "2001-05-01T00:00:00Z".parse().unwrap();
    let mut conn = session::connect(&db.database).await.unwrap();
    let error = partitions::ensure(&mut conn, month, month, MAX_PARTITIONS, |_, _| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("other sessions locked the table during 20 attempts"),
        "{error}"
    );
    for part in [
        format!(
            "process {} of postgres holds AccessShareLock on audit_logs_default",
            pid(&reader).await
        ),
        format!(
            "process {} of plain holds RowExclusiveLock on audit_logs_default",
            pid(&plain).await
        ),
        format!("process {waiter} of plain waits for AccessExclusiveLock on audit_logs_default"),
        "prepared transaction 'left behind' of plain holds AccessShareLock".to_owned(),
    ] {
        assert!(error.contains(&part), "{part}: {error}");
    }
    gone.batch_execute("ROLLBACK PREPARED 'left behind'")
        .await
        .unwrap();
    drop((reader, plain));
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_turn_that_another_session_has_names_that_session() {
    let (db, parts) = crate::retention::aged(14).await;
    let other = connect(&db.url).await;
    let other_pid = pid(&other).await;
    other
        .batch_execute("BEGIN; SELECT audit_retention_lock()")
        .await
        .unwrap();
    let error = error_of(&db, async |conn| {
        audit_ops::retention::drop_month(conn, &parts[0], &rule(), None).await
    })
    .await;
    assert!(
        error.contains("another session drops or restores a month")
            && error.contains(&format!("process {other_pid} of "))
            && error.contains("holds ShareUpdateExclusiveLock on audit_retention_ledger"),
        "{error}"
    );
    other
        .batch_execute("ROLLBACK; BEGIN; SELECT audit_hold_add('not committed')")
        .await
        .unwrap();
    let error = error_of(&db, async |conn| {
        holds::add(conn, &HoldScope::default(), "a second one").await
    })
    .await;
    assert!(
        error.contains(&format!("process {other_pid} of "))
            && error.contains("holds ShareUpdateExclusiveLock on audit_legal_holds"),
        "{error}"
    );
    other.batch_execute("ROLLBACK").await.unwrap();
}

/// Statements that lock a table of the trail before PostgreSQL looks at rights, and wait for the login's own table.
const QUEUED: [(&str, &str); 3] = [
    (
        "AccessExclusiveLock",
        "CREATE RULE r AS ON INSERT TO audit_logs DO ALSO SELECT FROM app.mine",
    ),
    (
        "ShareRowExclusiveLock",
        "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON audit_logs FROM app.mine FOR EACH ROW \
         EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ),
    (
        "ShareUpdateExclusiveLock",
        "CREATE TABLE app.x () INHERITS (audit_legal_holds, app.mine)",
    ),
];

/// As docs/append-only.md says. Without the remedy this is PostgreSQL's behaviour, which the trail cannot change.
#[tokio::test(flavor = "multi_thread")]
async fn without_usage_of_the_schema_a_login_locks_nothing() {
    let (_server, db, url) = with_a_plain_login().await;
    db.sql("CREATE SCHEMA app AUTHORIZATION plain; CREATE TABLE app.mine (x int); ALTER TABLE app.mine OWNER TO plain")
        .await
        .unwrap();
    let holder = connect(&url).await;
    holder.batch_execute("BEGIN; LOCK TABLE app.mine").await.unwrap();
    for (mode, sql) in QUEUED {
        let other = connect(&url).await;
        let pid = pid(&other).await;
        let waiting = tokio::spawn(async move { other.batch_execute(sql).await });
        wait_for("the lock", async || {
            let held = "SELECT count(*)::text AS value FROM pg_locks \
                        WHERE granted AND relation::regclass::text LIKE 'audit%' AND";
            db.text(&format!("{held} pid = {pid} AND mode = '{mode}'")).await != "0"
        })
        .await;
        db.sql(&format!("SELECT pg_cancel_backend({pid})")).await.unwrap();
        assert_eq!(
            waiting.await.unwrap().unwrap_err().code().unwrap().code(),
            "57014"
        );
    }
    db.sql("REVOKE USAGE ON SCHEMA public FROM PUBLIC").await.unwrap();
    let other = connect(&url).await;
    let named = |sql: &str| {
        sql.replace("audit_l", "public.audit_l")
            .replace("audit_r", "public.audit_r")
    };
    let prepared = PREPARED.iter().map(|sql| format!("PREPARE s AS {}", named(sql)));
    for sql in prepared.chain(QUEUED.iter().map(|(_, sql)| named(sql))) {
        let refused = other.batch_execute(&sql).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{sql}: {refused}");
        let message = refused.as_db_error().unwrap().message();
        assert!(
            message.contains("permission denied for schema public"),
            "{sql}: {message}"
        );
    }
    // The four roles have it.
    let roles = "SELECT bool_and(has_schema_privilege(r, 'public', 'USAGE'))::text AS value \
                 FROM unnest('{audit_writer, audit_reader, audit_auditor, audit_maintainer}'::name[]) AS r";
    assert_eq!(db.text(roles).await, "true");
}

//! SQL within `for_tenant` that ends or changes its transaction, tenant or session: no row of another tenant is
//! returned, and the next user of the connection finds it as it was.

use std::time::Duration;

use db_services::audit::{AuditLog, TenantError, for_tenant, latest_with_records};
use db_services::client::Connection;
use diesel::QueryResult;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection, TransactionManager};
use futures_util::FutureExt;

use super::{assert_no_open_transaction, fill, seen_by};
use crate::attacks::fixture::{connect, text};
use crate::support::{TestDb, on_both, wait_for};

/// The result of a read after a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The tenant's rows, and the connection stays open.
    OwnRows,
    /// `TenantError::Changed`, and the connection is closed.
    Changed,
    /// The database refuses the statement or the read after it.
    Refused,
}
use Outcome::{Changed, OwnRows, Refused};

/// Drops a statement that diesel has cached, and that the read does not use.
const DEALLOCATE_ONE: &str = "DO $$ DECLARE dropped text; BEGIN \
     SELECT name INTO STRICT dropped FROM pg_prepared_statements \
     WHERE statement ILIKE 'SELECT count(%' AND name ~ '^s[0-9]+$'; \
     EXECUTE format('DEALLOCATE %I', dropped); END $$";

const DEALLOCATE_EACH: &str = "DO $$ DECLARE dropped text; BEGIN \
     FOR dropped IN SELECT name FROM pg_prepared_statements WHERE name ~ '^s[0-9]+$' LOOP \
     EXECUTE format('DEALLOCATE %I', dropped); END LOOP; END $$";

const ON_POSTGRES: &[(&str, Outcome)] = &[
    ("SELECT 1", OwnRows),
    // The end of the transaction.
    ("COMMIT", Changed),
    ("ROLLBACK", Changed),
    ("COMMIT AND CHAIN", Changed),
    ("ROLLBACK AND CHAIN", Changed),
    ("COMMIT; BEGIN", Changed),
    ("ROLLBACK; BEGIN READ ONLY", Changed),
    (
        "COMMIT; BEGIN READ ONLY; SET LOCAL ROLE audit_reader; SET LOCAL audit.tenant_id = 'globex'",
        Changed,
    ),
    (
        "COMMIT; BEGIN READ ONLY; SET LOCAL ROLE audit_reader; SET LOCAL audit.tenant_reader = 'audit_reader'; \
         SET LOCAL audit.tenant_id = 'acme'",
        Changed,
    ),
    (
        "COMMIT; SET application_name = 'leftover'; SET ROLE audit_auditor",
        Changed,
    ),
    ("PREPARE TRANSACTION 'leftover'", Refused),
    ("DO $$ BEGIN COMMIT; END $$", Refused),
    ("BEGIN", OwnRows),
    ("SAVEPOINT nested", OwnRows),
    ("SAVEPOINT audit_tenant", OwnRows),
    ("ROLLBACK TO audit_tenant", OwnRows),
    ("RELEASE audit_tenant", Changed),
    ("SAVEPOINT nested; SET ROLE NONE; ROLLBACK TO nested", OwnRows),
    // The role.
    ("SET ROLE audit_auditor", Changed),
    ("SET LOCAL ROLE audit_auditor", Changed),
    ("SET ROLE NONE", Changed),
    ("RESET ROLE", Changed),
    ("RESET ALL", Changed),
    ("SET SESSION AUTHORIZATION audit_auditor", Changed),
    ("SET SESSION AUTHORIZATION DEFAULT", Changed),
    // The tenant.
    ("SET audit.tenant_id = 'globex'", Changed),
    ("SET LOCAL audit.tenant_id = 'globex'", Changed),
    ("SELECT set_config('audit.tenant_id', 'globex', true)", Changed),
    ("RESET audit.tenant_id", Changed),
    // The session. Without its prepared statements the read fails.
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", OwnRows),
    ("SET TRANSACTION READ WRITE", Refused),
    ("SET row_security = off", Refused),
    ("SET search_path = pg_catalog, public", OwnRows),
    (
        "SET application_name = 'leftover'; SET statement_timeout = 12345",
        OwnRows,
    ),
    (
        "SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Kolkata'",
        OwnRows,
    ),
    ("LISTEN leftover", OwnRows),
    ("DECLARE leftover CURSOR WITH HOLD FOR SELECT 1", OwnRows),
    ("SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2)", OwnRows),
    ("CREATE TEMP TABLE leftover ()", Refused),
    ("PREPARE leftover AS SELECT 1", Changed),
    ("DEALLOCATE ALL", Refused),
    (DEALLOCATE_ONE, Changed),
    (DEALLOCATE_EACH, Refused),
    ("DISCARD PLANS", OwnRows),
    ("DISCARD ALL", Refused),
    ("SELECT 1/0", Refused),
    ("SELECT pg_terminate_backend(pg_backend_pid())", Refused),
];

const ON_SQLITE: &[(&str, Outcome)] = &[
    ("SELECT 1", OwnRows),
    // The end of the transaction.
    ("COMMIT", Changed),
    ("ROLLBACK", Changed),
    ("COMMIT; BEGIN", Changed),
    ("ROLLBACK; BEGIN", Changed),
    ("COMMIT; BEGIN; SAVEPOINT nested", Changed),
    ("BEGIN", Refused),
    ("SAVEPOINT nested", OwnRows),
    ("ROLLBACK TO audit_tenant", OwnRows),
    ("RELEASE audit_tenant", Changed),
    ("VACUUM", Refused),
    // The view and the tenant.
    ("DROP VIEW temp.audit_logs", Changed),
    (
        "DROP VIEW temp.audit_logs; CREATE TEMP VIEW audit_logs AS SELECT * FROM main.audit_logs",
        Changed,
    ),
    ("UPDATE temp.audit_tenant SET tenant_id = 'globex'", Changed),
    ("DELETE FROM temp.audit_tenant", Changed),
    ("INSERT INTO temp.audit_tenant VALUES ('globex')", Changed),
    (
        "INSERT INTO temp.audit_tenant (rowid, tenant_id) VALUES (-1, 'globex')",
        Changed,
    ),
    (
        "DROP TABLE temp.audit_tenant; CREATE TEMP TABLE audit_tenant AS SELECT 'globex' AS tenant_id",
        Changed,
    ),
    // The session.
    ("ATTACH ':memory:' AS leftover", Changed),
    ("CREATE TEMP TABLE leftover (a)", OwnRows),
    ("CREATE TEMP VIEW leftover AS SELECT 1", OwnRows),
    ("PRAGMA recursive_triggers = OFF", Changed),
    ("PRAGMA ignore_check_constraints = ON", Changed),
    ("PRAGMA query_only = ON", Changed),
    ("PRAGMA busy_timeout = 1", Changed),
    ("PRAGMA case_sensitive_like = ON", Changed),
    ("PRAGMA cache_size = 3", Changed),
    ("PRAGMA read_uncommitted = ON", Changed),
    ("PRAGMA wal_autocheckpoint = 7", Changed),
    ("PRAGMA reverse_unordered_selects = ON", Changed),
    ("PRAGMA writable_schema = ON", Changed),
    (
        "PRAGMA full_column_names = ON; PRAGMA short_column_names = OFF",
        Changed,
    ),
    ("PRAGMA max_page_count = 1", Changed),
    ("PRAGMA secure_delete = ON", Changed),
    ("PRAGMA journal_size_limit = 7", Changed),
    ("PRAGMA foreign_keys = ON", OwnRows),
    ("PRAGMA synchronous = OFF", Refused),
    (
        "INSERT INTO main.audit_logs (action) VALUES ('leftover')",
        OwnRows,
    ),
    ("SELECT no_such()", Refused),
];

async fn execute(conn: &mut Connection, sql: &str) -> QueryResult<()> {
    match conn {
        Connection::Postgres(conn) => conn.batch_execute(sql).await,
        Connection::Sqlite(conn) => conn.batch_execute(sql).await,
    }
}

/// Reads all rows as the tenant acme after a statement.
async fn read_after(db: &TestDb, statement: &str) -> Outcome {
    let result = for_tenant(&db.database, "acme", async |conn| {
        execute(conn, statement).await?;
        latest_with_records(conn, 100).await
    });
    outcome(statement, result.await)
}

/// The same before it.
async fn read_before(db: &TestDb, statement: &str) -> Outcome {
    let result = for_tenant(&db.database, "acme", async |conn| {
        let rows = latest_with_records(conn, 100).await?;
        execute(conn, statement).await?;
        Ok(rows)
    });
    outcome(statement, result.await)
}

fn outcome(statement: &str, result: Result<Vec<AuditLog>, TenantError>) -> Outcome {
    match result {
        Ok(rows) => {
            let tenants: Vec<_> = rows.iter().map(|row| row.tenant_id.as_deref()).collect();
            assert_eq!(tenants, [Some("acme"); 2], "{statement}");
            OwnRows
        }
        Err(TenantError::Changed { .. }) => Changed,
        Err(TenantError::Query(_)) => Refused,
        Err(error) => panic!("{statement}: {error}"),
    }
}

/// A database whose pool has one connection left.
struct OneConnection {
    db: TestDb,
    _taken: Vec<Connection>,
}

impl OneConnection {
    async fn of(db: TestDb) -> Self {
        fill(&db).await;
        let mut taken = Vec::new();
        while taken.len() < 9 {
            taken.push(db.connection().await);
        }
        Self { db, _taken: taken }
    }

    /// Marks the connection, so that a new one differs from it. Returns the mark.
    async fn mark(&self) -> String {
        if !self.db.is_postgres() {
            self.db
                .sql("CREATE TEMP TABLE IF NOT EXISTS mark (a)")
                .await
                .unwrap();
        }
        self.marked().await
    }

    async fn marked(&self) -> String {
        let mark = match self.db.is_postgres() {
            true => "SELECT pg_backend_pid()::text AS value",
            false => "SELECT count(*) || '' AS value FROM temp.sqlite_master WHERE name = 'mark'",
        };
        self.db.text(mark).await
    }

    /// Everything that a user of the connection could notice, and the number of rows that it sees.
    async fn session(&self) -> (String, i64) {
        let session = match self.db.is_postgres() {
            true => {
                "SELECT concat_ws(E'\\n', current_user, session_user, nullif(current_setting('audit.tenant_id', true), ''), \
                 (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), \
                 (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'), \
                 (SELECT count(*) FROM pg_listening_channels()), \
                 (SELECT count(*) FROM pg_cursors WHERE is_holdable), \
                 (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), \
                 (SELECT string_agg(name || ' = ' || setting, E'\\n' ORDER BY name) \
                  FROM pg_settings WHERE source = 'session')) AS value"
            }
            false => {
                "SELECT (SELECT count(*) FROM temp.sqlite_master WHERE name <> 'mark') || \
                 (SELECT group_concat(name) FROM pragma_database_list) || ('a' LIKE 'A') || ' ' || \
                 (SELECT * FROM pragma_recursive_triggers) || (SELECT * FROM pragma_ignore_check_constraints) || \
                 (SELECT * FROM pragma_query_only) || (SELECT * FROM pragma_read_uncommitted) || \
                 (SELECT * FROM pragma_reverse_unordered_selects) || (SELECT * FROM pragma_writable_schema) || \
                 (SELECT * FROM pragma_foreign_keys) || (SELECT * FROM pragma_synchronous) || ' ' || \
                 (SELECT * FROM pragma_busy_timeout) || ' ' || (SELECT * FROM pragma_cache_size) AS value"
            }
        };
        (self.db.text(session).await, self.db.count().await)
    }

    /// Asserts that the next user finds the connection as it was, or a new one if it had to be closed.
    async fn assert_clean(&self, after: &str, before: &(String, i64), mark: &str, outcome: Outcome) {
        let is_kept = self.marked().await == mark;
        assert_no_open_transaction(&self.db).await;
        assert_eq!(&self.session().await, before, "after {after}");
        // Statements that diesel has cached still work.
        assert_eq!(
            seen_by(&self.db.database, "globex").await,
            ["g.one"],
            "after {after}"
        );
        match outcome {
            OwnRows => assert!(is_kept, "after {after} the connection is closed"),
            Changed => assert!(!is_kept, "after {after} the connection is open"),
            Refused => {}
        }
        if self.db.is_postgres() && !is_kept {
            let client = connect(&self.db.url).await;
            let ended = format!("SELECT pid::text FROM pg_stat_activity WHERE pid = {mark}");
            wait_for("the session's end", async || {
                text(&client, &ended).await.is_empty()
            })
            .await;
        }
    }
}

on_both! {
    async fn no_statement_shows_another_tenants_rows_or_changes_the_connection(db: TestDb) {
        let statements = if db.is_postgres() { ON_POSTGRES } else { ON_SQLITE };
        let one = OneConnection::of(db).await;
        let fresh = one.session().await;
        assert_eq!(fresh.1, 5, "rows of other tenants are stored");
        for (statement, expected) in statements {
            let mark = one.mark().await;
            let outcome = read_after(&one.db, statement).await;
            assert_eq!(outcome, *expected, "{statement}");
            one.assert_clean(statement, &fresh, &mark, outcome).await;

            let mark = one.mark().await;
            let outcome = read_before(&one.db, statement).await;
            assert!(outcome == *expected || *expected == Refused, "{statement}: {outcome:?}");
            one.assert_clean(statement, &fresh, &mark, outcome).await;
        }
    }

    async fn the_error_of_a_read_that_changed_the_session_closes_the_connection(db: TestDb) {
        let one = OneConnection::of(db).await;
        let fresh = one.session().await;
        let left = match one.db.is_postgres() {
            true => ["COMMIT; SET application_name = 'leftover'", "PREPARE leftover AS SELECT 1"],
            false => ["COMMIT", "PRAGMA recursive_triggers = OFF"],
        };
        for statement in left {
            let mark = one.mark().await;
            let failing = for_tenant(&one.db.database, "acme", async |conn| {
                execute(conn, statement).await?;
                Err::<(), _>(diesel::result::Error::NotFound)
            });
            let error = failing.await.unwrap_err();
            assert!(matches!(error, TenantError::Query(diesel::result::Error::NotFound)), "{error}");
            one.assert_clean(statement, &fresh, &mark, Changed).await;
        }
    }

    async fn a_failed_statement_keeps_the_connection(db: TestDb) {
        let one = OneConnection::of(db).await;
        let (fresh, mark) = (one.session().await, one.mark().await);
        let statement = if one.db.is_postgres() { "SELECT 1/0" } else { "SELECT no_such()" };
        assert_eq!(read_after(&one.db, statement).await, Refused);
        one.assert_clean(statement, &fresh, &mark, OwnRows).await;
        let ignored = for_tenant(&one.db.database, "acme", async |conn| {
            let rows = latest_with_records(conn, 100).await?;
            assert!(execute(conn, statement).await.is_err());
            Ok(rows.len())
        });
        match ignored.await {
            // It ended the transaction.
            Err(TenantError::Changed { reason, .. }) if one.db.is_postgres() => {
                assert!(reason.contains("aborted"), "{reason}");
            }
            Ok(2) if !one.db.is_postgres() => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(one.session().await, fresh);
    }

    async fn a_nested_transaction_that_is_left_open_closes_the_connection(db: TestDb) {
        let one = OneConnection::of(db).await;
        let fresh = one.session().await;
        let changes: [Change; 4] = [interrupt_begin, leave_open_transaction, end_transaction, replace_connection];
        for how in changes {
            let mark = one.mark().await;
            // Here a second connection is needed for the third of them.
            let spare = TestDb::at(one.db.url.clone());
            let result = for_tenant(&one.db.database, "acme", async |conn| {
                how(conn, &spare).await?;
                latest_with_records(conn, 100).await
            });
            let error = result.await.unwrap_err();
            assert!(matches!(error, TenantError::Changed { .. }), "{error}");
            one.assert_clean("it", &fresh, &mark, Changed).await;
        }
    }

    async fn a_nested_read_as_another_tenant_is_independent(db: TestDb) {
        fill(&db).await;
        let (before, inner, after) = for_tenant(&db.database, "acme", async |conn| {
            let before = latest_with_records(conn, 100).await?.len();
            let inner = seen_by(&db.database, "globex").await;
            Ok((before, inner, latest_with_records(conn, 100).await?.len()))
        })
        .await
        .unwrap();
        assert_eq!((before, inner, after), (2, vec!["g.one".to_owned()], 2));
    }
}

/// Later reads would notice it by a statement of their own that diesel has cached.
#[tokio::test]
async fn the_first_read_on_a_connection_that_drops_all_prepared_statements_closes_it() {
    let one = OneConnection::of(TestDb::postgres().await).await;
    let (fresh, mark) = (one.session().await, one.mark().await);
    let dropping = for_tenant(&one.db.database, "acme", async |conn| {
        execute(conn, "DEALLOCATE ALL").await
    });
    let error = dropping.await.unwrap_err();
    assert!(matches!(error, TenantError::Changed { .. }), "{error}");
    one.assert_clean("DEALLOCATE ALL", &fresh, &mark, Changed).await;
}

type Change = for<'a> fn(&'a mut Connection, &'a TestDb) -> Changing<'a>;
type Changing<'a> = std::pin::Pin<Box<dyn Future<Output = QueryResult<()>> + Send + 'a>>;

/// A nested transaction is cut short by a timeout, and keeps its locks.
fn leave_open_transaction<'a>(conn: &'a mut Connection, _: &'a TestDb) -> Changing<'a> {
    async fn cut_short<C: AsyncConnection>(conn: &mut C) {
        let nested = async {
            C::TransactionManager::begin_transaction(conn).await.unwrap();
            std::future::pending::<()>().await
        };
        tokio::time::timeout(Duration::from_millis(50), nested)
            .await
            .unwrap_err();
    }
    Box::pin(async {
        match conn {
            Connection::Postgres(conn) => cut_short::<AsyncPgConnection>(conn).await,
            Connection::Sqlite(conn) => cut_short(&mut **conn).await,
        }
        Ok(())
    })
}

/// A nested transaction is cut short before the database has answered to its beginning. diesel panics when it
/// ends the outer one then, in debug builds.
fn interrupt_begin<'a>(conn: &'a mut Connection, _: &'a TestDb) -> Changing<'a> {
    fn begin_and_drop<C: AsyncConnection>(conn: &mut C) {
        let _ = C::TransactionManager::begin_transaction(conn).now_or_never();
    }
    Box::pin(async {
        match conn {
            Connection::Postgres(conn) => begin_and_drop::<AsyncPgConnection>(conn),
            Connection::Sqlite(conn) => begin_and_drop(&mut **conn),
        }
        Ok(())
    })
}

/// As `transaction` ends one.
fn end_transaction<'a>(conn: &'a mut Connection, _: &'a TestDb) -> Changing<'a> {
    async fn commit<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
        C::TransactionManager::commit_transaction(conn).await
    }
    Box::pin(async {
        match conn {
            Connection::Postgres(conn) => commit::<AsyncPgConnection>(conn).await,
            Connection::Sqlite(conn) => commit(&mut **conn).await,
        }
    })
}

fn replace_connection<'a>(conn: &'a mut Connection, spare: &'a TestDb) -> Changing<'a> {
    Box::pin(async {
        *conn = spare.connection().await;
        Ok(())
    })
}

//! A reader of one tenant sees only its rows, and the next user of the pooled connection inherits nothing.

mod statements;

use std::sync::Arc;

use db_services::audit::{AuditEntry, TenantError, count, for_tenant, insert, latest_with_records};
use db_services::client::{Connection, Database};
use diesel::QueryDsl;
use diesel_async::{AsyncConnection, RunQueryDsl};
use tokio::sync::Notify;

use crate::attacks::fixture::{connect, text};
use crate::support::{TestDb, on_both, wait_for};

/// Inserts two rows of the tenant acme, one of globex, one without a tenant and one with an empty tenant.
async fn fill(db: &TestDb) {
    let mut conn = db.connection().await;
    for (action, tenant) in [
        ("a.one", Some("acme")),
        ("a.two", Some("acme")),
        ("g.one", Some("globex")),
        ("n.one", None),
    ] {
        let entry = AuditEntry::new(action);
        insert(
            &mut conn,
            &tenant.map_or(entry.clone(), |tenant| entry.tenant(tenant)),
        )
        .await
        .unwrap();
    }
    insert(&mut conn, &AuditEntry::new("e.one").tenant(""))
        .await
        .unwrap();
}

async fn seen_by(database: &Database, tenant: &str) -> Vec<String> {
    let rows = for_tenant(database, tenant, async |conn| {
        latest_with_records(conn, 100).await
    })
    .await
    .unwrap();
    let mut actions: Vec<_> = rows.into_iter().map(|row| row.action).collect();
    actions.sort();
    actions
}

/// Counts with a query of the application, without a filter.
async fn own_query(conn: &mut Connection) -> diesel::QueryResult<i64> {
    match conn {
        Connection::Postgres(conn) => {
            db_schema::schema::audit_logs::table
                .count()
                .get_result(conn)
                .await
        }
        Connection::Sqlite(conn) => {
            db_schema::sqlite::schema::audit_logs::table
                .count()
                .get_result(conn)
                .await
        }
    }
}

on_both! {
    async fn a_tenant_sees_its_own_rows_and_no_others(db: TestDb) {
        fill(&db).await;
        assert_eq!(db.count().await, 5, "rows of other tenants are stored");
        assert_eq!(seen_by(&db.database, "acme").await, ["a.one", "a.two"]);
        assert_eq!(seen_by(&db.database, "globex").await, ["g.one"]);
        for nobody in ["ACME", "acme ", " ", "%", "' OR '1'='1", "initech"] {
            assert_eq!(seen_by(&db.database, nobody).await, [""; 0], "{nobody}");
        }
        let counted = for_tenant(&db.database, "acme", async |conn| {
            let within = match conn {
                Connection::Postgres(conn) => conn.transaction(async |conn| {
                    db_schema::schema::audit_logs::table.count().get_result::<i64>(conn).await
                }).await?,
                Connection::Sqlite(conn) => conn.transaction(async |conn| {
                    db_schema::sqlite::schema::audit_logs::table.count().get_result::<i64>(conn).await
                }).await?,
            };
            Ok([count(conn).await?, own_query(conn).await?, within])
        });
        assert_eq!(counted.await.unwrap(), [2, 2, 2]);
        assert_eq!(db.count().await, 5, "the next user of the pool sees all rows");
    }

    async fn a_tenant_without_a_name_is_refused(db: TestDb) {
        fill(&db).await;
        for tenant in ["", "a\0", &"x".repeat(513)] {
            let error = for_tenant(&db.database, tenant, async |conn| count(conn).await).await.unwrap_err();
            assert!(matches!(error, TenantError::Tenant), "{error:?}");
        }
        assert_eq!(seen_by(&db.database, &"x".repeat(512)).await, [""; 0]);
    }

    async fn tenants_whose_names_are_cut_or_changed_share_no_rows(db: TestDb) {
        let long = "t".repeat(511);
        let names = [
            format!("{long}-alice"), format!("{long}-bob"), format!("{long}…"), "nul\0".to_owned(), "nul\u{FFFD}".to_owned(),
        ];
        let mut conn = db.connection().await;
        for name in &names {
            insert(&mut conn, &AuditEntry::new("x").tenant(name)).await.unwrap();
        }
        let mut stored: Vec<_> = db.rows().await.into_iter().map(|row| row.tenant_id.unwrap()).collect();
        stored.sort();
        stored.dedup();
        assert_eq!(stored.len(), names.len());
        // Under the names that these rows have, and under those that they had.
        for other in [&names[2], &names[4]] {
            assert_eq!(seen_by(&db.database, other).await, ["x"], "its own row");
        }
        let cut = stored.iter().filter(|name| !names.iter().any(|other| other == name.as_str()));
        for name in cut.clone().map(|name| name.as_str()).chain(["nul\0", names[0].as_str()]) {
            let error = for_tenant(&db.database, name, async |conn| count(conn).await).await.unwrap_err();
            assert!(matches!(error, TenantError::Tenant), "{error:?}");
        }
        assert_eq!(cut.count(), 3);
    }

    async fn a_tenants_reader_cannot_write(db: TestDb) {
        let write = for_tenant(&db.database, "acme", async |conn| {
            insert(conn, &AuditEntry::new("x").tenant("acme")).await
        });
        assert!(matches!(write.await.unwrap_err(), TenantError::Query(_)));
        assert_eq!(db.count().await, 0);
        // Nor to other tables, for which the reader might have privileges.
        let elsewhere = for_tenant(&db.database, "acme", async |conn| match conn {
            Connection::Postgres(conn) => diesel::sql_query("CREATE TEMP TABLE t ()").execute(conn).await,
            Connection::Sqlite(_) => Err(diesel::result::Error::NotFound),
        });
        assert!(elsewhere.await.is_err());
        insert(&mut db.connection().await, &AuditEntry::new("x").tenant("acme")).await.unwrap();
        assert_eq!(db.count().await, 1);
    }

    async fn the_next_user_of_the_connection_inherits_nothing(db: TestDb) {
        fill(&db).await;
        // One connection remains: the other nine are taken.
        let mut taken = Vec::new();
        while taken.len() < 9 {
            taken.push(db.connection().await);
        }
        let first = session(&db).await;
        assert_eq!(seen_by(&db.database, "acme").await.len(), 2);
        assert_eq!(session(&db).await, first, "the connection is returned to the pool unchanged");

        let failing = for_tenant(&db.database, "acme", async |_| {
            Err::<(), _>(diesel::result::Error::NotFound)
        });
        assert!(matches!(failing.await.unwrap_err(), TenantError::Query(diesel::result::Error::NotFound)));
        assert_eq!(session(&db).await, first);

        let broken = for_tenant(&db.database, "acme", async |conn| match conn {
            Connection::Postgres(conn) => diesel::sql_query("SELECT 1/0").execute(conn).await,
            Connection::Sqlite(conn) => diesel::sql_query("SELECT no_such()").execute(conn).await,
        });
        assert!(matches!(broken.await.unwrap_err(), TenantError::Query(_)));
        assert_eq!(session(&db).await, first);

        let database = db.database.clone();
        let panicking = tokio::spawn(async move {
            for_tenant(&database, "acme", async |conn| {
                assert_eq!(count(conn).await?, 2);
                panic!("on purpose")
            })
            .await
            .map(|(): ()| ())
        });
        assert!(panicking.await.unwrap_err().is_panic());
        assert_no_open_transaction(&db).await;
        assert_eq!(session(&db).await.seen, first.seen, "after a panic");

        let (database, within) = (db.database.clone(), Arc::new(Notify::new()));
        let reached = Arc::clone(&within);
        let cancelled = tokio::spawn(async move {
            for_tenant(&database, "acme", async |conn| {
                assert_eq!(count(conn).await?, 2);
                reached.notify_one();
                std::future::pending::<diesel::QueryResult<()>>().await
            })
            .await
        });
        within.notified().await;
        cancelled.abort();
        assert!(cancelled.await.unwrap_err().is_cancelled());
        assert_no_open_transaction(&db).await;
        assert_eq!(session(&db).await.seen, first.seen, "after a cancellation");
        assert_eq!(seen_by(&db.database, "globex").await, ["g.one"]);
    }
}

/// Asserts that no connection in the pool has an open transaction, which would hold back vacuum.
async fn assert_no_open_transaction(db: &TestDb) {
    if db.is_postgres() {
        let client = connect(&db.url).await;
        let open = "SELECT pid::text FROM pg_stat_activity \
                    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        wait_for("the transaction's end", async || {
            text(&client, open).await.is_empty()
        })
        .await;
    }
}

/// The state of a connection of the pool.
#[derive(Debug, PartialEq)]
struct SessionState {
    /// The server process; empty on SQLite.
    process: String,
    /// Its tenant and role, and the number of rows that it sees.
    seen: (String, i64),
}

async fn session(db: &TestDb) -> SessionState {
    let (process, rights) = if db.is_postgres() {
        let rights = "SELECT coalesce(current_setting('audit.tenant_id', true), '') || '/' || current_user \
                      || '/' || current_setting('transaction_read_only') AS value";
        (
            db.text("SELECT pg_backend_pid()::text AS value").await,
            db.text(rights).await,
        )
    } else {
        let rights = "SELECT count(*) || '/' AS value FROM temp.sqlite_master";
        (String::new(), db.text(rights).await)
    };
    SessionState {
        process,
        seen: (rights, db.count().await),
    }
}

/// Plain SQL of a member of `audit_reader` shows no row, whatever statements ran before.
#[tokio::test]
async fn a_reader_without_a_tenant_sees_no_row() {
    let db = TestDb::postgres().await;
    fill(&db).await;
    let count = "SELECT count(*)::text AS value FROM audit_logs";
    let mut conn = db.connection().await;
    let Connection::Postgres(conn) = &mut conn else {
        panic!("not PostgreSQL")
    };
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        value: String,
    }
    for (before, rows) in [
        ("SET ROLE audit_reader", "0"),
        ("BEGIN; SELECT set_config('audit.tenant_id', 'acme', true)", "2"),
        ("COMMIT", "0"),
        (
            "BEGIN; SELECT set_config('audit.tenant_id', 'acme', true); ROLLBACK",
            "0",
        ),
        ("SELECT set_config('audit.tenant_id', 'acme', true)", "0"),
        ("SELECT set_config('audit.tenant_id', '', false)", "0"),
        ("RESET audit.tenant_id", "0"),
        ("RESET ROLE", "5"),
    ] {
        diesel_async::SimpleAsyncConnection::batch_execute(conn, before)
            .await
            .unwrap();
        let row: Row = diesel::sql_query(count).get_result(conn).await.unwrap();
        assert_eq!(row.value, rows, "after {before}");
    }
}

/// The index on tenants serves the condition of row security.
#[tokio::test]
async fn the_page_of_a_tenant_is_read_from_the_index() {
    let db = TestDb::postgres().await;
    db.sql(
        "INSERT INTO audit_logs (action, tenant_id, created_at) \
         SELECT 'x', 'tenant ' || n % 500, now() - n * interval '1 second' FROM generate_series(1, 20000) AS n; \
         ANALYZE audit_logs",
    )
    .await
    .unwrap();
    let plan = for_tenant(&db.database, "tenant 7", async |conn| {
        let Connection::Postgres(conn) = conn else {
            panic!("not PostgreSQL")
        };
        #[derive(diesel::QueryableByName)]
        struct PlanLine {
            #[diesel(sql_type = diesel::sql_types::Text, column_name = "QUERY PLAN")]
            line: String,
        }
        let page = "EXPLAIN SELECT * FROM audit_logs WHERE created_at > now() - interval '1 day' \
                    ORDER BY created_at DESC LIMIT 50";
        let lines: Vec<PlanLine> = diesel::sql_query(page).get_results(conn).await?;
        Ok(lines
            .into_iter()
            .map(|line| line.line)
            .collect::<Vec<_>>()
            .join("\n"))
    });
    let plan = plan.await.unwrap();
    let condition = "(name((tenant_id)::text) = name(NULLIF(";
    assert!(
        plan.lines()
            .any(|line| line.contains("Index Cond: ") && line.contains(condition)),
        "{plan}"
    );
}

//! The indexes serve pages: a page reads the rows that it returns, not the trail.

use db_test::Postgres;
use diesel::pg::Pg;
use diesel::query_builder::QueryFragment;
use diesel::sql_types::{Integer, Text};
use diesel::sqlite::Sqlite;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use uuid::Uuid;

use super::cursor::Cursor;
use super::filter::{AuditFilter, Condition};
use super::page::Position;
use super::run;
use super::sql::{Dialect, Run, Sql};
use super::{AuditQuery, count, latest};
use crate::audit::for_tenant;
use crate::client::{Connection, Database};

/// A cursor in the middle of 2026-11-02, where the rows below are.
fn positions(dialect: Dialect) -> [Position; 4] {
    let time = "2026-11-02T12:00:00Z".parse().unwrap();
    let cursor = Cursor {
        dialect,
        created_at: super::time::stored(dialect, time),
        id: Uuid::from_u128(u128::MAX / 2),
        fingerprint: 0,
    };
    [
        Position::Newest,
        Position::Oldest,
        Position::OlderThan(cursor.clone()),
        Position::NewerThan(cursor),
    ]
}

/// The plan of each page of a filter.
async fn plans(database: &Database, filter: AuditFilter) -> Vec<String> {
    let mut plans = Vec::new();
    let mut conn = database.connection().await.unwrap();
    let dialect = run::dialect(&conn);
    for position in positions(dialect) {
        // With the settings that a query has.
        let sql = AuditQuery::new(filter.clone()).select(dialect, &position, 51);
        plans.push(plan(&mut conn, sql).await);
    }
    plans
}

async fn plan(conn: &mut Connection, sql: Sql) -> String {
    let lines: Vec<String> = match conn {
        Connection::Postgres(conn) => {
            let sql = sql.explained("EXPLAIN ").returning::<Text>();
            run::postgres(conn, sql).await.unwrap()
        }
        Connection::Sqlite(conn) => {
            let sql = sql.explained("EXPLAIN QUERY PLAN ");
            let sql = sql.returning::<(Integer, Integer, Integer, Text)>();
            let lines: Vec<(i32, i32, i32, String)> = run::sqlite(conn, sql).await.unwrap();
            lines.into_iter().map(|(.., line)| line).collect()
        }
    };
    lines.join("\n")
}

async fn run_sql(database: &Database, sql: &str) {
    match database.connection().await.unwrap() {
        Connection::Postgres(mut conn) => conn.batch_execute(sql).await.unwrap(),
        Connection::Sqlite(mut conn) => conn.batch_execute(sql).await.unwrap(),
    }
}

/// A trail on SQLite, with what `ANALYZE` tells the planner.
async fn on_sqlite() -> Database {
    let database = Database::from_url("sqlite::memory:").unwrap();
    database.migrate().await.unwrap();
    run_sql(
        &database,
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000) \
         INSERT INTO audit_logs (action, tenant_id, actor_id, created_at) \
         SELECT 'a', 't' || (n % 100), 'actor' || (n % 1000), 1793577600000000 + n * 4320000 FROM n; ANALYZE",
    )
    .await;
    database
}

#[tokio::test]
async fn a_page_on_sqlite_is_a_range_of_an_index_in_its_order() {
    let database = on_sqlite().await;
    let tenant = AuditFilter::new().and(Condition::tenant("t7"));
    for (filter, index) in [
        (AuditFilter::new().without_records(), "audit_logs_time"),
        (tenant, "audit_logs_tenant_timeline"),
    ] {
        for plan in plans(&database, filter).await {
            assert!(plan.contains(&format!("USING INDEX {index}")), "{plan}");
            assert!(
                !plan.contains("TEMP B-TREE") && !plan.contains("MULTI-INDEX OR"),
                "{plan}"
            );
        }
    }
    let [newest, _, older, newer] = &plans(&database, AuditFilter::new()).await[..] else {
        panic!("four positions")
    };
    assert!(newest.starts_with("SCAN"), "{newest}");
    assert!(
        older.contains("(created_at<?)") && newer.contains("(created_at>?)"),
        "{older} {newer}"
    );
}

#[tokio::test]
async fn an_actor_on_sqlite_is_looked_up_in_one_pass_over_the_index_alone() {
    let database = on_sqlite().await;
    let since = Condition::since("2026-11-02T00:00:00Z".parse().unwrap());
    for condition in [
        Condition::actor("alice"),
        Condition::request("r"),
        Condition::resource_id("r"),
    ] {
        let filter = AuditFilter::new().and(condition.clone());
        let several = filter.clone().and(Condition::actor("bob"));
        let of_tenant = filter.clone().and(Condition::tenant("t7"));
        for filter in [filter.clone(), several, of_tenant, filter.and(since.clone())] {
            for plan in plans(&database, filter).await {
                assert!(plan.contains("USING COVERING INDEX audit_logs_time"), "{plan}");
                assert_eq!(plan.matches("LIST SUBQUERY").count(), 1, "{plan}");
                assert!(!plan.contains("TEMP B-TREE"), "in the order of the index: {plan}");
            }
        }
        // A negation keeps most rows.
        for plan in plans(&database, AuditFilter::new().and(!condition)).await {
            assert!(!plan.contains("COVERING"), "{plan}");
        }
    }
}

#[tokio::test]
async fn the_pass_over_the_index_on_sqlite_reads_the_times_of_the_query_alone() {
    let database = on_sqlite().await;
    let alice = AuditFilter::new().and(Condition::actor("alice"));
    let time = "2026-11-02T00:00:00Z".parse().unwrap();
    let within =
        |range: &str| format!("SEARCH audit_logs USING COVERING INDEX audit_logs_time (created_at{range}");
    let assert_ranges = async |filter: AuditFilter, ranges: [&str; 4]| {
        for (plan, range) in plans(&database, filter).await.iter().zip(ranges) {
            let pass = match range {
                "" => "SCAN audit_logs USING COVERING INDEX audit_logs_time".to_owned(),
                range => within(range),
            };
            assert!(plan.contains(&pass), "{range}: {plan}");
        }
    };
    let (since, until) = (Condition::since(time), Condition::until(time));
    let both = ">? AND created_at<?)";
    assert_ranges(alice.clone(), ["", "", "<?)", ">?)"]).await;
    assert_ranges(alice.clone().and(since.clone()), [">?)", ">?)", both, ">?)"]).await;
    assert_ranges(alice.clone().and(until.clone()), ["<?)", "<?)", "<?)", both]).await;
    // A negated time is the other end.
    assert_ranges(alice.clone().and(!until), [">?)", ">?)", both, ">?)"]).await;
    assert_ranges(alice.and(!since), ["<?)", "<?)", "<?)", both]).await;
}

#[tokio::test]
async fn statements_without_a_time_limit_stay_prepared_and_need_no_function() {
    let database = Database::from_url("sqlite::memory:").unwrap();
    database.migrate().await.unwrap();
    let mut conn = database.connection().await.unwrap();
    latest(&mut conn, 5).await.unwrap();
    count(&mut conn).await.unwrap();
    let function = "SELECT audit_in_time(0)";
    let Connection::Sqlite(sqlite) = &mut conn else {
        panic!("PostgreSQL")
    };
    let error = sqlite.batch_execute(function).await.unwrap_err();
    assert!(error.to_string().contains("no such function"), "{error}");
    let query = AuditQuery::new(AuditFilter::new());
    query.count(&mut conn, 5).await.unwrap();
    let Connection::Sqlite(sqlite) = &mut conn else {
        panic!("PostgreSQL")
    };
    sqlite.batch_execute(function).await.unwrap();
    for (query, is_kept) in [(AuditQuery::unlimited(AuditFilter::new()), true), (query, false)] {
        let sql = |dialect| query.select(dialect, &Position::Newest, 51).returning::<Text>();
        let on_sqlite = QueryFragment::<Sqlite>::is_safe_to_cache_prepared(&sql(Dialect::Sqlite), &Sqlite);
        let on_postgres = QueryFragment::<Pg>::is_safe_to_cache_prepared(&sql(Dialect::Postgres), &Pg);
        assert_eq!((on_sqlite.unwrap(), on_postgres.unwrap()), (is_kept, is_kept));
    }
}

/// Rows as wide as real ones: the planner compares their size with that of the index.
#[tokio::test]
async fn an_actor_on_postgres_is_a_condition_of_the_index_in_the_order_of_time() {
    let postgres = Postgres::migrated().unwrap();
    let database = Database::from_url(postgres.url()).unwrap();
    run_sql(
        &database,
        "INSERT INTO audit_logs (action, actor_id, resource_id, request_id, user_agent, created_at) \
         SELECT 'a', 'actor' || n % 1000, 'thing' || n % 1000, 'request' || n, repeat('browser ', 20), now() - n * interval '1 s' \
         FROM generate_series(1, 20000) n; ANALYZE audit_logs",
    )
    .await;
    for (condition, column) in [
        (Condition::actor("actor7"), "actor_id"),
        (Condition::resource_id("thing7"), "resource_id"),
        (Condition::request("request7"), "request_id"),
    ] {
        let plans = plans(&database, AuditFilter::new().and(condition)).await;
        let [newest, ..] = &plans[..] else {
            panic!("four positions")
        };
        let condition = format!("Index Cond: (name(({column})::text)");
        assert!(newest.contains(&condition), "{newest}");
    }
}

#[tokio::test]
async fn a_page_on_postgres_reads_an_index_of_the_months_that_it_may_need() {
    let postgres = Postgres::migrated().unwrap();
    let database = Database::from_url(postgres.url()).unwrap();
    run_sql(
        &database,
        "SELECT audit_logs_ensure_partitions('2026-09-01', '2026-12-31'); \
         INSERT INTO audit_logs (id, action, tenant_id, created_at) \
         SELECT gen_random_uuid(), 'a', 't' || (n % 100), '2026-11-02'::timestamptz + n * interval '4 s' \
         FROM generate_series(1, 20000) n; ANALYZE audit_logs",
    )
    .await;
    let plans = plans(&database, AuditFilter::new().and(Condition::tenant("t7"))).await;
    for plan in &plans {
        assert!(
            plan.contains("Index") && !plan.contains("Seq Scan on audit_logs_2026_11"),
            "{plan}"
        );
    }
    let [_, _, older, newer] = &plans[..] else {
        panic!("four positions")
    };
    assert!(
        older.contains("audit_logs_2026_10") && !older.contains("audit_logs_2026_12"),
        "{older}"
    );
    assert!(
        newer.contains("audit_logs_2026_12") && !newer.contains("audit_logs_2026_10"),
        "{newer}"
    );
}

#[tokio::test]
async fn an_id_on_sqlite_is_looked_up_in_the_primary_key_whatever_the_filter() {
    let database = on_sqlite().await;
    let mut conn = database.connection().await.unwrap();
    let query = AuditQuery::new(
        [Condition::tenant("t7"), Condition::actor("actor7")]
            .into_iter()
            .collect(),
    );
    let plan = plan(&mut conn, query.select_id(Dialect::Sqlite, Uuid::nil())).await;
    assert_eq!(plan, "SEARCH audit_logs USING PRIMARY KEY (id=?)");
}

/// A row has a time, so that a negated time is one range as well.
#[tokio::test]
async fn a_negated_time_is_a_range_of_the_index_on_both_databases() {
    let postgres = Postgres::migrated().unwrap();
    let on_postgres = Database::from_url(postgres.url()).unwrap();
    run_sql(
        &on_postgres,
        "SELECT audit_logs_ensure_partitions('2026-09-01', '2026-12-31')",
    )
    .await;
    let time = "2026-11-02T00:00:00Z".parse().unwrap();
    for (condition, range, other_month) in [
        (!Condition::since(time), "<", "2026_12"),
        (!Condition::until(time), ">", "2026_10"),
    ] {
        let filter = AuditFilter::new().and(condition);
        let plan = &plans(&on_sqlite().await, filter.clone()).await[0];
        assert!(
            plan.contains(&format!("audit_logs_time (created_at{range}?)")),
            "{plan}"
        );
        let plan = &plans(&on_postgres, filter).await[0];
        assert!(
            plan.contains("audit_logs_2026_11") && !plan.contains(other_month),
            "{plan}"
        );
    }
}

/// The settings of the planner that a statement has.
async fn settings(conn: &mut AsyncPgConnection, run: Run) -> String {
    let shown = "SELECT current_setting('random_page_cost') || ' ' || current_setting('jit')";
    let sql = Sql::new(Dialect::Postgres, run, shown);
    let found: Vec<String> = run::postgres(conn, sql.returning::<Text>()).await.unwrap();
    found.concat()
}

#[tokio::test]
async fn the_planner_of_postgres_prefers_an_index_in_a_query_and_for_a_tenant_alone() {
    let postgres = Postgres::migrated().unwrap();
    let database = Database::from_url(postgres.url()).unwrap();
    let limited = Run::Within(AuditQuery::TIME_LIMIT);
    let mut conn = database.connection().await.unwrap();
    let Connection::Postgres(pg) = &mut conn else {
        panic!("SQLite")
    };
    pg.batch_execute("SET random_page_cost = 4; SET jit = on")
        .await
        .unwrap();
    assert_eq!(settings(pg, limited).await, "1.1 off");
    assert_eq!(settings(pg, Run::Prepared).await, "4 on");
    drop(conn);
    let in_tenant = for_tenant(&database, "acme", async |conn| {
        let Connection::Postgres(pg) = conn else {
            panic!("SQLite")
        };
        Ok([
            settings(pg, Run::Prepared).await,
            settings(pg, limited).await,
            settings(pg, Run::Prepared).await,
        ])
    });
    assert_eq!(in_tenant.await.unwrap(), ["1.1 on", "1.1 off", "1.1 on"]);
    let mut conn = database.connection().await.unwrap();
    let Connection::Postgres(pg) = &mut conn else {
        panic!("SQLite")
    };
    assert_eq!(
        settings(pg, Run::Prepared).await,
        "4 on",
        "the session is left as it was"
    );
}

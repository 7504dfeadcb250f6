//! Drops of months on which others depend, and of months in another schema.

use audit_ops::retention::RetentionPolicy;
use tokio_postgres::Client;

use super::{aged, assert_drop_refused, drop_month, rule, verdict};
use crate::attacks::fixture::connect;
use crate::support::TestDb;

const KINDS: [&str; 6] = [
    "view",
    "materialized view",
    "function",
    "rule",
    "policy",
    "column",
];

/// Creates objects that depend on a month, which takes no right on it, in a schema of the login's own.
fn dependents(part: &str) -> String {
    format!(
        "CREATE VIEW v AS SELECT * FROM public.{part}; CREATE VIEW on_v AS SELECT 1 AS x FROM v; \
         CREATE TEMP VIEW temporary AS SELECT action FROM public.{part}; \
         CREATE MATERIALIZED VIEW m AS SELECT * FROM public.{part} WITH NO DATA; \
         CREATE FUNCTION f(x public.{part}) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         CREATE FUNCTION pg_temp.g() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM public.{part}; END; \
         CREATE TABLE mine (entry public.{part}, seen v, several public.{part}[], kept int DEFAULT 7); \
         INSERT INTO mine DEFAULT VALUES; \
         CREATE RULE r AS ON DELETE TO mine DO ALSO UPDATE public.{part} SET action = 'x'; \
         CREATE POLICY p ON mine USING (EXISTS (SELECT FROM public.{part}))"
    )
}

async fn plain_login(db: &TestDb) -> Client {
    let login = format!(
        "plain_{}",
        db.url.rsplit('/').next().unwrap().replace(['-', '?'], "_")
    );
    db.sql(&format!(
        "CREATE ROLE {login}; CREATE SCHEMA app AUTHORIZATION {login}; \
         GRANT TEMP ON DATABASE {} TO {login}",
        db.text("SELECT quote_ident(current_database()) AS value").await
    ))
    .await
    .unwrap();
    let client = connect(&db.url).await;
    client
        .batch_execute(&format!("SET ROLE {login}; SET search_path = app"))
        .await
        .unwrap();
    client
}

#[tokio::test]
async fn nothing_that_a_login_without_rights_makes_keeps_a_month_from_being_dropped() {
    let (db, parts) = aged(20).await;
    let plain = plain_login(&db).await;
    plain.batch_execute(&dependents(&parts[0])).await.unwrap();
    assert!(
        plain.batch_execute("SELECT FROM v").await.is_err(),
        "it has no right"
    );
    let plain_drop = db.sql(&format!("DROP TABLE {}", parts[0])).await.unwrap_err();
    assert!(plain_drop.contains("other objects depend on it"), "{plain_drop}");
    let found = db
        .text(&format!(
            "SELECT string_agg(description, '; ') AS value FROM audit_retention_dependents('{{{}}}')",
            parts[0]
        ))
        .await;
    for kind in KINDS {
        assert!(found.contains(kind), "{kind}: {found}");
    }
    assert_eq!(drop_month(&db, &parts[0], &rule()).await, Ok(1));
    assert_eq!(db.text("SELECT kept::text AS value FROM app.mine").await, "7");
    let rest =
        "SELECT count(*)::text AS value FROM pg_class WHERE relname IN ('v', 'on_v', 'm', 'temporary')";
    assert_eq!(db.text(rest).await, "0");
}

#[tokio::test]
async fn what_somebody_who_may_read_a_month_has_made_on_it_is_named_and_kept() {
    let (db, parts) = aged(20).await;
    db.sql(&format!("CREATE VIEW of_superuser AS SELECT * FROM {}", parts[0]))
        .await
        .unwrap();
    let plain = plain_login(&db).await;
    plain.batch_execute(&dependents(&parts[0])).await.unwrap();
    let why = "cannot be dropped, because of: view public.of_superuser of ";
    assert_drop_refused(&db, &parts[0], &rule(), why).await;
    assert_eq!(
        db.text("SELECT count(*)::text AS value FROM of_superuser").await,
        "3"
    );
    // Another one who uses what the login made, and may read the month.
    db.sql("DROP VIEW of_superuser; CREATE VIEW of_superuser AS SELECT * FROM app.v")
        .await
        .unwrap();
    assert_drop_refused(&db, &parts[0], &rule(), why).await;
    db.sql("DROP VIEW of_superuser").await.unwrap();
    assert_eq!(drop_month(&db, &parts[0], &rule()).await, Ok(1));
}

#[tokio::test]
async fn a_month_in_another_schema_is_dropped_and_a_table_of_its_name_is_not() {
    let (db, parts) = aged(20).await;
    let policy = RetentionPolicy {
        max_months: 9,
        ..rule()
    };
    db.sql(&format!(
        "CREATE SCHEMA cold; ALTER TABLE {0} SET SCHEMA cold; ALTER TABLE {1} SET SCHEMA cold; \
         CREATE TABLE {0} AS SELECT 1 AS x",
        parts[0], parts[1]
    ))
    .await
    .unwrap();
    for part in &parts[..2] {
        assert_eq!(verdict(&db, part).await, "drop");
        assert!(drop_month(&db, part, &policy).await.is_ok(), "{part}");
        let moved = format!("SELECT count(to_regclass('cold.{part}'))::text AS value");
        assert_eq!(db.text(&moved).await, "0", "{part}");
    }
    assert_eq!(db.count().await, 63 - 6);
    let decoy = format!("SELECT x::text AS value FROM {}", parts[0]);
    assert_eq!(db.text(&decoy).await, "1");
    // A table of the name alone is no month.
    assert_eq!(verdict(&db, &parts[0]).await, "gone");
}

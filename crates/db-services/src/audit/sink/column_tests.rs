//! A column of `audit_logs` is known wherever a row passes: on both databases, to the writer's role, to the
//! insert, the limits, the spool's lines and JSON entries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use db_schema::{AuditLog, NewAuditLog};
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::test_database::{TestDatabase, TestSink};
use super::{Attempt, OnConflict};
use crate::audit::{self, AuditConnection, AuditEntry};
use crate::client::{Connection, Database};

/// The columns that the database sets.
const BY_DATABASE: [&str; 2] = ["recorded_at", "tx_id"];
/// The columns that the writer sets.
const BY_WRITER: [&str; 2] = ["writer_id", "writer_seq"];

#[derive(Debug, QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

async fn connection(db: &TestDatabase) -> Connection {
    Database::from_url(&db.url).unwrap().connection().await.unwrap()
}

async fn columns(db: &TestDatabase, sql: &str) -> BTreeMap<String, String> {
    let columns: Vec<Column> = match &mut connection(db).await {
        Connection::Postgres(conn) => diesel::sql_query(sql).load(conn).await.unwrap(),
        Connection::Sqlite(conn) => diesel::sql_query(sql).load(conn).await.unwrap(),
    };
    columns
        .into_iter()
        .map(|column| (column.name, column.kind))
        .collect()
}

/// The columns of the PostgreSQL table with their types.
async fn postgres_columns(db: &TestDatabase) -> BTreeMap<String, String> {
    let sql = "SELECT column_name::text AS name, data_type::text AS kind FROM information_schema.columns \
               WHERE table_schema = current_schema() AND table_name = 'audit_logs'";
    columns(db, sql).await
}

/// A row with a value in each column that a client may set, and the columns.
fn full_row(columns: &BTreeMap<String, String>) -> NewAuditLog {
    let by_client = columns
        .iter()
        .filter(|(name, _)| !BY_DATABASE.contains(&name.as_str()));
    let object: Map<String, Value> = by_client
        .map(|(name, kind)| {
            let value = match (name.as_str(), kind.as_str()) {
                ("outcome", _) => json!("denied"),
                (_, "text") => json!(format!("the {name}")),
                (_, "uuid") => json!("018f3a2e-7b1c-7def-8000-0123456789ab"),
                (_, "bigint") => json!(7),
                (_, "inet") => json!("203.0.113.7/32"),
                (_, "jsonb") => json!("{\"a\": 1}"),
                (_, "timestamp with time zone") => json!(1_700_000_000_123_456_i64),
                (name, kind) => panic!("{name} is of the new type {kind}: what is a value of it?"),
            };
            (name.clone(), value)
        })
        .collect();
    serde_json::from_value(Value::Object(object)).unwrap()
}

fn object(value: impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value).unwrap() {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn names<'a>(all: impl IntoIterator<Item = &'a String>, without: &[&str]) -> BTreeSet<String> {
    all.into_iter()
        .filter(|name| !without.contains(&name.as_str()))
        .cloned()
        .collect()
}

#[tokio::test]
async fn both_databases_have_the_same_columns() {
    let [postgres, sqlite] = TestDatabase::both().await;
    let of_sqlite = "SELECT name, type AS kind FROM pragma_table_info('audit_logs')";
    let of_sqlite = columns(&sqlite, of_sqlite).await;
    let of_postgres = postgres_columns(&postgres).await;
    assert_eq!(names(of_postgres.keys(), &[]), names(of_sqlite.keys(), &[]));
}

#[tokio::test]
async fn the_writers_role_may_set_each_column_that_a_client_sets() {
    let db = TestDatabase::postgres();
    let granted = "SELECT column_name::text AS name, privilege_type::text AS kind \
                   FROM information_schema.column_privileges \
                   WHERE table_schema = current_schema() AND table_name = 'audit_logs' \
                     AND privilege_type = 'INSERT' AND grantee = audit_role('writer')";
    let granted = columns(&db, granted).await;
    let columns = postgres_columns(&db).await;
    assert_eq!(names(granted.keys(), &[]), names(columns.keys(), &BY_DATABASE));
}

#[tokio::test]
async fn each_statement_inserts_each_column_and_a_query_reads_it() {
    let databases = TestDatabase::both().await;
    let columns = postgres_columns(&databases[0]).await;
    let row = full_row(&columns);
    // The JSON of a row is its line in a spool file.
    assert_eq!(
        names(object(&row).keys(), &[]),
        names(columns.keys(), &BY_DATABASE)
    );
    let rows = |count| -> Vec<NewAuditLog> {
        std::iter::repeat_with(|| NewAuditLog {
            id: Uuid::now_v7(),
            ..row.clone()
        })
        .take(count)
        .collect()
    };
    for db in databases {
        let mut sink = TestSink::to(&db.url);
        for (count, attempt) in [(1, Attempt::First), (2, Attempt::First), (1, Attempt::Retry)] {
            let batch = Arc::new(rows(count).into_iter().map(Into::into).collect());
            sink.attempt(&batch, attempt).await.unwrap();
        }
        let mut conn = connection(&db).await;
        for on_conflict in [OnConflict::Error, OnConflict::DoNothing] {
            conn.insert_rows(rows(1), on_conflict).await.unwrap();
        }
        let stored: Vec<AuditLog> = audit::latest_with_records(&mut conn, 10).await.unwrap();
        assert_eq!(stored.len(), 6);
        for row in stored {
            let row = object(row);
            assert_eq!(names(row.keys(), &[]), names(columns.keys(), &[]));
            let nulls: Vec<_> = row.iter().filter(|(_, value)| value.is_null()).collect();
            assert!(nulls.is_empty(), "{nulls:?}");
        }
    }
}

#[tokio::test]
async fn the_json_of_an_entry_has_each_column_of_a_caller_and_each_text_has_a_limit() {
    let columns = postgres_columns(&TestDatabase::postgres()).await;
    let mut json = object(full_row(&columns));
    for name in BY_WRITER {
        json.remove(name).unwrap();
    }
    json.insert("created_at".to_owned(), json!("2026-11-23T07:44:01Z"));
    json.insert("ip_address".to_owned(), json!("203.0.113.7"));
    json.insert("metadata".to_owned(), json!({"a": 1}));
    let texts: Vec<_> = columns
        .iter()
        .filter(|(name, kind)| *kind == "text" && *name != "outcome")
        .map(|(name, _)| name.clone())
        .collect();
    assert!(texts.len() >= 10, "{texts:?}");
    for name in &texts {
        json.insert(name.clone(), json!("x".repeat(10_000)));
    }
    let entry: AuditEntry = serde_json::from_value(Value::Object(json)).unwrap();
    let row = object(NewAuditLog::from(&entry));
    assert_eq!(
        names(row.keys(), &[]),
        names(columns.keys(), &[&BY_DATABASE[..], &BY_WRITER[..]].concat())
    );
    let metadata: Value = serde_json::from_str(row["metadata"].as_str().unwrap()).unwrap();
    for name in &texts {
        let length = row[name].as_str().unwrap().chars().count();
        assert!(
            length <= audit::limits::RESOURCE_ID_CHARS,
            "{name} has {length} characters"
        );
        assert_eq!(metadata["_audit"]["cut"][name]["bytes"], 10_000, "{name}");
    }
}

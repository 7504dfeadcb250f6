//! The PRAGMAs of SQLite that a read as one tenant changes. This is a process of its own because the limits of the heap
//! are those of the process.
#![allow(clippy::unwrap_used)]

use db_services::audit::{TenantError, for_tenant};
use db_services::client::{Connection, Database};
use diesel::dsl::sql;
use diesel::sql_types::{Nullable, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};

/// They affect only speed.
const SPEED: [&str; 5] = [
    "analysis_limit",
    "automatic_index",
    "cache_spill",
    "mmap_size",
    "threads",
];

/// Some PRAGMAs take numbers, others words.
const VALUES: [&str; 8] = [
    "0",
    "1",
    "2",
    "7",
    "1099511627776",
    "memory",
    "truncate",
    "exclusive",
];

/// They are noticed, but remain: they are settings of the process. A limit of the heap cannot be raised again, so this one is
/// beyond the memory of any machine. The hard limit lowers the soft one. SQLite refuses the directory after it was set.
const OF_THE_PROCESS: [(&str, &str); 3] = [
    ("soft_heap_limit", "1099511627776"),
    ("hard_heap_limit", "1099511627775"),
    ("temp_store_directory", "'/tmp'"),
];

async fn execute(conn: &mut Connection, statement: &str) -> diesel::QueryResult<()> {
    match conn {
        Connection::Postgres(_) => panic!("SQLite only"),
        Connection::Sqlite(conn) => conn.batch_execute(statement).await,
    }
}

async fn rows(database: &Database, statement: &str) -> Vec<Option<String>> {
    let query = sql::<Nullable<Text>>(statement);
    match &mut database.connection().await.unwrap() {
        Connection::Postgres(_) => panic!("SQLite only"),
        Connection::Sqlite(conn) => query.load(conn).await.unwrap_or_default(),
    }
}

/// True if the change was noticed. Otherwise it asserts that the next user of the connection finds no change.
async fn is_noticed(database: &Database, name: &str, value: &str) -> bool {
    let query = format!("PRAGMA {name}");
    let before = rows(database, &query).await;
    let statement = format!("PRAGMA {name} = {value}");
    let read = for_tenant(database, "acme", async |conn| execute(conn, &statement).await).await;
    match read {
        Err(TenantError::Changed { .. }) => true,
        Ok(()) | Err(TenantError::Query(_)) => {
            assert_eq!(rows(database, &query).await, before, "after {statement}");
            false
        }
        Err(error) => panic!("{statement}: {error}"),
    }
}

#[tokio::test]
async fn each_pragma_that_outlives_a_read_as_one_tenant_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let database =
        Database::from_url(&format!("sqlite://{}", dir.path().join("audit.db").display())).unwrap();
    database.migrate().await.unwrap();
    let names: Vec<String> = rows(&database, "SELECT name FROM pragma_pragma_list ORDER BY name")
        .await
        .into_iter()
        .flatten()
        .collect();
    assert!(names.len() > 50, "{names:?}");
    let is_examined = |name: &&String| {
        !SPEED.contains(&name.as_str()) && OF_THE_PROCESS.iter().all(|(other, _)| other != name)
    };
    let mut noticed = Vec::new();
    for name in names.iter().filter(is_examined) {
        let mut was_noticed = false;
        for value in VALUES {
            was_noticed |= is_noticed(&database, name, value).await;
        }
        if was_noticed {
            noticed.push(name.as_str());
        }
    }
    for name in [
        "secure_delete",
        "journal_size_limit",
        "query_only",
        "busy_timeout",
    ] {
        assert!(noticed.contains(&name), "{name}: {noticed:?}");
    }
    for (name, value) in OF_THE_PROCESS {
        let statement = format!("PRAGMA {name} = {value}");
        let read = for_tenant(&database, "acme", async |conn| {
            let _ = execute(conn, &statement).await;
            Ok(())
        });
        let error = read.await.unwrap_err();
        assert!(
            matches!(error, TenantError::Changed { .. }),
            "{statement}: {error}"
        );
    }
}

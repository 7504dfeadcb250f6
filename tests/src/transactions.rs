//! An insert on the caller's connection is part of the caller's transaction.

use db_services::audit::{AuditConnection, AuditEntry, insert, insert_many};
use db_services::client::Connection;
use diesel::result::Error;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use uuid::Uuid;

use crate::support::{TestDb, add_skipping_trigger, make_requests_unique, numbered, on_both};

/// Commits one entry, rolls another back.
async fn commit_and_roll_back<C: AsyncConnection + AuditConnection>(conn: &mut C) {
    conn.begin().await;
    insert(conn, &AuditEntry::new("kept")).await.unwrap();
    insert_many(conn, &numbered(10).collect::<Vec<_>>())
        .await
        .unwrap();
    conn.end("COMMIT").await;
    conn.begin().await;
    insert(conn, &AuditEntry::new("undone")).await.unwrap();
    conn.end("ROLLBACK").await;
}

/// Transactions through the driver's transaction manager, which tracks nesting.
trait Transaction {
    async fn begin(&mut self);
    async fn end(&mut self, how: &str);
}

impl<C: AsyncConnection> Transaction for C {
    async fn begin(&mut self) {
        use diesel_async::TransactionManager;
        C::TransactionManager::begin_transaction(self).await.unwrap();
    }

    async fn end(&mut self, how: &str) {
        use diesel_async::TransactionManager;
        match how {
            "COMMIT" => C::TransactionManager::commit_transaction(self).await.unwrap(),
            _ => C::TransactionManager::rollback_transaction(self).await.unwrap(),
        }
    }
}

on_both! {
    async fn an_insert_is_committed_or_rolled_back_with_its_transaction(db: TestDb) {
        match &mut db.connection().await {
            Connection::Postgres(conn) => commit_and_roll_back(conn).await,
            Connection::Sqlite(conn) => commit_and_roll_back(conn).await,
        }
        let rows = db.rows().await;
        assert_eq!(rows.len(), 11);
        assert!(rows.iter().all(|row| row.action != "undone"));
        assert!(rows.iter().all(|row| row.writer_id.is_none() && row.writer_seq.is_none()));
    }

    async fn a_duplicate_is_an_error_for_insert_and_skipped_by_insert_many(db: TestDb) {
        let mut conn = db.connection().await;
        // With ids: without them, each call would insert new rows.
        let entries: Vec<_> = numbered(2_500).map(|entry| entry.id(Uuid::now_v7())).collect();
        assert_eq!(insert_many(&mut conn, &entries).await.unwrap(), 2_500);
        assert_eq!(insert_many(&mut conn, &entries).await.unwrap(), 0);
        let more: Vec<_> = entries.iter().take(10).cloned().chain(numbered(5)).collect();
        assert_eq!(insert_many(&mut conn, &more).await.unwrap(), 5);
        assert!(insert(&mut conn, &entries[0]).await.is_err());
        assert_eq!(insert_many(&mut conn, &[]).await.unwrap(), 0);
        drop(conn);
        assert_eq!(db.count().await, 2_505);
    }
}

on_both! {
    async fn an_entry_that_a_trigger_skips_is_an_error(db: TestDb) {
        add_skipping_trigger(&db).await;
        let mut conn = db.connection().await;
        let skipped = || AuditEntry::new("skipped");
        let error = insert(&mut conn, &skipped()).await.unwrap_err().to_string();
        assert!(error.contains("a trigger or rule of audit_logs skipped the row"), "{error}");
        let entries = [AuditEntry::new("kept").id(Uuid::now_v7()), skipped()];
        for _ in 0..2 {
            let error = insert_many(&mut conn, &entries).await.unwrap_err().to_string();
            assert!(error.contains("a trigger or rule of audit_logs skipped the row"), "{error}");
        }
        // The other entry is stored, and skipped when it is inserted again.
        insert_many(&mut conn, &entries[..1]).await.unwrap();
        assert_eq!(insert_many(&mut conn, &entries[..1]).await.unwrap(), 0);
        drop(conn);
        assert_eq!(db.count().await, 1);
    }

    async fn an_entry_that_another_unique_index_rejects_is_not_a_duplicate(db: TestDb) {
        make_requests_unique(&db).await;
        let mut conn = db.connection().await;
        let request = |action: &str| AuditEntry::new(action).request_id("r1");
        insert(&mut conn, &request("first")).await.unwrap();
        for entries in [vec![request("second")], vec![AuditEntry::new("other"), request("second")]] {
            let error = insert_many(&mut conn, &entries).await.unwrap_err().to_string();
            assert!(error.contains("request_id"), "{error}");
        }
        drop(conn);
        assert!(db.rows().await.iter().all(|row| row.action != "second"));
    }

    async fn a_transaction_continues_after_entries_that_are_stored_already(db: TestDb) {
        let entries: Vec<_> = numbered(10).map(|entry| entry.id(Uuid::now_v7())).collect();
        insert_many(&mut db.connection().await, &entries).await.unwrap();
        if db.is_postgres() {
            db.sql("DROP FUNCTION audit_logs_lookup").await.unwrap();
        }
        match &mut db.connection().await {
            Connection::Postgres(conn) => insert_duplicates_in_a_transaction(conn, &entries).await,
            Connection::Sqlite(conn) => insert_duplicates_in_a_transaction(conn, &entries).await,
        }
        assert_eq!(db.count().await, 11);
    }
}

async fn insert_duplicates_in_a_transaction<C: AsyncConnection + AuditConnection>(
    conn: &mut C,
    entries: &[AuditEntry],
) {
    conn.begin().await;
    assert_eq!(insert_many(conn, entries).await.unwrap(), 0);
    insert(conn, &AuditEntry::new("after")).await.unwrap();
    conn.end("COMMIT").await;
}

/// A transaction waits for another one's row with the same key.
#[tokio::test(flavor = "multi_thread")]
async fn two_imports_of_the_same_entries_in_opposite_orders_do_not_deadlock() {
    let db = TestDb::postgres().await;
    // Each has inserted its first row before the other one inserts its second.
    db.sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$; \
         CREATE TRIGGER wait BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    .await
    .unwrap();
    let entries: Vec<_> = numbered(2).map(|entry| entry.id(Uuid::now_v7())).collect();
    let reversed: Vec<_> = entries.iter().rev().cloned().collect();
    let (mut one, mut other) = (db.connection().await, db.connection().await);
    let (one, other) = tokio::join!(
        insert_many(&mut one, &entries),
        insert_many(&mut other, &reversed)
    );
    assert_eq!((one.unwrap() + other.unwrap(), db.count().await), (2, 2));
}

/// As `insert` documents.
#[tokio::test]
async fn an_ignored_error_of_an_insert_rolls_its_transaction_back_without_an_error() {
    let db = TestDb::postgres().await;
    let stored = AuditEntry::new("stored").id(Uuid::now_v7());
    insert(&mut db.connection().await, &stored).await.unwrap();
    let Connection::Postgres(conn) = &mut db.connection().await else {
        panic!("not PostgreSQL")
    };
    let ignored = conn.transaction::<_, Error, _>(async |conn| {
        insert(conn, &AuditEntry::new("with.it")).await?;
        let _ = insert(conn, &stored).await;
        Ok(())
    });
    ignored.await.unwrap();
    assert_eq!(db.count().await, 1);
}

/// Like an application, with its own connection.
#[tokio::test]
async fn an_entry_can_be_inserted_in_a_transaction_of_the_application() {
    let db = TestDb::postgres().await;
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    conn.batch_execute("CREATE TABLE accounts (name text)")
        .await
        .unwrap();
    let failed: Result<(), Error> = conn
        .transaction(async |conn| {
            conn.batch_execute("INSERT INTO accounts VALUES ('alice')")
                .await?;
            insert(conn, &AuditEntry::new("account.create").actor("alice")).await?;
            Err(Error::RollbackTransaction)
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(
        (
            db.count().await,
            db.text("SELECT count(*)::text AS value FROM accounts").await
        ),
        (0, "0".to_owned())
    );
    conn.transaction::<_, Error, _>(async |conn| insert(conn, &AuditEntry::new("account.create")).await)
        .await
        .unwrap();
    assert_eq!(db.count().await, 1);
}

/// Only the row type, with synchronous diesel.
#[tokio::test]
async fn a_row_can_be_inserted_with_synchronous_diesel() {
    use diesel::prelude::*;
    let db = TestDb::sqlite().await;
    let path = db.database.sqlite_path().unwrap().to_str().unwrap();
    let mut conn = SqliteConnection::establish(path).unwrap();
    let row = db_schema::NewAuditLog::from(&AuditEntry::new("by.diesel").actor("alice"));
    diesel::RunQueryDsl::execute(
        diesel::insert_into(db_schema::sqlite::schema::audit_logs::table)
            .values(db_schema::sqlite::NewAuditLog::from(&row)),
        &mut conn,
    )
    .unwrap();
    let stored: db_schema::AuditLog =
        diesel::RunQueryDsl::first(db_schema::sqlite::schema::audit_logs::table, &mut conn).unwrap();
    assert_eq!((stored.id, stored.actor_id.as_deref()), (row.id, Some("alice")));
}

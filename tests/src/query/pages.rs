//! A walk over the pages returns each row that was there at its start once, while others insert.

use std::collections::HashSet;
use std::time::Instant;

use chrono::{TimeDelta, Utc};
use db_services::audit::query::{
    AuditFilter, AuditQuery, Condition, Count, Cursor, CursorError, Order, Page, Position, QueryError,
};
use db_services::audit::{AuditEntry, AuditLog, insert};
use db_services::client::{Connection, Database};
use futures_util::TryStreamExt;
use uuid::Uuid;

use super::events::{EVENTS, import};
use crate::support::{TIMEOUT, TestDb, on_both};

const WRITERS: usize = 8;
const ROWS_EACH: usize = 40;

/// The events, what is imported with them, and what the writers insert.
const ALL_ROWS: usize = 1_285 + 3 + WRITERS * ROWS_EACH;

/// What the end of a page leads to.
fn next(page: &Page, order: Order) -> Option<Position> {
    let text = |cursor: &Option<Cursor>| cursor.as_ref().map(|cursor| cursor.to_string().parse().unwrap());
    match order {
        Order::NewestFirst => text(&page.older).map(Position::OlderThan),
        Order::OldestFirst => text(&page.newer).map(Position::NewerThan),
    }
}

/// The ids of all rows from one end to the other, in the order of the walk.
async fn walk(conn: &mut Connection, query: &AuditQuery, order: Order, size: u32) -> Vec<Uuid> {
    let mut ids = Vec::new();
    let mut position = match order {
        Order::NewestFirst => Position::Newest,
        Order::OldestFirst => Position::Oldest,
    };
    loop {
        let page = query.page(conn, &position, size).await.unwrap();
        assert!(
            !(page.has_more && page.rows.is_empty()),
            "a page that is not the last has rows"
        );
        assert!(
            page.rows
                .is_sorted_by_key(|row| std::cmp::Reverse((row.created_at, row.id)))
        );
        let page_ids = page.rows.iter().map(|row| row.id);
        match order {
            Order::NewestFirst => ids.extend(page_ids),
            Order::OldestFirst => ids.extend(page_ids.rev()),
        }
        assert!(ids.len() <= ALL_ROWS, "no row comes twice");
        match next(&page, order) {
            Some(next) if page.has_more => position = next,
            _ => return ids,
        }
    }
}

fn assert_complete(ids: &[Uuid], start: &HashSet<Uuid>) {
    let distinct: HashSet<_> = ids.iter().copied().collect();
    assert_eq!(distinct.len(), ids.len(), "no row comes twice");
    assert!(start.is_subset(&distinct), "no row is missing");
}

/// Inserts rows whose times are those of the events or later ones.
async fn write(database: Database, writer: usize) {
    let mut conn = database.connection().await.unwrap();
    for n in 0..ROWS_EACH {
        let time = match n % 3 {
            0 => Utc::now(),
            1 => EVENTS[(n * 31 + writer * 7) % EVENTS.len()].created_at,
            _ => EVENTS[0].created_at + TimeDelta::milliseconds((n * 97 + writer) as i64),
        };
        let entry = AuditEntry::new("test.write").created_at(time);
        // SQLite has one writer at a time, and does not serve them in order.
        let begun = Instant::now();
        while let Err(error) = insert(&mut conn, &entry).await {
            assert!(begun.elapsed() < TIMEOUT, "{error}");
        }
    }
}

on_both! {
    async fn walks_are_complete_while_writers_insert(db: TestDb) {
        import(&db).await;
        let start: HashSet<_> = db_rows(&db).await.iter().map(|row| row.id).collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| tokio::spawn(write(db.database.clone(), n)))
            .collect();
        let query = AuditQuery::new(AuditFilter::new());
        let mut conn = db.connection().await;
        let mut walks = 0;
        while walks == 0 || !writers.iter().all(|writer| writer.is_finished()) {
            for order in [Order::NewestFirst, Order::OldestFirst] {
                assert_complete(&walk(&mut conn, &query, order, 23).await, &start);
            }
            let streamed: Vec<_> = query.rows(&mut conn, Order::OldestFirst).map_ok(|row| row.id).try_collect().await.unwrap();
            assert_complete(&streamed, &start);
            walks += 1;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        let all = db_rows(&db).await;
        assert_eq!(all.len(), ALL_ROWS);
        let newest_first: Vec<_> = all.iter().map(|row| row.id).collect();
        assert_eq!(walk(&mut conn, &query, Order::NewestFirst, 100).await, newest_first);
        let mut oldest_first = walk(&mut conn, &query, Order::OldestFirst, 7).await;
        oldest_first.reverse();
        assert_eq!(oldest_first, newest_first);
    }

    async fn a_page_leads_back_to_the_one_before_it(db: TestDb) {
        import(&db).await;
        let mut conn = db.connection().await;
        let query = AuditQuery::new([Condition::action("s3.*")].into_iter().collect());
        let first = query.page(&mut conn, &Position::Newest, 10).await.unwrap();
        let second = query.page(&mut conn, &Position::OlderThan(first.older.clone().unwrap()), 10).await.unwrap();
        let back = query.page(&mut conn, &Position::NewerThan(second.newer.clone().unwrap()), 10).await.unwrap();
        assert_eq!(back.rows, first.rows);
        assert!(first.has_more && second.has_more && !back.has_more);
        // The first page can be asked for what comes later.
        let at_the_top = Position::NewerThan(first.newer.unwrap());
        let nothing = query.page(&mut conn, &at_the_top, 10).await.unwrap();
        assert_eq!((nothing.rows, nothing.newer, nothing.older, nothing.has_more), (vec![], None, None, false));
        insert(&mut conn, &AuditEntry::new("s3.Later")).await.unwrap();
        insert(&mut conn, &AuditEntry::new("other.Later")).await.unwrap();
        let later = query.page(&mut conn, &at_the_top, 10).await.unwrap();
        assert_eq!(later.rows.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["s3.Later"]);
    }

    async fn rows_of_one_moment_are_divided_between_pages(db: TestDb) {
        let mut conn = db.connection().await;
        let time: chrono::DateTime<Utc> = "2026-11-02T00:00:00Z".parse().unwrap();
        for nth in 0..60 {
            // Ten before, thirty at once, and those of another actor between them.
            let later = TimeDelta::seconds(match nth { 0..20 => nth, 20..50 => 30, _ => nth });
            let actor = if nth % 3 == 0 { "bob" } else { "alice" };
            let entry = AuditEntry::new("look.up").actor(actor).created_at(time + later);
            insert(&mut conn, &entry).await.unwrap();
        }
        let alice = AuditFilter::new().and(Condition::actor("alice"));
        // With a condition that the index on SQLite cannot decide as well.
        for filter in [alice.clone(), alice.and(Condition::action("look.up"))] {
            let query = AuditQuery::new(filter);
            for size in [1, 7, 29] {
                let newest_first = walk(&mut conn, &query, Order::NewestFirst, size).await;
                let mut oldest_first = walk(&mut conn, &query, Order::OldestFirst, size).await;
                oldest_first.reverse();
                assert_eq!(newest_first.len(), 40, "pages of {size}");
                assert_eq!(oldest_first, newest_first, "pages of {size}");
            }
            assert_eq!(query.count(&mut conn, 40).await.unwrap(), Count::Exactly(40));
            assert_eq!(query.count(&mut conn, 39).await.unwrap(), Count::MoreThan(39));
        }
    }

    async fn a_cursor_of_another_filter_is_refused(db: TestDb) {
        import(&db).await;
        let mut conn = db.connection().await;
        let query = AuditQuery::new([Condition::action("s3.*")].into_iter().collect());
        let cursor = query.page(&mut conn, &Position::Newest, 10).await.unwrap().older.unwrap();
        let other = AuditQuery::new([Condition::action("iam.*")].into_iter().collect());
        let error = other.page(&mut conn, &Position::OlderThan(cursor.clone()), 10).await.unwrap_err();
        assert!(matches!(error, QueryError::Cursor(CursorError::Filter)), "{error}");
        // A relative time may be resolved anew.
        let later = query.filter().clone().and(Condition::since(chrono::DateTime::UNIX_EPOCH));
        let page = AuditQuery::new(later).page(&mut conn, &Position::OlderThan(cursor.clone()), 10).await.unwrap();
        let same = query.page(&mut conn, &Position::OlderThan(cursor), 10).await.unwrap();
        assert_eq!(page.rows, same.rows);
    }
}

async fn db_rows(db: &TestDb) -> Vec<AuditLog> {
    super::events::found(&mut db.connection().await, AuditFilter::new()).await
}

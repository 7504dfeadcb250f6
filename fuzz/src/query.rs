//! Checks that each query is either refused at a place in it, or written as it reads and answered by a database.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use db_services::audit::query::{AuditFilter, AuditQuery, Condition, Count};
use db_services::audit::{self, AuditEntry};

use super::storage::Storage;

/// A database with one row.
static STORAGE: LazyLock<Storage> = LazyLock::new(|| {
    let storage = Storage::migrated();
    storage.runtime.block_on(async {
        let entry = AuditEntry::new("a.b")
            .actor("a")
            .detail("a", 1)
            .ip_text("10.0.0.1");
        let mut conn = storage.database.connection().await.unwrap();
        audit::insert(&mut conn, &entry).await.unwrap();
    });
    storage
});

/// Panics if a promise is broken. `input` is a query.
pub fn check(input: &[u8]) {
    let query = String::from_utf8_lossy(input);
    let now: DateTime<Utc> = "2026-11-29T12:00:00Z".parse().unwrap();
    match AuditFilter::parse(&query, &now) {
        Err(error) => {
            assert!(query.get(error.span()).is_some(), "{error:?}");
            assert!(error.pointed().contains('^'));
        }
        Ok(filter) => {
            let written = filter.to_string();
            // Quotes and times may make it longer than a query may be.
            if written.len() < 16 << 10 {
                assert_eq!(AuditFilter::parse(&written, &now).as_ref(), Ok(&filter));
            }
            let text = [!Condition::text(&*query)].into_iter().collect();
            for filter in [filter, text] {
                assert!(count(filter) <= 1);
            }
        }
    }
}

fn count(filter: AuditFilter) -> u64 {
    STORAGE.runtime.block_on(async {
        let mut conn = STORAGE.database.connection().await.unwrap();
        match AuditQuery::new(filter).count(&mut conn, 10).await.unwrap() {
            Count::Exactly(rows) | Count::MoreThan(rows) => rows,
        }
    })
}

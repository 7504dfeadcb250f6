//! A reader of one tenant sees no other tenant's row, count, bucket or value.

use chrono::{DateTime, TimeDelta};
use db_services::audit::query::{AuditFilter, AuditQuery, Column, Condition, Count, Order, Position};
use db_services::audit::{AuditEntry, for_tenant, insert};
use futures_util::TryStreamExt;

use crate::support::{TestDb, on_both};

async fn fill(db: &TestDb) {
    let mut conn = db.connection().await;
    for (tenant, count) in [("acme", 3), ("globex", 5)] {
        for n in 0..count {
            let entry = AuditEntry::new(format!("{tenant}.act{n}"))
                .tenant(tenant)
                .actor(format!("{tenant}-actor"))
                .created_at(DateTime::UNIX_EPOCH + TimeDelta::days(if tenant == "acme" { 0 } else { 10 }))
                .ip_text("10.0.0.1")
                .detail("note", format!("{tenant}-note"));
            insert(&mut conn, &entry).await.unwrap();
        }
    }
}

/// Everything that queries return, as one text.
async fn all_that_is_seen(db: &TestDb, filter: AuditFilter, position: Position) -> String {
    let query = AuditQuery::new(filter);
    for_tenant(&db.database, "acme", async |conn| {
        let page = query.page(conn, &position, 100).await?;
        let rows: Vec<_> = query.rows(conn, Order::OldestFirst).try_collect().await?;
        let count = query.count(conn, 1).await?;
        let histogram = query
            .histogram(conn, TimeDelta::days(1), DateTime::UNIX_EPOCH)
            .await?;
        let mut tops = vec![query.top_addresses(conn, 10).await?];
        for column in [Column::Tenant, Column::Actor, Column::Action, Column::Outcome] {
            tops.push(query.top(conn, column, 10).await?);
        }
        Ok(format!("{page:?} {rows:?} {count:?} {histogram:?} {tops:?}"))
    })
    .await
    .unwrap()
}

on_both! {
    async fn a_tenants_queries_see_its_own_rows_alone(db: TestDb) {
        fill(&db).await;
        let mut conn = db.connection().await;
        let everything = AuditQuery::new(AuditFilter::new());
        let foreign = everything.page(&mut conn, &Position::Newest, 1).await.unwrap();
        assert_eq!(foreign.rows[0].tenant_id.as_deref(), Some("globex"), "the newest row is another tenant's");
        assert_eq!(everything.count(&mut conn, 100).await.unwrap(), Count::Exactly(8));
        let at_foreign = Position::OlderThan(foreign.older.unwrap());
        for position in [Position::Newest, Position::Oldest, at_foreign] {
            let seen = all_that_is_seen(&db, AuditFilter::new(), position).await;
            assert!(seen.contains("acme.act2") && seen.contains("MoreThan(1)"), "{seen}");
            assert!(!seen.contains("globex") && !seen.contains("1970-01-11"), "{seen}");
        }
    }

    async fn filters_find_nothing_of_another_tenant(db: TestDb) {
        fill(&db).await;
        let nothing = all_that_is_seen(&db, [Condition::actor("nobody")].into_iter().collect(), Position::Newest).await;
        for condition in [
            Condition::tenant("globex"),
            Condition::actor("globex-actor"),
            Condition::action("globex.*"),
            Condition::text("globex-note"),
            Condition::member(["note"], "globex-note"),
            !Condition::tenant("acme"),
            Condition::since(DateTime::UNIX_EPOCH + TimeDelta::days(10)),
        ] {
            let filter: AuditFilter = [condition].into_iter().collect();
            let found = AuditQuery::new(filter.clone()).count(&mut db.connection().await, 10).await.unwrap();
            assert_eq!(found, Count::Exactly(5), "{filter}: the rows are there");
            assert_eq!(all_that_is_seen(&db, filter.clone(), Position::Newest).await, nothing, "{filter}");
        }
    }
}

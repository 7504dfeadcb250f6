//! Conditions on the columns that are not text, and their most frequent values.

use chrono::Utc;
use db_services::audit::query::{AuditFilter, AuditQuery, Condition, Count};
use db_services::audit::{Reading, record_reading};
use uuid::Uuid;

use super::events::import;
use super::naive::Asked;
use super::properties::{assert_same_rows, known, top_of};
use crate::support::{TestDb, on_both};

on_both! {
    async fn the_rows_of_an_operation_are_found(db: TestDb) {
        import(&db).await;
        let mut conn = db.connection().await;
        let rows = known(&mut conn).await;
        for (id, expected) in [(1, 4), (8, 4), (u128::MAX, 0)] {
            let id = Uuid::from_u128(id);
            let negated = Asked::Not(Box::new(Asked::Operation(id)));
            assert_eq!(assert_same_rows(&mut conn, &rows, &[Asked::Operation(id)]).await.len(), expected);
            let others = assert_same_rows(&mut conn, &rows, &[negated]).await;
            assert_eq!(others.len(), rows.len() - expected, "most of them are of no operation");
            let filter = AuditFilter::parse(&format!("operation:{id}"), &Utc::now()).unwrap();
            let found = AuditQuery::new(filter).count(&mut conn, 10).await.unwrap();
            assert_eq!(found, Count::Exactly(expected as u64));
        }
    }

    async fn a_reading_of_any_query_is_recorded(db: TestDb) {
        let mut conn = db.connection().await;
        let query: AuditFilter = [Condition::actor("a\0b"), Condition::text("\u{1b}\u{202e}")].into_iter().collect();
        record_reading(&mut conn, &Reading::of(&query).reader("r\0")).await.unwrap();
        let record = known(&mut conn).await.remove(0);
        let recorded = record.metadata.unwrap()["query"].as_str().unwrap().to_owned();
        assert_eq!(recorded, query.to_string().replace('\0', "\u{fffd}"));
    }

    async fn an_address_is_one_value_however_it_is_written(db: TestDb) {
        let addresses = "('a', '2001:DB8::1'), ('b', '2001:db8:0::1/128'), ('c', '10.0.0.0/8'), ('d', NULL), ('e', '::10.0.0.1')";
        db.sql(&format!("INSERT INTO audit_logs (action, ip_address) VALUES {addresses}")).await.unwrap();
        let mut conn = db.connection().await;
        let top = AuditQuery::new(AuditFilter::new()).top_addresses(&mut conn, 9).await.unwrap();
        let top: Vec<_> = top.iter().map(|top| (top.value.as_deref(), top.rows)).collect();
        assert_eq!(top, [(Some("2001:db8::1"), 2), (Some("10.0.0.0/8"), 1), (Some("::a00:1"), 1), (None, 1)], "as in the rows");
    }

    async fn the_most_frequent_addresses_are_counted(db: TestDb) {
        import(&db).await;
        let mut conn = db.connection().await;
        let rows = known(&mut conn).await;
        let top = AuditQuery::new(AuditFilter::new()).top_addresses(&mut conn, 6).await.unwrap();
        let top: Vec<_> = top.into_iter().map(|top| (top.value, top.rows)).collect();
        let rows: Vec<_> = rows.iter().map(|known| &known.row).collect();
        let expected = top_of(&rows, 6, |row| row.ip_address.map(|address| address.addr().to_string()));
        assert_eq!(top, expected);
        // Each address is a network of one host.
        for (address, rows) in top {
            let Some(address) = address else { continue };
            let filter = AuditFilter::parse(&format!("ip:{address}"), &Utc::now()).unwrap();
            let found = AuditQuery::new(filter).count(&mut conn, u32::MAX).await.unwrap();
            assert_eq!(found, Count::Exactly(rows), "{address}");
        }
    }
}

//! Random filters over real events: rows, counts, histograms and top values are those of a scan in memory.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use db_services::audit::query::{AuditFilter, AuditQuery, Column, Count};
use db_services::audit::{AuditEntry, AuditLog, insert};
use db_services::client::Connection;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::events::{found, import};
use super::naive::{Asked, COLUMNS, Known, filter, strings, value};
use crate::support::{TestDb, on_both};

/// Filters for each database.
const FILTERS: usize = 100;

/// Texts that mean something in SQL, in LIKE, in JSON or in the query language.
pub const HOSTILE: [&str; 16] = [
    "' OR '1'='1",
    "'; DROP TABLE audit_logs; --",
    "\\",
    "\\'",
    "$1",
    "?1",
    "%",
    "_",
    "*",
    "\"",
    "{}",
    "a\0b",
    "\u{1F600}",
    "É",
    "",
    "E'\\\\",
];

/// Values that are in the rows, so that filters find something, and parts of them.
struct Pool {
    columns: Vec<(Column, String)>,
    members: Vec<(Vec<String>, String)>,
    objects: Vec<Map<String, Value>>,
    texts: Vec<String>,
    addresses: Vec<ipnet::IpNet>,
    times: Vec<DateTime<Utc>>,
    operations: Vec<Uuid>,
}

impl Pool {
    fn of(rows: &[Known]) -> Self {
        let mut pool = Self {
            columns: Vec::new(),
            members: vec![(vec!["a.b".to_owned()], "1".to_owned())],
            objects: vec![serde_json::from_str(r#"{"a.b": [[2], {"c": "D"}]}"#).unwrap()],
            texts: vec!["ALICE".to_owned(), "instance".to_owned()],
            addresses: rows.iter().filter_map(|known| known.row.ip_address).collect(),
            times: rows.iter().map(|known| known.row.created_at).collect(),
            operations: rows.iter().filter_map(|known| known.row.operation_id).collect(),
        };
        for row in rows {
            for column in COLUMNS {
                pool.columns
                    .extend(value(&row.row, column).map(|value| (column, value.clone())));
            }
            let Some(metadata) = &row.metadata else { continue };
            pool.texts
                .extend(strings(metadata).into_iter().filter(|text| text.len() < 40));
            pool.objects.extend(objects(metadata));
            members(metadata, &mut Vec::new(), &mut pool.members);
        }
        pool.columns.extend(
            HOSTILE
                .iter()
                .flat_map(|text| COLUMNS.map(|column| (column, (*text).to_owned()))),
        );
        pool.texts.extend(HOSTILE.map(str::to_owned));
        pool.members
            .extend(HOSTILE.map(|text| (vec![text.to_owned()], text.to_owned())));
        pool
    }
}

/// The scalars of an object with their paths.
fn members(value: &Value, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    match value {
        Value::Object(members_of) => {
            for (name, value) in members_of {
                path.push(name.clone());
                members(value, path, found);
                path.pop();
            }
        }
        Value::String(text) => found.push((path.clone(), text.clone())),
        Value::Array(_) => found.push(([&path[..], &["0".to_owned()]].concat(), "x".to_owned())),
        other => found.push((path.clone(), other.to_string())),
    }
}

/// Parts of an object that it contains: one member each.
fn objects(value: &Value) -> Vec<Map<String, Value>> {
    let Value::Object(members) = value else {
        return Vec::new();
    };
    members
        .iter()
        .map(|(name, value)| Map::from_iter([(name.clone(), value.clone())]))
        .collect()
}

fn asked(pool: Pool) -> impl Strategy<Value = Vec<Asked>> {
    let cut = |text: String, at: prop::sample::Index| {
        let ends: Vec<_> = text
            .char_indices()
            .map(|(place, _)| place)
            .chain([text.len()])
            .collect();
        text[..ends[at.index(ends.len())]].to_owned()
    };
    let condition = prop_oneof![
        4 => select(pool.columns.clone()).prop_map(|(column, text)| Asked::Equals(column, text)),
        2 => (select(pool.columns), any::<prop::sample::Index>())
            .prop_map(move |((column, text), at)| Asked::BeginsWith(column, cut(text, at))),
        1 => (select(pool.addresses), 0..=32_u8).prop_map(|(net, prefix)| {
            Asked::Within(ipnet::IpNet::new(net.addr(), prefix).unwrap().trunc())
        }),
        1 => select(pool.operations).prop_map(Asked::Operation),
        1 => select(pool.times.clone()).prop_map(Asked::Since),
        1 => select(pool.times).prop_map(Asked::Until),
        2 => select(pool.members).prop_map(|(path, text)| Asked::Member(path, text)),
        2 => select(pool.objects).prop_map(Asked::Contains),
        2 => (select(pool.texts), any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(text, at, upper)| {
            let text = cut(text, at);
            Asked::Text(if upper { text.to_ascii_uppercase() } else { text })
        }),
    ];
    let maybe_not = (condition, prop::bool::weighted(0.4))
        .prop_map(|(asked, not)| if not { Asked::Not(Box::new(asked)) } else { asked });
    prop::collection::vec(maybe_not, 1..4)
}

/// Returns the rows that the scan finds.
pub async fn assert_same_rows<'a>(
    conn: &mut Connection,
    rows: &'a [Known],
    asked: &[Asked],
) -> Vec<&'a AuditLog> {
    let met = rows
        .iter()
        .filter(|row| asked.iter().all(|asked| asked.is_met_by(row)));
    let expected: Vec<_> = met.map(|known| &known.row).collect();
    let found = found(conn, filter(asked)).await;
    assert!(
        found.iter().eq(expected.iter().copied()),
        "{}: {} {}",
        filter(asked),
        found.len(),
        expected.len()
    );
    expected
}

async fn assert_same_counts(conn: &mut Connection, asked: &[Asked], expected: &[&AuditLog], nth: usize) {
    let query = AuditQuery::new(filter(asked));
    let shown = query.filter();
    let total = expected.len() as u64;
    assert_eq!(
        query.count(conn, u32::MAX).await.unwrap(),
        Count::Exactly(total),
        "{shown}"
    );
    let bound = total.saturating_sub(1);
    let bounded = if total == 0 {
        Count::Exactly(0)
    } else {
        Count::MoreThan(bound)
    };
    assert_eq!(query.count(conn, bound as u32).await.unwrap(), bounded, "{shown}");
    let column = COLUMNS[nth % COLUMNS.len()];
    let top = query.top(conn, column, 5).await.unwrap();
    let top: Vec<_> = top.into_iter().map(|top| (top.value, top.rows)).collect();
    assert_eq!(
        top,
        top_of(expected, 5, |row| value(row, column).cloned()),
        "{shown} {column:?}"
    );
    assert_histogram(conn, &query, expected, nth).await;
}

pub fn top_of(
    rows: &[&AuditLog],
    limit: usize,
    value: impl Fn(&AuditLog) -> Option<String>,
) -> Vec<(Option<String>, u64)> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(value(row)).or_insert(0) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(value, rows)| (std::cmp::Reverse(*rows), value.is_none(), value.clone()));
    counts.truncate(limit);
    counts
}

async fn assert_histogram(conn: &mut Connection, query: &AuditQuery, expected: &[&AuditLog], nth: usize) {
    let widths = [
        TimeDelta::minutes(5),
        TimeDelta::hours(1),
        TimeDelta::days(1),
        TimeDelta::microseconds(777_777_777),
    ];
    let width = widths[nth % widths.len()];
    let origin: DateTime<Utc> = [
        "2023-07-10T11:58:30Z",
        "2040-01-01T00:00:00.000001Z",
        "1950-01-01T05:30:00Z",
    ][nth % 3]
        .parse()
        .unwrap();
    let micros = width.num_microseconds().unwrap();
    let mut buckets = BTreeMap::new();
    for row in expected {
        let since = (row.created_at - origin).num_microseconds().unwrap();
        *buckets
            .entry(origin + width * i32::try_from(since.div_euclid(micros)).unwrap())
            .or_insert(0_u64) += 1;
    }
    let found = query.histogram(conn, width, origin).await.unwrap();
    let found: Vec<_> = found
        .into_iter()
        .map(|bucket| (bucket.start, bucket.rows))
        .collect();
    assert_eq!(
        found,
        buckets.into_iter().collect::<Vec<_>>(),
        "{} {width}",
        query.filter()
    );
}

pub async fn known(conn: &mut Connection) -> Vec<Known> {
    found(conn, AuditFilter::new())
        .await
        .into_iter()
        .map(Known::from)
        .collect()
}

on_both! {
    async fn random_filters_find_what_a_scan_finds(db: TestDb) {
        import(&db).await;
        let mut conn = db.connection().await;
        let rows = known(&mut conn).await;
        assert_eq!(rows.len(), 1_288);
        let (strategy, mut runner) = (asked(Pool::of(&rows)), TestRunner::default());
        let mut proper = 0;
        for nth in 0..FILTERS {
            let asked = strategy.new_tree(&mut runner).unwrap().current();
            let expected = assert_same_rows(&mut conn, &rows, &asked).await;
            assert_same_counts(&mut conn, &asked, &expected, nth).await;
            proper += usize::from((1..rows.len()).contains(&expected.len()));
        }
        assert!(proper > FILTERS / 4, "{proper} found some rows and not all");
        assert_eq!(db.rows().await.len(), rows.len() - 1, "without the record of a writer");
    }

    /// Each text is in every column of one row, and in its metadata as a name and a value.
    async fn hostile_texts_are_found_as_they_are_and_change_nothing(db: TestDb) {
        let mut conn = db.connection().await;
        for text in HOSTILE {
            let mut entry = AuditEntry::new(text).actor(text).actor_type(text).on_behalf_of(text).tenant(text)
                .resource(text, text).user_agent(text).request_id(text).detail(text, text);
            entry.trace_id = Some(text.into());
            insert(&mut conn, &entry).await.unwrap();
        }
        let rows = known(&mut conn).await;
        let mut found_one = 0;
        for text in HOSTILE.map(str::to_owned) {
            let mut each: Vec<_> = COLUMNS.iter().map(|column| Asked::Equals(*column, text.clone())).collect();
            each.extend(COLUMNS.iter().map(|column| Asked::BeginsWith(*column, text.clone())));
            each.push(Asked::Member(vec![text.clone()], text.clone()));
            each.push(Asked::Contains(Map::from_iter([(text.clone(), text.clone().into())])));
            each.push(Asked::Text(text));
            for asked in each {
                let negated = Asked::Not(Box::new(asked.clone()));
                found_one += usize::from(assert_same_rows(&mut conn, &rows, &[asked]).await.len() == 1);
                assert_same_rows(&mut conn, &rows, &[negated]).await;
            }
        }
        assert!(found_one > 10 * HOSTILE.len(), "{found_one}");
        let after = found(&mut conn, AuditFilter::new()).await;
        assert!(after.iter().eq(rows.iter().map(|known| &known.row)));
    }
}

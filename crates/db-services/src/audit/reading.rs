//! Records that the trail was read: who looked at it is a question of its own (PCI DSS 10.2.1.3).

use chrono::{DateTime, Utc};
use db_schema::{JsonText, NewAuditLog};
use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde_json::json;
use uuid::Uuid;

use super::insert::{AuditConnection, OnConflict};
use super::json::REPLACEMENT;
use super::query::AuditFilter;
use super::{limits, scrub};
use crate::client::Connection;

/// The most characters of a recorded query. The function in PostgreSQL has the same limit.
const QUERY_CHARS: usize = 4_096;

/// What was read, for [`record_reading`].
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    action: &'static str,
    query: String,
    rows: Option<u64>,
    reader: Option<String>,
}

impl Reading {
    /// The rows of a filter were shown. The filter is recorded in the query language, without secrets: values of members
    /// with the name of one, and texts with the [shape](scrub) of one. It is cut at 4,096 characters, and has U+FFFD for NUL,
    /// which PostgreSQL does not store.
    pub fn of(filter: &AuditFilter) -> Self {
        let query = scrub::scrub_text(filter.without_secret_members().to_string());
        let query = query.replace('\0', REPLACEMENT);
        let mut last = query.char_indices().skip(QUERY_CHARS - 1);
        let query = match (last.next(), last.next()) {
            (Some((end, _)), Some(_)) => format!("{}…", &query[..end]),
            _ => query,
        };
        Self {
            action: "audit.viewed",
            query,
            rows: None,
            reader: None,
        }
    }

    /// One entry was shown.
    pub fn of_entry(id: Uuid) -> Self {
        let query = format!("id:{id}");
        Self {
            query,
            ..Self::of(&AuditFilter::new())
        }
    }

    /// The rows were exported: the action is `audit.exported` in place of `audit.viewed`.
    #[must_use]
    pub fn exported(self) -> Self {
        Self {
            action: "audit.exported",
            ..self
        }
    }

    /// Sets how many rows were returned.
    #[must_use]
    pub fn rows(self, rows: u64) -> Self {
        let rows = Some(rows);
        Self { rows, ..self }
    }

    /// Sets who reads, as far as the program knows it. On PostgreSQL it is `on_behalf_of`: the actor is the login of the
    /// session. On SQLite, which has no logins, it is the actor.
    #[must_use]
    pub fn reader(self, reader: impl Into<String>) -> Self {
        let reader = Some(limits::limited(&reader.into()));
        Self { reader, ..self }
    }
}

/// Records in the trail that it was read. Call it before the rows are shown, in the transaction that has read them or in
/// another one that can write; not within [`for_tenant`](super::for_tenant), which is read-only.
///
/// On PostgreSQL a function of the database writes the row, because a login that may only read cannot: actor and address
/// are those of the session, whatever its rights. A login that is limited to one tenant (`audit.tenant_id`) leaves a record
/// of that tenant. On SQLite it is a plain insert.
///
/// # Errors
/// When the database cannot be written to (a standby, a read-only file), or lacks the migration.
///
/// # Cancel safety
/// Dropping the future leaves it open whether the row was inserted.
pub async fn record_reading(conn: &mut Connection, reading: &Reading) -> QueryResult<()> {
    let rows = reading.rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
    if let Connection::Postgres(conn) = conn {
        let record = diesel::sql_query("SELECT audit_record_reading($1, $2, $3, $4)")
            .bind::<Text, _>(reading.action)
            .bind::<Text, _>(&reading.query)
            .bind::<Nullable<BigInt>, _>(rows)
            .bind::<Nullable<Text>, _>(&reading.reader);
        return record.execute(conn).await.map(|_| ());
    }
    let now = DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap_or_default();
    let mut metadata = json!({"query": reading.query});
    if let Some(rows) = rows {
        metadata["rows"] = json!(rows);
    }
    let row = NewAuditLog {
        actor_id: reading.reader.as_deref().map(Into::into),
        resource_type: Some("audit_trail".into()),
        metadata: JsonText::from_text(metadata.to_string()),
        ..NewAuditLog::new(Uuid::now_v7(), now, reading.action)
    };
    conn.insert_rows(vec![row], OnConflict::Error).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query_of(query: &str) -> String {
        Reading::of(&AuditFilter::parse(query, &Utc::now()).unwrap()).query
    }

    #[test]
    fn a_recorded_query_has_no_secret() {
        assert_eq!(query_of("actor:alice meta.port:443"), "actor:alice meta.port:443");
        for query in [
            "meta.password:hush",
            "-meta.user.apiKey:hush",
            "meta:{\"password\": \"hush\"}",
            "postgres://app:hush@db",
            "\"https://x.example/?access_token=hush\"",
        ] {
            let query = match query.contains("://") && !query.starts_with('"') {
                true => format!("\"{query}\""),
                false => query.to_owned(),
            };
            let recorded = query_of(&query);
            assert!(
                !recorded.contains("hush") && recorded.contains("[scrubbed: "),
                "{recorded}"
            );
        }
    }

    #[test]
    fn a_recorded_query_is_bounded() {
        let recorded = query_of(&format!("actor:{}", "日".repeat(5_000)));
        assert_eq!(recorded.chars().count(), QUERY_CHARS);
        assert!(recorded.starts_with("actor:日") && recorded.ends_with('…'));
        let exact = format!("actor:{}", "x".repeat(QUERY_CHARS - 6));
        assert_eq!(query_of(&exact), exact);
    }
}

//! Reads the trail: filters, pages, counts, histograms, and a query language.
//!
//! An [`AuditFilter`] says which rows, an [`AuditQuery`] asks for them: [`page`](AuditQuery::page) by page,
//! [all of them](AuditQuery::rows), [how many](AuditQuery::count), [by time](AuditQuery::histogram), or the
//! [most frequent values](AuditQuery::top) of a column. PostgreSQL and SQLite have the same results.
//!
//! ```no_run
//! use chrono::Utc;
//! use db_services::audit::query::{AuditFilter, AuditQuery, Position};
//! use db_services::client::Database;
//!
//! async fn failures(database: &Database) -> Result<(), Box<dyn std::error::Error>> {
//!     let filter = AuditFilter::parse("action:auth.* -outcome:success since:7d", &Utc::now())?;
//!     let query = AuditQuery::new(filter);
//!     let mut conn = database.connection().await?;
//!     println!("{:?}", query.count(&mut conn, 10_000).await?);
//!     let mut position = Position::Newest;
//!     loop {
//!         let page = query.page(&mut conn, &position, 50).await?;
//!         for row in &page.rows {
//!             println!("{} {:?} {}", row.created_at, row.actor_id, row.action);
//!         }
//!         match page.older {
//!             Some(cursor) if page.has_more => position = Position::OlderThan(cursor),
//!             _ => return Ok(()),
//!         }
//!     }
//! }
//! ```
//!
//! Within [`for_tenant`](crate::audit::for_tenant) the same calls see the rows of one tenant and no others.
//!
//! # The query language
//!
//! A query is a list of terms with spaces between them. A row must meet each of them; `-` before a term keeps the rows
//! that do not meet it, those without the column or member among them. See [`AuditFilter::parse`] for its errors.
//!
//! | term | rows |
//! | --- | --- |
//! | `actor:alice` | whose actor is `alice` |
//! | `action:auth.*` | whose action begins with `auth.` |
//! | `actor:*` | that have an actor |
//! | `tenant:` `actor:` `actor_type:` `on_behalf_of:` `action:` `outcome:` `resource_type:` `resource_id:` `user_agent:` `request:` `trace:` | the other columns of text, in the same two ways |
//! | `ip:10.1.2.3` `ip:10.0.0.0/8` `ip:2001:db8::/32` | with this address, or one of this network |
//! | `operation:018f3a2e-7b1c-7def-8000-0123456789ab` | of this operation |
//! | `since:7d` `since:2026-11-01` `until:2026-11-01T08:30` `until:2026-11-01T08:30:00+01:00` | at this time or later; before this time. Relative times are counts of `s`, `m`, `h`, `d`, `w` before now; `now`, `today` and `yesterday` are known; a time without an offset is one of the caller's zone |
//! | `meta.port:443` `meta.user.name:alice` | whose metadata has this member, as a text or as the number, `true`, `false` or `null` that it reads as |
//! | `meta:{"roles": ["admin"]}` | whose metadata contains this JSON object |
//! | `word` `"several words"` | with this text in a column or in a string of the metadata, whether in small letters or capitals (A to Z) |
//!
//! Quotes make a value literal: spaces, `*` and `:` have no meaning in it, `\"` is a quote and `\\` a backslash:
//! `actor:"Alice B."`, `meta."a.b".c:1`, `"-1"`.

mod aggregate;
mod candidates;
pub(super) mod conditions;
mod cursor;
mod display;
mod error;
mod filter;
mod find;
mod functions;
mod json_match;
mod latest;
mod number;
mod page;
mod parse;
mod parse_error;
mod parse_time;
mod parser;
pub(super) mod run;
mod secrets;
pub(super) mod sql;
mod terms;
mod time;

use std::time::Duration;

pub use aggregate::{Bucket, Count, TopValue};
pub use cursor::{Cursor, CursorError};
pub use error::QueryError;
pub use filter::{AuditFilter, Column, Condition};
pub use latest::{count, latest, latest_with_records};
pub use page::{Order, Page, Position};
pub use parse_error::ParseError;

use crate::client::Connection;
use filter::Test;
use run::Failure;
use sql::{Dialect, Run, Sql};

/// The most conditions of a filter: SQLite nests a statement at most a thousand levels deep.
const MAX_CONDITIONS: usize = 200;

/// A filter, and how long a statement with it may take.
#[derive(Clone, Debug)]
pub struct AuditQuery {
    filter: AuditFilter,
    limit: Option<Duration>,
}

impl AuditQuery {
    /// The time limit of a query, unless [another one](Self::time_limit) is given.
    pub const TIME_LIMIT: Duration = Duration::from_secs(30);

    /// A query for the rows that pass a filter.
    pub fn new(filter: AuditFilter) -> Self {
        let limit = Some(Self::TIME_LIMIT);
        Self { filter, limit }
    }

    fn unlimited(filter: AuditFilter) -> Self {
        Self { filter, limit: None }
    }

    /// Sets how long one statement may take: a page, a count. The database ends it then, and the error says what
    /// to narrow. A shorter `statement_timeout` of the server or the user holds as well, with the server's own error.
    ///
    /// On PostgreSQL the limit is a setting of a transaction around the statement, or of a savepoint in a transaction of
    /// the caller: two more round trips, and the session is left as it was. Do not call it in a transaction that was
    /// begun as SQL text, which diesel does not know of.
    ///
    /// On SQLite the statement ends at the first row that it examines after that time. The pass over the index that finds
    /// an actor, a resource or a request reads the clock only for rows whose `created_at` is a multiple of 1,024
    /// microseconds, on average one in 1,024.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Returns a query with the same time limit for other rows.
    #[must_use]
    pub fn with_filter(&self, filter: AuditFilter) -> Self {
        let limit = self.limit;
        Self { filter, limit }
    }

    /// Returns the filter.
    pub fn filter(&self) -> &AuditFilter {
        &self.filter
    }

    /// Begins a statement.
    fn sql(&self, dialect: Dialect, text: &'static str) -> Sql {
        Sql::new(dialect, self.limit.map_or(Run::Prepared, Run::Within), text)
    }

    fn check(&self) -> Result<(), QueryError> {
        self.filter.check()
    }

    /// Runs a statement whose rows have the same type on both databases.
    async fn load<ST, U>(&self, conn: &mut Connection, sql: Sql) -> Result<Vec<U>, QueryError>
    where
        sql::Statement<ST>: diesel_async::methods::LoadQuery<'static, diesel_async::AsyncPgConnection, U>
            + diesel::query_dsl::LoadQuery<'static, diesel::SqliteConnection, U>
            + Send
            + 'static,
        U: Send + 'static,
    {
        self.check()?;
        let statement = sql.returning::<ST>();
        let loaded = match conn {
            Connection::Postgres(conn) => run::postgres(conn, statement).await,
            Connection::Sqlite(conn) => run::sqlite(conn, statement).await,
        };
        loaded.map_err(|failure| self.error(failure))
    }

    fn error(&self, failure: Failure) -> QueryError {
        match failure {
            Failure::Database(error) => QueryError::Database(error),
            Failure::Late => QueryError::TimeLimit {
                limit: self.limit.unwrap_or_default(),
                remedy: remedy(&self.filter),
            },
        }
    }
}

/// What to narrow.
fn remedy(filter: &AuditFilter) -> &'static str {
    let has = |test: fn(&Test) -> bool| {
        filter
            .conditions
            .iter()
            .any(|condition| !condition.is_negated && test(&condition.test))
    };
    let has_text = filter
        .conditions
        .iter()
        .any(|condition| matches!(condition.test, Test::Text(_)));
    if !has(|test| matches!(test, Test::Since(_))) {
        "name a time from which on to read (since:1d)"
    } else if has_text {
        "name the column or the member instead of free text (actor:, meta.name:), or a later time (since:)"
    } else if !has(is_indexed) {
        "name an actor, a resource_id, a request or a tenant, or a later time (since:)"
    } else {
        "name a later time (since:), or an earlier end (until:)"
    }
}

fn is_indexed(test: &Test) -> bool {
    use Column::{Actor, Request, ResourceId, Tenant};
    matches!(test, Test::Equals(Actor | Request | ResourceId | Tenant, _))
}

#[cfg(test)]
mod plan_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_of_a_time_limit_names_what_is_missing() {
        let of = |query: &str| remedy(&AuditFilter::parse(query, &chrono::Utc::now()).unwrap());
        assert!(of("actor:alice").contains("since:1d"));
        assert!(of("-since:7d").contains("since:1d"));
        assert!(of("since:7d needle").contains("instead of free text"));
        assert!(of("since:7d -actor:alice").contains("name an actor"));
        assert!(of("since:7d actor:alice").contains("until:"));
    }
}

//! The INSERT statement of PostgreSQL: its text, its columns, and how diesel and tokio-postgres run it.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};
use db_schema::NewAuditLog;
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Inet, Jsonb, Nullable, Text, Timestamptz, Uuid as PgUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio_postgres::types::{self, Type};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::OnConflict;
use crate::audit::pg_values::{Address, Json};

/// The statement for the connections that a writer opens, on tokio-postgres itself: diesel does not pass on the
/// SQLSTATE, which classifies an error (docs/decisions/0006-error-classification.md).
pub(in crate::audit) struct PreparedInsert {
    plain: Statement,
    /// The same with VALUES, for one row: the server needs 7 µs less.
    one: Statement,
    /// With ON CONFLICT DO NOTHING, prepared when the first retry needs it.
    do_nothing: Option<Statement>,
}

impl PreparedInsert {
    pub(in crate::audit) async fn new(client: &Client) -> Result<Self, tokio_postgres::Error> {
        let plain = client
            .prepare_typed(&sql(OnConflict::Error), &ColumnArrays::TYPES)
            .await?;
        let one = client.prepare(&values()).await?;
        Ok(Self {
            plain,
            one,
            do_nothing: None,
        })
    }

    /// Inserts rows and returns how many the server has inserted.
    pub(in crate::audit) async fn run<R: Borrow<NewAuditLog>>(
        &mut self,
        client: &Client,
        rows: &[R],
        on_conflict: OnConflict,
    ) -> Result<u64, tokio_postgres::Error> {
        let statement = match (on_conflict, &self.do_nothing) {
            (OnConflict::Error, _) => match rows {
                [row] => return self.run_one(client, row.borrow()).await,
                _ => &self.plain,
            },
            (OnConflict::DoNothing, Some(prepared)) => prepared,
            (OnConflict::DoNothing, None) => {
                let prepared = client
                    .prepare_typed(&sql(OnConflict::DoNothing), &ColumnArrays::TYPES)
                    .await?;
                self.do_nothing.insert(prepared)
            }
        };
        client
            .execute(statement, &ColumnArrays::of(rows).parameters())
            .await
    }

    /// Inserts one row; one that is stored already is an error.
    pub(in crate::audit) async fn run_one(
        &self,
        client: &Client,
        row: &NewAuditLog,
    ) -> Result<u64, tokio_postgres::Error> {
        ColumnArrays::insert_one(client, &self.one, row).await
    }
}

/// `INSERT … SELECT unnest($1), unnest($2), …`: an array for each column, so that the text is the
/// same for any number of rows, the prepared statement is reused, and 65,535 parameters are no
/// limit. The fastest form short of COPY (docs/decisions/0004-insert.md).
///
/// ON CONFLICT DO NOTHING has no target: with one, a role that may only insert is refused.
fn sql(on_conflict: OnConflict) -> String {
    let values: Vec<String> = (1..=ColumnArrays::NAMES.len())
        .map(|nth| format!("unnest(${nth})"))
        .collect();
    format!("{}{}{}", head(), values.join(", "), tail(on_conflict))
}

/// The statement for one row.
fn values() -> String {
    let values: Vec<String> = (1..=ColumnArrays::NAMES.len())
        .map(|nth| format!("${nth}"))
        .collect();
    format!(
        "INSERT INTO audit_logs ({}) VALUES ({})",
        ColumnArrays::NAMES.join(", "),
        values.join(", ")
    )
}

fn head() -> String {
    format!(
        "INSERT INTO audit_logs ({}) SELECT ",
        ColumnArrays::NAMES.join(", ")
    )
}

fn tail(on_conflict: OnConflict) -> &'static str {
    match on_conflict {
        OnConflict::Error => "",
        OnConflict::DoNothing => " ON CONFLICT DO NOTHING",
    }
}

/// Inserts rows on a connection of diesel-async and returns how many the server has inserted.
pub(super) async fn execute(
    conn: &mut AsyncPgConnection,
    rows: &[NewAuditLog],
    on_conflict: OnConflict,
) -> QueryResult<usize> {
    match on_conflict {
        OnConflict::Error => ArrayInsert::<false>(ColumnArrays::of(rows)).execute(conn).await,
        OnConflict::DoNothing => ArrayInsert::<true>(ColumnArrays::of(rows)).execute(conn).await,
    }
}

/// The statement as diesel runs it.
struct ArrayInsert<'a, const DO_NOTHING: bool>(ColumnArrays<'a>);

impl<const DO_NOTHING: bool> QueryId for ArrayInsert<'_, DO_NOTHING> {
    type QueryId = ArrayInsert<'static, DO_NOTHING>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// The columns that a writer sets, in one list: their names, their types in Rust and in SQL.
macro_rules! columns {
    ($($name:ident: $rust:ty, $sql:ty, $pg:ident, |$row:ident| $value:expr;)*) => {
        const COLUMNS: usize = [$(stringify!($name)),*].len();

        /// A batch by columns, an array each.
        struct ColumnArrays<'a> {
            $($name: Vec<$rust>,)*
        }

        impl<'a> ColumnArrays<'a> {
            const NAMES: [&'static str; COLUMNS] = [$(stringify!($name)),*];
            const TYPES: [Type; COLUMNS] = [$(Type::$pg),*];

            fn of<R: Borrow<NewAuditLog>>(rows: &'a [R]) -> Self {
                Self { $($name: rows.iter().map(Borrow::borrow).map(|$row: &NewAuditLog| $value).collect(),)* }
            }

            fn parameters(&self) -> [&(dyn types::ToSql + Sync); COLUMNS] {
                [$(&self.$name),*]
            }

            async fn insert_one(
                client: &Client,
                statement: &Statement,
                row: &'a NewAuditLog,
            ) -> Result<u64, tokio_postgres::Error> {
                $(let $name: $rust = { let $row = row; $value };)*
                client.execute(statement, &[$(&$name),*]).await
            }
        }

        impl<const DO_NOTHING: bool> QueryFragment<Pg> for ArrayInsert<'_, DO_NOTHING> {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
                out.push_sql(&head());
                let mut before = "unnest(";
                $(
                    out.push_sql(std::mem::replace(&mut before, ", unnest("));
                    out.push_bind_param::<Array<$sql>, _>(&self.0.$name)?;
                    out.push_sql(")");
                )*
                out.push_sql(tail(if DO_NOTHING { OnConflict::DoNothing } else { OnConflict::Error }));
                Ok(())
            }
        }
    };
}

columns! {
    id: Uuid, PgUuid, UUID_ARRAY, |row| row.id;
    created_at: DateTime<Utc>, Timestamptz, TIMESTAMPTZ_ARRAY, |row| row.created_at;
    tenant_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.tenant_id.as_deref();
    actor_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.actor_id.as_deref();
    actor_type: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.actor_type.as_deref();
    on_behalf_of: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.on_behalf_of.as_deref();
    action: &'a str, Text, TEXT_ARRAY, |row| row.action.as_str();
    outcome: &'a str, Text, TEXT_ARRAY, |row| row.outcome.as_str();
    resource_type: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.resource_type.as_deref();
    resource_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.resource_id.as_deref();
    ip_address: Option<Address>, Nullable<Inet>, INET_ARRAY, |row| row.ip_address.map(Address);
    user_agent: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.user_agent.as_deref();
    request_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.request_id.as_deref();
    trace_id: Option<&'a str>, Nullable<Text>, TEXT_ARRAY, |row| row.trace_id.as_deref();
    operation_id: Option<Uuid>, Nullable<PgUuid>, UUID_ARRAY, |row| row.operation_id;
    metadata: Json<'a>, Jsonb, JSONB_ARRAY, |row| Json(&row.metadata);
    writer_id: Option<Uuid>, Nullable<PgUuid>, UUID_ARRAY, |row| row.writer_id;
    writer_seq: Option<i64>, Nullable<BigInt>, INT8_ARRAY, |row| row.writer_seq;
}

//! Legal holds: rows that must not be dropped, whatever their age.

use chrono::{DateTime, Utc};
use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use crate::OpsError;
use crate::postgres::{Number, postgres, utc_text};

/// The rows that a hold covers: all of them, unless a tenant or a time restricts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldScope {
    /// The rows of this tenant only.
    pub tenant_id: Option<String>,
    /// Rows with a `created_at` from this time on.
    pub from_time: Option<DateTime<Utc>>,
    /// Rows with a `created_at` before this time.
    pub to_time: Option<DateTime<Utc>>,
}

/// A legal hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct Hold {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The tenant whose rows are held; none: all tenants.
    #[diesel(sql_type = Nullable<Text>)]
    pub tenant_id: Option<String>,
    /// The earliest `created_at` that is held; none: no lower bound.
    #[diesel(sql_type = Nullable<Text>)]
    pub from_time: Option<String>,
    /// The first `created_at` that is no longer held; none: no upper bound.
    #[diesel(sql_type = Nullable<Text>)]
    pub to_time: Option<String>,
    /// The reason.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The database user who created it.
    #[diesel(sql_type = Text)]
    pub created_by: String,
    /// When, by the database's clock.
    #[diesel(sql_type = Text)]
    pub created_at: String,
    /// Why it was released; none while it is active.
    #[diesel(sql_type = Nullable<Text>)]
    pub release_reason: Option<String>,
    /// Who released it.
    #[diesel(sql_type = Nullable<Text>)]
    pub released_by: Option<String>,
    /// When it was released.
    #[diesel(sql_type = Nullable<Text>)]
    pub released_at: Option<String>,
}

/// Creates a hold and returns its number. A month is not dropped while a hold covers a row of it. A hold
/// without a tenant covers every month that its time range touches, even one without rows.
///
/// # Errors
/// When the reason is empty, the times are in the wrong order, or the database refuses.
///
/// # Cancel safety
/// Dropping the future leaves it open whether the hold was created.
pub async fn add(conn: &mut Connection, scope: &HoldScope, reason: &str) -> Result<i64, OpsError> {
    let query = diesel::sql_query("SELECT audit_hold_add($1, $2, $3, $4) AS value")
        .bind::<Text, _>(reason)
        .bind::<Nullable<Text>, _>(&scope.tenant_id)
        .bind::<Nullable<Timestamptz>, _>(scope.from_time)
        .bind::<Nullable<Timestamptz>, _>(scope.to_time);
    let hold: Number = query.get_result(postgres(conn)?).await?;
    Ok(hold.value)
}

/// What a hold covers at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
#[non_exhaustive]
pub struct Coverage {
    /// In how many partitions it covers a row.
    #[diesel(sql_type = BigInt)]
    pub months: i64,
    /// How many rows it covers, exact below 100,000; of more, each further month counts as one.
    #[diesel(sql_type = BigInt)]
    pub row_count: i64,
}

/// Counts what a hold with this scope would cover now. A hold that covers nothing may name a tenant wrongly.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn coverage(conn: &mut Connection, scope: &HoldScope) -> Result<Coverage, OpsError> {
    let query = diesel::sql_query("SELECT months, row_count FROM audit_hold_coverage($1, $2, $3)")
        .bind::<Nullable<Text>, _>(&scope.tenant_id)
        .bind::<Nullable<Timestamptz>, _>(scope.from_time)
        .bind::<Nullable<Timestamptz>, _>(scope.to_time);
    Ok(query.get_result(postgres(conn)?).await?)
}

/// What reverting the migration of retention removes, besides rows of the trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// Active holds.
    pub holds: i64,
    /// Entries of the ledger.
    pub ledger_entries: i64,
}

/// Counts the active holds and the ledger's entries; nothing if the database has neither table.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn evidence(conn: &mut Connection) -> Result<Evidence, OpsError> {
    let exists = diesel::sql_query("SELECT count(to_regclass('audit_retention_ledger')) AS value");
    let conn = postgres(conn)?;
    if exists.get_result::<Number>(conn).await?.value == 0 {
        return Ok(Evidence::default());
    }
    let holds = diesel::sql_query(
        "SELECT count(*) AS value FROM audit_legal_holds h WHERE releases IS NULL \
         AND NOT EXISTS (SELECT FROM audit_legal_holds r WHERE r.releases = h.id)",
    );
    let holds = holds.get_result::<Number>(conn).await?.value;
    let entries = diesel::sql_query("SELECT count(*) AS value FROM audit_retention_ledger");
    let ledger_entries = entries.get_result::<Number>(conn).await?.value;
    Ok(Evidence {
        holds,
        ledger_entries,
    })
}

/// Releases a hold. The hold and its release both stay in the record.
///
/// # Errors
/// When the reason is empty, the hold does not exist or was released before, or the database refuses.
///
/// # Cancel safety
/// Dropping the future leaves it open whether it was released.
pub async fn release(conn: &mut Connection, hold: i64, reason: &str) -> Result<(), OpsError> {
    let query = diesel::sql_query("SELECT audit_hold_release($1, $2) AS value")
        .bind::<BigInt, _>(hold)
        .bind::<Text, _>(reason);
    query.get_result::<Number>(postgres(conn)?).await?;
    Ok(())
}

/// Lists all holds by number, including those that were released.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn list(conn: &mut Connection) -> Result<Vec<Hold>, OpsError> {
    let query = diesel::sql_query(concat!(
        "SELECT h.id, h.tenant_id, ",
        utc_text!("h.from_time"),
        " AS from_time, ",
        utc_text!("h.to_time"),
        " AS to_time, h.reason, h.created_by::text AS created_by, ",
        utc_text!("h.created_at"),
        " AS created_at, r.reason AS release_reason, r.created_by::text AS released_by, ",
        utc_text!("r.created_at"),
        " AS released_at FROM audit_legal_holds h LEFT JOIN audit_legal_holds r ON r.releases = h.id \
         WHERE h.releases IS NULL ORDER BY h.id"
    ));
    Ok(query.load(postgres(conn)?).await?)
}

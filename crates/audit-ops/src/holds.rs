//! What must not be dropped, whatever its age?

use chrono::{DateTime, Utc};
use db_services::client::Connection;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::Serialize;

use crate::OpsError;
use crate::pg::{Number, postgres, utc};

/// What a hold covers: everything, unless a tenant or a time says less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covers {
    /// The rows of this tenant only.
    pub tenant_id: Option<String>,
    /// Rows with a `created_at` from this time on.
    pub from_time: Option<DateTime<Utc>>,
    /// Rows with a `created_at` before this time.
    pub to_time: Option<DateTime<Utc>>,
}

/// A legal hold on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct Hold {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Whose rows are held; none: everybody's.
    #[diesel(sql_type = Nullable<Text>)]
    pub tenant_id: Option<String>,
    /// From which `created_at` on.
    #[diesel(sql_type = Nullable<Text>)]
    pub from_time: Option<String>,
    /// Before which `created_at`.
    #[diesel(sql_type = Nullable<Text>)]
    pub to_time: Option<String>,
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The database user who made it.
    #[diesel(sql_type = Text)]
    pub created_by: String,
    /// When, by the database's clock.
    #[diesel(sql_type = Text)]
    pub created_at: String,
    /// Why it was released; none while it stands.
    #[diesel(sql_type = Nullable<Text>)]
    pub release_reason: Option<String>,
    /// Who released it.
    #[diesel(sql_type = Nullable<Text>)]
    pub released_by: Option<String>,
    /// When it was released.
    #[diesel(sql_type = Nullable<Text>)]
    pub released_at: Option<String>,
}

/// Holds rows, and gives back the hold's number. A month is not dropped while a hold covers a row of it;
/// one without a tenant covers the months that its time touches, also where no row is.
///
/// # Errors
/// When the reason is empty, the times are in the wrong order, or the database refuses.
///
/// # Cancel safety
/// Dropping the future leaves it open whether the hold was made.
pub async fn add(conn: &mut Connection, covers: &Covers, reason: &str) -> Result<i64, OpsError> {
    let query = diesel::sql_query("SELECT audit_hold_add($1, $2, $3, $4) AS value")
        .bind::<Text, _>(reason)
        .bind::<Nullable<Text>, _>(&covers.tenant_id)
        .bind::<Nullable<Timestamptz>, _>(covers.from_time)
        .bind::<Nullable<Timestamptz>, _>(covers.to_time);
    let made: Number = query.get_result(postgres(conn)?).await?;
    Ok(made.value)
}

/// Ends a hold. Both stay on record.
///
/// # Errors
/// When the reason is empty, there is no such hold, it was released before, or the database refuses.
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

/// Lists all holds, also those that were released, by number.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn list(conn: &mut Connection) -> Result<Vec<Hold>, OpsError> {
    let query = diesel::sql_query(concat!(
        "SELECT h.id, h.tenant_id, ",
        utc!("h.from_time"),
        " AS from_time, ",
        utc!("h.to_time"),
        " AS to_time, h.reason, h.created_by::text AS created_by, ",
        utc!("h.created_at"),
        " AS created_at, r.reason AS release_reason, r.created_by::text AS released_by, ",
        utc!("r.created_at"),
        " AS released_at FROM audit_legal_holds h LEFT JOIN audit_legal_holds r ON r.releases = h.id \
         WHERE h.releases IS NULL ORDER BY h.id"
    ));
    Ok(query.load(postgres(conn)?).await?)
}

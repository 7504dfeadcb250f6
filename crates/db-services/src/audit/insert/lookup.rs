//! Which rows are stored in PostgreSQL, for a role that may only insert.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::audit::row::LogRow;

/// Asks whether this user may look rows up, without an error where the function is missing.
pub(super) const MAY_LOOK_UP: &str = "SELECT coalesce(has_function_privilege(to_regprocedure( \
     'audit_logs_lookup(uuid[], timestamptz[], uuid[], bigint[])'), 'EXECUTE'), false) AS value";

pub(super) const LOOK_UP: &str = "SELECT audit_logs_lookup($1, $2, $3, $4) AS value";

/// Whether a unique index of this name is the primary key of `audit_logs` or of one of its partitions; null
/// if it is an index of another table.
pub(super) const IS_PRIMARY_KEY: &str = "SELECT bool_and(i.indisprimary) AS value \
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
     WHERE c.relname = $1::text AND i.indrelid IN (SELECT relid FROM pg_partition_tree('audit_logs'::regclass))";

/// Under which number a row is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum StoredAs {
    /// Under its own `writer_id` and `writer_seq`.
    ItsNumber,
    /// Under another: its entry was written twice.
    AnotherNumber,
}

impl StoredAs {
    pub(super) fn new(is_its_number: bool) -> Self {
        if is_its_number {
            Self::ItsNumber
        } else {
            Self::AnotherNumber
        }
    }
}

/// Looks rows up; none if this user may not, or if the look-up does not work.
pub(in crate::audit) async fn look_up(
    client: &Client,
    rows: &[LogRow],
) -> Result<Option<Vec<Option<StoredAs>>>, Error> {
    if !client.query_one(MAY_LOOK_UP, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let times: Vec<_> = rows.iter().map(|row| row.created_at).collect();
    let writers: Vec<_> = rows.iter().map(|row| row.writer_id).collect();
    let seqs: Vec<_> = rows.iter().map(|row| row.writer_seq).collect();
    let answer = client.query_one(LOOK_UP, &[&ids, &times, &writers, &seqs]).await;
    match answer.and_then(|row| row.try_get::<_, Option<Vec<Option<bool>>>>(0)) {
        Ok(Some(stored)) if stored.len() == rows.len() => Ok(Some(
            stored.into_iter().map(|row| row.map(StoredAs::new)).collect(),
        )),
        Ok(_) => Ok(None),
        // The server answered: too many partitions to lock, say. Single inserts do without them.
        Err(error) if error.code().is_some() && !client.is_closed() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The unique index that a row violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum UniqueIndex {
    /// The primary key of `audit_logs` or of a partition: the row's id and time are stored.
    PrimaryKey,
    /// Another index of theirs: the row is rejected.
    Other,
    /// An index of another table, into which a trigger inserts.
    OtherTable,
}

impl UniqueIndex {
    pub(super) fn new(is_primary: Option<bool>) -> Self {
        match is_primary {
            Some(true) => Self::PrimaryKey,
            Some(false) => Self::Other,
            None => Self::OtherTable,
        }
    }
}

/// Returns the index that an error names; none if it is no unique violation.
pub(in crate::audit) async fn violated_index(
    client: &Client,
    error: &Error,
) -> Result<Option<UniqueIndex>, Error> {
    if error.code() != Some(&SqlState::UNIQUE_VIOLATION) {
        return Ok(None);
    }
    let name = error
        .as_db_error()
        .and_then(|server| server.constraint())
        .unwrap_or_default();
    let is_primary = client.query_one(IS_PRIMARY_KEY, &[&name]).await?.try_get(0)?;
    Ok(Some(UniqueIndex::new(is_primary)))
}

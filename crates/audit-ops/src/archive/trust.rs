//! Decides whether an archive may be restored, before any row is inserted.

use db_services::client::Connection;

use super::stored::{MonthRange, compare_columns};
use super::{LedgerVerdict, VerifiedArchive, compare_with_ledger};
use crate::postgres::postgres;
use crate::session::bounded;
use crate::{ArchiveProblem, OpsError, retention};

/// Which archives are restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those whose rows an entry of the ledger has, by number, range and digest.
    Ledger,
    /// Any, for this reason. The ledger records it, and that the archive was not in the ledger or differed from it.
    Operator(String),
}

/// Compares an archive with the ledger of this database.
///
/// # Errors
/// When the database does not answer, or refuses.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn check_ledger(
    conn: &mut Connection,
    archive: &VerifiedArchive,
) -> Result<LedgerVerdict, OpsError> {
    let ledger = bounded(conn, retention::ledger).await?;
    Ok(compare_with_ledger(&archive.manifest, &ledger))
}

/// Whether [`restore`](super::restore()) would accept an archive: compares it with the ledger, and its month and columns with the trail.
/// Changes nothing. Call it for all archives of a directory before the first one is restored.
///
/// # Errors
/// Those of [`restore`](super::restore()) that are not about single rows.
///
/// # Cancel safety
/// Dropping the future loses nothing.
pub async fn check_restorable(
    conn: &mut Connection,
    archive: &VerifiedArchive,
    trust: &Trust,
) -> Result<(), OpsError> {
    prepare(conn, archive, trust).await.map(|_| ())
}

pub(super) async fn prepare<'a>(
    conn: &mut Connection,
    archive: &VerifiedArchive,
    trust: &'a Trust,
) -> Result<(Record<'a>, MonthRange), OpsError> {
    let verdict = check_ledger(conn, archive).await?;
    let record = record_of(archive, verdict, trust)?;
    let range = bounded(conn, async |conn| {
        let conn = postgres(conn)?;
        compare_columns(conn, archive).await?;
        MonthRange::of(conn, archive).await
    })
    .await?;
    Ok((record, range))
}

/// What the ledger will say about a restore.
pub(super) struct Record<'a> {
    pub(super) overridden: Option<&'static str>,
    pub(super) reason: &'a str,
}

/// An error if the archive is not to be restored.
fn record_of<'a>(
    archive: &VerifiedArchive,
    verdict: LedgerVerdict,
    trust: &'a Trust,
) -> Result<Record<'a>, OpsError> {
    let overridden = match &verdict {
        LedgerVerdict::Same { .. } => None,
        LedgerVerdict::Absent => Some("not_in_ledger"),
        LedgerVerdict::Different { .. } => Some("differs_from_ledger"),
    };
    match (overridden, trust) {
        (None, _) => Ok(Record {
            overridden,
            reason: "restored from an archive",
        }),
        (_, Trust::Operator(reason)) => Ok(Record { overridden, reason }),
        (_, Trust::Ledger) => Err(OpsError::archive(&archive.path, ArchiveProblem::Ledger(verdict))),
    }
}

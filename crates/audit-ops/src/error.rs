//! The errors of maintenance, each with the remedy in its message.

use std::io;
use std::path::{Path, PathBuf};

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error};

use crate::archive::LedgerVerdict;

/// Why a maintenance operation failed.
///
/// The cause is in [`source`](std::error::Error::source), not in the message: print the whole chain.
/// [`Database`](Self::Database) is the exception, since the server's message is the error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpsError {
    /// The trail is in SQLite.
    #[error(
        "SQLite has no partitions, and its rows are never deleted one by one, so there is nothing to create, \
         hold or drop; to begin a new trail, stop the programs that write, move the file away as its own \
         archive, and run `auditlog migrate`"
    )]
    Sqlite,
    /// The database lacks the functions.
    #[error(
        "this database has no retention functions, or they are not in this user's search_path; run \
         `auditlog migrate` on it first"
    )]
    NotMigrated,
    /// The database refused the operation, or did not answer. The message is the server's, with its hint.
    #[error("{}", server_message(.0))]
    Database(#[from] Error),
    /// The trail was read, and the database does not take the record of that.
    #[error(
        "this reading cannot be recorded in the trail, so nothing is shown: {}; {}",
        server_message(.0),
        remedy_of_record(.0)
    )]
    NotRecorded(Error),
    /// Another session held a lock for longer than this one may wait.
    #[error("{}", locked(.holders.as_deref(), .cause))]
    Locked {
        /// The server's processes that hold a lock on a table of the trail, or wait for one, each with the table. None if
        /// they ended meanwhile.
        holders: Option<String>,
        /// The server's message.
        cause: Error,
    },
    /// Another process held the lock of an SQLite file for longer than this one waits.
    #[error(
        "{0}: another process held the file for more than 5 seconds; repeat the command when it has finished"
    )]
    LockedFile(Error),
    /// The server did not answer, although its own limit of the statement had passed. Whether the statement was carried
    /// out is not known.
    #[error(
        "the server did not answer within {0:?}: it has stopped, or a proxy in between has; whether the statement was \
         carried out is not known; statement_timeout in the URL sets another limit: ?options=-c%20statement_timeout%3D1d"
    )]
    Silent(std::time::Duration),
    /// A file or directory could not be read or written.
    #[error("cannot read or write {}", shown(.path))]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// An archive cannot be written or used.
    #[error("archive {}", shown(.path))]
    Archive {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        source: ArchiveProblem,
    },
    /// The user cannot see every row of the trail.
    #[error(
        "an archive must have every row, and this user cannot see all of them: connect as the owner of \
         audit_logs, or as a member of both the maintainer's and the auditor's role"
    )]
    IncompleteView,
    /// Partitions for too many months were to be created.
    #[error(
        "partitions for more than {0} months were asked for: create only those of the months that events have, or set a \
         higher limit (--max-partitions)"
    )]
    TooManyMonths(u16),
    /// Rows of an archive that was just written are not those of the trail.
    #[error(
        "{rows} rows of the archive are not restored as they are stored, so their month must not be dropped: {}",
        printable(.row)
    )]
    NotRestorable {
        /// How many.
        rows: i64,
        /// One of them: its id and time, or the beginning of its line.
        row: String,
    },
    /// The trail has different rows where an archive has these.
    #[error(
        "{rows} archived rows conflict with existing rows that have the same id and created_at; nothing was \
         restored: {}",
        printable(.row)
    )]
    RowConflict {
        /// How many.
        rows: i64,
        /// One of them: its id and time, or the beginning of its line.
        row: String,
    },
}

/// What to do where a reading cannot be recorded.
fn remedy_of_record(error: &Error) -> &'static str {
    match error.to_string().contains("audit_record_reading") {
        true => "run `auditlog migrate`, or read without a record (--no-record)",
        false => "on a standby or a read-only database, read without a record (--no-record)",
    }
}

/// What is wrong with an archive, or prevents writing one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveProblem {
    /// There is no manifest at the path.
    #[error("there is no archive here (a file whose name ends with {suffix})")]
    Missing {
        /// How the names of manifests end.
        suffix: &'static str,
    },
    /// One of the two files is not there.
    #[error(
        "it is missing, and the other file of the archive is there: get it from a copy, or remove the other file if \
         the archive was never finished"
    )]
    Absent,
    /// The partition that was to be archived is not a whole month.
    #[error("the partition {partition} is not a whole month")]
    NotMonthly {
        /// The partition.
        partition: String,
    },
    /// Others may write to the directory of the archive or to one above it, or it belongs to another user.
    #[error(
        "others could replace an archive in or below this directory: write it as the owner of the directory, with \
         `chmod go-w`, or to another directory"
    )]
    Unprotected,
    /// Another process is writing to the directory.
    #[error("another process is writing an archive to this directory")]
    Locked,
    /// The manifest is of another version.
    #[error("its format is {found:?}, this version supports {supported:?}")]
    Format {
        /// The manifest's format.
        found: String,
        /// The format that this version reads.
        supported: &'static str,
    },
    /// A text of the manifest is none that an archive has.
    #[error("invalid manifest: {field} has control characters, or is longer than {MAX_TEXT} bytes")]
    Text {
        /// The manifest's field.
        field: &'static str,
    },
    /// The manifest is not the JSON that it should be.
    #[error("invalid manifest")]
    Manifest(#[source] serde_json::Error),
    /// The lines cannot be decompressed, or are not text.
    #[error("damaged")]
    Damaged(#[source] io::Error),
    /// A figure differs from the manifest's.
    #[error("changed or damaged: {figure} is {found}, its manifest says {expected}")]
    Mismatch {
        /// The manifest's field.
        figure: &'static str,
        /// The figure of the file.
        found: String,
        /// The figure in the manifest.
        expected: String,
    },
    /// A line is not JSON.
    #[error("damaged: a line is not the JSON of a row")]
    Line(#[source] serde_json::Error),
    /// The pieces of a long value are not those that the line describes.
    #[error(
        "damaged: the pieces of a long value of {} are not those that the row's line describes: {}",
        printable(.column),
        printable(.row)
    )]
    Value {
        /// The column.
        column: String,
        /// How the line of the row begins: with its id and time.
        row: String,
    },
    /// Rows have different columns. All rows of an archive have those that the table had.
    #[error("damaged: not all rows have the same columns")]
    RowColumns,
    /// The table lacks a column of the archive.
    #[error(
        "its rows have the column {}, which the table of this database lacks: run the migrations first (`auditlog \
         migrate`)",
        printable(.column)
    )]
    UnknownColumn {
        /// The column.
        column: String,
    },
    /// The table has a column that may not be null, and that the archive lacks.
    #[error(
        "its rows lack the column {}, which may not be null in this database: ALTER TABLE audit_logs ALTER {} DROP NOT \
         NULL, as a column that is added must be null in older rows",
        printable(.column), printable(.column)
    )]
    RequiredColumn {
        /// The column.
        column: String,
    },
    /// No partition takes the rows of the month.
    #[error(
        "nothing was restored: its month has no partition of its own, so that its rows would go to the default \
         partition; if rows of that month are there, move them first (`auditlog partitions move-default`); otherwise \
         another session has just dropped the month: repeat the command"
    )]
    NoPartition,
    /// The range is not one whole month, or not the one that the manifest names.
    #[error("invalid manifest: from_time and to_time are not the month that it names")]
    Range,
    /// Rows are of another month than the manifest's.
    #[error("it has rows of other months than its manifest says; nothing was restored")]
    OtherMonth,
    /// The ledger does not know these rows.
    #[error("{}", not_in_ledger(.0))]
    Ledger(LedgerVerdict),
    /// The file is not the one that was checked.
    #[error("changed since it was checked")]
    Changed,
}

impl OpsError {
    /// Whether another attempt may succeed: the connection was lost, the server ends its sessions, or a lock was held.
    ///
    /// Diesel has no SQLSTATE, so this is the text of a server that speaks English, or of the driver.
    pub fn may_pass(&self) -> bool {
        const LOST: [&str; 3] = [
            "terminating connection",
            "connection closed",
            "error communicating with the server",
        ];
        match self {
            Self::Silent(_) | Self::Locked { .. } | Self::LockedFile(_) => true,
            Self::Database(Error::BrokenTransactionManager) => true,
            Self::Database(Error::DatabaseError(kind, info)) => {
                let message = DatabaseErrorInformation::message(&**info);
                matches!(
                    kind,
                    DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand
                ) || LOST.iter().any(|text| message.starts_with(text))
            }
            _ => false,
        }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    pub(crate) fn archive(path: &Path, source: ArchiveProblem) -> Self {
        Self::Archive {
            path: path.to_owned(),
            source,
        }
    }
}

/// The longest text in a manifest, in bytes: as long as the name of a file may be.
pub(crate) const MAX_TEXT: usize = 255;

/// Why the ledger does not prove an archive, and what to do.
fn not_in_ledger(verdict: &LedgerVerdict) -> String {
    let why = match verdict {
        LedgerVerdict::Different {
            entry,
            figure,
            found,
            expected,
        } => format!(
            "it differs from entry {entry} of the ledger: {figure} is {found}, the ledger says {expected}"
        ),
        LedgerVerdict::Absent | LedgerVerdict::Same { .. } => {
            "this database's ledger has no entry about its rows, so nothing shows that they are unchanged"
                .to_owned()
        }
    };
    format!(
        "{why}; compare it with the ledger of the database that dropped the month (restore --check), and restore it with \
         --accept REASON, which the ledger records"
    )
}

/// What holds the lock, and what to do.
fn locked(holders: Option<&str>, cause: &Error) -> String {
    let message = server_message(cause);
    match holders {
        Some(holders) => format!(
            "{message}: the server's {}; see pid in pg_stat_activity, and repeat the command when the transactions \
             that hold locks have ended",
            printable(holders)
        ),
        None => format!("{message}: no other session has a lock on the trail any more; repeat the command"),
    }
}

/// The remedy if the server does not know a statement that was prepared, or knows it already.
const POOLER: &str = "a pooler between this command and the server loses prepared statements: PgBouncer in transaction \
     mode needs 1.21 or newer with max_prepared_statements > 0; or use session mode, or connect directly";

/// The remedy if a statement took longer than it may.
const STATEMENT_TIMEOUT: &str =
    "statement_timeout in the URL sets another limit: ?options=-c%20statement_timeout%3D1d";

/// The server's message and hint. Its detail is left out because it can quote a row.
fn server_message(error: &Error) -> String {
    let message = match error {
        Error::DatabaseError(_, info) => match DatabaseErrorInformation::hint(&**info) {
            Some(hint) => format!("{} ({hint})", info.message()),
            None if info.message().starts_with("prepared statement ") => {
                format!("{} ({POOLER})", info.message())
            }
            None if info.message().ends_with("due to statement timeout") => {
                format!("{} ({STATEMENT_TIMEOUT})", info.message())
            }
            None => info.message().to_owned(),
        },
        other => other.to_string(),
    };
    // It may quote a value of an archive.
    printable(&message)
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// Escapes what moves a terminal's cursor, changes its settings or reverses its text.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmful(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

/// True for control characters (ECMA-48 sequences begin with one), line breaks, and the formatting characters of
/// bidirectional text (UAX #9), which make a line look like another.
#[doc(hidden)]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

//! What an error of PostgreSQL means, by its SQLSTATE, and what helps.

use audit_core::writer::{SinkError, SinkErrorKind};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::client::{ConnectError, describe};

/// Classifies an error of connecting. If one of several servers answered with a SQLSTATE, that decides.
pub(super) fn connect_error(error: &ConnectError) -> SinkError {
    let code = error.code();
    let is_permanent = code.map_or_else(|| error.is_permanent(), |code| !is_transient(code));
    let reason = match code.and_then(hint) {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    };
    SinkError {
        kind: open_error_kind(is_permanent),
        reason,
        sqlstate: code.map(|code| code.code().to_owned()),
    }
}

/// Classifies an error of the first statements of a session.
pub(super) fn prepare_error(error: &Error) -> SinkError {
    let is_permanent = error.code().is_some_and(|code| !is_transient(code));
    sink_error(open_error_kind(is_permanent), error)
}

/// No row was sent yet: an error that does not pass by itself is a mistake in the configuration.
fn open_error_kind(is_permanent: bool) -> SinkErrorKind {
    match is_permanent {
        true => SinkErrorKind::Misconfigured,
        false => SinkErrorKind::Transient,
    }
}

/// True for the classes of SQLSTATE that say nothing about rows, tables or rights: connection (08),
/// transaction state, read-only among them (25), rollback (40), resources (53), object in use (55),
/// operator (57), system (58), snapshot (72), internal (XX).
pub(super) fn is_transient(code: &SqlState) -> bool {
    ["08", "25", "40", "53", "55", "57", "58", "72", "XX"].contains(&&code.code()[..2])
}

/// True if no partition takes a row, or another one ought to. The code is that of any CHECK, but this one has
/// no name.
pub(super) fn lacks_partition(error: &Error) -> bool {
    let unnamed = |error: &DbError| error.constraint().is_none();
    error.code() == Some(&SqlState::CHECK_VIOLATION) && error.as_db_error().is_some_and(unnamed)
}

/// True if a pooler has changed the server's connection under a prepared statement: it is missing, or
/// another client's has its name.
pub(super) fn is_prepared_statement_lost(code: &SqlState) -> bool {
    matches!(code.code(), "26000" | "42P05")
}

pub(super) fn sink_error(kind: SinkErrorKind, error: &Error) -> SinkError {
    let message = match error.as_db_error() {
        // Not its detail: PostgreSQL quotes the rejected row there.
        Some(server) => server.message().to_owned(),
        None => describe(error),
    };
    let no_partition = lacks_partition(error).then_some(
        "the default partition is missing: create it, or its month by SELECT audit_logs_ensure_partitions(…) as a maintainer; \
         for upcoming months GRANT EXECUTE on that function to this user",
    );
    let reason = match no_partition.or_else(|| error.code().and_then(hint)) {
        Some(hint) => format!("{message} ({hint})"),
        None => message,
    };
    SinkError {
        kind,
        reason,
        sqlstate: error.code().map(|code| code.code().to_owned()),
    }
}

/// What to do about an error, where that is known.
fn hint(code: &SqlState) -> Option<&'static str> {
    Some(match code.code() {
        "28P01" | "28000" => {
            "check the user and the password in the database URL, and the server's pg_hba.conf"
        }
        "3D000" => "create the database, or correct its name in the URL",
        "3F000" | "42P01" | "42703" | "42883" => "run the migrations: `auditlog migrate`",
        "42501" => "make this user a member of the writers' role: GRANT audit_writer TO …",
        "26000" | "42P05" => {
            "PgBouncer in transaction mode needs 1.21 or newer with max_prepared_statements > 0; or session \
             mode; or connect the audit writer directly"
        }
        "53300" => "raise max_connections, or put a pooler in front",
        "53100" => "free space on the server's disk",
        "25006" => "the server is a standby or read-only; point the URL at the primary",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_codes_are_told_from_others() {
        for code in [
            "08006", "25006", "40P01", "53100", "53300", "55P03", "57014", "57P01", "58030", "XX000",
        ] {
            assert!(is_transient(&SqlState::from_code(code)), "{code}");
        }
        for code in [
            "22021", "23514", "28P01", "3D000", "42501", "42P01", "54000", "P0001", "UA001",
        ] {
            assert!(!is_transient(&SqlState::from_code(code)), "{code}");
        }
    }

    /// Which server connection an experiment would meet is chance, so the code decides.
    #[test]
    fn a_lost_prepared_statement_is_known_by_its_code() {
        for code in ["26000", "42P05"].map(SqlState::from_code) {
            assert!(
                is_prepared_statement_lost(&code) && hint(&code).unwrap().contains("PgBouncer"),
                "{code:?}"
            );
        }
        assert!(!is_prepared_statement_lost(&SqlState::from_code("42501")));
    }
}

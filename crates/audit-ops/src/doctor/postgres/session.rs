//! A connection whose statements leave nothing behind: they run in a transaction that is rolled back.

use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::doctor::{Code, DoctorError, Finding};

/// A row as text, the format of PostgreSQL's simple query protocol.
pub(super) type Row = Vec<Option<String>>;

/// One connection. Statements use the simple query protocol, so that neither PostgreSQL nor a pooler prepares
/// or keeps them. Their text is a constant, or was formatted by the server from its catalog.
pub(super) struct Session(Client);

/// Settings for one transaction. The lock timeout is short, so that sessions that queue behind a lock are not
/// delayed noticeably. The checks parse times in this format, and compare defaults as text.
const BEGIN: &str = "BEGIN; \
     SET LOCAL lock_timeout = '200ms'; \
     SET LOCAL statement_timeout = '10s'; \
     SET LOCAL idle_in_transaction_session_timeout = '30s'; \
     SET LOCAL client_min_messages = 'error'; \
     SET LOCAL timezone = 'UTC'; \
     SET LOCAL datestyle = 'ISO'; \
     SET LOCAL intervalstyle = 'postgres'; \
     SET LOCAL quote_all_identifiers = off; \
     SET LOCAL jit = off";

/// The server refused a statement, and the session continues.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) sqlstate: String,
    pub(super) message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sqlstate, message } = self;
        write!(f, "{message} ({sqlstate})")
    }
}

impl Refusal {
    /// The finding of a check for which some users lack a right. Any other reason hides faults.
    pub(super) fn needs_a_right(self, code: Code) -> Finding {
        match self.lacks_right() {
            true => Finding::unchecked(code, self.message),
            false => Finding::not_run(code, self.message),
        }
    }

    pub(super) fn lacks_right(&self) -> bool {
        self.sqlstate == "42501"
    }
}

/// The result of trying a statement.
pub(super) enum Attempt {
    /// It was carried out, on this number of rows.
    Done {
        rows: u64,
    },
    Refused(Refusal),
    /// Another session held a lock for longer than the timeout.
    LockTimeout,
}

/// The reason to report for [`Attempt::LockTimeout`].
pub(super) const LOCK_TIMEOUT_REASON: &str = "another session held the table for longer than 200 ms";

/// The longest wait for an answer, which the server ends after ten seconds.
const ANSWER: Duration = Duration::from_secs(30);

/// Waits for an answer of the server.
pub(super) async fn answered<T, E: Into<DoctorError>>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, DoctorError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(DoctorError::Silent(ANSWER)),
    }
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    pub(super) fn client(&self) -> &Client {
        &self.0
    }

    /// Begins a transaction with the doctor's limits.
    pub(super) async fn begin(&self) -> Result<(), DoctorError> {
        self.execute(BEGIN).await
    }

    pub(super) async fn roll_back(&self) -> Result<(), DoctorError> {
        self.execute("ROLLBACK").await
    }

    /// Runs statements that return no row.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), DoctorError> {
        answered(self.0.batch_execute(sql)).await
    }

    /// Runs a query and returns all rows.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Row>, DoctorError> {
        let messages = answered(self.0.simple_query(sql)).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs a query for one value; none if it is null or there is no row.
    pub(super) async fn value(&self, sql: &str) -> Result<Option<String>, DoctorError> {
        Ok(self
            .rows(sql)
            .await?
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten()))
    }

    /// Runs a query in a savepoint, so that the transaction continues after a refusal.
    pub(super) async fn query_in_savepoint(
        &self,
        sql: &str,
    ) -> Result<Result<Vec<Row>, Refusal>, DoctorError> {
        self.execute("SAVEPOINT doctor").await?;
        match self.rows(sql).await {
            Ok(rows) => {
                self.execute("RELEASE doctor").await?;
                Ok(Ok(rows))
            }
            Err(error) => {
                let refused = refusal(error)?;
                self.execute("ROLLBACK TO doctor; RELEASE doctor").await?;
                Ok(Err(refused))
            }
        }
    }

    /// Runs a statement in a savepoint, and rolls back its effect and its locks.
    pub(super) async fn run_and_undo(&self, sql: &str) -> Result<Attempt, DoctorError> {
        self.run(sql, "ROLLBACK TO doctor; RELEASE doctor").await
    }

    /// Runs a statement in a savepoint. Its effect lasts until the transaction is rolled back.
    pub(super) async fn run_in_savepoint(&self, sql: &str) -> Result<Attempt, DoctorError> {
        self.run(sql, "RELEASE doctor").await
    }

    async fn run(&self, sql: &str, on_success: &str) -> Result<Attempt, DoctorError> {
        self.execute("SAVEPOINT doctor").await?;
        let result = answered(self.0.simple_query(sql)).await;
        let end = if result.is_ok() {
            on_success
        } else {
            "ROLLBACK TO doctor; RELEASE doctor"
        };
        if let Err(error) = self.execute(end).await {
            // The first error says more than that the connection is closed.
            return Err(result.err().unwrap_or(error));
        }
        match result {
            Ok(messages) => Ok(done(&messages)),
            Err(error) => {
                let reason = refusal(error)?;
                match reason.sqlstate.as_str() {
                    "55P03" | "40P01" => Ok(Attempt::LockTimeout),
                    _ => Ok(Attempt::Refused(reason)),
                }
            }
        }
    }
}

fn done(messages: &[SimpleQueryMessage]) -> Attempt {
    let counts = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::CommandComplete(count) => Some(*count),
        _ => None,
    });
    Attempt::Done {
        rows: counts.last().unwrap_or(0),
    }
}

/// The server's refusal, unless the error ended the session.
pub(super) fn refusal(error: DoctorError) -> Result<Refusal, DoctorError> {
    let refused = match &error {
        DoctorError::Postgres(error) => error.as_db_error(),
        _ => None,
    };
    match refused {
        Some(refused) if !ends_session(refused.code()) => Ok(Refusal {
            sqlstate: refused.code().code().to_owned(),
            message: refused.message().to_owned(),
        }),
        _ => Err(error),
    }
}

fn ends_session(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03")
}

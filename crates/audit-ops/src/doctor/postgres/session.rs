//! How does the doctor speak to a server, so that nothing of it stays?

use std::fmt::Write;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::doctor::DoctorError;

/// A row as text, in which PostgreSQL answers plain queries.
pub(super) type Row = Vec<Option<String>>;

/// One connection. Statements go as plain text, which neither PostgreSQL nor a pooler in between
/// prepares or keeps. Text is this crate's, or made by the server from its own catalog.
pub(super) struct Session(Client);

/// For one transaction only. A lock is given up before those who queue behind it notice; what follows
/// reads times as it is written here.
const BEGIN: &str = "BEGIN; \
     SET LOCAL lock_timeout = '200ms'; \
     SET LOCAL statement_timeout = '10s'; \
     SET LOCAL idle_in_transaction_session_timeout = '30s'; \
     SET LOCAL client_min_messages = 'error'; \
     SET LOCAL timezone = 'UTC'; \
     SET LOCAL datestyle = 'ISO'";

/// What became of a statement that was tried, and undone.
pub(super) enum Tried {
    /// It was carried out, on this number of rows.
    Done { rows: u64 },
    /// It was refused.
    Refused { sqlstate: String, message: String },
    /// Others held what it needs for longer than it may wait.
    Waited,
}

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    pub(super) fn client(&self) -> &Client {
        &self.0
    }

    /// Begins a transaction with the doctor's limits.
    pub(super) async fn begin(&self) -> Result<(), Error> {
        self.0.batch_execute(BEGIN).await
    }

    pub(super) async fn roll_back(&self) -> Result<(), Error> {
        self.0.batch_execute("ROLLBACK").await
    }

    /// Asks, and gives all rows.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<Row>, Error> {
        let messages = self.0.simple_query(sql).await?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Asks for one value; none if it is null or there is no row.
    pub(super) async fn value(&self, sql: &str) -> Result<Option<String>, Error> {
        Ok(self
            .rows(sql)
            .await?
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next().flatten()))
    }

    /// Asks within a transaction that goes on if this is refused.
    pub(super) async fn asked(&self, sql: &str) -> Result<Result<Vec<Row>, String>, DoctorError> {
        self.0.batch_execute("SAVEPOINT doctor").await?;
        match self.rows(sql).await {
            Ok(rows) => {
                self.0.batch_execute("RELEASE doctor").await?;
                Ok(Ok(rows))
            }
            Err(error) => {
                let message = refusal(error)?.1;
                self.0.batch_execute("ROLLBACK TO doctor; RELEASE doctor").await?;
                Ok(Err(message))
            }
        }
    }

    /// Tries a statement within a transaction, and undoes it with the locks that it took.
    pub(super) async fn tried(&self, sql: &str) -> Result<Tried, DoctorError> {
        self.attempt(sql, "ROLLBACK TO doctor; RELEASE doctor").await
    }

    /// Runs a statement whose effect lasts until the transaction is rolled back.
    pub(super) async fn kept(&self, sql: &str) -> Result<Tried, DoctorError> {
        self.attempt(sql, "RELEASE doctor").await
    }

    async fn attempt(&self, sql: &str, on_success: &str) -> Result<Tried, DoctorError> {
        self.0.batch_execute("SAVEPOINT doctor").await?;
        let answer = self.0.simple_query(sql).await;
        let end = if answer.is_ok() {
            on_success
        } else {
            "ROLLBACK TO doctor; RELEASE doctor"
        };
        if let Err(error) = self.0.batch_execute(end).await {
            // The first error tells more than that there is no connection any more.
            return Err(answer.err().unwrap_or(error).into());
        }
        match answer {
            Ok(messages) => Ok(done(&messages)),
            Err(error) => {
                let (sqlstate, message) = refusal(error)?;
                match sqlstate.as_str() {
                    "55P03" | "40P01" => Ok(Tried::Waited),
                    _ => Ok(Tried::Refused { sqlstate, message }),
                }
            }
        }
    }
}

fn done(messages: &[SimpleQueryMessage]) -> Tried {
    let counts = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::CommandComplete(count) => Some(*count),
        _ => None,
    });
    Tried::Done {
        rows: counts.last().unwrap_or(0),
    }
}

/// The SQLSTATE and the server's words, unless the connection is what failed.
fn refusal(error: Error) -> Result<(String, String), DoctorError> {
    match error.as_db_error() {
        Some(said) if !ends_session(said.code()) => {
            Ok((said.code().code().to_owned(), said.message().to_owned()))
        }
        _ => Err(error.into()),
    }
}

fn ends_session(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03")
}

impl From<Error> for DoctorError {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        // "db error" and "error communicating with the server" alone help nobody.
        if let Some(cause) = std::error::Error::source(&error) {
            let _ = write!(text, ": {cause}");
        }
        Self::Postgres(text)
    }
}

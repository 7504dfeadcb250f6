//! How does a batch reach PostgreSQL, and whose fault is it if it does not?

use std::time::Duration;

use db_schema::NewAuditLog;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Error};

use super::{Fault, Horizon, Known, OnRepeat, Rows, Sink, SinkError};
use crate::audit::insert::PreparedInsert;
use crate::client::{self, Route, connect_writer, describe, needs_mending};

/// Writes to PostgreSQL on one connection of its own, opened when first needed and again after an
/// error that may have harmed it.
pub(crate) struct PostgresSink {
    route: Route,
    /// The longest that an attempt may take, connecting and finding the fault included.
    limit: Duration,
    session: Option<Session>,
    known: Known,
    horizon: Option<Horizon>,
}

struct Session {
    client: Client,
    insert: PreparedInsert,
}

impl PostgresSink {
    pub(crate) fn new(route: Route, limit: Duration) -> Self {
        Self { route, limit, session: None, known: Known::default(), horizon: None }
    }

    /// Looks after the months ahead as well.
    pub(crate) fn with_horizon(self) -> Self {
        Self { horizon: Some(Horizon::default()), ..self }
    }

    /// Another connection for the same writer.
    pub(crate) fn beside(&self) -> Self {
        let (known, horizon) = (self.known.clone(), self.horizon.clone());
        Self { route: self.route.clone(), limit: self.limit, session: None, known, horizon }
    }

    async fn attempt(&mut self, rows: &[NewAuditLog], on_repeat: OnRepeat) -> Result<(), SinkError> {
        // Taken: if this is cut short or fails, the next attempt begins with a new connection.
        let mut session = match self.session.take().filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => Session::open(&self.route).await?,
        };
        if let Err(error) = session.write(rows, on_repeat).await {
            return Err(session.find_fault(&error, &self.known, rows).await);
        }
        self.known.committed(rows);
        if let Some(horizon) = &self.horizon {
            horizon.look_ahead(&self.route);
        }
        self.session = Some(session);
        Ok(())
    }
}

impl Sink for PostgresSink {
    async fn write(&mut self, rows: Rows, on_repeat: OnRepeat) -> Result<(), SinkError> {
        match tokio::time::timeout(self.limit, self.attempt(&rows, on_repeat)).await {
            Ok(result) => result,
            Err(_) => Err(SinkError {
                fault: Fault::Moment,
                reason: format!("no answer within {:?}", self.limit),
                sqlstate: None,
            }),
        }
    }
}

impl Session {
    async fn open(route: &Route) -> Result<Self, SinkError> {
        let open = async {
            let client = connect_writer(route).await?;
            let insert = PreparedInsert::new(&client).await?;
            Ok(Self { client, insert })
        };
        // No row was sent yet: what the server refuses here is the set-up's fault.
        open.await.map_err(|error: Error| {
            let set_up = error.code().map_or_else(|| needs_mending(&error), |code| !is_of_the_moment(code));
            sink_error(if set_up { Fault::SetUp } else { Fault::Moment }, &error)
        })
    }

    async fn write(&mut self, rows: &[NewAuditLog], on_repeat: OnRepeat) -> Result<(), Error> {
        let written = match self.insert.run(&self.client, rows, on_repeat).await {
            // Only a repeat can collide, so the cheaper plain INSERT goes first.
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                self.insert.run(&self.client, rows, OnRepeat::Skip).await
            }
            // No default partition, and no month for it: have it made. Or its month came to be while
            // it waited for the default partition.
            Err(error) if lacks_partition(&error) => {
                self.make_months(rows).await;
                self.insert.run(&self.client, rows, on_repeat).await
            }
            other => other,
        };
        written.map(|_| ())
    }

    /// Makes the missing partitions of these rows, if it may.
    async fn make_months(&self, rows: &[NewAuditLog]) {
        let mut months: Vec<_> = rows.iter().map(|row| row.created_at).collect();
        months.sort_unstable();
        months.dedup_by_key(|time| time.format("%Y-%m").to_string());
        for month in months {
            // Whether it helped, the next attempt shows.
            let _ = self.client.query_one("SELECT audit_logs_ensure_partitions($1, $1)", &[&month]).await;
        }
    }

    /// Tells by the SQLSTATE what is plainly of the moment; of everything else by experiment whether
    /// the database takes another row.
    async fn find_fault(&mut self, error: &Error, known: &Known, rows: &[NewAuditLog]) -> SinkError {
        let fault = match error.code() {
            None => Fault::Moment,
            Some(code) if is_of_the_moment(code) => Fault::Moment,
            // An experiment could meet the connection that does have the statement, and blame the row.
            Some(code) if lost_its_statement(code) => Fault::SetUp,
            Some(_) => self.takes_any(known.candidates(rows)).await,
        };
        sink_error(fault, error)
    }

    /// Tries rows that ought to go in, each in a transaction that is rolled back.
    async fn takes_any(&mut self, candidates: Vec<NewAuditLog>) -> Fault {
        for row in candidates {
            let tried = async {
                self.client.batch_execute("BEGIN").await?;
                let inserted =
                    self.insert.run(&self.client, std::slice::from_ref(&row), OnRepeat::Fail).await;
                self.client.batch_execute("ROLLBACK").await?;
                inserted
            };
            match tried.await {
                Ok(_) => return Fault::Row,
                Err(error) if error.code().is_none_or(is_of_the_moment) => return Fault::Moment,
                Err(_) => {}
            }
        }
        Fault::SetUp
    }
}

/// True for the classes of SQLSTATE that say nothing about rows, tables or rights: connection (08),
/// transaction state, read-only among them (25), rollback (40), resources (53), object in use (55),
/// operator (57), system (58), snapshot (72), internal (XX).
fn is_of_the_moment(code: &SqlState) -> bool {
    ["08", "25", "40", "53", "55", "57", "58", "72", "XX"].contains(&&code.code()[..2])
}

/// True where no partition takes a row, or another one ought to. The code is that of any CHECK; but this one has no name.
fn lacks_partition(error: &Error) -> bool {
    let unnamed = |error: &DbError| error.constraint().is_none();
    error.code() == Some(&SqlState::CHECK_VIOLATION) && error.as_db_error().is_some_and(unnamed)
}

/// True where a pooler changes the server's connection under a prepared statement: it is not there,
/// or another client's has its name.
fn lost_its_statement(code: &SqlState) -> bool {
    matches!(code.code(), "26000" | "42P05")
}

fn sink_error(fault: Fault, error: &Error) -> SinkError {
    let said = match error.as_db_error() {
        // Not its detail: PostgreSQL quotes the refused row there.
        Some(server) => server.message().to_owned(),
        None => describe(error),
    };
    let no_partition = lacks_partition(error).then_some(
        "make its month: SELECT audit_logs_ensure_partitions(), or GRANT EXECUTE on that function to this user",
    );
    let known = || error.code().map_or_else(|| client::way_out(error), way_out);
    let reason = match no_partition.or_else(known) {
        Some(way_out) => format!("{said} ({way_out})"),
        None => said,
    };
    SinkError { fault, reason, sqlstate: error.code().map(|code| code.code().to_owned()) }
}

/// What to do about an error, where that is known.
fn way_out(code: &SqlState) -> Option<&'static str> {
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
    fn codes_of_the_moment() {
        for code in ["08006", "25006", "40P01", "53100", "53300", "55P03", "57014", "57P01", "58030", "XX000"]
        {
            assert!(is_of_the_moment(&SqlState::from_code(code)), "{code}");
        }
        for code in ["22021", "23514", "28P01", "3D000", "42501", "42P01", "54000", "P0001", "UA001"] {
            assert!(!is_of_the_moment(&SqlState::from_code(code)), "{code}");
        }
    }

    /// Which session an experiment would meet is chance, so this is not left to one.
    #[test]
    fn codes_of_a_pooler() {
        for code in ["26000", "42P05"].map(SqlState::from_code) {
            assert!(lost_its_statement(&code) && way_out(&code).unwrap().contains("PgBouncer"), "{code:?}");
        }
        assert!(!lost_its_statement(&SqlState::from_code("42501")));
    }
}

//! A synchronous program with diesel: entries in its own transaction, and entries by the writer.
//!
//! `cargo run --example sync_diesel` runs it on a temporary SQLite file and prints the rows that it wrote.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Duration;

use db_schema::sqlite::{self, schema::audit_logs};
use db_services::audit::context::{self, AuditContext};
use db_services::audit::{self, AuditEntry, AuditLog, AuditWriter, NewAuditLog, Outcome, write_audit_log};
use db_services::client::Database;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;

db_services::actions! {
    /// What this program records.
    pub const ACTIONS = {
        BATCH_RUN = ("batch.run", Data, Execute, Informational, "A batch of payments was processed.");
        PAYMENT_SEND = ("payment.send", Data, Execute, Low, "A payment was sent.");
    };
}

diesel::table! {
    /// What the program keeps.
    accounts (name) {
        /// Whose account it is.
        name -> Text,
        /// What is left.
        balance -> BigInt,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    for row in run()? {
        println!(
            "{:12} {:7} {:9} {} {}",
            row.action,
            row.outcome,
            row.actor_id.unwrap_or_default(),
            row.request_id.unwrap_or_default(),
            row.resource_id.unwrap_or_default()
        );
    }
    Ok(())
}

/// Runs the program, and returns the rows that it wrote, the oldest first.
fn run() -> Result<Vec<AuditLog>, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("payments.db");
    let database = Database::from_url(&format!("sqlite://{}", path.display()))?;
    migrate(&database)?;
    let mut conn = open(&path.display().to_string())?;

    // The writer has a thread and a connection of its own.
    let (writer, _guard) = AuditWriter::builder(database).service("payments").start()?;
    audit::install(writer)?;

    let job = AuditContext::new()
        .actor("scheduler")
        .actor_type("service")
        .request_id("batch-7");
    let sent = context::sync_scope(job, || process(&mut conn));
    println!("{sent} of 2 payments were sent");

    // Once, before `main` returns: writes what is queued.
    let report = audit::shutdown_blocking(Duration::from_secs(10));
    if report.lost > 0 {
        return Err("entries were lost".into());
    }
    Ok(audit_logs::table
        .filter(audit_logs::action.not_like("audit.%"))
        .order((audit_logs::created_at, audit_logs::id))
        .load(&mut conn)?)
}

/// The tables. A deployment runs `auditlog migrate` before the program; this function is asynchronous.
fn migrate(database: &Database) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(database.migrate())?;
    Ok(())
}

fn open(path: &str) -> Result<SqliteConnection, Box<dyn Error>> {
    let mut conn = SqliteConnection::establish(path)?;
    // The writer writes to the same file.
    conn.batch_execute(
        "PRAGMA busy_timeout = 5000; \
         CREATE TABLE accounts (name TEXT PRIMARY KEY NOT NULL, balance BIGINT NOT NULL CHECK (balance >= 0)); \
         INSERT INTO accounts VALUES ('alice', 100), ('bob', 0)",
    )?;
    Ok(conn)
}

/// Sends two payments, of which the second one is not covered. Returns how many were sent.
fn process(conn: &mut SqliteConnection) -> usize {
    let sent = [("p-1", 70), ("p-2", 40)]
        .into_iter()
        .filter(|(payment, amount)| match send(conn, payment, *amount) {
            Ok(()) => true,
            Err(error) => {
                // The transaction is rolled back, and its entry with it. This one is the writer's.
                let entry = AuditEntry::new(PAYMENT_SEND).resource("payment", *payment);
                write_audit_log(entry.outcome(Outcome::Failure).detail("error", error.to_string()));
                false
            }
        })
        .count();
    write_audit_log(AuditEntry::new(BATCH_RUN).detail("sent", sent));
    sent
}

/// Sends a payment. Either it is sent and on record, or neither.
fn send(conn: &mut SqliteConnection, payment: &str, amount: i64) -> QueryResult<()> {
    conn.immediate_transaction(|conn| {
        // The writer fills its entries from the current context. Here the program does.
        let entry = context::current().unwrap_or_default().entry(PAYMENT_SEND);
        insert(conn, entry.resource("payment", payment).detail("amount", amount))?;
        for (account, change) in [("bob", amount), ("alice", -amount)] {
            diesel::update(accounts::table.find(account))
                .set(accounts::balance.eq(accounts::balance + change))
                .execute(conn)?;
        }
        Ok(())
    })
}

/// Inserts an entry on a synchronous connection, as `audit::insert` does on an asynchronous one. The conversion limits
/// and scrubs it. On PostgreSQL: `insert_into(db_schema::schema::audit_logs::table).values(&row)`.
fn insert(conn: &mut SqliteConnection, entry: AuditEntry) -> QueryResult<()> {
    let row = NewAuditLog::from(entry);
    let inserted = diesel::insert_into(audit_logs::table)
        .values(sqlite::NewAuditLog::from(&row))
        .execute(conn)?;
    // A trigger of the operator's may skip a row without an error.
    match inserted {
        1 => Ok(()),
        _ => Err(diesel::result::Error::NotFound),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn a_rolled_back_payment_is_on_record_as_a_failure_only() {
        let rows = super::run().unwrap();
        let seen: Vec<_> = rows
            .iter()
            .map(|row| (&*row.action, &*row.outcome, row.resource_id.as_deref()))
            .collect();
        assert_eq!(
            seen,
            [
                ("payment.send", "success", Some("p-1")),
                ("payment.send", "failure", Some("p-2")),
                ("batch.run", "success", None),
            ]
        );
        // The entry of the transaction and those of the writer.
        for row in rows {
            let context = (row.actor_id.as_deref(), row.request_id.as_deref());
            assert_eq!(context, (Some("scheduler"), Some("batch-7")));
        }
    }
}

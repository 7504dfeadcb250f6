//! What is a PostgreSQL server asked, in which order?

mod attempts;
mod catalog;
mod invasive;
mod migrations;
mod pooler;
mod server;
mod session;
mod tenants;

use db_services::client::Database;
use tokio_postgres::Client;

use self::server::Server;
use self::session::Session;
use super::report::Examined;
use super::{Code, DoctorError, Finding, Options, Severity};

/// Runs all checks with one connection, and a second one beside it to see whether they are two.
pub(super) async fn examine(
    database: &Database,
    client: Client,
    options: &Options,
) -> Result<Examined, DoctorError> {
    let session = Session::new(client);
    let server = Server::ask(&session).await?;
    let mut findings = server.findings();
    findings.extend(way(database, &session).await?);
    if read(&session, &mut findings).await? {
        attempt(&session, &server, options, &mut findings).await?;
    }
    Ok(Examined {
        server: server.name(),
        user: server.user,
        findings,
    })
}

/// The way to the server: what is in between.
async fn way(database: &Database, session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let Ok(Some(other)) = database.postgres_client().await else {
        return Ok(vec![Finding::unchecked(
            Code::Pooler,
            "a second connection was not to be had",
        )]);
    };
    pooler::examine(session.client(), &other).await
}

/// Reads the catalog; false if there is no trail.
async fn read(session: &Session, findings: &mut Vec<Finding>) -> Result<bool, DoctorError> {
    session.begin().await?;
    findings.extend(catalog::host_rules(session).await?);
    let there = catalog::pin(session).await?;
    match there {
        true => findings.extend(catalog::examine(session).await?),
        false => findings.push(Finding::new(
            Code::Migrations,
            Severity::Critical,
            "there is no table audit_logs in this user's search_path",
            "auditlog migrate\n-- as the table's owner; or put its schema into the URL: ?options=-c%20search_path%3Daudit",
        )),
    }
    session.roll_back().await?;
    Ok(there)
}

/// Tries. What takes the strongest lock comes last, in a transaction that holds no other.
async fn attempt(
    session: &Session,
    server: &Server,
    options: &Options,
    findings: &mut Vec<Finding>,
) -> Result<(), DoctorError> {
    if server.read_only {
        findings.push(read_only(session).await?);
        return Ok(());
    }
    session.begin().await?;
    catalog::pin(session).await?;
    findings.extend(attempts::examine(session, options).await?);
    session.roll_back().await?;
    if !options.invasive {
        let why = "it takes the strongest lock, for which writers queue up; --invasive tries it all the same";
        findings.push(Finding::unchecked(Code::OwnerStatements, why));
        return Ok(());
    }
    session.begin().await?;
    catalog::pin(session).await?;
    findings.extend(invasive::examine(session).await?);
    session.roll_back().await?;
    Ok(())
}

/// A standby, or a user whose transactions only read: nothing can be tried there.
async fn read_only(session: &Session) -> Result<Finding, DoctorError> {
    let writes = session
        .value("SELECT has_any_column_privilege('audit_logs', 'INSERT')::text")
        .await?;
    Ok(match writes.as_deref() {
        Some("true") => Finding::new(
            Code::Writable,
            Severity::Warning,
            "this user may write, but the server is a standby or its transactions are read-only; nothing was tried",
            "-- point the URL at the primary; or ALTER ROLE … RESET default_transaction_read_only",
        ),
        _ => Finding::unchecked(
            Code::Writable,
            "a standby, or read-only transactions: nothing was tried",
        ),
    })
}

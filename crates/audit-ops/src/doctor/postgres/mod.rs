//! Examines a PostgreSQL trail: the order of the checks, and the transactions that they run in.

mod catalog;
mod changes;
mod comparison;
mod continuity;
mod invasive;
mod locks;
mod migrations;
mod pooler;
mod privileges;
mod probe_rows;
mod probes;
mod server;
mod server_settings;
mod session;
mod tenants;

use db_services::client::Database;
use tokio_postgres::Client;

use self::comparison::Names;
use self::server::Server;
use self::session::{Session, answered, refusal};
use super::allow::Allowed;
use super::report::RawFindings;
use super::{Code, DoctorError, Finding, Options, Severity};

/// Runs all checks on one connection. A second connection serves to detect a pooler.
pub(super) async fn examine(
    database: &Database,
    client: Client,
    options: &Options,
) -> Result<RawFindings, DoctorError> {
    let session = Session::new(client);
    let server = Server::query(&session).await?;
    let mut findings = server.findings();
    findings.extend(connection_path(database, &session).await?);
    let mut allowed = Allowed::new(&options.allow);
    let examined = examine_catalog(&session, &mut allowed, &mut findings).await;
    // An error shows that the trail could not be looked for, not that there is none.
    let exists = matches!(examined, Ok(true) | Err(_));
    complete(&session, examined.map(drop), &OF_CATALOG, &mut findings).await?;
    if exists {
        let tried = try_statements(&session, &server, options, &mut findings).await;
        complete(&session, tried, &OF_STATEMENTS, &mut findings).await?;
    }
    findings.extend(allowed.findings());
    Ok(RawFindings {
        server: server.name(),
        user: server.user,
        findings,
    })
}

/// The checks of the catalog.
const OF_CATALOG: [Code; 20] = [
    Code::Locks,
    Code::PreparedTransactions,
    Code::IdleTransactions,
    Code::User,
    Code::Membership,
    Code::Roles,
    Code::Grants,
    Code::RowSecurity,
    Code::Migrations,
    Code::Triggers,
    Code::OtherTriggers,
    Code::Tables,
    Code::Functions,
    Code::Indexes,
    Code::UpcomingPartitions,
    Code::DefaultPartition,
    Code::UnattachedTables,
    Code::Continuity,
    Code::Dependents,
    Code::Settings,
];

/// The checks that try statements.
const OF_STATEMENTS: [Code; 8] = [
    Code::Writable,
    Code::RowUpdate,
    Code::RowDelete,
    Code::Forgery,
    Code::TenantRead,
    Code::PartitionAccess,
    Code::CreateTable,
    Code::OwnerStatements,
];

/// If the server refused something that no check expects, each of these checks that has no finding yet has one now. Only
/// the end of the connection ends the examination.
async fn complete(
    session: &Session,
    result: Result<(), DoctorError>,
    codes: &[Code],
    findings: &mut Vec<Finding>,
) -> Result<(), DoctorError> {
    let Err(error) = result else {
        return Ok(());
    };
    let refused = refusal(error)?;
    session.roll_back().await?;
    for code in codes {
        if !findings.iter().any(|finding| finding.code == *code) {
            findings.push(Finding::not_run(*code, refused.message.clone()));
        }
    }
    Ok(())
}

/// Checks for a pooler between this client and the server.
async fn connection_path(database: &Database, session: &Session) -> Result<Vec<Finding>, DoctorError> {
    let Ok(Some(other)) = database.postgres_client().await else {
        return Ok(vec![Finding::unchecked(
            Code::Pooler,
            "a second connection could not be opened",
        )]);
    };
    match answered(pooler::examine(session.client(), &other)).await {
        Ok(findings) => Ok(findings),
        Err(error) => Ok(vec![Finding::not_run(Code::Pooler, refusal(error)?.message)]),
    }
}

/// Runs the checks of the catalog. Returns false if the table does not exist.
async fn examine_catalog(
    session: &Session,
    allowed: &mut Allowed,
    findings: &mut Vec<Finding>,
) -> Result<bool, DoctorError> {
    session.begin().await?;
    findings.extend(catalog::host_rules(session).await?);
    let names = Names::query(session).await?;
    match &names {
        Some(names) => catalog::examine(session, names, allowed, findings).await?,
        None => findings.push(Finding::new(
            Code::Migrations,
            Severity::Critical,
            "there is no table audit_logs in this user's search_path",
            "auditlog migrate\n-- as the table's owner; or put its schema into the URL: ?options=-c%20search_path%3Daudit",
        )),
    }
    session.roll_back().await?;
    Ok(names.is_some())
}

/// Describes the catalog as the comparison expects it. For the generator of its description.
pub(super) async fn describe(client: Client) -> Result<Option<String>, DoctorError> {
    let session = Session::new(client);
    session.begin().await?;
    let described = match Names::query(&session).await? {
        Some(names) => Some(comparison::describe(&session, &names).await?),
        None => None,
    };
    session.roll_back().await?;
    Ok(described)
}

/// Tries statements. The invasive ones come last, in a transaction that holds no other lock.
async fn try_statements(
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
    catalog::pin_search_path(session).await?;
    findings.extend(probes::examine(session, options).await?);
    session.roll_back().await?;
    if !options.invasive {
        let reason =
            "these statements take the strongest lock, for which writers wait; --invasive tries them";
        findings.push(Finding::unchecked(Code::OwnerStatements, reason));
        return Ok(());
    }
    session.begin().await?;
    catalog::pin_search_path(session).await?;
    findings.extend(invasive::examine(session).await?);
    session.roll_back().await?;
    Ok(())
}

/// The finding for a standby, or for a user whose transactions are read-only: no statement can be tried.
async fn read_only(session: &Session) -> Result<Finding, DoctorError> {
    // Outside a transaction, so that a refusal has no effect.
    let may_write = session
        .value("SELECT has_any_column_privilege('audit_logs', 'INSERT')::text")
        .await;
    let may_write = match may_write {
        Ok(may_write) => may_write,
        Err(error) => return Ok(Finding::not_run(Code::Writable, refusal(error)?.message)),
    };
    Ok(match may_write.as_deref() {
        Some("true") => Finding::new(
            Code::Writable,
            Severity::Warning,
            "this user may write, but the server is a standby or its transactions are read-only; no statement was tried",
            "-- point the URL at the primary; or ALTER ROLE … RESET default_transaction_read_only",
        ),
        _ => Finding::unchecked(
            Code::Writable,
            "a standby, or read-only transactions: no statement was tried",
        ),
    })
}

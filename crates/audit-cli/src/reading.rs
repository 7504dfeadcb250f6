//! The common parts of the verbs that show entries: the pager, the tenant, and the record that the trail was read.

use audit_ops::{OpsError, session};
use db_services::audit::Reading;
use db_services::audit::feed::{self, FeedError};
use db_services::audit::query::{AuditFilter, QueryError};
use db_services::client::{Connection, Database};

use crate::args::DatabaseArgs;
use crate::database::{connect, open_existing, open_to_read};
use crate::error::{CliError, USAGE};
use crate::output;

/// The options of these verbs, for their help.
pub(crate) const RECORDED: &str = "\
The reading is recorded in the trail before anything is shown (action audit.viewed): the query without secrets, the number \
of entries, the login, and the user of this machine (USER, or the number of the user) on whose behalf it reads. `auditlog list action:audit.viewed` \
shows who looked at the trail. Where the record cannot be written, as on a standby or a read-only file, nothing is shown \
(exit code 3): --no-record reads without a record.";

#[derive(Debug, clap::Args)]
pub(crate) struct ReadArgs {
    #[command(flatten)]
    record: RecordArgs,
    /// Use no pager on a terminal
    #[arg(long)]
    no_pager: bool,
}

impl ReadArgs {
    /// As [`RecordArgs::connect`].
    pub(crate) async fn connect(&self, args: &DatabaseArgs) -> Result<Connection, CliError> {
        self.record.connect(args).await
    }

    /// As [`RecordArgs::record`].
    pub(crate) async fn record(&self, conn: &mut Connection, reading: Reading) -> Result<(), OpsError> {
        self.record.record(conn, reading).await
    }

    /// Sends the output to a pager, where there is a terminal.
    pub(crate) fn start_pager(&self) {
        if !self.no_pager {
            output::paged();
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// Do not record in the trail that it was read
    #[arg(long)]
    no_record: bool,
}

impl RecordArgs {
    /// The database to read, and to write the record. An SQLite file is not changed without one.
    pub(crate) fn open(&self, args: &DatabaseArgs) -> Result<Database, CliError> {
        match self.no_record {
            true => open_to_read(args),
            false => open_existing(args),
        }
    }

    pub(crate) async fn connect(&self, args: &DatabaseArgs) -> Result<Connection, CliError> {
        self.connect_to(&self.open(args)?).await
    }

    pub(crate) async fn connect_to(&self, database: &Database) -> Result<Connection, CliError> {
        let connected = connect(database).await;
        match database.sqlite_path() {
            Some(_) if !self.no_record => connected.map_err(|error| {
                error.in_context("cannot record this reading (--no-record reads without a record)")
            }),
            _ => connected,
        }
    }

    /// Records a reading, in the transaction that has read.
    pub(crate) async fn record(&self, conn: &mut Connection, reading: Reading) -> Result<(), OpsError> {
        if self.no_record {
            return Ok(());
        }
        let reading = match user() {
            Some(user) => reading.reader(user),
            None => reading,
        };
        session::record_reading(conn, &reading).await
    }
}

/// The user of this machine. Neither cron nor a container sets a variable: then it is the number of the user.
fn user() -> Option<String> {
    let variables = ["USER", "LOGNAME", "USERNAME"].iter();
    let mut named = variables.filter_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    #[cfg(unix)]
    let number = Some(format!("uid:{}", rustix::process::getuid().as_raw()));
    #[cfg(not(unix))]
    let number = None;
    named.next().or(number)
}

/// Names the tenant to row security, for the transaction: a login with the role of tenants' readers sees no row otherwise.
pub(crate) async fn as_tenant(conn: &mut Connection, tenant: Option<&str>) -> Result<(), OpsError> {
    match tenant {
        Some(tenant) => session::set_tenant(conn, tenant).await,
        None => Ok(()),
    }
}

/// Separates the errors of a query from those of the database, which end the transaction.
pub(crate) fn answer<T>(result: Result<T, QueryError>) -> Result<Result<T, CliError>, OpsError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(QueryError::Database(error)) => Err(error.into()),
        Err(error @ (QueryError::Cursor(_) | QueryError::TooManyConditions { .. })) => {
            Ok(Err(CliError::from(error).with_exit_code(USAGE)))
        }
        Err(error) => Ok(Err(error.into())),
    }
}

/// The next rows of the feed, as [`feed::next`] returns them. The errors of a position are those of the second result: no
/// other connection helps.
pub(crate) async fn next_of_feed(
    conn: &mut Connection,
    tenant: Option<&str>,
    position: &feed::Position,
    filter: &AuditFilter,
    limit: u32,
) -> Result<Result<feed::Batch, FeedError>, OpsError> {
    session::bounded(conn, async |conn| {
        as_tenant(conn, tenant).await?;
        of_feed(feed::next(conn, position, filter, limit).await)
    })
    .await
}

/// Separates the errors of the feed from those of the database, which end the transaction.
pub(crate) fn of_feed<T>(result: Result<T, FeedError>) -> Result<Result<T, FeedError>, OpsError> {
    match result {
        Err(FeedError::Database(error)) => Err(error.into()),
        other => Ok(other),
    }
}

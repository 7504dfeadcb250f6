//! The database that the options name: opens or creates it, and connects.

use std::path::Path;

use audit_ops::session;
use db_services::client::{Connection, Database};
use percent_encoding::percent_decode_str;

use crate::args::DatabaseArgs;
use crate::error::{CliError, USAGE};
use crate::output::{self, print_note};

/// The database if neither an option nor the environment names one.
const DEFAULT_URL: &str = "sqlite://audit.db";

/// The database that the option names, else the environment, else the default. Does not connect.
pub(crate) fn from_args(args: &DatabaseArgs) -> Result<Database, CliError> {
    let database = named(args)?;
    match database.sqlite_path() {
        // SQLite would wait for the other end of a named pipe.
        Some(path) if path.exists() && !path.is_file() => {
            Err(CliError::new(format!("{} is not a file", path.display())).with_exit_code(USAGE))
        }
        _ => Ok(database),
    }
}

fn named(args: &DatabaseArgs) -> Result<Database, CliError> {
    if let Some(url) = &args.database_url {
        if has_password(url) {
            print_note!(
                "warning: other users of this machine see the password in --database-url in the list of processes; \
                 set AUDIT_DATABASE_URL instead"
            );
        }
        return Database::from_url(url).map_err(|error| CliError::from(error).with_exit_code(USAGE));
    }
    Ok(match Database::from_env()? {
        Some(database) => database,
        None => Database::from_url(DEFAULT_URL)?,
    })
}

/// Whether a URL has a password, before its last `@` or as a parameter.
fn has_password(url: &str) -> bool {
    let credentials = url.rsplit_once('@').map_or("", |(credentials, _)| credentials);
    let credentials = credentials
        .split_once("://")
        .map_or("", |(_, credentials)| credentials);
    let decoded = percent_decode_str(url).decode_utf8_lossy().to_lowercase();
    credentials.contains(':') || decoded.contains("password=")
}

/// The database for commands that must not create it: an SQLite file has to exist.
pub(crate) fn open_existing(args: &DatabaseArgs) -> Result<Database, CliError> {
    let database = from_args(args)?;
    match database.sqlite_path() {
        Some(path) if !path.exists() => Err(CliError::new(format!(
            "{} does not exist; create it with `auditlog migrate`, or name another with --database-url",
            path.display()
        ))),
        _ => Ok(database),
    }
}

/// The database for commands that only read it: an SQLite file is not changed, and may be on read-only media.
pub(crate) fn open_to_read(args: &DatabaseArgs) -> Result<Database, CliError> {
    Ok(open_existing(args)?.read_only()?)
}

/// The database for commands that write: an SQLite file that does not exist is created with its table.
pub(crate) async fn open_or_create(args: &DatabaseArgs) -> Result<Database, CliError> {
    let database = from_args(args)?;
    let Some(path) = database.sqlite_path() else {
        return Ok(database);
    };
    let is_new = !path.exists();
    if is_new || is_being_created(path) {
        // Waits for another process that creates it at the same time, and then has nothing to do.
        database.migrate().await?;
    }
    if is_new {
        print_note!("created {database}");
    }
    Ok(database)
}

/// Whether an SQLite file has no table yet: another process has created it a moment ago. A table needs a second page,
/// and until a checkpoint it is in the write-ahead log.
fn is_being_created(path: &Path) -> bool {
    const PAGE_BYTES: u64 = 4_096;
    path.metadata().is_ok_and(|metadata| metadata.len() <= PAGE_BYTES)
}

/// Connects, after checking that no migration is pending: that is the most frequent mistake.
pub(crate) async fn connect(database: &Database) -> Result<Connection, CliError> {
    let pending = match database.migration_status().await {
        Ok(states) => states.iter().filter(|migration| !migration.applied).count(),
        // Only the owner may read the list of migrations. For other users a missing table shows in the next
        // statement.
        Err(_) if database.sqlite_path().is_none() => 0,
        Err(error) => return Err(error.into()),
    };
    if pending > 0 {
        return Err(CliError::new(format!(
            "{database} lacks {}; run `auditlog migrate` on it first",
            output::counted(pending as u64, "migration", "migrations")
        )));
    }
    Ok(session::connect(database).await?)
}

/// Connects for the commands that only PostgreSQL supports. Does not read the list of migrations, because a
/// maintainer may not.
pub(crate) async fn maintenance_connection(args: &DatabaseArgs) -> Result<Connection, CliError> {
    let database = from_args(args)?;
    if database.sqlite_path().is_some() {
        // Before connecting, which would create the file.
        return Err(audit_ops::OpsError::Sqlite.into());
    }
    let mut conn = session::connect(&database).await?;
    session::bounded(&mut conn, audit_ops::ensure_migrated).await?;
    Ok(conn)
}

//! The database that the options name: opens or creates it, and connects.

use audit_ops::session;
use db_services::client::{Connection, Database};

use crate::args::DatabaseArgs;
use crate::error::{CliError, USAGE};
use crate::output::{self, print_note};

/// The database if neither an option nor the environment names one.
const DEFAULT_URL: &str = "sqlite://audit.db";

/// The database that the option names, else the environment, else the default. Does not connect.
pub(crate) fn from_args(args: &DatabaseArgs) -> Result<Database, CliError> {
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
    credentials.contains(':') || url.contains("password=")
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
    if database.sqlite_path().is_some_and(|path| !path.exists()) {
        database.migrate().await?;
        print_note!("created {database}");
    }
    Ok(database)
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

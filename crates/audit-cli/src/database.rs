//! Which database is meant, and may it be created?

use db_services::client::{Connection, Database};

use crate::failure::Failure;

/// The database when neither an option nor the environment names one.
const DEFAULT: &str = "sqlite://audit.db";

/// Takes the database that the option names, else the environment, else the default.
pub(crate) fn named(url: Option<&str>) -> Result<Database, Failure> {
    let database = match url {
        Some(url) => Database::from_url(url).map_err(|error| Failure::usage(error.to_string()))?,
        None => match Database::from_env()? {
            Some(database) => database,
            None => Database::from_url(DEFAULT)?,
        },
    };
    Ok(database)
}

/// The same, for commands that must not create it.
pub(crate) fn existing(url: Option<&str>) -> Result<Database, Failure> {
    let database = named(url)?;
    match database.sqlite_path() {
        Some(path) if !path.exists() => Err(Failure::new(format!(
            "{} does not exist; create it with `auditlog migrate`, or name another with --database-url",
            path.display()
        ))),
        _ => Ok(database),
    }
}

/// The same, for commands that write: an SQLite file that does not exist is created with its table.
pub(crate) async fn writable(url: Option<&str>) -> Result<Database, Failure> {
    let database = named(url)?;
    if database.sqlite_path().is_some_and(|path| !path.exists()) {
        database.migrate().await?;
        eprintln!("created {database}");
    }
    Ok(database)
}

/// Takes a connection, having made sure that the tables are there: nothing is more often missing.
pub(crate) async fn connect(database: &Database) -> Result<Connection, Failure> {
    let pending = match database.migration_status().await {
        Ok(states) => states.iter().filter(|migration| !migration.applied).count(),
        // The list of migrations is the owner's. Whoever may not see it is told by what comes next
        // whether a table is missing.
        Err(_) if database.sqlite_path().is_none() => 0,
        Err(error) => return Err(error.into()),
    };
    if pending > 0 {
        return Err(Failure::new(format!(
            "{database} lacks {pending} migrations; run `auditlog migrate` on it first"
        )));
    }
    Ok(database.connection().await?)
}

/// The same, for who keeps the trail: a maintainer may not look at the list of migrations.
pub(crate) async fn for_upkeep(url: Option<&str>) -> Result<Connection, Failure> {
    let database = named(url)?;
    if database.sqlite_path().is_some() {
        // Before connecting, which would create the file.
        return Err(audit_ops::OpsError::Sqlite.into());
    }
    let mut conn = database.connection().await?;
    audit_ops::ready(&mut conn).await?;
    Ok(conn)
}

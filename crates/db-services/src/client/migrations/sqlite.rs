//! The migrations of an SQLite file. A transaction that locks the file from its beginning makes processes
//! take turns.

use std::collections::HashSet;

use db_schema::sqlite::MIGRATIONS;
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use diesel_migrations::MigrationHarness;

use super::super::sqlite::{SqliteLocation, open_read_only, open_sqlite};
use super::{MigrationState, Outcome, all, states};

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    value: String,
}

pub(super) fn status(location: &SqliteLocation) -> Outcome<Vec<MigrationState>> {
    let applied = match location {
        SqliteLocation::File(path) | SqliteLocation::ReadOnly(path) => match path.try_exists() {
            Ok(false) => HashSet::new(),
            // Opening it reports why it cannot be looked for.
            Ok(true) | Err(_) => applied(&mut open_read_only(path)?)?,
        },
        SqliteLocation::Memory(_) => applied(&mut open_sqlite(location)?)?,
    };
    Ok(states(&all::<Sqlite>(&MIGRATIONS)?, &applied))
}

pub(super) fn migrate(location: &SqliteLocation) -> Outcome<Vec<String>> {
    let mut connection = open_sqlite(location)?;
    let applied = applied(&mut connection)?;
    let states = states(&all::<Sqlite>(&MIGRATIONS)?, &applied);
    if states.iter().all(|migration| migration.applied) {
        return Ok(Vec::new());
    }
    let ran = connection.immediate_transaction(|connection| -> Outcome<_> {
        let versions = connection.run_pending_migrations(MIGRATIONS)?;
        Ok(versions.iter().map(ToString::to_string).collect())
    });
    ran.map_err(explained)
}

pub(super) fn revert(location: &SqliteLocation) -> Outcome<String> {
    let reverted = open_sqlite(location)?.immediate_transaction(|connection| -> Outcome<_> {
        let version = connection.revert_last_migration(MIGRATIONS)?;
        Ok(version.to_string())
    });
    reverted.map_err(explained)
}

/// The error, and for a locked file what to do.
fn explained(error: Box<dyn std::error::Error + Send + Sync>) -> Box<dyn std::error::Error + Send + Sync> {
    match error.to_string() {
        text if text == "database is locked" => format!(
            "{text}: another process held the file for more than 5 seconds; repeat it when that has finished"
        )
        .into(),
        _ => error,
    }
}

/// The versions that a database has.
fn applied(connection: &mut SqliteConnection) -> QueryResult<HashSet<String>> {
    // One snapshot for both: the table may be created in between.
    connection.batch_execute("BEGIN")?;
    let table = "SELECT name AS value FROM sqlite_schema WHERE type = 'table' AND name = '__diesel_schema_migrations'";
    let mut found: Vec<Found> = sql_query(table).load(connection)?;
    if !found.is_empty() {
        found = sql_query("SELECT version AS value FROM __diesel_schema_migrations").load(connection)?;
    }
    connection.batch_execute("COMMIT")?;
    Ok(found.into_iter().map(|found| found.value).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    /// The file has the table of migrations already, as with the next version of a program: each process reads
    /// it before it writes.
    #[test]
    fn a_file_may_be_migrated_many_times_at_the_same_moment() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..30 {
            let location = SqliteLocation::File(dir.path().join(round.to_string()));
            migrate(&location).unwrap();
            revert(&location).unwrap();
            let start = Arc::new(Barrier::new(8));
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let (location, start) = (location.clone(), Arc::clone(&start));
                    std::thread::spawn(move || {
                        start.wait();
                        migrate(&location).map(|versions| versions.len())
                    })
                })
                .collect();
            let ran = threads.into_iter().map(|thread| thread.join().unwrap().unwrap());
            assert_eq!(ran.sum::<usize>(), 1, "the one that was reverted");
            assert!(
                status(&location)
                    .unwrap()
                    .iter()
                    .all(|migration| migration.applied)
            );
        }
    }
}

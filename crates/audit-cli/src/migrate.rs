//! `auditlog migrate`: which tables does the database have?

use std::process::ExitCode;

use db_services::audit;
use db_services::client::{Database, MigrationState};

use crate::args::Migrate;
use crate::database::{existing, named};
use crate::failure::{Done, Failure};
use crate::output;

pub(crate) async fn run(url: Option<&str>, args: Migrate) -> Done {
    if args.status {
        let states = existing(url)?.migration_status().await?;
        print_states(&states);
    } else if args.revert {
        revert(&existing(url)?, args.force).await?;
    } else {
        let database = named(url)?;
        let versions = database.migrate().await?;
        for version in &versions {
            println!("applied {version}");
        }
        if versions.is_empty() {
            println!("{database} is up to date");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Undoes the newest migration, unless entries could be lost with it.
async fn revert(database: &Database, force: bool) -> Result<(), Failure> {
    let entries = match database
        .migration_status()
        .await?
        .iter()
        .any(|migration| migration.applied)
    {
        true => audit::count(&mut database.connection().await?).await?,
        false => return Err(Failure::new(format!("{database} has no migration to undo"))),
    };
    if entries > 0 && !force {
        return Err(Failure::new(format!(
            "audit_logs holds {} entries, which a revert may destroy; add --force if that is meant",
            output::number(entries.unsigned_abs())
        )));
    }
    println!("reverted {}", database.revert_migration().await?);
    Ok(())
}

fn print_states(states: &[MigrationState]) {
    let rows = states.iter().map(|state| {
        let word = if state.applied { "applied" } else { "pending" };
        vec![output::Cell::plain(word), output::Cell::plain(&state.name)]
    });
    output::table(&["state", "migration"], rows);
}

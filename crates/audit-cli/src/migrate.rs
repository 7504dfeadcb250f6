//! `auditlog migrate`: applies, reverts and lists migrations.

use std::process::ExitCode;

use audit_ops::holds::{self, Evidence};
use audit_ops::{indexes, session};
use db_services::audit;
use db_services::client::{Database, MigrationState};

use crate::args::DatabaseArgs;
use crate::database::{from_args, open_existing, open_to_read};
use crate::error::{CliError, CommandResult};
use crate::output::{self, Cell, print_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog migrate              apply the pending migrations
  auditlog migrate --status     list the migrations, applied or pending
  auditlog migrate --revert     revert the newest one

Exit codes: 0 done, 2 invalid arguments, 3 the database failed.")]
pub(crate) struct Args {
    /// Revert the newest migration instead
    #[arg(long, conflicts_with = "status")]
    revert: bool,
    /// With --revert: even if there are entries, active holds or entries of the ledger, which may be lost with it
    #[arg(long, requires = "revert")]
    force: bool,
    /// List the migrations, change nothing
    #[arg(long)]
    status: bool,
}

pub(crate) async fn run(database: &DatabaseArgs, args: Args) -> CommandResult {
    if args.status {
        print_states(&open_to_read(database)?.migration_status().await?);
    } else if args.revert {
        revert(&open_existing(database)?, args.force).await?;
    } else {
        let database = from_args(database)?;
        let versions = database.migrate().await?;
        for version in &versions {
            print_line!("applied {version}");
        }
        build_indexes(&database).await?;
        if versions.is_empty() {
            print_line!("{database} is up to date");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds what a migration leaves for later, because it would block writers for as long as it takes.
async fn build_indexes(database: &Database) -> Result<(), CliError> {
    if database.sqlite_path().is_some() {
        return Ok(());
    }
    let mut conn = session::connect(database).await?;
    let bar = output::progress(None, "building indexes");
    let built = indexes::build_time_indexes(&mut conn, |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await;
    bar.finish_and_clear();
    match built? {
        0 => {}
        built => print_line!(
            "built the index audit_logs_time on {}",
            output::counted(built, "partition", "partitions")
        ),
    }
    Ok(())
}

/// Reverts the newest migration, unless entries could be lost with it.
async fn revert(database: &Database, force: bool) -> Result<(), CliError> {
    let states = database.migration_status().await?;
    if !states.iter().any(|migration| migration.applied) {
        return Err(CliError::new(format!("{database} has no migration to revert")));
    }
    let mut conn = session::connect(database).await?;
    let entries = session::bounded_long(&mut conn, audit::count).await?;
    let evidence = match database.sqlite_path() {
        None => session::bounded(&mut conn, holds::evidence).await?,
        Some(_) => Evidence::default(),
    };
    let Evidence {
        holds,
        ledger_entries,
        ..
    } = evidence;
    if (entries > 0 || holds > 0 || ledger_entries > 0) && !force {
        return Err(CliError::new(format!(
            "there are {}, {} and {} of the ledger, which may be lost with the migration; add --force to revert it anyway",
            output::entries(entries.unsigned_abs()),
            output::counted(holds.unsigned_abs(), "active hold", "active holds"),
            output::counted(ledger_entries.unsigned_abs(), "entry", "entries")
        )));
    }
    let reverted = match force {
        true => database.revert_migration_with_evidence().await?,
        // The migration itself notices what was added since.
        false => database.revert_migration().await?,
    };
    print_line!("reverted {reverted}");
    Ok(())
}

fn print_states(states: &[MigrationState]) {
    let rows = states.iter().map(|state| {
        let word = if state.applied { "applied" } else { "pending" };
        vec![Cell::plain(word), Cell::plain(&state.name)]
    });
    output::table(&["state", "migration"], rows);
}

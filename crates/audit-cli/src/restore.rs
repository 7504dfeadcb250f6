//! `auditlog restore`: are the archives what they were, and how do their rows come back?

use std::process::ExitCode;

use audit_ops::archive;

use crate::args::Restore;
use crate::database::for_upkeep;
use crate::failure::{Done, Failure};
use crate::output;

pub(crate) async fn run(url: Option<&str>, args: Restore) -> Done {
    // All of them, before a row is touched.
    let mut archives = Vec::new();
    for manifest in archive::manifests(&args.path)? {
        let bar = output::waiting("checking");
        let archived = archive::check(&manifest);
        bar.finish_and_clear();
        archives.push(archived?);
    }
    if args.check {
        for archived in &archives {
            let manifest = &archived.manifest;
            println!(
                "{}: {} rows, digest {}",
                manifest.month,
                output::number(manifest.rows),
                manifest.digest
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut conn = for_upkeep(url).await?;
    for archived in &archives {
        let month = &archived.manifest.month;
        let bar = output::progress(Some(archived.manifest.rows), "restoring");
        let restored = archive::restore(&mut conn, archived, &mut |rows| bar.set_position(rows)).await;
        bar.finish_and_clear();
        let restored =
            restored.map_err(|error| Failure::new(format!("{month} was not restored: {error}")))?;
        println!(
            "restored {month}: {} rows, {} were there already",
            output::number(restored.new),
            output::number(restored.known)
        );
    }
    Ok(ExitCode::SUCCESS)
}

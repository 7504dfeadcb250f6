//! Copies rows from the feed to a stream.

use std::cell::Cell;

use db_services::audit::feed::Position;
use indicatif::ProgressBar;

use super::stream::Stream;
use super::{Args, Export};
use crate::error::{CliError, Context};
use crate::output::{self, print_note};
use crate::reading::next_of_feed;

/// Where an export ended.
pub(super) struct End {
    pub(super) rows: u64,
    pub(super) position: Position,
    pub(super) has_more: bool,
}

/// The most rows of a batch.
const BATCH_ROWS: u64 = 5_000;
/// About how many bytes of lines a batch should have.
const BATCH_BYTES: u64 = 8 << 20;

/// Copies the rows to the stream, in batches.
pub(super) async fn copy(
    export: &mut Export,
    args: &Args,
    stream: &mut Stream,
    bar: &ProgressBar,
    stop: &Cell<bool>,
) -> Result<End, CliError> {
    let name = || {
        args.out
            .as_ref()
            .map_or("standard output".to_owned(), |path| path.display().to_string())
    };
    stream.write(&args.format.header()?).context(name)?;
    let (mut position, mut rows, mut last) = (export.first.clone(), 0, (0, 0));
    loop {
        if stop.get() {
            return Err(CliError::new("interrupted"));
        }
        let wanted = batch_rows(last, args.limit.map(|limit| limit.saturating_sub(rows)));
        let tenant = args.query.tenant.as_deref();
        let batch = next_of_feed(&mut export.conn, tenant, &position, &export.filter, wanted).await??;
        let mut bytes = 0;
        // Not as one text: that would take the memory of the batch once more.
        for part in batch.rows.chunks(100) {
            let lines = args.format.lines(part)?;
            bytes += lines.len() as u64;
            stream.write(&lines).context(name)?;
        }
        if !batch.rows.is_empty() {
            last = (batch.rows.len() as u64, bytes);
        }
        rows += batch.rows.len() as u64;
        position = batch.position;
        bar.set_message(format!("exporting: {}", output::entries(rows)));
        let is_full = args.limit.is_some_and(|limit| rows >= limit);
        let is_abandoned = args.out.is_none() && !output::is_open();
        if !batch.more || is_full || is_abandoned {
            if batch.lag.open > 0 {
                print_note!(
                    "{}: their entries, if they have any, come with the next export",
                    output::counted(
                        batch.lag.open as u64,
                        "transaction is open",
                        "transactions are open"
                    )
                );
            }
            return Ok(End {
                rows,
                position,
                has_more: batch.more && is_full,
            });
        }
    }
}

/// How many rows to read, where the last batch had this many rows and bytes. The feed ends a batch of larger rows; what the
/// server sent beyond that is read again.
fn batch_rows((rows, bytes): (u64, u64), left: Option<u64>) -> u32 {
    const FIRST: u64 = 100;
    let affordable = match rows {
        0 => FIRST,
        rows => BATCH_BYTES / (bytes / rows).max(1),
    };
    let most = BATCH_ROWS.min(left.unwrap_or(BATCH_ROWS));
    u32::try_from(affordable.min(most).max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_large_rows_has_few_of_them() {
        assert_eq!(batch_rows((0, 0), None), 100);
        assert_eq!(batch_rows((100, 50_000), None), 5_000);
        assert_eq!(batch_rows((100, 100 << 20), None), 8);
        assert_eq!(batch_rows((1, 1 << 30), None), 1);
        assert_eq!(batch_rows((100, 50_000), Some(30)), 30);
        assert_eq!(batch_rows((0, 0), Some(0)), 1);
    }
}

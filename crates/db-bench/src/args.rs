//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::memory::Flood;

/// Measures the audit writer beside the alternatives to it, in one interleaved run.
///
/// Every goal is a ratio of two contenders in the same run, because absolute figures differ between
/// machines. A run that loses a row ends with an error and prints no result.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to measure; everything by default
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    #[command(flatten)]
    pub(crate) options: Options,
}

const EXAMPLES: &str = "Examples:
  cargo run --release -p db-bench                          everything, as a table
  cargo run --release -p db-bench -- ingest --json         one part, one JSON object per line
  cargo run --release -p db-bench -- latency --blocks 5    a quick look
  cargo run --release -p db-bench -- ingest --only write_audit_log --only 'own table'
  cargo run --release -p db-bench -- query --open-rows 20000000
  DATABASE_URL=postgres://postgres@localhost/postgres cargo run --release -p db-bench -- ingest";

/// The parts of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Part {
    /// All of the parts below, one after the other
    All,
    /// Throughput of one producer that awaits nothing, until everything is committed
    Ingest,
    /// Time of a call that is not awaited
    Enqueue,
    /// Latency and rate of one caller that awaits each entry
    Latency,
    /// Throughput with and without the scrubbing of secrets
    Scrub,
    /// Rate of 10 and 50 concurrent callers that await each entry
    Concurrent,
    /// Growth of the process while the database is stopped
    Memory,
    /// WriteAhead into the spool, and the replay of the spool
    Spool,
    /// Time to the first page of look-ups in trails of different sizes, cold and warm, and rates of feed and export
    Query,
    /// One sample of `memory`, in a process of its own
    #[command(hide = true)]
    MemorySample {
        /// What the producer writes
        flood: Flood,
    },
    /// One sample of `scrub`, in a process of its own
    #[command(hide = true)]
    ScrubSample,
}

/// The amount of work, and the server.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Print one JSON object per line instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Rounds; each contender has one turn in each
    #[arg(long, global = true, default_value_t = 9, value_name = "N")]
    pub(crate) rounds: usize,
    /// Alternating blocks, for contenders that share one process
    #[arg(long, global = true, default_value_t = 40, value_name = "N")]
    pub(crate) blocks: usize,
    /// Measure only contenders whose name contains one of these texts, without ratios to the others
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Rows that a fast contender writes in a round; slow ones write a fraction
    #[arg(long, global = true, default_value_t = 100_000, value_name = "N")]
    pub(crate) events: usize,
    /// Rows of the closed months of the trail that `query` reads
    #[arg(long, global = true, default_value_t = 10_000_000, value_name = "N")]
    pub(crate) rows: usize,
    /// Rows of the open month of that trail; several numbers, separated by commas, are trails of their own
    #[arg(
        long,
        global = true,
        default_values_t = [1_000_000, 5_000_000],
        value_delimiter = ',',
        value_name = "N"
    )]
    pub(crate) open_rows: Vec<usize>,
    /// Closed months of that trail
    #[arg(long, global = true, default_value_t = 12, value_name = "N")]
    pub(crate) months: usize,
    /// Rows of the SQLite file that `query` reads
    #[arg(long, global = true, default_value_t = 2_000_000, value_name = "N")]
    pub(crate) sqlite_rows: usize,
    /// Seconds for which the producer of `memory` runs
    #[arg(long, global = true, default_value_t = 10.0, value_name = "SECONDS")]
    pub(crate) seconds: f64,
    /// Leave out the baseline that needs Node.js
    #[arg(long, global = true)]
    pub(crate) without_node: bool,
    /// A server whose user may create databases; by default a private one is started, with durability
    /// as in production (fsync, full_page_writes)
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) database_url: Option<String>,
    /// An existing directory for the data of the private server
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_in: Option<PathBuf>,
}

impl Options {
    /// True if the contender of this name is measured.
    pub(crate) fn takes_part(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| name.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_named_contenders_take_part() {
        let options = |args: &[&str]| Cli::parse_from(["db-bench"].iter().chain(args)).options;
        assert!(options(&[]).takes_part("sqlx, single"));
        let some = options(&["--only", "sqlx", "--only", "COPY"]);
        assert!(some.takes_part("sqlx, single") && some.takes_part("COPY BINARY, own table"));
        assert!(!some.takes_part("sea-orm, single"));
    }

    #[test]
    fn options_may_follow_the_part() {
        let cli = Cli::parse_from(["db-bench", "ingest", "--json", "--rounds", "3"]);
        assert_eq!(
            (cli.part, cli.options.json, cli.options.rounds),
            (Some(Part::Ingest), true, 3)
        );
        assert_eq!(Cli::parse_from(["db-bench"]).part, None);
    }
}

//! What may be asked of the command?

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::memory::Flood;

/// Measures the audit writers side by side with what else could be used, in one interleaved run.
///
/// Every goal is a ratio between medians of the same run: machines differ, so no figure alone is a
/// promise. A run in which a row went missing ends with an error and no result.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to measure; everything unless named
    #[command(subcommand)]
    pub(crate) what: Option<What>,
    #[command(flatten)]
    pub(crate) options: Options,
}

const EXAMPLES: &str = "Examples:
  cargo run --release -p db-bench                          everything, one table
  cargo run --release -p db-bench -- ingest --json         one part, an object a line
  cargo run --release -p db-bench -- latency --blocks 5    a quick look
  cargo run --release -p db-bench -- ingest --only write_audit_log --only 'own table'
  cargo run --release -p db-bench -- lookups --rows 200000
  DATABASE_URL=postgres://postgres@localhost/postgres cargo run --release -p db-bench -- ingest";

/// The parts of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum What {
    /// Everything, the parts below one after the other
    All,
    /// Forgotten entries of one producer, until everything is committed
    Ingest,
    /// What the caller pays for a call that it forgets
    Handoff,
    /// Awaited entries of one caller
    Latency,
    /// Awaited entries of 10 and 50 concurrent callers
    Concurrent,
    /// How the process grows while the database is stopped
    Memory,
    /// WriteAhead into the spool, and its replay
    Spool,
    /// First pages of a trail of twelve months, cold and warm
    Lookups,
    /// One sample of `memory`, in a process of its own
    #[command(hide = true)]
    MemorySample {
        /// What is written
        flood: Flood,
    },
}

/// How much is measured, and where.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Print one JSON object a line instead of a table
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Rounds; in each every contender has its turn
    #[arg(long, global = true, default_value_t = 9, value_name = "N")]
    pub(crate) rounds: usize,
    /// Alternating blocks where contenders share one process
    #[arg(long, global = true, default_value_t = 40, value_name = "N")]
    pub(crate) blocks: usize,
    /// Of the contenders that take turns, only those with one of these in the name; ratios to others
    /// are left out
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) only: Vec<String>,
    /// Rows that a fast contender writes in a round; slow ones write a share of it
    #[arg(long, global = true, default_value_t = 100_000, value_name = "N")]
    pub(crate) events: usize,
    /// Rows of the trail that `lookups` reads
    #[arg(long, global = true, default_value_t = 10_000_000, value_name = "N")]
    pub(crate) rows: usize,
    /// Seconds that the producer of `memory` runs
    #[arg(long, global = true, default_value_t = 10.0, value_name = "SECONDS")]
    pub(crate) seconds: f64,
    /// Leave out the peer that needs Node
    #[arg(long, global = true)]
    pub(crate) without_node: bool,
    /// A server whose user may create databases; unless given, a private one is started, with its
    /// durability as in production (fsync, full_page_writes)
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) database_url: Option<String>,
    /// An existing directory in which the private server keeps its data
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_in: Option<PathBuf>,
}

impl Options {
    /// Whether the contender of this name has its turns.
    pub(crate) fn takes_part(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|text| name.contains(text))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_those_named_take_part() {
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
            (cli.what, cli.options.json, cli.options.rounds),
            (Some(What::Ingest), true, 3)
        );
        assert_eq!(Cli::parse_from(["db-bench"]).what, None);
    }
}

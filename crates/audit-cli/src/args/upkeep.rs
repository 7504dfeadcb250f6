//! Which commands keep the trail, with which options?

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  auditlog partitions list
  auditlog partitions ensure                      24 months ahead, from now on
  auditlog partitions ensure --from 2019-01       before an import of old events
  auditlog partitions adopt-strays                rows of no month get one

Needs a user who is the table's owner or a member of audit_maintainer. PostgreSQL only.")]
pub(crate) enum Partitions {
    /// Show the partitions with their rows and sizes
    List {
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Make the months that are not there
    Ensure {
        /// From the month of this date on [default: now]
        #[arg(long, value_name = "DATE", value_parser = date)]
        from: Option<DateTime<Utc>>,
        /// Up to the month of this date [default: 24 months from now]
        #[arg(long, value_name = "DATE", value_parser = date)]
        to: Option<DateTime<Utc>>,
    },
    /// Move rows out of the default partition into months of their own
    AdoptStrays,
}

#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  auditlog retention plan --keep 13months
  auditlog retention apply --keep 13months --archive /var/backups/audit
  auditlog retention apply --keep 13months --archive /var/backups/audit --yes     from a monthly job
  auditlog retention ledger --json

Whole months are dropped, never rows. Nothing brings them back but an archive: `auditlog restore`.
Needs a user who is the table's owner or a member of audit_maintainer, for --archive of audit_auditor as
well. PostgreSQL only. Exit code 1: some months that are due stay, see the message.")]
pub(crate) enum Retention {
    /// Show what would be dropped, change nothing
    #[command(after_help = "\
Verdicts:
  drop            it is past its time
  keep            it is not (months without rows that are kept are left out)
  held            a legal hold covers rows of it: `auditlog hold list`
  too_few_recent  too few later months hold rows: is the server's clock right? See --trust-clock
  not_monthly     the default partition, and partitions that were created manually")]
    Plan {
        #[command(flatten)]
        keep: Keep,
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
    /// Drop the months that are past their time, and put it on record
    Apply(Apply),
    /// Show what was dropped and restored
    Ledger {
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Keep {
    /// How much is kept, as 13months or 7years
    #[arg(long = "keep", value_name = "TIME", value_parser = months)]
    pub(crate) months: i32,
    /// The server's clock is right: months without rows count as kept
    #[arg(long)]
    pub(crate) trust_clock: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Write each month to an archive in this directory before it goes
    #[arg(long, value_name = "DIR")]
    pub(crate) archive: Option<PathBuf>,
    /// Why, for the record [default: older than … months]
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// How many months may go within a day
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) max_months: i32,
    /// Keep fewer than 12 months (PCI DSS 10.5.1 asks for twelve)
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Examples:
  auditlog hold add --tenant acme --reason 'case 4711'
  auditlog hold add --from 2024-01-01 --to 2024-07-01 --reason 'audit of the first half-year'
  auditlog hold list
  auditlog hold release 1 --reason 'case 4711 was closed'

A month is not dropped while a hold covers a row of it. Holds and releases are never removed from the
record. Needs a user who is the table's owner or a member of audit_maintainer. PostgreSQL only.")]
pub(crate) enum Hold {
    /// Hold rows, whatever their age
    Add {
        #[command(flatten)]
        covers: Covers,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Show the holds that stand
    List {
        /// Those that were released as well
        #[arg(long)]
        all: bool,
        /// JSON lines
        #[arg(long)]
        json: bool,
    },
    /// End a hold
    Release {
        /// Its number
        #[arg(value_name = "HOLD")]
        id: i64,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, clap::Args)]
#[group(id = "covers", required = true, multiple = true)]
pub(crate) struct Covers {
    /// The rows of this tenant
    #[arg(long, value_name = "ID")]
    pub(crate) tenant: Option<String>,
    /// Rows from this time on
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Rows before this time
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// All rows there are and will be
    #[arg(long, conflicts_with_all = ["tenant", "from", "to"])]
    pub(crate) everything: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog restore --check /var/backups/audit                     are the archives what they were?
  auditlog restore /var/backups/audit/audit_logs_2024-01.4f1d22a9c0de0817.ndjson.gz
  auditlog --database-url postgres://me@localhost/case_4711 restore /var/backups/audit

Every row comes back with every column as it was; rows that are there already are left as they are. Takes
the table's owner. A restored month is past its time still: put a hold on it first, or restore into another
database, which must be migrated. PostgreSQL only.")]
pub(crate) struct Restore {
    /// A directory of archives, or one of an archive's two files
    pub(crate) path: PathBuf,
    /// Compare the archives with their manifests, and touch no database
    #[arg(long)]
    pub(crate) check: bool,
}

/// Reads a date, a month or a time, in UTC.
fn date(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = text.parse::<DateTime<Utc>>() {
        return Ok(time);
    }
    let day = format!("{text}-01")
        .parse::<NaiveDate>()
        .or_else(|_| text.parse::<NaiveDate>());
    day.map(|day| day.and_time(NaiveTime::MIN).and_utc())
        .map_err(|_| {
            "expected a date as 2024-01-31, a month as 2024-01, or a time as 2024-01-31T12:00:00Z".to_owned()
        })
}

/// Reads a length of time in whole months.
fn months(text: &str) -> Result<i32, String> {
    let text = text.trim();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - unit.len()].parse::<i32>().ok();
    let months = match unit.trim() {
        "month" | "months" => number,
        "year" | "years" => number.and_then(|years| years.checked_mul(12)),
        _ => None,
    };
    months
        .filter(|months| *months > 0)
        .ok_or_else(|| "expected whole months or years, as 13months or 7years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, expected) in [("13months", 13), ("1 month", 1), ("7years", 84), ("1year", 12)] {
            assert_eq!(months(text), Ok(expected));
        }
        for text in [
            "",
            "13",
            "0months",
            "-1months",
            "13m",
            "400days",
            "1.5years",
            "months",
            "999999999999years",
            "900000000years",
        ] {
            assert!(months(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates() {
        for text in [
            "2024-01-01",
            "2024-01",
            "2024-01-01T00:00:00Z",
            "2024-01-01T01:00:00+01:00",
        ] {
            assert_eq!(
                date(text).unwrap().to_rfc3339(),
                "2024-01-01T00:00:00+00:00",
                "{text}"
            );
        }
        for text in ["", "2024", "2024-13", "2024-02-30", "yesterday"] {
            assert!(date(text).is_err(), "{text}");
        }
    }
}

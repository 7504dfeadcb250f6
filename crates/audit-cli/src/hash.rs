//! `auditlog hash`: the digest by which a hashed value is stored and found.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use db_services::audit::scrub;

use crate::error::{CliError, CommandResult, Context};
use crate::input::Input;
use crate::lines::{Line, Lines, MAX_LINE_BYTES};
use crate::output::print_line;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog hash alice@example.org
  auditlog list --json -n 1000 | grep \"$(auditlog hash alice@example.org)\"
  auditlog hash - < addresses.txt                 a digest for each line

An application that records scrub::Hashed(value) stores this digest in place of the value: HMAC-SHA-256 with the key in \
AUDIT_HASH_KEY, of at least 16 bytes. Set it to the application's key: another key results in other digests, without an \
error. A value is hashed as it is; an application may have folded its case first.

Other users of this machine see VALUE in the list of processes, and the shell may keep it in its history. - reads values \
from standard input, one a line, and prints a digest for each. The end of a line (LF or CR LF) is not part of a value; \
an empty line is an empty value.

No database is needed.

Exit codes: 0 done, 2 invalid arguments, 3 there is no key, or standard input failed.")]
pub(crate) struct Args {
    /// The value; - reads one per line from standard input
    value: OsString,
}

pub(crate) fn run(args: &Args) -> CommandResult {
    if args.value == "-" {
        hash_lines()?;
    } else {
        print_digest(args.value.as_encoded_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_digest(value: &[u8]) -> Result<(), CliError> {
    print_line!("{}", scrub::hash(value)?);
    Ok(())
}

fn hash_lines() -> Result<(), CliError> {
    let mut lines = Lines::new(Input::open(Path::new("-"))?.reader);
    // Also where there is no line.
    scrub::hash("")?;
    loop {
        let chunk = lines.read_chunk().context(|| "standard input".to_owned())?;
        if chunk.is_empty() {
            return Ok(());
        }
        for line in chunk {
            match line {
                Line::Text(line) => print_digest(without_end(&line))?,
                Line::TooLong => {
                    return Err(CliError::new(format!(
                        "a line of standard input is longer than {} MiB; the lines before it were hashed",
                        MAX_LINE_BYTES >> 20
                    )));
                }
            }
        }
    }
}

/// A line without its LF or CR LF.
fn without_end(line: &[u8]) -> &[u8] {
    match line.strip_suffix(b"\n") {
        Some(line) => line.strip_suffix(b"\r").unwrap_or(line),
        None => line,
    }
}

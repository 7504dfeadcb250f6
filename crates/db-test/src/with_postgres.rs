//! The program `with-postgres`, which runs a command with an empty PostgreSQL database.
//!
//! `with-postgres COMMAND [ARGUMENT…]` sets `DATABASE_URL`, and exits with the exit code of the command.

use std::process::{Command, ExitCode};

use db_test::Postgres;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments
        .next()
        .ok_or("usage: with-postgres COMMAND [ARGUMENT…]")?;
    let database = Postgres::empty()?;
    let status = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", database.url())
        .status()?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

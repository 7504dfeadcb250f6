//! `auditlog completions`: what a shell needs to complete the command's words.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CommandResult;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog completions bash > ~/.local/share/bash-completion/completions/auditlog
  auditlog completions zsh > \"${fpath[1]}/_auditlog\"
  auditlog completions fish > ~/.config/fish/completions/auditlog.fish

Exit codes: 0 done, 2 invalid arguments.")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "auditlog", &mut script);
    output::text(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}

//! `auditlog man`: the manual pages, one for each verb.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};

use crate::args::Cli;
use crate::error::{CliError, CommandResult, Context};
use crate::output::{self, print_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  auditlog man | man -l -
  auditlog man list | man -l -
  auditlog man --out-dir /usr/local/share/man/man1

A page of a verb has the name of its words: auditlog-list.1, auditlog-hold-add.1. Files of these names are replaced.

Exit codes: 0 done, 2 invalid arguments, 3 a file failed.")]
pub(crate) struct Args {
    /// The verb whose page is printed [default: the page of auditlog itself]
    #[arg(value_name = "VERB", conflicts_with = "out_dir")]
    verb: Vec<String>,
    /// Write all pages to this directory
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> CommandResult {
    let pages = pages(Cli::command());
    match &args.out_dir {
        Some(dir) => {
            for (name, page) in &pages {
                write(&dir.join(format!("{name}.1")), page)?;
            }
            let written = output::counted(pages.len() as u64, "page", "pages");
            print_line!("wrote {written} to {}", dir.display());
        }
        None => {
            let words: Vec<_> = std::iter::once("auditlog")
                .chain(args.verb.iter().map(String::as_str))
                .collect();
            let name = words.join("-");
            let page = pages.iter().find(|(page, _)| *page == name);
            let (_, page) = page.ok_or_else(|| {
                CliError::usage(format!(
                    "there is no verb {}: see `auditlog --help`",
                    args.verb.join(" ")
                ))
            })?;
            output::text(String::from_utf8_lossy(page).trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, page: &[u8]) -> Result<(), CliError> {
    let written = File::create(path).and_then(|mut file| file.write_all(page));
    written.context(|| format!("cannot write {}", path.display()))
}

/// The pages of a command and of all below it, by their names.
fn pages(command: Command) -> Vec<(String, Vec<u8>)> {
    // Global options belong to each page.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages);
    pages
}

fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    // A vector takes every byte.
    pages.push((name.to_owned(), rendered(command.clone()).unwrap_or_default()));
    command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set())
        .for_each(|verb| add_pages(verb, pages));
}

fn rendered(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("auditlog ", env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command).source(source).render(&mut page)?;
    Ok(page)
}

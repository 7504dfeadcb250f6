//! Runs the simulation: seed after seed for a time, one seed as text, or the planted bugs.

#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use audit_core::simulation::{self, Bug};

const USAGE: &str =
    "usage: simulate [SECONDS] [--from SEED] | --seed SEED [--bug NAME] | --planted [SECONDS]";

/// Findings after which a run stops.
const MAX_FINDINGS: usize = 5;

/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // A panic is a finding, and its message is part of it.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match command(&arguments) {
        Some(Command::Run { time, from }) => run(time, from),
        Some(Command::Seed { seed, bug }) => show(seed, bug),
        Some(Command::Planted { time }) => planted(time),
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

enum Command {
    Run { time: Duration, from: u64 },
    Seed { seed: u64, bug: Option<Bug> },
    Planted { time: Duration },
}

fn command(arguments: &[&str]) -> Option<Command> {
    let seconds = |text: &str| text.parse().ok().map(Duration::from_secs);
    let minute = Duration::from_secs(60);
    Some(match arguments {
        [] => Command::Run {
            time: minute,
            from: 1,
        },
        [time] if !time.starts_with('-') => Command::Run {
            time: seconds(time)?,
            from: 1,
        },
        [time, "--from", from] => Command::Run {
            time: seconds(time)?,
            from: from.parse().ok()?,
        },
        ["--seed", seed] => Command::Seed {
            seed: seed.parse().ok()?,
            bug: None,
        },
        ["--seed", seed, "--bug", name] => Command::Seed {
            seed: seed.parse().ok()?,
            bug: Some(Bug::ALL.iter().copied().find(|bug| format!("{bug:?}") == *name)?),
        },
        ["--planted"] => Command::Planted { time: minute },
        ["--planted", time] => Command::Planted { time: seconds(time)? },
        _ => return None,
    })
}

fn run(time: Duration, from: u64) -> ExitCode {
    let begin = Instant::now();
    let (mut seeds, mut events, mut findings, mut shown) = (0_u64, 0_u64, 0_usize, Duration::ZERO);
    while begin.elapsed() < time && findings < MAX_FINDINGS {
        let seed = from + seeds;
        let outcome = simulation::run(seed, None);
        seeds += 1;
        events += outcome.events;
        if let Some(finding) = outcome.finding {
            findings += 1;
            println!("seed {seed}: {finding}\n  run it again: just simulate-seed {seed}");
        }
        if begin.elapsed() > shown + PROGRESS {
            shown = begin.elapsed();
            eprintln!(
                "{:>6} s  {seeds} seeds  {events} events  {findings} findings",
                shown.as_secs()
            );
        }
    }
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    println!(
        "{events} events of {seeds} seeds in {:.1} s ({:.1} million a minute), {findings} findings",
        minutes * 60.0,
        events as f64 / minutes / 1e6
    );
    if findings == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn show(seed: u64, bug: Option<Bug>) -> ExitCode {
    println!("{}", simulation::report(seed, bug));
    match simulation::run(seed, bug).finding {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

fn planted(time: Duration) -> ExitCode {
    let mut missed = 0;
    println!(
        "{:<40} {:>8} {:>10} {:>9}  broken promise",
        "planted bug", "seed", "events", "time"
    );
    for &bug in Bug::ALL {
        let begin = Instant::now();
        let mut events = 0;
        let found = (1_u64..).take_while(|_| begin.elapsed() < time).find_map(|seed| {
            let outcome = simulation::run(seed, Some(bug));
            events += outcome.events;
            outcome.finding.map(|finding| (seed, finding))
        });
        let name = format!("{bug:?}");
        let took = begin.elapsed();
        match found {
            Some((seed, finding)) => {
                println!(
                    "{name:<40} {seed:>8} {events:>10} {took:>9.2?}  {}",
                    finding.promise
                )
            }
            None => {
                missed += 1;
                println!("{name:<40} {:>8} {events:>10} {took:>9.2?}  NOT FOUND", "-");
            }
        }
    }
    if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

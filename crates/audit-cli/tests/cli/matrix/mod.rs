//! Each verb in each condition: it ends in time, and its exit code and text are true.
//!
//! [`VERBS`] has the verbs, [`cell`] what is expected of one in a [`Condition`]. `verbs.rs` compares the verbs with
//! those of the command's help.

mod answers;
mod exit_codes;
mod killed;
mod locked;
mod output;
mod pgbouncer;
mod settings;
mod silent;
mod verbs;
mod world;

use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) use verbs::{VERBS, Verb, verbs_of_the_command};
pub(crate) use world::{Session, World, server};

/// The longest that a command may take on a machine under load. The documented limits are far shorter.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a verb meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Standard output is on a full disk.
    FullDisk,
    /// Standard error is on a full disk.
    FullErrors,
    /// Nobody reads standard output.
    ClosedPipe,
    /// Nothing listens at the server's port.
    NoServer,
    /// The server accepts the connection and does not answer.
    Silent,
    /// The server does not answer the network's packets.
    BlackHole,
    /// The login has no right to anything.
    NoRight,
    /// The login's transactions are read-only.
    ReadOnly,
    /// Another session has locked the tables of the trail.
    Locked,
    /// Another session has locked the list of migrations.
    LockedMigrations,
    /// The server ends the command's session while it waits.
    Terminated,
    /// Another connection has locked the SQLite file.
    LockedFile,
    /// Nobody can create an SQLite file in the directory.
    ClosedDirectory,
}

/// What is expected of a verb in a condition.
pub(crate) enum Cell {
    /// This exit code, and one of these parts in the text on standard error.
    Ends(i32, &'static [&'static str]),
    /// The exit code that it has without the condition.
    AsUsual,
    /// The condition does not apply, for this reason.
    NotApplicable(&'static str),
}

use Cell::{AsUsual, Ends, NotApplicable};
use Condition::*;

/// The verbs that use no database with these arguments.
const WITHOUT_DATABASE: [&str; 6] = [
    "actions",
    "hash",
    "spool status",
    "spool quarantine",
    "completions",
    "man",
];

/// The first words of the verbs that are for PostgreSQL only.
const MAINTENANCE: [&str; 4] = ["partitions", "retention", "hold", "restore"];

/// The expectation for a verb.
pub(crate) fn cell(verb: &Verb, condition: Condition) -> Cell {
    let usual = match condition {
        FullErrors | ClosedPipe => return AsUsual,
        FullDisk if verb.name == "migrate --revert" => return AsUsual,
        FullDisk => return Ends(3, &["standard output is incomplete: No space left"]),
        _ if WITHOUT_DATABASE.contains(&verb.name) => return AsUsual,
        NoServer => Ends(3, &["refused"]),
        Silent => Ends(3, &["took longer than 1s"]),
        // The driver has the same limit for TCP alone.
        BlackHole => Ends(3, &["took longer than 1s", "connection timed out"]),
        NoRight => Ends(3, &["permission denied for", "GRANT audit_"]),
        ReadOnly => Ends(3, &["read-only transaction"]),
        Locked => Ends(
            3,
            &[
                "due to lock timeout: the server's process ",
                "other sessions locked the table",
            ],
        ),
        LockedMigrations => AsUsual,
        Terminated => Ends(3, &["terminating connection due to administrator command"]),
        ClosedDirectory => Ends(3, &["/proc/audit.db does not exist; create it"]),
        LockedFile => Ends(3, &["another process held the file for more than 5 seconds"]),
    };
    exception(verb, condition).unwrap_or(usual)
}

/// Where a verb differs from the others.
fn exception(verb: &Verb, condition: Condition) -> Option<Cell> {
    const READERS: [&str; 9] = [
        "actions --used",
        "migrate --status",
        "migrate --revert",
        "verify writers",
        "partitions list",
        "retention plan",
        "retention ledger",
        "hold list",
        "doctor",
    ];
    Some(match (condition, verb.name) {
        // It reads the archives in any case.
        (NoServer | Silent | BlackHole | NoRight | Locked | Terminated, "restore --check") => {
            Ends(3, &["no archive was compared with the ledger: "])
        }
        (_, "restore --check") => AsUsual,
        // They record the reading, and show nothing without that.
        (ReadOnly | LockedFile, "list" | "show" | "stats" | "tail" | "export" | "export --out") => {
            Ends(3, &["this reading cannot be recorded"])
        }
        // Its findings are the answer, on standard output.
        (NoRight | ReadOnly | Locked, "doctor") => AsUsual,
        (Terminated, "doctor") => NotApplicable("no statement of it waits for longer than 200 ms"),
        // Nothing is pending, and nothing is in the default partition.
        (ReadOnly, "migrate" | "partitions move-default") => AsUsual,
        (ReadOnly, _) if READERS.contains(&verb.name) => AsUsual,
        (Locked | Terminated, "migrate" | "migrate --status") => AsUsual,
        // The limit is the one of an attempt of a writer.
        (Locked, "spool replay" | "spool quarantine --retry") => {
            Ends(3, &["no answer within 30s; the server's process "])
        }
        (LockedMigrations, "migrate" | "migrate --status" | "migrate --revert") => {
            Ends(3, &["holds a lock on __diesel_schema_migrations"])
        }
        (ClosedDirectory, "migrate" | "write --action" | "write" | "import cloudtrail" | "spool replay") => {
            Ends(3, &["unable to open database file"])
        }
        (LockedFile | ClosedDirectory, _) if MAINTENANCE.contains(&verb.first_word()) => {
            NotApplicable("it says that it is for PostgreSQL only, and does not open the file")
        }
        // A finding, on standard output.
        (LockedFile, "doctor") => Ends(2, &[""]),
        // Readers do not wait for a writer.
        (LockedFile, _) if READERS.contains(&verb.name) => AsUsual,
        _ => return None,
    })
}

/// A command that ran: its exit code, its streams, and for the reader of a failure how long it took.
#[derive(Debug)]
#[expect(dead_code, reason = "the time is only printed")]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Ran {
    /// Runs a command. One that does not end is killed, and has no exit code.
    pub(crate) fn of(command: &mut Command) -> Self {
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        // What it prints fits into the pipe's buffer.
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > TIMEOUT {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            took: begun.elapsed(),
        }
    }
}

/// Runs the verbs at the same time, and compares each with its cell. Where they do their work, those that drop, restore
/// or create partitions take turns, because they lock each other out. `run` is not called for cells that do not apply.
pub(crate) fn check(condition: Condition, run: impl Fn(&Verb) -> Ran + Sync) {
    let works = matches!(
        condition,
        FullDisk | FullErrors | ClosedPipe | ReadOnly | LockedMigrations
    );
    let takes_turns = |verb: &&Verb| works && MAINTENANCE.contains(&verb.first_word());
    let verbs = VERBS
        .iter()
        .filter(|verb| !matches!(cell(verb, condition), NotApplicable(_)));
    let (in_turn, at_once): (Vec<&Verb>, Vec<&Verb>) = verbs.partition(takes_turns);
    let groups = at_once.into_iter().map(|verb| vec![verb]).chain([in_turn]);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let run = &run;
        let differences = move |group: Vec<&Verb>| -> Vec<String> {
            let each = group
                .into_iter()
                .filter_map(|verb| difference(verb, condition, &run(verb)));
            each.collect()
        };
        let threads: Vec<_> = groups
            .map(|group| scope.spawn(move || differences(group)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(wrong.is_empty(), "{condition:?}:\n{}", wrong.join("\n"));
}

/// What is wrong with a command that ran.
fn difference(verb: &Verb, condition: Condition, ran: &Ran) -> Option<String> {
    let (code, parts) = match cell(verb, condition) {
        Ends(code, parts) => (code, parts),
        AsUsual => (verb.usual, &[][..]),
        NotApplicable(_) => return None,
    };
    let says_why = parts.is_empty() || parts.iter().any(|part| ran.err.contains(part));
    let blames_input = ["lines.ndjson:", "record 1", "the event:"]
        .iter()
        .any(|place| ran.err.contains(place));
    let is_right = ran.code == Some(code) && says_why && !blames_input;
    (!is_right).then(|| format!("{}: expected {code} with one of {parts:?}: {ran:?}", verb.name))
}

/// A reason is a sentence, and not every cell is without an expectation.
#[test]
fn each_cell_that_does_not_apply_says_why() {
    let all = [
        FullDisk,
        FullErrors,
        ClosedPipe,
        NoServer,
        Silent,
        BlackHole,
        NoRight,
        ReadOnly,
        Locked,
        LockedMigrations,
        Terminated,
        LockedFile,
        ClosedDirectory,
    ];
    for condition in all {
        let reasons: Vec<_> = VERBS
            .iter()
            .filter_map(|verb| match cell(verb, condition) {
                NotApplicable(reason) => Some(reason),
                _ => None,
            })
            .collect();
        assert!(reasons.iter().all(|reason| reason.contains(' ')), "{condition:?}");
        assert!(
            reasons.len() < VERBS.len() / 2 || matches!(condition, LockedFile | ClosedDirectory),
            "{condition:?}"
        );
    }
}

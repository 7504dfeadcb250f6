//! A seeded world in which the state machines are tested.
//!
//! A seed decides everything. First its settings: small limits, and a rate for each kind of fault, of which
//! half are switched off. Then a plan: calls, outages, damage, kills and shutdowns, each at a time. Then the
//! world runs: a queue of what is to come, of which the earliest happens, until the faults stop, everything is
//! settled, the writers have ended and one more writer has sent what they left. There is no thread, no clock
//! and no container whose order is random, so a seed has one history; [`Outcome::hash`] proves it.
//!
//! What is real: the writer's [`Core`](crate::writer::Core), the spool's
//! [`SpoolWorker`](crate::spool::SpoolWorker) and the [`Ledger`](crate::ledger::Ledger). What is simulated:
//! - the database with the sink before it: it accepts, rejects a row, leaves one out, refuses, hangs, loses
//!   an answer, and executes what nobody waits for any more;
//! - the disk, as a [`Store`](crate::spool::Store): each operation fails, or is cut by a crash after which it
//!   happened or did not; the disk is slow or full, files are locked, damaged, removed, or of a newer version;
//! - callers, between any two steps of a driver; kills, restarts, adoption, shutdowns that are repeated and
//!   shortened, panics of each thread.
//!
//! After each step a model that knows of each row where it is checks the promises: fates and receipts are
//! true, nothing is missing at or below a mark that a stored record attests, a batch leaves the spool only once
//! it is safe elsewhere, what was taken is released once, and the core asks nothing of its driver that it must
//! not. In the end: everything settles within the time that the settings promise, the spool is drained, a
//! shutdown ends by its deadline and has used its time, and what was acknowledged is stored.
//!
//! What it cannot show: how SQL, SQLite, the kernel and memory ordering behave. [`Bug`] lists the bugs that are
//! planted to show that the checks find such ones.

mod bug;
mod calls;
mod contract;
mod database;
mod disk;
mod driver;
mod ending;
mod env;
mod history;
mod model;
mod outside;
mod plan;
mod queue;
mod random;
mod records;
mod row;
mod scenario;
mod settings;
mod spool_side;
mod store;
mod world;

pub(crate) use bug::is_planted;
pub use bug::{Bug, Planted};
pub use model::Finding;
use scenario::Scenario;

/// What came of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that the state machines were given.
    pub events: u64,
    /// Operations of the disk.
    pub operations: u64,
    /// Of everything that happened, in its order.
    pub hash: u64,
    /// The promise that was broken, if one was.
    pub finding: Option<Finding>,
}

/// Runs the world of a seed.
pub fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    Scenario::of(seed, bug).run(false).0
}

/// How many external events the plan of a seed has.
pub fn planned(seed: u64) -> usize {
    Scenario::of(seed, None).plan.len()
}

/// The history of a seed as text, shrunk if a promise is broken.
pub fn report(seed: u64, bug: Option<Bug>) -> String {
    let scenario = Scenario::of(seed, bug);
    let (outcome, text) = scenario.run(true);
    let Some(finding) = outcome.finding else {
        return format!("{text}seed {seed}: no finding in {} events\n", outcome.events);
    };
    let shrunk = scenario.shrunk(finding.promise);
    let (outcome, text) = shrunk.run(true);
    let finding = outcome.finding.unwrap_or(finding);
    let plan = shrunk.plan.iter();
    let plan = plan.fold(String::new(), |plan, planned| {
        plan + &format!(
            "  {:>12.3}  {}\n",
            planned.at.as_nanos() as f64 / 1e6,
            planned.what
        )
    });
    format!(
        "{settings:#?}\nfrom outside, in milliseconds:\n{plan}\nstep, milliseconds, writer, event | actions:\n{text}\n\
         seed {seed}: {finding}\n",
        settings = shrunk.settings
    )
}

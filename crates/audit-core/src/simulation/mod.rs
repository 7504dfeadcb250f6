//! A seeded world in which the state machines are tested.

mod bug;
mod calls;
mod contract;
mod database;
mod disk;
mod driver;
mod env;
mod history;
mod model;
mod plan;
mod queue;
mod random;
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
        plan + &format!("  {:>12.3}  {}\n", planned.at.as_nanos() as f64 / 1e6, planned.what)
    });
    format!(
        "{settings:#?}\nfrom outside, in milliseconds:\n{plan}\nstep, milliseconds, writer, event | actions:\n{text}\n\
         seed {seed}: {finding}\n",
        settings = shrunk.settings
    )
}

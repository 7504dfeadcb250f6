//! A seed made into a world, and a failing one made short.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::model::Finding;
use super::plan::Planned;
use super::settings::{Rates, Settings};
use super::world::World;
use super::{Bug, Outcome, Planted};

/// What a seed decides beforehand.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) settings: Settings,
    pub(super) plan: Vec<Planned>,
    pub(super) bug: Option<Bug>,
}

impl Scenario {
    pub(super) fn of(seed: u64, bug: Option<Bug>) -> Self {
        let settings = Settings::of(seed);
        let plan = Planned::all(seed, &settings);
        Self {
            seed,
            settings,
            plan,
            bug,
        }
    }

    /// Runs its world. A panic is a finding.
    pub(super) fn run(&self, is_text_wanted: bool) -> (Outcome, String) {
        let _planted = Planted::new(self.bug);
        let run = || World::new(self, is_text_wanted).run();
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let finding = Finding {
                promise: "nothing panics",
                detail: text.unwrap_or_else(|| "no message".to_owned()),
            };
            (
                Outcome {
                    finding: Some(finding),
                    ..Outcome::default()
                },
                String::new(),
            )
        })
    }

    /// A smaller one that breaks the same promise.
    pub(super) fn shrunk(&self, promise: &'static str) -> Self {
        let mut smallest = self.clone();
        let breaks = |scenario: &Self| {
            let (outcome, _) = scenario.run(false);
            outcome.finding.is_some_and(|finding| finding.promise == promise)
        };
        loop {
            let before = smallest.plan.len();
            smallest.leave_out_events(&breaks);
            smallest.leave_out_rates(&breaks);
            if smallest.plan.len() == before {
                return smallest;
            }
        }
    }

    /// Leaves out external events, ever fewer at a time.
    fn leave_out_events(&mut self, breaks: &impl Fn(&Self) -> bool) {
        let mut size = self.plan.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.plan.len() {
                let mut candidate = self.clone();
                candidate.plan.drain(at..(at + size).min(self.plan.len()));
                if breaks(&candidate) {
                    *self = candidate;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
    }

    /// Leaves out kinds of faults that happen within the world.
    fn leave_out_rates(&mut self, breaks: &impl Fn(&Self) -> bool) {
        let inner: [fn(&mut Rates) -> &mut u32; 14] = [
            |rates| &mut rates.rejected,
            |rates| &mut rates.filtered,
            |rates| &mut rates.rejected_record,
            |rates| &mut rates.lost_answer,
            |rates| &mut rates.failed_statement,
            |rates| &mut rates.slow_statement,
            |rates| &mut rates.disk_error,
            |rates| &mut rates.slow_disk,
            |rates| &mut rates.split_group,
            |rates| &mut rates.group,
            |rates| &mut rates.large,
            |rates| &mut rates.repeated,
            |rates| &mut rates.slow_call,
            |rates| &mut rates.interleaved,
        ];
        for rate in inner {
            let mut candidate = self.clone();
            if std::mem::take(rate(&mut candidate.settings.rates)) > 0 && breaks(&candidate) {
                *self = candidate;
            }
        }
    }
}

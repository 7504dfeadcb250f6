//! A fixed part of the simulation; `just simulate` runs more of it.

use audit_core::simulation::{self, Bug};

/// Seeds that are run with every change.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=1_500;

/// Rare histories that once broke a promise.
const SEEDS_OF_FORMER_FINDINGS: [u64; 6] = [16_455, 56_340, 143_607, 208_228, 588_641, 3_146_249];

/// The seeds among which each planted bug is found.
const SEEDS_FOR_A_BUG: std::ops::RangeInclusive<u64> = 1..=4_000;

#[test]
fn no_seed_breaks_a_promise() {
    let mut events = 0;
    for seed in SEEDS.chain(SEEDS_OF_FORMER_FINDINGS) {
        let outcome = simulation::run(seed, None);
        events += outcome.events;
        assert_eq!(
            outcome.finding, None,
            "`just simulate-seed {seed}` shows what happened"
        );
    }
    assert!(events > 500_000, "the worlds came to a stop: {events} events");
}

#[test]
fn a_seed_has_one_history() {
    for seed in SEEDS.step_by(15) {
        let first = simulation::run(seed, None);
        assert!(first.events > 0 && first.hash != 0);
        assert_eq!(simulation::run(seed, None), first, "seed {seed}");
    }
    assert_ne!(simulation::run(1, None).hash, simulation::run(2, None).hash);
}

/// Seeds whose worlds meet bugs that few do.
const SEEDS_FOR_RARE_BUGS: [u64; 1] = [5_917];

#[test]
fn each_planted_bug_is_found() {
    assert!(Bug::ALL.len() >= 20);
    let missed: Vec<_> = Bug::ALL
        .iter()
        .filter(|bug| {
            let mut seeds = SEEDS_FOR_A_BUG.chain(SEEDS_FOR_RARE_BUGS);
            !seeds.any(|seed| simulation::run(seed, Some(**bug)).finding.is_some())
        })
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn a_finding_is_shown_with_a_short_history_and_its_cause() {
    let bug = Some(Bug::StopRecordHandedOutEarly);
    let seed = SEEDS
        .into_iter()
        .find(|seed| simulation::run(*seed, bug).finding.is_some())
        .unwrap();
    let finding = simulation::run(seed, bug).finding.unwrap();
    let report = simulation::report(seed, bug);
    assert!(report.contains(finding.promise), "{report}");
    assert!(report.contains("stopped("), "{report}");
    let whole = simulation::planned(seed);
    let shown = report
        .lines()
        .skip_while(|line| !line.starts_with("from outside"))
        .skip(1);
    let shown = shown.take_while(|line| !line.is_empty()).count();
    assert!(
        shown > 0 && shown < whole / 2,
        "{shown} of {whole} external events"
    );
}

//! Which of a writer's entries are stored, which are declared, and which are missing. No database here.

use audit_core::{SeqRange, SeqSet};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::declarations::{Declarations, PartlyLost, stored_numbers};
use super::queries::{Gap, WriterTotals};
use super::{Verdict, WriterAccount};

/// How many missing ranges are listed.
const MAX_MISSING_RANGES: usize = 100;

/// Accounts for a writer. None if its id is no UUID, which no database returns.
pub(super) fn account(totals: &WriterTotals, declared: &Declarations, gaps: &[Gap]) -> Option<WriterAccount> {
    // A number counts once, as the first of these that it is: a rejected row that was replayed after
    // the database was fixed is stored.
    let mut accounted = stored(totals, gaps);
    let expired = account_for(&mut accounted, &declared.dropped);
    let repeated = account_for(&mut accounted, &declared.repeated);
    let quarantined = account_for(&mut accounted, &declared.quarantined);
    let wholly_lost = account_for(&mut accounted, &declared.lost);
    let declared_lost = declared
        .partly_lost
        .iter()
        .fold(wholly_lost, |lost, part| lost.saturating_add(part.count));

    let attested = declared.attested_through();
    let open = unaccounted(
        &accounted,
        attested.saturating_add(1),
        totals.highest.unsigned_abs(),
    );
    let (missing, missing_ranges) = missing(accounted, attested, &declared.partly_lost);
    let unknown = match declared.last_seq {
        Some(_) => Some(0),
        None => declared
            .queue_capacity
            .map(|queue| queue.saturating_add(length(&open))),
    };
    let stored = totals.stored.unsigned_abs();
    let reused_numbers = stored.saturating_sub(totals.numbers.unsigned_abs());
    let verdict = if missing > 0 || reused_numbers > 0 {
        Verdict::Missing
    } else if declared.last_seq.is_none() {
        Verdict::Open
    } else if declared_lost > 0 || quarantined > 0 {
        Verdict::Declared
    } else {
        Verdict::Complete
    };
    let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
    let listed = missing_ranges.into_iter().take(MAX_MISSING_RANGES);
    Some(WriterAccount {
        writer_id: Uuid::parse_str(&totals.writer).ok()?,
        service: declared.service.clone(),
        host: declared.host.clone(),
        first_seen: time(totals.first_seen),
        last_seen: time(totals.last_seen),
        verdict,
        stored,
        expired,
        declared_lost,
        quarantined,
        repeated,
        missing,
        missing_ranges: listed.map(|range| (range.first, range.last)).collect(),
        reused_numbers,
        accepted_unknown_at_most: unknown,
    })
}

/// The numbers of the rows in the table.
fn stored(totals: &WriterTotals, gaps: &[Gap]) -> SeqSet {
    let mut stored = SeqSet::default();
    if let Some(all) = stored_numbers(1, totals.highest) {
        stored.insert(all);
    }
    for gap in gaps.iter().filter_map(|gap| stored_numbers(gap.first, gap.last)) {
        stored.remove(gap);
    }
    stored
}

/// Adds numbers to those that are accounted for, and returns how many of them are new there.
fn account_for(accounted: &mut SeqSet, numbers: &SeqSet) -> u64 {
    let mut new = 0_u64;
    for range in numbers.iter() {
        new = new.saturating_add(length(&accounted.gaps_within(range)));
        accounted.insert(range);
    }
    new
}

/// The numbers of a range that nothing accounts for.
fn unaccounted(accounted: &SeqSet, first: u64, last: u64) -> Vec<SeqRange> {
    if first > last {
        Vec::new()
    } else {
        accounted.gaps_within(SeqRange { first, last })
    }
}

/// How many of the numbers that the writer attests are missing, and the ranges that these are among.
///
/// Where only the number of lost entries is known, it is subtracted from what its range misses.
fn missing(mut accounted: SeqSet, attested: u64, partly_lost: &[PartlyLost]) -> (u64, Vec<SeqRange>) {
    let mut lost_among = 0_u64;
    for PartlyLost { range, count } in merged(partly_lost) {
        let absent = length(&unaccounted(&accounted, range.first, range.last.min(attested)));
        if absent <= count {
            accounted.insert(range);
        } else {
            lost_among = lost_among.saturating_add(count);
        }
    }
    let ranges = unaccounted(&accounted, 1, attested);
    (length(&ranges).saturating_sub(lost_among), ranges)
}

/// Ranges that overlap as one, with the sum of their counts: an absent number within may be any one's.
fn merged(partly_lost: &[PartlyLost]) -> Vec<PartlyLost> {
    let mut sorted = partly_lost.to_vec();
    sorted.sort_unstable_by_key(|part| part.range);
    let mut merged: Vec<PartlyLost> = Vec::new();
    for part in sorted {
        match merged.last_mut() {
            Some(before) if part.range.first <= before.range.last => {
                before.range.last = before.range.last.max(part.range.last);
                before.count = before.count.saturating_add(part.count);
            }
            _ => merged.push(part),
        }
    }
    merged
}

/// How many numbers these ranges hold. Saturating: a row may claim any number.
fn length(ranges: &[SeqRange]) -> u64 {
    ranges
        .iter()
        .fold(0, |sum, range| sum.saturating_add(range.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::action;
    use super::*;

    fn totals(stored: &BTreeSet<u64>) -> (WriterTotals, Vec<Gap>) {
        let highest = stored.last().copied().unwrap_or(0) as i64;
        let mut gaps: Vec<Gap> = Vec::new();
        for n in (1..=highest).filter(|n| !stored.contains(&n.unsigned_abs())) {
            match gaps.last_mut() {
                Some(gap) if gap.last + 1 == n => gap.last = n,
                _ => gaps.push(Gap { first: n, last: n }),
            }
        }
        let count = stored.len() as i64;
        let writer = Uuid::now_v7().simple().to_string().to_uppercase();
        (
            WriterTotals {
                writer,
                stored: count,
                numbers: count,
                highest,
                first_seen: 0,
                last_seen: 1,
            },
            gaps,
        )
    }

    fn account_of(
        stored: impl IntoIterator<Item = u64>,
        records: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> WriterAccount {
        let mut declared = Declarations::default();
        records
            .into_iter()
            .for_each(|(action, metadata)| declared.add(action, &metadata.to_string()));
        let (totals, gaps) = totals(&stored.into_iter().collect());
        account(&totals, &declared, &gaps).unwrap()
    }

    fn started() -> (&'static str, Value) {
        (action::STARTED, json!({"service": "shop", "queue_capacity": 100}))
    }

    fn stopped(last: u64) -> (&'static str, Value) {
        (action::STOPPED, json!({"last_seq": last}))
    }

    fn alive(through: u64) -> (&'static str, Value) {
        (action::ALIVE, json!({"resolved_through": through}))
    }

    fn lost(ranges: Value) -> (&'static str, Value) {
        (
            action::LOST,
            json!({"ranges": ranges, "count": 1, "reason": "queue_full"}),
        )
    }

    fn quarantined(seq: u64) -> (&'static str, Value) {
        (action::QUARANTINED, json!({"seq": seq, "sqlstate": "23514"}))
    }

    fn duplicate(ranges: Value) -> (&'static str, Value) {
        (action::DUPLICATE, json!({"ranges": ranges, "count": 1}))
    }

    #[test]
    fn the_verdict_follows_from_what_is_stored_and_declared() {
        let complete = account_of(1..=10, [started(), stopped(10)]);
        assert_eq!(
            (complete.verdict, complete.accepted_unknown_at_most),
            (Verdict::Complete, Some(0))
        );
        assert_eq!(
            account_of(1..=10, [stopped(12), lost(json!([[11, 12]]))]).verdict,
            Verdict::Declared
        );
        assert_eq!(
            account_of(1..=10, [stopped(11), quarantined(11)]).verdict,
            Verdict::Declared
        );
        let missing = account_of(1..=10, [stopped(12), lost(json!([[11, 11]]))]);
        assert_eq!(
            (missing.verdict, missing.missing, &missing.missing_ranges[..]),
            (Verdict::Missing, 1, &[(12, 12)][..])
        );
        let without_7 = || (1..=10).filter(|n| *n != 7);
        let open = account_of(without_7(), [started(), alive(6)]);
        assert_eq!(
            (open.verdict, open.missing, open.accepted_unknown_at_most),
            (Verdict::Open, 0, Some(101))
        );
        let attested = account_of(without_7(), [started(), alive(8)]);
        assert_eq!((attested.verdict, attested.missing), (Verdict::Missing, 1));
    }

    #[test]
    fn numbers_of_a_dropped_month_are_not_missing() {
        let mut declared = Declarations::default();
        declared.add(action::STOPPED, &json!({"last_seq": 12}).to_string());
        declared.add_dropped(1, 3);
        declared.add_dropped(5, 7);
        let (totals, gaps) = totals(&(6..=10).collect());
        let found = account(&totals, &declared, &gaps).unwrap();
        assert_eq!((found.verdict, found.expired), (Verdict::Missing, 4));
        assert_eq!(found.missing_ranges, [(4, 4), (11, 12)]);
        declared.add_dropped(4, 4);
        declared.add_dropped(11, 12);
        let found = account(&totals, &declared, &gaps).unwrap();
        assert_eq!(
            (found.verdict, found.expired, found.stored),
            (Verdict::Complete, 7, 5)
        );
    }

    #[test]
    fn a_number_that_was_declared_twice_counts_once() {
        let twice = [
            stopped(6),
            quarantined(6),
            (action::QUARANTINED, json!({"seq": 6})),
            quarantined(6),
        ];
        let found = account_of(1..=5, twice);
        assert_eq!(
            (found.verdict, found.quarantined, found.missing),
            (Verdict::Declared, 1, 0)
        );
        let found = account_of(
            1..=5,
            [stopped(8), lost(json!([[6, 8]])), lost(json!([[7, 8], [6, 6]]))],
        );
        assert_eq!((found.declared_lost, found.missing), (3, 0));
    }

    #[test]
    fn a_quarantined_number_that_was_stored_later_is_stored() {
        let before = account_of(1..=3, [stopped(5), quarantined(4), quarantined(5)]);
        assert_eq!(
            (before.verdict, before.stored, before.quarantined),
            (Verdict::Declared, 3, 2)
        );
        let after = account_of(1..=5, [stopped(5), quarantined(4), quarantined(5)]);
        assert_eq!(
            (after.verdict, after.stored, after.quarantined),
            (Verdict::Complete, 5, 0)
        );
    }

    #[test]
    fn a_number_whose_entry_is_stored_under_another_is_not_missing() {
        let stored = || [1, 2, 4, 7];
        let undeclared = account_of(stored(), [stopped(7)]);
        assert_eq!((undeclared.verdict, undeclared.missing), (Verdict::Missing, 3));
        let declared = account_of(
            stored(),
            [
                stopped(7),
                duplicate(json!([[3, 3], [5, 6]])),
                duplicate(json!([[6, 6]])),
            ],
        );
        assert_eq!(
            (
                declared.verdict,
                declared.repeated,
                declared.missing,
                declared.reused_numbers
            ),
            (Verdict::Complete, 3, 0, 0)
        );
    }

    #[test]
    fn losses_known_by_count_alone_account_for_no_more_than_that() {
        let partly = |count: u64| account_of([1, 4, 7, 10], [stopped(10), lost(json!([[2, 9, count]]))]);
        assert_eq!(partly(6).verdict, Verdict::Declared);
        assert_eq!(partly(5).missing, 1);
    }

    #[test]
    fn losses_of_overlapping_ranges_are_not_missing() {
        // Of 2 to 9 four were lost for one reason and two for another: all that is absent.
        let overlapping = [stopped(10), lost(json!([[2, 9, 4]])), lost(json!([[3, 8, 2]]))];
        let found = account_of([1, 4, 7, 10], overlapping);
        assert_eq!(
            (found.verdict, found.missing, found.declared_lost),
            (Verdict::Declared, 0, 6)
        );
        let one_more = [stopped(12), lost(json!([[2, 9, 4]])), lost(json!([[3, 8, 2]]))];
        let found = account_of([1, 4, 7, 10, 12], one_more);
        assert_eq!((found.missing, &found.missing_ranges[..]), (1, &[(11, 11)][..]));
    }

    #[test]
    fn a_number_of_two_rows_is_a_finding() {
        let (mut totals, gaps) = totals(&(1..=5).collect());
        totals.stored += 1;
        let found = account(&totals, &Declarations::default(), &gaps).unwrap();
        assert_eq!(
            (found.verdict, found.reused_numbers, found.repeated),
            (Verdict::Missing, 1, 0)
        );
    }

    #[test]
    fn the_largest_numbers_overflow_nothing() {
        let all = json!([[0, u64::MAX], [1, u64::MAX, u64::MAX], [2, 9, u64::MAX]]);
        let records = [
            lost(all.clone()),
            duplicate(all),
            stopped(u64::MAX),
            quarantined(u64::MAX),
            alive(u64::MAX),
        ];
        assert_eq!(account_of(1..=5, records).missing, 0);
        assert_eq!(account_of([], [stopped(u64::MAX)]).missing, u64::MAX);
        let (mut totals, _) = totals(&BTreeSet::new());
        totals.highest = i64::MAX;
        assert!(account(&totals, &Declarations::default(), &[]).is_some());
    }

    proptest! {
        /// Against the obvious model, number by number.
        #[test]
        fn missing_numbers_are_neither_stored_nor_declared(
            stored in prop::collection::btree_set(1..60_u64, 0..60),
            lost_ranges in prop::collection::vec((1..60_u64, 0..8_u64), 0..8),
            repeated in prop::collection::vec((1..60_u64, 0..4_u64), 0..4),
            rejected in prop::collection::vec(1..60_u64, 0..6),
            last in 0..60_u64,
        ) {
            let ranges = |ranges: &[(u64, u64)]| -> Value {
                ranges.iter().map(|(first, more)| json!([first, first + more])).collect()
            };
            let numbers = |ranges: &[(u64, u64)]| -> BTreeSet<u64> {
                ranges.iter().flat_map(|(first, more)| *first..=first + more).collect()
            };
            let mut records = vec![stopped(last), lost(ranges(&lost_ranges)), duplicate(ranges(&repeated))];
            records.extend(rejected.iter().map(|seq| quarantined(*seq)));
            let found = account_of(stored.clone(), records);
            let repeated = &numbers(&repeated) - &stored;
            let quarantined = &(&rejected.into_iter().collect() - &stored) - &repeated;
            let lost = &(&(&numbers(&lost_ranges) - &stored) - &repeated) - &quarantined;
            let missing: Vec<u64> = (1..=last)
                .filter(|n| ![&stored, &repeated, &quarantined, &lost].iter().any(|set| set.contains(n)))
                .collect();
            let listed: Vec<u64> =
                found.missing_ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(found.missing, missing.len() as u64);
            prop_assert_eq!(listed, missing);
            prop_assert_eq!(found.repeated, repeated.len() as u64);
            prop_assert_eq!(found.quarantined, quarantined.len() as u64);
            prop_assert_eq!(found.declared_lost, lost.len() as u64);
        }
    }
}

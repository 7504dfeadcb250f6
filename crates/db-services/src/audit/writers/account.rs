//! From what is stored and what was declared: is anything missing? Numbers alone, no database.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use serde_json::Value;
use uuid::Uuid;

use super::{Gap, Verdict, WriterAccount, action};

/// How many missing ranges are listed.
const LISTED: usize = 100;

/// What the table holds of a writer.
#[derive(QueryableByName)]
pub(super) struct Sums {
    #[diesel(sql_type = Text)]
    pub(super) writer: String,
    #[diesel(sql_type = BigInt)]
    stored: i64,
    #[diesel(sql_type = BigInt)]
    numbers: i64,
    #[diesel(sql_type = BigInt)]
    highest: i64,
    #[diesel(sql_type = BigInt)]
    first_seen: i64,
    #[diesel(sql_type = BigInt)]
    last_seen: i64,
}

impl Sums {
    pub(super) fn has_gaps(&self) -> bool {
        self.numbers != self.highest
    }
}

/// What a writer said about itself.
#[derive(Debug, Default)]
pub(super) struct Declared {
    service: Option<String>,
    host: Option<String>,
    queue_capacity: Option<u64>,
    resolved_through: u64,
    last_seq: Option<u64>,
    lost: u64,
    /// Ranges that were lost as a whole.
    whole: Vec<(u64, u64)>,
    /// Ranges of which so many were lost.
    partly: Vec<(u64, u64, u64)>,
    quarantined: Vec<u64>,
    /// Ranges that went with dropped months.
    dropped: Vec<(u64, u64)>,
}

impl Declared {
    /// Takes in one row. What cannot be understood says nothing: then entries show as missing.
    pub(super) fn hear(&mut self, action: &str, metadata: &str) {
        let Ok(said) = serde_json::from_str::<Value>(metadata) else { return };
        let number = |name: &str| said[name].as_u64();
        let text = |name: &str| said[name].as_str().map(str::to_owned);
        match action {
            action::STARTED => {
                (self.service, self.host) = (text("service"), text("host"));
                self.queue_capacity = number("queue_capacity");
            }
            action::ALIVE => {
                self.resolved_through = self.resolved_through.max(number("resolved_through").unwrap_or(0));
            }
            action::STOPPED => self.last_seq = self.last_seq.max(number("last_seq")),
            action::QUARANTINED => self.quarantined.extend(number("seq")),
            action::LOST => {
                said["ranges"].as_array().into_iter().flatten().for_each(|range| self.hear_lost(range))
            }
            _ => {}
        }
    }

    /// Takes in a run of numbers that went with a dropped month.
    pub(super) fn dropped(&mut self, first: i64, last: i64) {
        self.dropped.push((first.unsigned_abs(), last.unsigned_abs()));
    }

    fn hear_lost(&mut self, range: &Value) {
        let part = |at: usize| range[at].as_u64();
        match (part(0), part(1), part(2)) {
            (Some(first), Some(last), None) if first <= last => {
                self.lost = self.lost.saturating_add((last - first).saturating_add(1));
                self.whole.push((first, last));
            }
            (Some(first), Some(last), Some(count)) => {
                self.lost = self.lost.saturating_add(count);
                self.partly.push((first, last, count));
            }
            _ => {}
        }
    }
}

/// Accounts for a writer. None if its id is no UUID, which no database gives.
pub(super) fn account(sums: &Sums, declared: &Declared, gaps: &[Gap]) -> Option<WriterAccount> {
    let (stored, highest) = (sums.stored.unsigned_abs(), sums.highest.unsigned_abs());
    let vouched = declared.last_seq.unwrap_or(declared.resolved_through);
    // Everything that no row has, up to what the writer vouches for; beyond it while it is open.
    let mut absent: Vec<(u64, u64)> =
        gaps.iter().map(|gap| (gap.first.unsigned_abs(), gap.last.unsigned_abs())).collect();
    if vouched > highest {
        absent.push((highest + 1, vouched));
    }
    let with_dropped = length(&absent);
    let absent = subtract(&absent, declared.dropped.clone());
    let dropped = with_dropped - length(&absent);
    let mut excused = declared.whole.clone();
    excused.extend(declared.quarantined.iter().map(|seq| (*seq, *seq)));
    let absent = subtract(&absent, excused);
    let (owed, open) = split_at(&absent, vouched);
    let (missing, missing_ranges) = without_partly(owed, &declared.partly);
    let duplicates = stored - sums.numbers.unsigned_abs();
    let unknown_at_most = match declared.last_seq {
        Some(_) => Some(0),
        None => declared.queue_capacity.map(|queue| queue.saturating_add(length(&open))),
    };
    let verdict = if missing > 0 || duplicates > 0 {
        Verdict::Missing
    } else if declared.last_seq.is_none() {
        Verdict::Open
    } else if declared.lost > 0 || !declared.quarantined.is_empty() {
        Verdict::Declared
    } else {
        Verdict::Complete
    };
    let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
    Some(WriterAccount {
        writer_id: Uuid::parse_str(&sums.writer).ok()?,
        service: declared.service.clone(),
        host: declared.host.clone(),
        first_seen: time(sums.first_seen),
        last_seen: time(sums.last_seen),
        verdict,
        stored,
        dropped,
        declared_lost: declared.lost,
        quarantined: declared.quarantined.len() as u64,
        missing,
        missing_ranges: missing_ranges.into_iter().take(LISTED).collect(),
        duplicates,
        unknown_at_most,
    })
}

type Ranges = Vec<(u64, u64)>;

/// Ranges less other ranges.
fn subtract(ranges: &[(u64, u64)], mut less: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    less.sort_unstable();
    let mut rest = Vec::new();
    for &(mut first, last) in ranges {
        let begin = less.partition_point(|(_, end)| *end < first).min(less.len());
        // Ranges may overlap each other, so that their ends need not be in order.
        let begin = less[..begin].iter().rposition(|(_, end)| *end >= first).unwrap_or(begin);
        for &(from, to) in &less[begin..] {
            if from > last || first > last {
                break;
            }
            if from > first {
                rest.push((first, from - 1));
            }
            first = first.max(to.saturating_add(1));
        }
        if first <= last {
            rest.push((first, last));
        }
    }
    rest
}

/// The parts up to a number, and those beyond it.
fn split_at(ranges: &[(u64, u64)], at: u64) -> (Ranges, Ranges) {
    let below =
        ranges.iter().filter(|(first, _)| *first <= at).map(|(first, last)| (*first, (*last).min(at)));
    let above =
        ranges.iter().filter(|(_, last)| *last > at).map(|(first, last)| ((*first).max(at + 1), *last));
    (below.collect(), above.collect())
}

/// What remains missing once the losses are taken off of which only the number is known: how many,
/// and the ranges they are among.
fn without_partly(mut owed: Vec<(u64, u64)>, partly: &[(u64, u64, u64)]) -> (u64, Vec<(u64, u64)>) {
    let mut unexplained = 0;
    for &(first, last, count) in partly {
        let outside = subtract(&owed, vec![(first, last)]);
        let inside = length(&owed) - length(&outside);
        if inside > count {
            unexplained += inside - count;
        } else {
            owed = outside;
        }
    }
    if unexplained == 0 { (length(&owed), owed) } else { (unexplained.max(1), owed) }
}

fn length(ranges: &[(u64, u64)]) -> u64 {
    // Saturating: a row may claim any number.
    ranges.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sums(stored: &BTreeSet<u64>) -> (Sums, Vec<Gap>) {
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
        (Sums { writer, stored: count, numbers: count, highest, first_seen: 0, last_seen: 1 }, gaps)
    }

    fn of(stored: &BTreeSet<u64>, said: &[(&str, Value)]) -> WriterAccount {
        let mut declared = Declared::default();
        said.iter().for_each(|(action, metadata)| declared.hear(action, &metadata.to_string()));
        let (sums, gaps) = sums(stored);
        account(&sums, &declared, &gaps).unwrap()
    }

    #[test]
    fn verdicts() {
        let all: BTreeSet<u64> = (1..=10).collect();
        let started = (action::STARTED, json!({"service": "shop", "queue_capacity": 100}));
        let stopped = |last: u64| (action::STOPPED, json!({"last_seq": last}));
        let lost =
            |ranges: Value| (action::LOST, json!({"ranges": ranges, "count": 1, "reason": "queue_full"}));

        let complete = of(&all, &[started.clone(), stopped(10)]);
        assert_eq!((complete.verdict, complete.unknown_at_most), (Verdict::Complete, Some(0)));
        assert_eq!(of(&all, &[stopped(12), lost(json!([[11, 12]]))]).verdict, Verdict::Declared);
        assert_eq!(
            of(&all, &[stopped(11), (action::QUARANTINED, json!({"seq": 11}))]).verdict,
            Verdict::Declared
        );
        let missing = of(&all, &[stopped(12), lost(json!([[11, 11]]))]);
        assert_eq!(
            (missing.verdict, missing.missing, &missing.missing_ranges[..]),
            (Verdict::Missing, 1, &[(12, 12)][..])
        );
        let open = of(
            &(1..=10).filter(|n| *n != 7).collect(),
            &[started.clone(), (action::ALIVE, json!({"resolved_through": 6}))],
        );
        assert_eq!((open.verdict, open.missing, open.unknown_at_most), (Verdict::Open, 0, Some(101)));
        let vouched = of(
            &(1..=10).filter(|n| *n != 7).collect(),
            &[started, (action::ALIVE, json!({"resolved_through": 8}))],
        );
        assert_eq!((vouched.verdict, vouched.missing), (Verdict::Missing, 1));
    }

    #[test]
    fn what_went_with_a_dropped_month_is_not_missing() {
        let stored: BTreeSet<u64> = (6..=10).collect();
        let mut declared = Declared::default();
        declared.hear(action::STOPPED, &json!({"last_seq": 12}).to_string());
        declared.dropped(1, 3);
        declared.dropped(5, 7);
        let (sums, gaps) = sums(&stored);
        let found = account(&sums, &declared, &gaps).unwrap();
        assert_eq!((found.verdict, found.dropped), (Verdict::Missing, 4));
        assert_eq!(found.missing_ranges, [(4, 4), (11, 12)]);
        declared.dropped(4, 4);
        declared.dropped(11, 12);
        let found = account(&sums, &declared, &gaps).unwrap();
        assert_eq!((found.verdict, found.dropped, found.stored), (Verdict::Complete, 7, 5));
    }

    #[test]
    fn losses_known_by_number_alone_excuse_no_more_than_that() {
        let stored: BTreeSet<u64> = [1, 4, 7, 10].into();
        let partly = |count: u64| {
            [(action::STOPPED, json!({"last_seq": 10})), (action::LOST, json!({"ranges": [[2, 9, count]]}))]
        };
        assert_eq!(of(&stored, &partly(6)).verdict, Verdict::Declared);
        assert_eq!(of(&stored, &partly(5)).missing, 1);
    }

    #[test]
    fn a_number_that_is_there_twice_is_a_finding() {
        let (mut sums, gaps) = sums(&(1..=5).collect());
        sums.stored += 1;
        let found = account(&sums, &Declared::default(), &gaps).unwrap();
        assert_eq!((found.verdict, found.duplicates), (Verdict::Missing, 1));
    }

    #[test]
    fn nonsense_is_not_believed_and_breaks_nothing() {
        let mut declared = Declared::default();
        for metadata in [
            "",
            "[]",
            "{\"ranges\":7}",
            "{\"ranges\":[[5,2],[1],[\"a\",\"b\"],[0,18446744073709551615]]}",
            "{\"last_seq\":-1}",
        ] {
            for action in [action::STARTED, action::ALIVE, action::LOST, action::QUARANTINED, action::STOPPED]
            {
                declared.hear(action, metadata);
            }
        }
        assert!(account(&sums(&(1..=5).collect()).0, &declared, &[]).is_some());
    }

    proptest! {
        /// Against the obvious model, number by number.
        #[test]
        fn missing_is_what_is_neither_stored_nor_declared(stored in prop::collection::btree_set(1..60_u64, 0..60),
            lost in prop::collection::vec((1..60_u64, 0..8_u64), 0..8), last in 0..60_u64) {
            let ranges: Vec<_> = lost.iter().map(|(first, more)| json!([first, first + more])).collect();
            let found = of(&stored, &[(action::STOPPED, json!({"last_seq": last})), (action::LOST, json!({"ranges": ranges}))]);
            let is_lost = |n: u64| lost.iter().any(|(first, more)| (*first..=first + more).contains(&n));
            let expected: Vec<u64> = (1..=last).filter(|n| !stored.contains(n) && !is_lost(*n)).collect();
            let listed: Vec<u64> = found.missing_ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(found.missing, expected.len() as u64);
            prop_assert_eq!(listed, expected);
        }
    }
}

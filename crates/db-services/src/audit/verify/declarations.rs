//! What a writer declared about its entries.

use audit_core::{SeqRange, SeqSet};
use serde_json::Value;

use super::action;

/// What a writer declared, and what the retention declared about it. Numbers are held as sets: a number may
/// be declared more than once, and counts once.
#[derive(Debug, Default)]
pub(super) struct Declarations {
    pub(super) service: Option<String>,
    pub(super) host: Option<String>,
    pub(super) queue_capacity: Option<u64>,
    /// Its last number, after a clean end.
    pub(super) last_seq: Option<u64>,
    resolved_through: u64,
    /// Lost, each of them.
    pub(super) lost: SeqSet,
    /// Ranges of which only the number of lost entries is known.
    pub(super) partly_lost: Vec<PartlyLost>,
    /// Rejected by the database.
    pub(super) quarantined: SeqSet,
    /// Entries that are stored under another number.
    pub(super) repeated: SeqSet,
    /// Stored until their month was dropped.
    pub(super) dropped: SeqSet,
}

/// A range of which some entries were lost, and others between them were kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartlyLost {
    pub(super) range: SeqRange,
    pub(super) count: u64,
}

impl Declarations {
    /// Takes in one record. One that cannot be read declares nothing: then entries show as missing.
    pub(super) fn add(&mut self, action: &str, metadata: &str) {
        let Ok(record) = serde_json::from_str::<Value>(metadata) else {
            return;
        };
        let number = |name: &str| record[name].as_u64();
        let text = |name: &str| record[name].as_str().map(str::to_owned);
        match action {
            action::STARTED => {
                (self.service, self.host) = (text("service"), text("host"));
                self.queue_capacity = number("queue_capacity");
            }
            action::ALIVE => {
                self.resolved_through = self.resolved_through.max(number("resolved_through").unwrap_or(0));
            }
            action::STOPPED => self.last_seq = self.last_seq.max(number("last_seq")),
            action::QUARANTINED => {
                if let Some(range) = number("seq").and_then(|seq| numbers(seq, seq)) {
                    self.quarantined.insert(range);
                }
            }
            action::LOST => ranges(&record).for_each(|(range, count)| match count {
                None => self.lost.insert(range),
                Some(count) => self.partly_lost.push(PartlyLost { range, count }),
            }),
            action::DUPLICATE => ranges(&record).for_each(|(range, _)| self.repeated.insert(range)),
            _ => {}
        }
    }

    /// Takes in consecutive numbers that went with a dropped month.
    pub(super) fn add_dropped(&mut self, first: i64, last: i64) {
        if let Some(range) = stored_numbers(first, last) {
            self.dropped.insert(range);
        }
    }

    /// The number up to which the writer attests that every entry is stored or declared.
    pub(super) fn attested_through(&self) -> u64 {
        self.last_seq.unwrap_or(self.resolved_through)
    }
}

/// The ranges of a record, `[first, last]` or `[first, last, count]`.
fn ranges(record: &Value) -> impl Iterator<Item = (SeqRange, Option<u64>)> {
    record["ranges"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|range| {
            let part = |at: usize| range[at].as_u64();
            Some((numbers(part(0)?, part(1)?)?, part(2)))
        })
}

/// A range of numbers, which begin with 1. None if it holds none: a record may claim anything.
fn numbers(first: u64, last: u64) -> Option<SeqRange> {
    SeqRange { first, last }.overlap(SeqRange {
        first: 1,
        last: u64::MAX,
    })
}

/// The same of numbers as the database has them.
pub(super) fn stored_numbers(first: i64, last: i64) -> Option<SeqRange> {
    numbers(u64::try_from(first).unwrap_or(0), u64::try_from(last).ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_declares_nothing() {
        let mut declared = Declarations::default();
        for metadata in [
            "",
            "[]",
            "{\"ranges\":7}",
            "{\"ranges\":[[5,2],[1],[\"a\",\"b\"],[0,0]],\"seq\":0}",
            "{\"last_seq\":-1,\"seq\":-1,\"resolved_through\":[3]}",
        ] {
            for action in [
                action::STARTED,
                action::ALIVE,
                action::LOST,
                action::QUARANTINED,
                action::DUPLICATE,
                action::STOPPED,
            ] {
                declared.add(action, metadata);
            }
        }
        assert!(declared.lost.is_empty() && declared.quarantined.is_empty() && declared.repeated.is_empty());
        assert!(declared.partly_lost.is_empty());
        assert_eq!((declared.attested_through(), declared.last_seq), (0, None));
    }

    #[test]
    fn the_largest_range_is_taken_in() {
        let mut declared = Declarations::default();
        for action in [action::LOST, action::DUPLICATE] {
            declared.add(action, &json!({"ranges": [[0, u64::MAX], [3, 4]]}).to_string());
        }
        assert_eq!(
            (declared.lost.len(), declared.repeated.len()),
            (u64::MAX, u64::MAX)
        );
        declared.add_dropped(-3, 2);
        declared.add_dropped(7, -1);
        assert_eq!(declared.dropped.len(), 2);
    }
}

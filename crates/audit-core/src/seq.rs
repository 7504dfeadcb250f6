//! Ranges and sets of sequence numbers.

use std::collections::BTreeMap;

/// Sequence numbers from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeqRange {
    /// The lowest.
    pub first: u64,
    /// The highest.
    pub last: u64,
}

impl SeqRange {
    /// The range of this many numbers from `first` on; none without a number.
    pub fn starting_at(first: u64, count: u64) -> Option<Self> {
        let last = first.checked_add(count.checked_sub(1)?)?;
        Some(Self { first, last })
    }

    /// How many numbers it holds.
    #[allow(clippy::len_without_is_empty)] // it is never empty
    pub fn len(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// The fewest ranges that hold these numbers, in ascending order.
    pub fn of(mut numbers: Vec<u64>) -> Vec<Self> {
        numbers.sort_unstable();
        let mut ranges: Vec<Self> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some(range) if number <= range.last.saturating_add(1) => range.last = number,
                _ => ranges.push(Self {
                    first: number,
                    last: number,
                }),
            }
        }
        ranges
    }

    /// The numbers that both hold.
    pub fn overlap(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }
}

/// A set of sequence numbers, held as the fewest ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeqSet {
    /// The last number of each range by its first; no two touch.
    ranges: BTreeMap<u64, u64>,
}

impl SeqSet {
    /// True if it holds no number.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest number.
    pub fn first(&self) -> Option<u64> {
        self.ranges.first_key_value().map(|(&first, _)| first)
    }

    /// How many numbers it holds.
    pub fn len(&self) -> u64 {
        self.iter().fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// Its ranges in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = SeqRange> {
        self.ranges.iter().map(|(&first, &last)| SeqRange { first, last })
    }

    /// Adds the numbers of a range.
    pub fn insert(&mut self, mut range: SeqRange) {
        if let Some((&first, &last)) = self.ranges.range(..=range.first).next_back()
            && last.saturating_add(1) >= range.first
        {
            range = SeqRange {
                first,
                last: last.max(range.last),
            };
        }
        while let Some((&first, &last)) = self.ranges.range(range.first..).next()
            && first <= range.last.saturating_add(1)
        {
            self.ranges.remove(&first);
            range.last = range.last.max(last);
        }
        self.ranges.insert(range.first, range.last);
    }

    /// Removes the numbers of a range, and returns those that were there.
    pub fn remove(&mut self, range: SeqRange) -> Vec<SeqRange> {
        let parts: Vec<(SeqRange, SeqRange)> = self
            .touching(range)
            .filter_map(|known| known.overlap(range).map(|part| (known, part)))
            .collect();
        for &(known, part) in &parts {
            self.ranges.remove(&known.first);
            if known.first < part.first {
                self.ranges.insert(known.first, part.first - 1);
            }
            if part.last < known.last {
                self.ranges.insert(part.last + 1, known.last);
            }
        }
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// The numbers of a range that it holds.
    pub fn within(&self, range: SeqRange) -> impl Iterator<Item = SeqRange> {
        self.touching(range).filter_map(move |known| known.overlap(range))
    }

    /// The numbers of a range that it does not hold.
    pub fn gaps_within(&self, range: SeqRange) -> Vec<SeqRange> {
        let mut gaps = Vec::new();
        let mut next = Some(range.first);
        for known in self.within(range) {
            let Some(first) = next else { break };
            if first < known.first {
                gaps.push(SeqRange {
                    first,
                    last: known.first - 1,
                });
            }
            next = known.last.checked_add(1);
        }
        if let Some(first) = next.filter(|first| *first <= range.last) {
            gaps.push(SeqRange {
                first,
                last: range.last,
            });
        }
        gaps
    }

    /// Removes and returns the lowest range if it begins at this number or below.
    pub fn pop_first_at(&mut self, number: u64) -> Option<SeqRange> {
        let (&first, &last) = self
            .ranges
            .first_key_value()
            .filter(|(first, _)| **first <= number)?;
        self.ranges.remove(&first);
        Some(SeqRange { first, last })
    }

    /// The ranges that may overlap this one.
    fn touching(&self, range: SeqRange) -> impl Iterator<Item = SeqRange> {
        let begin = self
            .ranges
            .range(..=range.first)
            .next_back()
            .map_or(range.first, |(&first, _)| first);
        self.ranges
            .range(begin..=range.last.max(begin))
            .map(|(&first, &last)| SeqRange { first, last })
    }
}

impl FromIterator<SeqRange> for SeqSet {
    fn from_iter<I: IntoIterator<Item = SeqRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const fn range(first: u64, last: u64) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn numbers_in_any_order_become_the_fewest_ranges() {
        assert_eq!(SeqRange::of(vec![3, 1, 2, 7, 6, 6]), [range(1, 3), range(6, 7)]);
        assert_eq!(SeqRange::of(vec![]), []);
    }

    #[test]
    fn the_whole_of_the_numbers_overflows_nothing() {
        let mut set: SeqSet = [range(0, u64::MAX), range(5, u64::MAX)].into_iter().collect();
        assert_eq!(set.len(), u64::MAX);
        assert_eq!(set.gaps_within(range(3, u64::MAX)), []);
        assert_eq!(set.remove(range(7, u64::MAX)), [range(7, u64::MAX)]);
        assert_eq!(set.gaps_within(range(0, u64::MAX)), [range(7, u64::MAX)]);
    }

    proptest! {
        /// Against the obvious model, a set of single numbers.
        #[test]
        fn a_set_of_ranges_is_a_set_of_numbers(changes in prop::collection::vec((any::<bool>(), 1..50_u64, 0..9_u64), 0..40),
                                               first in 1..50_u64, more in 0..30_u64) {
            let (mut set, mut model) = (SeqSet::default(), BTreeSet::new());
            for (add, first, more) in changes {
                let range = range(first, first + more);
                if add {
                    set.insert(range);
                    model.extend(range.first..=range.last);
                } else {
                    let removed: u64 = set.remove(range).into_iter().map(SeqRange::len).sum();
                    let before = model.len();
                    model.retain(|number| !(range.first..=range.last).contains(number));
                    prop_assert_eq!(removed, (before - model.len()) as u64);
                }
                prop_assert_eq!(set.iter().collect::<Vec<_>>(), SeqRange::of(model.iter().copied().collect()));
            }
            let asked = range(first, first + more);
            let within: Vec<u64> = set.within(asked).flat_map(|part| part.first..=part.last).collect();
            let expected: Vec<u64> = model.range(asked.first..=asked.last).copied().collect();
            prop_assert_eq!(&within, &expected);
            let gaps: u64 = set.gaps_within(asked).into_iter().map(SeqRange::len).sum();
            prop_assert_eq!(gaps + expected.len() as u64, asked.len());
        }
    }
}

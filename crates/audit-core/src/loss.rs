//! Entries that were submitted to a writer and given up.

use crate::{DropReason, SeqRange};

/// Losses that are kept apart until they are declared; beyond it those of one reason become one.
pub const MAX_LOSSES: usize = 4_096;

/// Entries that were submitted to a writer and given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The lowest `writer_seq` among them.
    pub first: u64,
    /// The highest `writer_seq` among them.
    pub last: u64,
    /// How many; fewer than from first to last where others between them were kept.
    pub count: u64,
    /// Why.
    pub reason: DropReason,
}

impl Loss {
    /// The loss of a whole range.
    pub fn of(range: SeqRange, reason: &DropReason) -> Self {
        Self {
            first: range.first,
            last: range.last,
            count: range.len(),
            reason: reason.clone(),
        }
    }

    /// True if everything from first to last was lost.
    pub fn is_whole(&self) -> bool {
        self.count == self.last + 1 - self.first
    }
}

/// Losses that are not declared yet, bounded in number.
#[derive(Clone, Debug, Default)]
pub struct LossLog {
    losses: Vec<Loss>,
}

impl LossLog {
    /// Adds a loss. One that follows another of the same reason extends it.
    pub fn add(&mut self, new: Loss) {
        let full = self.losses.len() >= MAX_LOSSES;
        match self
            .losses
            .iter_mut()
            .rev()
            .find(|loss| loss.reason.label() == new.reason.label())
        {
            Some(loss) if full || (loss.last + 1 == new.first && loss.is_whole() && new.is_whole()) => {
                loss.first = loss.first.min(new.first);
                loss.last = loss.last.max(new.last);
                loss.count += new.count;
            }
            _ => self.losses.push(new),
        }
    }

    /// True if there is no loss.
    pub fn is_empty(&self) -> bool {
        self.losses.is_empty()
    }

    /// The lowest number among them.
    pub fn first(&self) -> Option<u64> {
        self.losses.iter().map(|loss| loss.first).min()
    }

    /// Removes and returns them.
    pub fn take(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_losses_are_one_and_too_many_are_merged_with_their_count() {
        let mut log = LossLog::default();
        let mut note = |first, last| log.add(Loss::of(SeqRange { first, last }, &DropReason::QueueFull));
        note(1, 1);
        note(2, 5);
        assert_eq!(
            log.take(),
            [Loss {
                first: 1,
                last: 5,
                count: 5,
                reason: DropReason::QueueFull
            }]
        );
        for n in 0..10_000 {
            let range = SeqRange {
                first: 2 * n + 1,
                last: 2 * n + 1,
            };
            log.add(Loss::of(range, &DropReason::QueueFull));
        }
        let all = log.take();
        assert_eq!(all.len(), MAX_LOSSES);
        assert_eq!(all.iter().map(|loss| loss.count).sum::<u64>(), 10_000);
    }

    #[test]
    fn a_full_log_knows_the_lowest_number_of_a_loss_that_it_merges() {
        let mut log = LossLog::default();
        for n in 1..=MAX_LOSSES as u64 {
            let number = 100 + 2 * n;
            log.add(Loss::of(
                SeqRange {
                    first: number,
                    last: number,
                },
                &DropReason::QueueFull,
            ));
        }
        assert_eq!(log.first(), Some(102));
        log.add(Loss::of(SeqRange { first: 5, last: 6 }, &DropReason::QueueFull));
        assert_eq!(log.first(), Some(5));
        let last = log.take().pop().expect("the log is full");
        assert_eq!((last.first, last.count), (5, 3));
    }
}

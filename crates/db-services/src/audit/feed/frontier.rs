//! A position on PostgreSQL, and how it moves: pure functions of the position, a snapshot and the rows that were read.
//!
//! All transactions below `next` have been read, but for those of `running`, which were open when `next` passed them.
//! The next transactions to read are therefore known exactly: first those of `running` that have ended (*late*), then those from
//! `next` on that have. They are read in windows of transaction ids, because the index on `tx_id` is a BRIN: it finds a
//! range and has no order, so each window is sorted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::FeedError;
use super::state::{Ahead, Inside, Key, Origin, Part, Snapshot, Way, Window};

/// The width of the first window.
const FIRST_WIDTH: i64 = 1 << 10;

/// A window that takes longer is too wide, unless it is as narrow as the first one: a server may be slow for each statement,
/// however little it reads, and would be asked for one transaction at a time.
const SLOW: Duration = Duration::from_millis(500);

/// The width that no window exceeds.
const MAX_WIDTH: i64 = 1 << 62;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Frontier {
    pub(super) origin: Origin,
    pub(super) next: i64,
    /// Ascending, below `next`.
    pub(super) running: Vec<i64>,
    pub(super) inside: Option<Inside>,
    pub(super) ahead: Option<Ahead>,
    /// The last row that was returned, or that the filter left out since.
    pub(super) last: Option<Key>,
    pub(super) width: i64,
}

impl Frontier {
    pub(super) fn beginning(origin: Origin, snapshot: &Snapshot, ahead: Option<i64>) -> Self {
        Self {
            ahead: ahead.map(|until| Ahead {
                // Those that were open may insert further rows of that kind.
                mark: snapshot.oldest,
                until,
                next: Some(snapshot.oldest),
            }),
            // No database gives ids below 0. A row that was put there has one if its archive says so.
            ..Self::at(origin, i64::MIN)
        }
    }

    /// Behind everything that the snapshot sees. `end` is at most that of the snapshot.
    pub(super) fn now(origin: Origin, snapshot: &Snapshot, end: i64, ahead: Option<i64>) -> Self {
        let running = snapshot.running.iter().copied();
        Self {
            ahead: ahead.map(|until| Ahead {
                mark: snapshot.oldest,
                until,
                next: None,
            }),
            running: running.filter(|&tx| tx < end).collect(),
            ..Self::at(origin, end)
        }
    }

    fn at(origin: Origin, next: i64) -> Self {
        Self {
            origin,
            next,
            running: Vec::new(),
            inside: None,
            ahead: None,
            last: None,
            width: FIRST_WIDTH,
        }
    }

    /// Whether it can be a position at all. Its text may have been made up.
    pub(super) fn is_valid(&self) -> bool {
        let is_ascending = self.running.windows(2).all(|pair| pair[0] < pair[1]);
        let is_below = self.running.last().is_none_or(|&tx| tx < self.next);
        let is_ahead = |ahead: &Ahead| {
            let is_within = |next| (ahead.mark..=ahead.until).contains(&next);
            0 <= ahead.mark && ahead.until < i64::MAX && ahead.next.is_none_or(is_within)
        };
        self.running.first().is_none_or(|&tx| tx >= 0)
            && is_ascending
            && is_below
            && self.ahead.as_ref().is_none_or(is_ahead)
            && self.inside.is_none_or(|inside| self.is_unread(inside.after.tx))
            && (1..=MAX_WIDTH).contains(&self.width)
    }

    /// Whether a transaction, or rows of it, are still to be read.
    fn is_unread(&self, tx: i64) -> bool {
        match self.next_ahead() {
            Some(next) => tx == next,
            None => tx == self.next || self.running.binary_search(&tx).is_ok(),
        }
    }

    fn next_ahead(&self) -> Option<i64> {
        self.ahead.and_then(|ahead| ahead.next)
    }

    /// The transactions before this one are on the disk, as far as the position can tell: rows of a transaction that is read
    /// in parts were returned.
    pub(super) fn durable(&self) -> i64 {
        match self.inside {
            Some(inside) if self.next_ahead().is_none() && inside.after.tx == self.next => {
                self.next.saturating_add(1)
            }
            _ => self.next,
        }
    }

    /// Checks that the position is one of this table, and that the server is no older copy.
    pub(super) fn check(&self, origin: &Origin, snapshot: &Snapshot) -> Result<(), FeedError> {
        let kept = &self.origin;
        if kept.system != origin.system {
            Err(FeedError::OtherDatabase("server"))
        } else if kept.database != origin.database {
            Err(FeedError::OtherDatabase("database of the server"))
        } else if kept.table != origin.table {
            Err(FeedError::OtherDatabase("table"))
        } else if kept.timeline != origin.timeline {
            Err(FeedError::Timeline {
                position: kept.timeline,
                server: origin.timeline,
            })
        } else if self.next > snapshot.end {
            Err(FeedError::Backwards {
                position: self.next,
                server: snapshot.end,
            })
        } else {
            Ok(())
        }
    }

    /// The next window, or none if everything that the snapshot sees was read.
    pub(super) fn window(&self, snapshot: &Snapshot) -> Option<Window> {
        let inside = self.inside;
        let width = if inside.is_some() { 1 } else { self.width };
        if let Some((ahead, from)) = self.ahead.and_then(|ahead| Some((ahead, ahead.next?))) {
            let to = from.saturating_add(width).min(ahead.until.saturating_add(1));
            return Some(Window {
                part: Part::Ahead(ahead.mark),
                from,
                to,
                listed: Vec::new(),
                inside,
                without: None,
            });
        }
        let late = self.late(snapshot);
        let (part, from, end) = match (inside, late.first()) {
            (Some(inside), _) if inside.after.tx != self.next => (Part::Late, inside.after.tx, self.next),
            (None, Some(&first)) => (Part::Late, first, self.next),
            _ => (Part::New, self.next, snapshot.end),
        };
        let to = match inside {
            // All that is below 0 at once.
            None if from < 0 => 1,
            _ => from.saturating_add(width),
        };
        let to = to.min(end);
        let listed = if part == Part::Late {
            &late
        } else {
            &snapshot.running
        };
        let listed = listed.iter().copied().filter(|tx| (from..to).contains(tx));
        (from < to).then(|| Window {
            part,
            from,
            to,
            listed: listed.collect(),
            inside,
            without: self.ahead.filter(|ahead| from <= ahead.until),
        })
    }

    /// The transactions that have ended since `next` passed them.
    fn late(&self, snapshot: &Snapshot) -> Vec<i64> {
        let running = self.running.iter().copied();
        running
            .filter(|tx| snapshot.running.binary_search(tx).is_err())
            .collect()
    }

    /// Moves over a window of which `keys` were read, in their order, at most one more than `limit`. Returns how
    /// many of them belong to the batch: whole transactions, unless one alone has more than `limit` rows.
    pub(super) fn advance(
        &mut self,
        window: &Window,
        snapshot: &Snapshot,
        keys: &[Key],
        limit: usize,
    ) -> usize {
        let count = keys.len().min(limit);
        let Some(extra) = keys.get(limit) else {
            self.pass(window, snapshot, window.to);
            self.inside = None;
            if self.next_ahead().is_none() && matches!(window.part, Part::Ahead(_)) {
                self.width = FIRST_WIDTH;
            } else if window.inside.is_none() {
                self.widen(window, count < limit / 4 + 1);
            }
            self.returned(keys);
            return count;
        };
        self.pass(window, snapshot, extra.tx);
        let whole = keys[..count].partition_point(|key| key.tx < extra.tx);
        let taken = if whole > 0 {
            self.inside = None;
            whole
        } else {
            let way = window.inside.map_or(Way::Sorted, |inside| inside.way);
            self.inside = keys[..count].last().map(|&after| Inside { after, way });
            count
        };
        if window.inside.is_none() {
            self.width = extra.tx.saturating_sub(window.from.max(0)).max(1);
        }
        self.returned(&keys[..taken]);
        taken
    }

    fn returned(&mut self, keys: &[Key]) {
        self.last = keys.last().copied().or(self.last);
    }

    /// Notes that all transactions of a window before `end` were read.
    fn pass(&mut self, window: &Window, snapshot: &Snapshot, end: i64) {
        match window.part {
            Part::Ahead(_) => {
                if let Some(ahead) = &mut self.ahead {
                    ahead.next = Some(end).filter(|&end| end <= ahead.until);
                }
            }
            Part::Late => self
                .running
                .retain(|tx| *tx >= end || window.listed.binary_search(tx).is_err()),
            Part::New => {
                self.next = end;
                let open = snapshot.running.iter().copied();
                self.running
                    .extend(open.filter(|tx| (window.from..end).contains(tx)));
            }
        }
    }

    /// The next window is wider than one that had few rows. It follows what that one has covered: a reader that has
    /// waited in an idle trail for long does not begin with all that was written while it was away.
    fn widen(&mut self, window: &Window, had_few: bool) {
        let covered = window.covered();
        let wider = covered.saturating_mul(4).min(MAX_WIDTH);
        if covered < self.width {
            self.width = self.width.min(wider.max(FIRST_WIDTH));
        } else if had_few {
            self.width = wider;
        }
    }

    /// Narrows the windows that follow a slow one, for filters that few rows pass.
    pub(super) fn took(&mut self, time: Duration) {
        if time > SLOW {
            self.width = (self.width / 16).max(self.width.min(FIRST_WIDTH));
        }
    }

    /// Narrows the windows after one that the server ended because of its `statement_timeout`. Returns whether that is
    /// possible.
    pub(super) fn timed_out(&mut self, window: &Window) -> bool {
        let covered = window.covered();
        self.width = (covered / 16).max(1);
        covered > 1
    }

    /// Takes `next` back to where it is sure to be after a crash of the server.
    ///
    /// A server that crashes loses the end of its write-ahead log, and then gives the ids of transactions that had left no
    /// trace on the disk a second time. If `next` were behind them, their rows would never be read. None of the
    /// transactions from `durable` on has a row that was returned, so nothing is read twice.
    pub(super) fn settle(&mut self, durable: i64) {
        if durable < self.next {
            self.next = durable;
            self.running.retain(|&tx| tx < durable);
        }
    }

    /// How many transactions were not read yet.
    pub(super) fn unread(&self, snapshot: &Snapshot) -> u64 {
        snapshot
            .end
            .saturating_sub(self.next.max(0))
            .max(0)
            .unsigned_abs()
    }
}

#[cfg(test)]
#[path = "frontier_tests.rs"]
mod tests;

//! The bounded queue between callers and a writer, as `db-services` has it.

use std::collections::VecDeque;

use super::row::SimRow;
use crate::{SeqRange, Size};

/// Entries of one call.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) rows: Vec<SimRow>,
    pub(super) size: Size,
}

impl Group {
    pub(super) fn range(&self) -> SeqRange {
        let seq = |row: Option<&SimRow>| row.map_or(0, |row| row.seq);
        SeqRange {
            first: seq(self.rows.first()),
            last: seq(self.rows.last()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// The queue, and the group that did not fit the last batch.
#[derive(Debug)]
pub(super) struct Queue {
    groups: VecDeque<Group>,
    carried: Option<Group>,
    bound: Size,
    held: Size,
    /// How many numbers were given out.
    pub(super) submitted: u64,
    is_full: bool,
    pub(super) is_closed: bool,
}

impl Queue {
    pub(super) fn new(bound: Size) -> Self {
        Self {
            groups: VecDeque::new(),
            carried: None,
            bound,
            held: Size::default(),
            submitted: 0,
            is_full: false,
            is_closed: false,
        }
    }

    pub(super) fn held(&self) -> Size {
        self.held
    }

    pub(super) fn has_carried(&self) -> bool {
        self.carried.is_some()
    }

    /// Counts a group if the bounds allow. One that is larger than the bound alone is accepted alone.
    pub(super) fn admit(&mut self, size: Size) -> Result<(), Refused> {
        if self.is_closed {
            return Err(Refused::Closed);
        }
        let nine_tenths = |bound: usize| bound - bound / 10;
        let is_low = self.held.entries < nine_tenths(self.bound.entries)
            && self.held.bytes < nine_tenths(self.bound.bytes);
        if self.is_full && !is_low {
            return Err(Refused::Full);
        }
        self.is_full = false;
        let sum = self.held + size;
        let fits = sum.entries <= self.bound.entries && sum.bytes <= self.bound.bytes;
        if !fits && self.held != Size::default() {
            self.is_full = !is_low;
            return Err(Refused::Full);
        }
        self.held = sum;
        Ok(())
    }

    pub(super) fn push(&mut self, group: Group) {
        self.groups.push_back(group);
    }

    /// Makes room. False if more is released than was counted.
    pub(super) fn release(&mut self, size: Size) -> bool {
        let is_counted = size.entries <= self.held.entries && size.bytes <= self.held.bytes;
        self.held = self.held.saturating_sub(size);
        is_counted
    }

    pub(super) fn pop(&mut self) -> Option<Group> {
        self.carried.take().or_else(|| self.groups.pop_front())
    }

    /// The next batch within a bound. A group stays whole unless it alone is beyond it.
    pub(super) fn take(&mut self, bound: Size) -> (Vec<SimRow>, Size) {
        let (mut rows, mut size) = (Vec::new(), Size::default());
        while let Some(mut group) = self.pop() {
            let sum = size + group.size;
            if sum.entries <= bound.entries && sum.bytes <= bound.bytes {
                rows.append(&mut group.rows);
                size = sum;
                continue;
            }
            if rows.is_empty() {
                let rest = split(&mut group, bound);
                rows = group.rows;
                size = group.size;
                self.carried = rest;
            } else {
                self.carried = Some(group);
            }
            break;
        }
        (rows, size)
    }
}

/// Splits off what one batch does not hold; the group keeps at least one entry.
fn split(group: &mut Group, bound: Size) -> Option<Group> {
    let each = (group.size.bytes / group.size.entries.max(1)).max(1);
    let room = (bound.bytes / each).min(bound.entries).max(1);
    if group.rows.len() <= room {
        return None;
    }
    let rest = group.rows.split_off(room);
    let head = Size {
        entries: room,
        bytes: each * room,
    };
    let tail = group.size.saturating_sub(head);
    group.size = head;
    Some(Group {
        rows: rest,
        size: tail,
    })
}

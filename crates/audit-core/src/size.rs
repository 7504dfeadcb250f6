//! How much entries count against a bound.

use std::ops::{Add, AddAssign, Sub, SubAssign};

/// A number of entries and the memory that they hold, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// How many entries.
    pub entries: usize,
    /// Their memory, estimated from above.
    pub bytes: usize,
}

impl Size {
    /// This size less another one, at least zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Splits it into two parts whose sum it is, the first with this many entries and their share of the bytes.
    pub fn split_off(self, entries: usize) -> [Self; 2] {
        let entries = entries.min(self.entries);
        let bytes = self
            .bytes
            .checked_div(self.entries)
            .map_or(0, |each| each * entries);
        let first = if entries == self.entries {
            self
        } else {
            Self { entries, bytes }
        };
        [first, self.saturating_sub(first)]
    }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            entries: self.entries - other.entries,
            bytes: self.bytes - other.bytes,
        }
    }
}

impl SubAssign for Size {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

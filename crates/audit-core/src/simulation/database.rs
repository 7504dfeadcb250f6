//! The database of the simulation: it accepts, rejects, leaves out, refuses, hangs, and loses answers.
//!
//! It stands for the sink too, which counts what was inserted and looks up what was not.

use std::time::Duration;

use super::model::{Model, Verdict};
use super::plan::DatabaseState;
use super::random::Random;
use super::row::SimRow;
use super::settings::{Rates, Settings};
use crate::writer::{Lane, SinkError, SinkErrorKind, Written};
use crate::{Rows, Time};

pub(super) struct Database {
    pub(super) state: DatabaseState,
    /// Until when it hangs.
    pub(super) hangs_until: Time,
    random: Random,
    rates: Rates,
    /// True once any row was committed: with a row that is known to be good the sink can tell a rejected
    /// row from a misconfiguration.
    has_known_row: bool,
}

/// What a lane hears.
pub(super) type Answer = Result<Written, SinkError>;

/// A batch on its way.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) writer: u32,
    pub(super) lane: Lane,
    pub(super) rows: Rows<SimRow>,
    /// Whether the lane heard of it.
    pub(super) is_answered: bool,
    /// What the database answers.
    pub(super) answer: Option<Answer>,
    pub(super) until_answered: Duration,
}

/// When a statement is executed, and how long its answer takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    pub(super) until_executed: Duration,
    pub(super) until_answered: Duration,
}

pub(super) fn error(kind: SinkErrorKind, reason: &str) -> SinkError {
    SinkError {
        kind,
        reason: reason.to_owned(),
        sqlstate: None,
    }
}

impl Database {
    pub(super) fn new(seed: u64, rates: Rates) -> Self {
        Self {
            state: DatabaseState::Works,
            hangs_until: Time::START,
            random: Random::new(seed, 3),
            rates,
            has_known_row: false,
        }
    }

    pub(super) fn stop_faults(&mut self) {
        self.state = DatabaseState::Works;
        // Until a row was committed a rejected one looks like a misconfiguration, and blocks those behind it.
        self.has_known_row = true;
        self.rates.rejected_record = 0;
        self.rates.lost_answer = 0;
        self.rates.failed_statement = 0;
        self.rates.slow_statement = 0;
    }

    /// Whether a new entry is accepted.
    pub(super) fn draw_verdict(&mut self, is_record: bool) -> Verdict {
        let rejected = if is_record {
            self.rates.rejected_record
        } else {
            self.rates.rejected
        };
        if self.random.chance(rejected) {
            Verdict::Rejected
        } else if !is_record && self.random.chance(self.rates.filtered) {
            Verdict::Filtered
        } else {
            Verdict::Accepted
        }
    }

    pub(super) fn draw_course(&mut self) -> Course {
        let is_slow = self.random.chance(self.rates.slow_statement);
        let half = Settings::HEALTHY_STATEMENT.as_micros() as u64 / 2;
        let longest = if is_slow { 300_000 } else { half };
        Course {
            until_executed: self.random.micros(20, longest),
            until_answered: self.random.micros(10, half),
        }
    }

    /// True if a statement that the client no longer waits for is executed all the same.
    pub(super) fn outlives_client(&mut self) -> bool {
        self.random.coin()
    }

    /// Executes a statement; what the client hears.
    pub(super) fn execute(&mut self, rows: &[SimRow], model: &mut Model) -> Result<Written, SinkError> {
        use SinkErrorKind::{Misconfigured, RowRejected, Transient};
        match self.state {
            DatabaseState::Refuses => return Err(error(Transient, "the connection was refused")),
            DatabaseState::IsMisconfigured => return Err(error(Misconfigured, "there is no such table")),
            DatabaseState::Works | DatabaseState::Hangs => {}
        }
        if self.random.chance(self.rates.failed_statement) {
            return Err(error(Transient, "the server is shutting down"));
        }
        let verdict = |row: &SimRow| model.row(row.key).verdict;
        if rows.iter().any(|row| verdict(row) == Verdict::Rejected) {
            let is_known = self.has_known_row || rows.iter().any(|row| verdict(row) == Verdict::Accepted);
            let kind = if is_known { RowRejected } else { Misconfigured };
            model.has_rejected_record |= rows.len() == 1 && rows[0].seq == 0;
            return Err(error(kind, "a check is violated"));
        }
        let is_filtered = rows.iter().any(|row| verdict(row) == Verdict::Filtered);
        if is_filtered && self.random.coin() {
            return Err(error(RowRejected, "a row was not inserted; all were rolled back"));
        }
        let stored = rows.iter().filter(|row| verdict(row) != Verdict::Filtered);
        let keys: Vec<u32> = stored.map(|row| row.key).collect();
        self.has_known_row |= !keys.is_empty();
        keys.into_iter().for_each(|key| model.store(key));
        model.store_records(rows.iter());
        if is_filtered {
            return Err(error(RowRejected, "a row was not inserted"));
        }
        if self.random.chance(self.rates.lost_answer) {
            return Err(error(Transient, "the connection was closed"));
        }
        let is_duplicate = |row: &SimRow| row.seq > 0 && model.is_duplicate(row.key);
        let duplicates = (0..rows.len())
            .filter(|&index| is_duplicate(&rows[index]))
            .collect();
        Ok(Written { duplicates })
    }
}

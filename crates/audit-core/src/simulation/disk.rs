//! The disk of the simulation: a directory of spool files, and everything that happens to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::model::{Model, SaidFate};
use super::plan::{Damage, DiskState, LockTarget};
use super::random::Random;
use super::row::SimRow;
use super::settings::PerMille;
use crate::Row;
use crate::Time;
use crate::spool::StoreError;

/// The database that the spool files of the simulation are for.
pub(super) const TARGET: &str = "here";

/// Another one.
const OTHER_TARGET: &str = "elsewhere";

/// The only version that is understood.
pub(super) const VERSION: i64 = 1;

pub(super) type SharedDisk = Rc<RefCell<Disk>>;

/// An encoded row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) row: SimRow,
    pub(super) is_damaged: bool,
}

pub(super) type Body = Rc<Vec<Line>>;

/// A file of the directory.
#[derive(Debug)]
pub(super) struct FileState {
    pub(super) target: &'static str,
    pub(super) version: i64,
    pub(super) batches: BTreeMap<i64, Body>,
    pub(super) next: i64,
    /// The store that has locked it.
    pub(super) holder: Option<u32>,
    pub(super) held_since: Time,
    /// False once the directory was removed: only those that have it open see it.
    pub(super) is_linked: bool,
    pub(super) is_marked_damaged: bool,
    /// Numbers that cannot be read.
    pub(super) damage: Option<(i64, i64)>,
    /// True once an operation met the damage.
    pub(super) is_damage_known: bool,
}

/// A change that the disk made to a row, for the model.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    Appended(u32),
    Removed(u32),
    Destroyed(u32),
    Quarantined(u32),
    QuarantineDestroyed,
    /// A damaged line is in the quarantine.
    LineKept(u32),
    /// A batch with this damaged line was removed.
    LineRemoved(u32),
    /// Something that a store must not be asked for.
    Broken(&'static str, u32),
}

/// The power of one store, and so of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// It ends within an operation, after this number of others.
    FailsAfter(u32),
    Off,
}

/// I/O errors of reads, a few in a row. The database reports them as damage.
#[derive(Debug)]
struct Misreads {
    random: Random,
    rate: PerMille,
    /// How many more reads fail.
    failing: u64,
    /// How many reads after those succeed at least: errors that come and go within one proof of damage are not
    /// modelled.
    succeeding: u64,
}

impl Misreads {
    /// None in half of the seeds.
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 7);
        let rate = if random.coin() {
            0
        } else {
            random.between(1, 60) as PerMille
        };
        Self {
            random,
            rate,
            failing: 0,
            succeeding: 0,
        }
    }

    fn next(&mut self) -> bool {
        if self.failing > 0 {
            self.failing -= 1;
            return true;
        }
        if self.succeeding > 0 {
            self.succeeding -= 1;
            return false;
        }
        if !self.random.chance(self.rate) {
            return false;
        }
        self.failing = self.random.below(4);
        self.succeeding = 8;
        true
    }

    fn stop(&mut self) {
        self.rate = 0;
        self.failing = 0;
    }
}

/// A directory of files, by the order in which they were created.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<u32, FileState>,
    pub(super) last_file: u32,
    pub(super) stores: Vec<Power>,
    pub(super) state: DiskState,
    /// Operations that fail for a passing reason.
    pub(super) error_rate: PerMille,
    /// Reads that fail and are reported as damage.
    misreads: Misreads,
    pub(super) locks: Vec<(LockTarget, Time)>,
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) effects: Vec<Effect>,
    /// How many operations there were, and how many failed.
    pub(super) operations: u64,
    pub(super) failures: u64,
    /// The most bytes that a writer's file may hold, unless others were copied into it.
    pub(super) limit_bytes: u64,
    pub(super) was_salvaged: bool,
}

pub(super) fn name_of(file: u32) -> String {
    format!("{file:06}.spool")
}

pub(super) fn transient(reason: &str) -> StoreError {
    StoreError::Transient(reason.to_owned())
}

impl FileState {
    pub(super) fn new(target: &'static str) -> Self {
        Self {
            target,
            version: VERSION,
            batches: BTreeMap::new(),
            next: 1,
            holder: None,
            held_since: Time::START,
            is_linked: true,
            is_marked_damaged: false,
            damage: None,
            is_damage_known: false,
        }
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.version != VERSION || self.target != TARGET
    }

    pub(super) fn is_damaged_between(&self, low: i64, high: i64) -> bool {
        self.damage
            .is_some_and(|(first, last)| first <= high && low <= last)
    }

    fn rows(&self) -> impl Iterator<Item = u32> {
        self.batches
            .values()
            .flat_map(|body| body.iter())
            .filter(|line| !line.is_damaged)
            .map(|line| line.row.key)
    }
}

impl Disk {
    pub(super) fn new(seed: u64, error_rate: PerMille) -> Self {
        Self {
            files: BTreeMap::new(),
            last_file: 0,
            stores: Vec::new(),
            state: DiskState::Works,
            error_rate,
            misreads: Misreads::new(seed),
            locks: Vec::new(),
            now: Time::START,
            random: Random::new(seed, 4),
            effects: Vec::new(),
            operations: 0,
            failures: 0,
            limit_bytes: u64::MAX,
            was_salvaged: false,
        }
    }

    pub(super) fn stop_faults(&mut self) {
        self.state = DiskState::Works;
        self.error_rate = 0;
        self.misreads.stop();
        self.locks.clear();
    }

    /// True if the read that comes now fails.
    pub(super) fn misreads(&mut self) -> bool {
        self.misreads.next()
    }

    pub(super) fn is_locked(&self, target: LockTarget) -> bool {
        self.locks
            .iter()
            .any(|(locked, until)| *locked == target && *until > self.now)
    }

    /// Tells the model what was done since the last call.
    pub(super) fn tell(&mut self, model: &mut Model) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Appended(key) => model.appended(key),
                Effect::Removed(key) => model.removed(key),
                Effect::Destroyed(key) => model.destroyed(key),
                Effect::Quarantined(key) => model.quarantined(key),
                Effect::QuarantineDestroyed => model.quarantine_destroyed(),
                Effect::LineKept(key) => model.row_mut(key).is_line_kept = true,
                Effect::LineRemoved(key) => {
                    // One that was damaged after it had been read is in memory, and from there goes on.
                    let row = model.row(key);
                    let is_kept =
                        row.is_line_kept || row.is_quarantined || row.said.is_some_and(SaidFate::is_final);
                    let is_kept = is_kept || model.is_stored(key);
                    model.demand(is_kept, "damaged lines are kept", || format!("row {key}"));
                }
                Effect::Broken(promise, file) => model.report(promise, || name_of(file)),
            }
        }
    }

    pub(super) fn describe_effects(&self, model: &Model) -> String {
        let describe = |effect: &Effect| match effect {
            Effect::Appended(key) => format!("+{}", model.name(*key)),
            Effect::Removed(key) => format!("-{}", model.name(*key)),
            Effect::Destroyed(key) => format!("destroyed {}", model.name(*key)),
            Effect::Quarantined(key) => format!("quarantined {}", model.name(*key)),
            Effect::QuarantineDestroyed => "quarantine destroyed".to_owned(),
            Effect::LineKept(key) => format!("line of {} quarantined", model.name(*key)),
            Effect::LineRemoved(key) => format!("line of {} removed", model.name(*key)),
            Effect::Broken(promise, file) => format!("{promise}: {}", name_of(*file)),
        };
        self.effects.iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// Every file that holds something.
    pub(super) fn describe(&self, model: &Model) -> String {
        let files = self.files.iter().filter(|(_, file)| !file.batches.is_empty());
        let describe = |(number, file): (&u32, &FileState)| {
            let name = name_of(*number);
            let FileState {
                holder,
                is_linked,
                damage,
                ..
            } = file;
            let rows: Vec<String> = file.rows().map(|key| model.name(key)).collect();
            format!(
                "{name}, holder {holder:?}, linked {is_linked}, damage {damage:?}: {}",
                rows.join(" ")
            )
        };
        files.map(describe).collect::<Vec<_>>().join("; ")
    }

    /// Batches that a writer for this database can still replay.
    pub(super) fn backlog(&self) -> usize {
        let files = self
            .files
            .values()
            .filter(|file| !file.is_marked_damaged && !file.is_foreign());
        files
            .flat_map(|file| file.batches.values())
            .map(|body| body.len())
            .sum()
    }

    /// The files that this store has locked, since that time or longer.
    pub(super) fn held_by(&self, store: u32, since: Time) -> Vec<u32> {
        let is_held = |file: &FileState| file.holder == Some(store) && file.held_since <= since;
        let held = self.files.iter().filter(|(_, file)| is_held(file));
        held.map(|(number, _)| *number).collect()
    }

    /// The rows left in these files, except the stop records of other writers, which wait for every file.
    /// Damaged batches are not counted: a scan copies them.
    pub(super) fn left_in(&self, files: &[u32], writer: u32) -> Vec<String> {
        let counts = |line: &Line| line.row.writer == writer || !line.row.is_stop_record();
        let left = files
            .iter()
            .filter_map(|number| Some((number, self.files.get(number)?)));
        left.filter(|(_, file)| !file.is_marked_damaged && file.damage.is_none())
            .map(|(number, file)| {
                (
                    number,
                    file.batches
                        .values()
                        .filter(|body| body.iter().any(counts))
                        .count(),
                )
            })
            .filter(|(_, batches)| *batches > 0)
            .map(|(number, batches)| format!("{} holds {batches} batches", name_of(*number)))
            .collect()
    }

    /// Releases a file as its process ends: its lock, and the file itself if it has no name any more.
    pub(super) fn release(&mut self, file: u32) {
        let Some(state) = self.files.get_mut(&file) else {
            return;
        };
        state.holder = None;
        if !state.is_linked {
            self.effects.extend(state.rows().map(Effect::Destroyed));
            self.files.remove(&file);
        }
    }

    /// A process ends.
    pub(super) fn release_all(&mut self, store: u32) {
        self.held_by(store, Time::NEVER)
            .into_iter()
            .for_each(|number| self.release(number));
    }

    /// Somebody removes the directory with all that is in it.
    pub(super) fn remove_directory(&mut self) {
        let numbers: Vec<u32> = self.files.keys().copied().collect();
        for number in numbers {
            let Some(file) = self.files.get_mut(&number) else {
                continue;
            };
            file.is_linked = false;
            if file.holder.is_none() {
                self.release(number);
            }
        }
        self.effects.push(Effect::QuarantineDestroyed);
    }

    /// A part of one file is overwritten.
    pub(super) fn damage(&mut self, kind: Damage) {
        let candidates: Vec<u32> = self
            .files
            .iter()
            .filter(|(_, file)| {
                !file.is_foreign()
                    && !file.is_marked_damaged
                    && file.damage.is_none()
                    && !file.batches.is_empty()
            })
            .map(|(number, _)| *number)
            .collect();
        if candidates.is_empty() {
            return;
        }
        let number = self.random.pick(&candidates);
        let Some(file) = self.files.get_mut(&number) else {
            return;
        };
        let ids: Vec<i64> = file.batches.keys().copied().collect();
        let first = self.random.pick(&ids);
        match kind {
            Damage::Pages => {
                let last = first + self.random.below(3) as i64;
                file.damage = Some((first, last));
                for id in first..=last {
                    let lost = file.batches.remove(&id);
                    let rows = lost
                        .iter()
                        .flat_map(|body| body.iter())
                        .filter(|line| !line.is_damaged);
                    self.effects
                        .extend(rows.map(|line| Effect::Destroyed(line.row.key)));
                }
            }
            Damage::Line => {
                let Some(body) = file.batches.get_mut(&first) else {
                    return;
                };
                let mut lines = body.to_vec();
                let index = self.random.below(lines.len() as u64) as usize;
                if !std::mem::replace(&mut lines[index].is_damaged, true) {
                    self.effects.push(Effect::Destroyed(lines[index].row.key));
                }
                *body = Rc::new(lines);
            }
        }
    }

    /// A file appears that is not for this program, or not for this database.
    pub(super) fn add_foreign(&mut self, is_newer: bool, row: SimRow) {
        let mut file = FileState::new(if is_newer { TARGET } else { OTHER_TARGET });
        file.version = if is_newer { VERSION + 1 } else { VERSION };
        file.batches.insert(
            1,
            Rc::new(vec![Line {
                row,
                is_damaged: false,
            }]),
        );
        self.last_file += 1;
        self.files.insert(self.last_file, file);
    }

    /// True if every foreign file is as it was.
    pub(super) fn is_foreign_untouched(&self) -> bool {
        self.files
            .values()
            .filter(|file| file.is_foreign())
            .all(|file| file.batches.len() == 1 && !file.is_marked_damaged)
    }
}

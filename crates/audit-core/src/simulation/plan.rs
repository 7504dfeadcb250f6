//! What happens to a world from outside: calls, faults, kills and shutdowns, drawn from the seed beforehand.
//!
//! A plan is a list, so a failing history is shrunk by leaving out parts of it.

use std::fmt;
use std::time::Duration;

use super::random::Random;
use super::settings::{Rates, Settings};
use crate::Time;

/// Something that happens from outside, at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) at: Time,
    pub(super) what: External,
}

/// Something that happens from outside.
#[derive(Clone, Copy, Debug)]
pub(super) enum External {
    /// This number of calls of `write`, one after the other.
    Write {
        slot: usize,
        calls: usize,
    },
    Database(DatabaseState, Duration),
    Disk(DiskState, Duration),
    /// Another process holds a file, or the quarantine, for a while.
    Lock(LockTarget, Duration),
    /// A part of a file is overwritten.
    Damage(Damage),
    /// Somebody removes the directory.
    RemoveDirectory,
    /// A file of a newer version, or of another database, is put into the directory.
    ForeignFile {
        is_newer: bool,
    },
    /// A process is killed; with `operations`, within an operation of the disk, after this number of others.
    Kill {
        slot: usize,
        operations: Option<u32>,
    },
    /// All of them are, at once.
    PowerLoss {
        operations: u32,
    },
    /// A writer's thread panics.
    Panic {
        slot: usize,
    },
    /// A spool's thread panics.
    SpoolGone {
        slot: usize,
    },
    ShutDown {
        slot: usize,
        within: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DatabaseState {
    Works,
    Refuses,
    IsMisconfigured,
    Hangs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskState {
    Works,
    IsFull,
    Fails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockTarget {
    Files,
    Quarantine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    Pages,
    Line,
}

impl Planned {
    /// The plan of a seed.
    pub(super) fn all(seed: u64, settings: &Settings) -> Vec<Self> {
        let random = &mut Random::new(seed, 2);
        let mut plan: Vec<Self> = (0..settings.planned)
            .map(|_| Self {
                at: Time::START + random.micros(0, settings.faulty.as_micros() as u64),
                what: External::draw(random, settings),
            })
            .collect();
        // Several shutdowns close together: the second may be shorter.
        let repeated: Vec<Self> = plan
            .iter()
            .filter_map(|planned| match planned.what {
                External::ShutDown { slot, within } if random.chance(400) => Some(Self {
                    at: planned.at + within.mul_f64(0.4),
                    what: External::ShutDown {
                        slot,
                        within: random.millis(0, 400),
                    },
                }),
                _ => None,
            })
            .collect();
        plan.extend(repeated);
        plan.sort_by_key(|planned| planned.at);
        plan
    }
}

impl External {
    fn draw(random: &mut Random, settings: &Settings) -> Self {
        let Rates {
            outage,
            misconfiguration,
            hang,
            disk_full,
            disk_down,
            locked,
            damage,
            directory_removed,
            ..
        } = settings.rates;
        let Rates {
            foreign_file,
            kill,
            power_loss,
            panic,
            spool_gone,
            shutdown,
            burst,
            ..
        } = settings.rates;
        let slot = random.below(settings.slots as u64) as usize;
        let spool = |rate| if settings.spool.is_some() { rate } else { 0 };
        let long = random.millis(10, 2_500);
        let kinds = [
            (outage, Self::Database(DatabaseState::Refuses, long)),
            (
                misconfiguration,
                Self::Database(DatabaseState::IsMisconfigured, long),
            ),
            (hang, Self::Database(DatabaseState::Hangs, long)),
            (spool(disk_full), Self::Disk(DiskState::IsFull, long)),
            (spool(disk_down), Self::Disk(DiskState::Fails, long)),
            (
                spool(locked),
                Self::Lock(
                    random.pick(&[LockTarget::Files, LockTarget::Quarantine]),
                    random.millis(5, 800),
                ),
            ),
            (
                spool(damage),
                Self::Damage(random.pick(&[Damage::Pages, Damage::Line])),
            ),
            (spool(directory_removed), Self::RemoveDirectory),
            (
                spool(foreign_file),
                Self::ForeignFile {
                    is_newer: random.coin(),
                },
            ),
            (
                kill,
                Self::Kill {
                    slot,
                    operations: (settings.spool.is_some() && random.coin()).then(|| random.below(12) as u32),
                },
            ),
            (
                power_loss,
                Self::PowerLoss {
                    operations: random.below(12) as u32,
                },
            ),
            (panic, Self::Panic { slot }),
            (spool(spool_gone), Self::SpoolGone { slot }),
            (
                shutdown,
                Self::ShutDown {
                    slot,
                    within: random.millis(0, 1_500),
                },
            ),
            (
                burst,
                Self::Write {
                    slot,
                    calls: random.size(10, 60),
                },
            ),
        ];
        let all: u32 = kinds.iter().map(|(rate, _)| rate).sum();
        // Faults and calls in equal parts at most.
        let mut drawn = random.below(u64::from(all.max(500)) * 2) as u32;
        for (rate, kind) in kinds {
            if drawn < rate {
                return kind;
            }
            drawn -= rate;
        }
        Self::Write {
            slot,
            calls: random.pick(&[1, 1, 1, 2, 3, 5]),
        }
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Write { slot, calls } => write!(f, "{calls} calls to the writer in slot {slot}"),
            Self::Database(state, time) => write!(f, "for {time:?} the database {state:?}"),
            Self::Disk(state, time) => write!(f, "for {time:?} the disk {state:?}"),
            Self::Lock(target, time) => write!(f, "for {time:?} another process locks the {target:?}"),
            Self::Damage(what) => write!(f, "damage to {what:?} of a file"),
            Self::RemoveDirectory => f.write_str("the directory is removed"),
            Self::ForeignFile { is_newer: true } => f.write_str("a file of a newer version appears"),
            Self::ForeignFile { is_newer: false } => f.write_str("a file of another database appears"),
            Self::Kill {
                slot,
                operations: None,
            } => write!(f, "kill of the process in slot {slot}"),
            Self::Kill {
                slot,
                operations: Some(after),
            } => {
                write!(
                    f,
                    "kill of the process in slot {slot} within its disk operation {after} from now"
                )
            }
            Self::PowerLoss { operations } => {
                write!(f, "loss of power within disk operation {operations} from now")
            }
            Self::Panic { slot } => write!(f, "panic of the writer's thread in slot {slot}"),
            Self::SpoolGone { slot } => write!(f, "panic of the spool's thread in slot {slot}"),
            Self::ShutDown { slot, within } => write!(f, "shutdown of slot {slot} within {within:?}"),
        }
    }
}

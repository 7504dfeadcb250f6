//! Tests of single decisions of the core, event by event.

mod ending;
mod routes;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::routing::Route;
use super::{
    Action, Config, Core, Event, Lane, Limits, Notice, Record, RetryPolicy, SinkError, SinkErrorKind,
    SpoolMode, Taken, View, Wait, Written,
};
use crate::spool::{CopyId, SpoolFailure, SpoolId, SpoolReply, SpoolRequest, SpooledBatch, Ticket};
use crate::{DropReason, Fate, Loss, Row, SeqRange, Size, Time};

const WRITER: Uuid = Uuid::from_u128(1);
const SPILL_AFTER: Duration = Duration::from_secs(2);
const ENTRY_BYTES: usize = 10;

/// An entry by its number, or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TestRow {
    Entry(u64),
    Record,
    StopRecord,
}

impl Row for TestRow {
    fn number(&self) -> Option<(Uuid, u64)> {
        match self {
            Self::Entry(number) => Some((WRITER, *number)),
            Self::Record | Self::StopRecord => None,
        }
    }

    fn stopped_writer(&self) -> Option<Uuid> {
        (*self == Self::StopRecord).then_some(WRITER)
    }
}

type Actions = Vec<Action<TestRow>>;

/// A core with its queue, ledger and clock. The database and the spool answer when a test says so.
struct Driver {
    core: Core<TestRow>,
    now: Time,
    queue: VecDeque<u64>,
    held: Size,
    submitted: u64,
    fates: BTreeMap<u64, Fate>,
    has_waiters: bool,
    is_closed: bool,
}

impl Driver {
    fn new(spool: Option<SpoolMode>, lanes: usize, entries: usize) -> Self {
        let bound = Size {
            entries,
            bytes: entries * ENTRY_BYTES,
        };
        let (retry, limits) = (RetryPolicy::default(), Limits::default());
        Self {
            core: Core::new(Config {
                writer: WRITER,
                lanes,
                bound,
                spool,
                retry,
                limits,
                seed: 1,
            }),
            now: Time::after(Duration::from_secs(1)),
            queue: VecDeque::new(),
            held: Size::default(),
            submitted: 0,
            fates: BTreeMap::new(),
            has_waiters: true,
            is_closed: false,
        }
    }

    /// A writer whose first entry, and the record of its start with it, is committed.
    fn started(spool: Option<SpoolMode>, lanes: usize, entries: usize) -> Self {
        let mut driver = Self::new(spool, lanes, entries);
        let lane = only(&sends(&driver.push(1)));
        if spool == Some(SpoolMode::WriteAhead) {
            driver.on(Event::Spool(SpoolReply::Appended {
                copy: CopyId(1),
                result: Ok(at(1)),
            }));
        }
        driver.commit(lane);
        assert_eq!(
            (driver.fates.get(&1), driver.held),
            (Some(&Fate::Committed), Size::default())
        );
        driver
    }

    fn view(&self) -> View {
        let through = |is_done: fn(&Fate) -> bool| {
            (1..)
                .take_while(|number| self.fates.get(number).is_some_and(is_done))
                .count() as u64
        };
        View {
            held: self.held,
            submitted: self.submitted,
            is_closed: self.is_closed,
            has_carried: false,
            has_waiters: self.has_waiters,
            settled_through: through(|_| true),
            resolved_through: through(|fate| *fate != Fate::Spooled),
        }
    }

    /// Returns what the core asks for; the queue answers at once.
    fn on(&mut self, event: Event<TestRow>) -> Actions {
        let (mut actions, mut next) = (Vec::new(), Some(event));
        while let Some(event) = next.take() {
            let (mut out, view) = (Vec::new(), self.view());
            self.core.on(event, &view, self.now, &mut out);
            for action in &out {
                match action {
                    Action::Settle { ranges, fate } => {
                        let numbers = ranges.iter().flat_map(|range| range.first..=range.last);
                        self.fates.extend(numbers.map(|number| (number, fate.clone())));
                    }
                    Action::Release(size) => self.held -= *size,
                    Action::Take { records, entries } => next = Some(self.take(records, *entries)),
                    _ => {}
                }
            }
            actions.append(&mut out);
        }
        actions
    }

    fn take(&mut self, records: &[Record<TestRow>], entries: bool) -> Event<TestRow> {
        let numbers = if entries {
            std::mem::take(&mut self.queue)
        } else {
            VecDeque::new()
        };
        let size = size_of(numbers.len());
        let record = |record: &Record<_>| match record {
            Record::Stopped { .. } => TestRow::StopRecord,
            _ => TestRow::Record,
        };
        let rows = records
            .iter()
            .map(record)
            .chain(numbers.into_iter().map(TestRow::Entry))
            .collect();
        Event::Taken(Taken { rows, size })
    }

    fn push(&mut self, entries: usize) -> Actions {
        for _ in 0..entries {
            self.submitted += 1;
            self.queue.push_back(self.submitted);
        }
        self.held += size_of(entries);
        self.on(Event::Woken)
    }

    /// An entry is dropped.
    fn lose(&mut self, reason: DropReason) -> Actions {
        self.submitted += 1;
        self.fates.insert(self.submitted, Fate::Dropped(reason.clone()));
        let range = SeqRange {
            first: self.submitted,
            last: self.submitted,
        };
        self.on(Event::Lost(vec![Loss::of(range, &reason)]))
    }

    fn commit(&mut self, lane: Lane) -> Actions {
        self.on(Event::Written {
            lane,
            result: Ok(Written::default()),
        })
    }

    fn fail(&mut self, lane: Lane, kind: SinkErrorKind) -> Actions {
        let error = SinkError {
            kind,
            reason: "test".to_owned(),
            sqlstate: None,
        };
        self.on(Event::Written {
            lane,
            result: Err(error),
        })
    }

    fn spool(&mut self, reply: SpoolReply<TestRow>) -> Actions {
        self.on(Event::Spool(reply))
    }

    /// The spool answers a read with one batch.
    fn found(&mut self, batch: i64, rows: Vec<TestRow>) -> Actions {
        self.spool(SpoolReply::Read(Some(SpooledBatch {
            ids: vec![at(batch)],
            rows,
        })))
    }

    fn pass(&mut self, time: Duration) -> Actions {
        self.now = self.now + time;
        self.on(Event::Woken)
    }

    fn close(&mut self, after: Duration) -> Actions {
        self.is_closed = true;
        self.on(Event::Close {
            deadline: self.now + after,
        })
    }

    fn route(&self) -> Route {
        self.core.route(&self.view(), self.now)
    }

    fn wait(&mut self) -> Wait {
        self.core.wait(&self.view(), self.now)
    }

    /// Until when the writer parks, after it has looked at its empty queue often enough.
    fn parked_until(&mut self) -> Time {
        let waits = (0..100).map(|_| self.wait()).collect::<Vec<_>>();
        let parked = waits.iter().find_map(|wait| {
            if let Wait::Park(at) = wait {
                Some(*at)
            } else {
                None
            }
        });
        parked.expect("an idle writer parks")
    }
}

fn size_of(entries: usize) -> Size {
    Size {
        entries,
        bytes: entries * ENTRY_BYTES,
    }
}

fn at(batch: i64) -> SpoolId {
    SpoolId { file: 1, batch }
}

fn only<T: Copy + std::fmt::Debug>(all: &[T]) -> T {
    assert_eq!(all.len(), 1, "{all:?}");
    all[0]
}

fn sends(actions: &Actions) -> Vec<Lane> {
    let lane = |action: &_| {
        if let Action::Send { lane, .. } = action {
            Some(*lane)
        } else {
            None
        }
    };
    actions.iter().filter_map(lane).collect()
}

fn requests(actions: &Actions) -> impl Iterator<Item = &SpoolRequest<TestRow>> {
    actions.iter().filter_map(|action| {
        if let Action::Spool(request) = action {
            Some(request)
        } else {
            None
        }
    })
}

fn appends(actions: &Actions) -> Vec<CopyId> {
    let copy = |request: &_| {
        if let SpoolRequest::Append { copy, .. } = request {
            Some(*copy)
        } else {
            None
        }
    };
    requests(actions).filter_map(copy).collect()
}

fn tickets(actions: &Actions) -> Vec<Ticket> {
    let ticket = |request: &_| match request {
        SpoolRequest::Quarantine { ticket, .. } => Some(*ticket),
        _ => None,
    };
    requests(actions).filter_map(ticket).collect()
}

fn has_read(actions: &Actions) -> bool {
    requests(actions).any(|request| matches!(request, SpoolRequest::Read))
}

fn has_rewind(actions: &Actions) -> bool {
    requests(actions).any(|request| matches!(request, SpoolRequest::Rewind))
}

fn notices(actions: &Actions) -> Vec<Notice> {
    let notice = |action: &_| {
        if let Action::Notice(notice) = action {
            Some(notice.clone())
        } else {
            None
        }
    };
    actions.iter().filter_map(notice).collect()
}

fn has_stop_record(actions: &Actions) -> bool {
    let is_stop = |record: &Record<_>| matches!(record, Record::Stopped { .. });
    actions
        .iter()
        .any(|action| matches!(action, Action::Take { records, .. } if records.iter().any(is_stop)))
}

fn disk_full() -> SpoolFailure {
    SpoolFailure::Io("no space".to_owned())
}

//! The contract between the core and its driver: the requests that the core may make, whatever is true of
//! the rows.

use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{Model, SaidFate};
use super::row::SimRow;
use crate::spool::{SpoolId, SpoolReply, SpoolRequest};
use crate::writer::{Action, Attempt, Lane, RetryPolicy, SinkErrorKind};
use crate::{Size, Time};

/// The state of one writer's core as its driver sees it.
#[derive(Debug)]
pub(super) struct Contract {
    writer: u32,
    lanes: Vec<bool>,
    max_appends: usize,
    appends: usize,
    is_reading: bool,
    is_spool_gone: bool,
    /// The batches that the core holds in the spool, with their rows.
    held: BTreeMap<SpoolId, Vec<u32>>,
    appending: BTreeMap<u64, Vec<u32>>,
    /// What was taken from the queue and not released.
    pub(super) taken: Size,
    released: usize,
    /// True while no batch was halved: its parts release what each counts for, more or less.
    is_release_exact: bool,
    outage: Option<Outage>,
    retry: RetryPolicy,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    failed_at: Time,
    probe: Option<Lane>,
}

fn keys(rows: &[SimRow]) -> Vec<u32> {
    rows.iter().map(|row| row.key).collect()
}

impl Contract {
    pub(super) fn new(writer: u32, lanes: usize, max_appends: usize, retry: RetryPolicy) -> Self {
        Self {
            writer,
            lanes: vec![false; lanes],
            max_appends,
            appends: 0,
            is_reading: false,
            is_spool_gone: false,
            held: BTreeMap::new(),
            appending: BTreeMap::new(),
            taken: Size::default(),
            released: 0,
            is_release_exact: true,
            outage: None,
            retry,
        }
    }

    /// A lane is about to answer.
    pub(super) fn on_written(&mut self, lane: Lane, error: Option<SinkErrorKind>, now: Time) {
        self.lanes[lane] = false;
        self.is_release_exact &= error != Some(SinkErrorKind::RowRejected);
        match (error, self.outage) {
            (None | Some(SinkErrorKind::RowRejected), _) => self.outage = None,
            (Some(_), Some(outage)) if outage.probe != Some(lane) => {}
            (Some(_), _) => {
                self.outage = Some(Outage {
                    failed_at: now,
                    probe: None,
                })
            }
        }
    }

    /// The spool is about to answer.
    pub(super) fn on_reply(&mut self, reply: &SpoolReply<SimRow>, model: &mut Model) {
        match reply {
            SpoolReply::Appended { copy, result } => {
                self.appends = self.appends.saturating_sub(1);
                if let (Some(rows), Ok(id)) = (self.appending.remove(&copy.0), result) {
                    self.hold(*id, rows, model);
                }
            }
            SpoolReply::Read(found) => {
                self.is_reading = false;
                let Some(batch) = found else { return };
                for row in &batch.rows {
                    model.row_mut(row.key).is_sent = true;
                }
                // Of which batch each row is, nobody needs to know.
                let mut rows = keys(&batch.rows);
                for id in &batch.ids {
                    self.hold(*id, std::mem::take(&mut rows), model);
                }
            }
            SpoolReply::Quarantined { .. } | SpoolReply::Adopted | SpoolReply::Notice(_) => {}
        }
    }

    fn hold(&mut self, id: SpoolId, rows: Vec<u32>, model: &mut Model) {
        let is_new = self.held.insert(id, rows).is_none();
        model.demand(is_new, "the spool hands out no batch twice", || format!("{id:?}"));
    }

    pub(super) fn on_spool_gone(&mut self) {
        self.is_spool_gone = true;
        self.held.clear();
        self.appending.clear();
    }

    /// The core has decided what to ask for, with what it knew then.
    pub(super) fn on_decisions(&mut self, actions: &[Action<SimRow>], model: &mut Model, now: Time) {
        for action in actions {
            match action {
                Action::Send { lane, rows, attempt } => self.on_send(*lane, rows, *attempt, model, now),
                Action::Spool(request) => {
                    model.demand(
                        !self.is_spool_gone,
                        "nothing is asked of a spool that is gone",
                        || super::history::request(request),
                    );
                }
                _ => {}
            }
        }
    }

    /// Something that the core asked for is carried out.
    pub(super) fn on_action(&mut self, action: &Action<SimRow>, model: &mut Model) {
        match action {
            Action::Spool(request) => self.on_request(request, model),
            Action::Release(size) => {
                let is_taken = size.entries <= self.taken.entries && size.bytes <= self.taken.bytes;
                model.demand(is_taken, "no more is released than was taken", || {
                    format!("{size:?}")
                });
                self.taken = self.taken.saturating_sub(*size);
                self.released += size.entries;
                let settled = model.writers[self.writer as usize].settled_taken;
                let is_settled = !self.is_release_exact || self.released <= settled;
                model.demand(
                    is_settled,
                    "an entry is settled before its memory is released",
                    || {
                        format!(
                            "writer {} released {} entries and settled {settled}",
                            self.writer, self.released
                        )
                    },
                );
            }
            Action::Take { .. }
            | Action::Send { .. }
            | Action::Settle { .. }
            | Action::Count(..)
            | Action::Notice(_) => {}
        }
    }

    fn on_send(&mut self, lane: Lane, rows: &[SimRow], attempt: Attempt, model: &mut Model, now: Time) {
        let is_busy = std::mem::replace(&mut self.lanes[lane], true);
        model.demand(!is_busy, "a lane has one batch at a time", || {
            format!("lane {lane}")
        });
        model.demand(!rows.is_empty(), "no empty batch is sent", || {
            format!("lane {lane}")
        });
        for row in rows {
            let was_sent = std::mem::replace(&mut model.row_mut(row.key).is_sent, true);
            model.demand(
                attempt == Attempt::Retry || !was_sent,
                "a row is sent as new once",
                || format!("{}/{} (id {})", row.writer, row.seq, row.id),
            );
        }
        if let Some(outage) = &mut self.outage {
            let before = outage.probe.replace(lane);
            model.demand(before.is_none(), "one probe at a time during an outage", || {
                format!("lane {lane} beside {before:?}")
            });
            let at_least = if self.retry.first_pause == Duration::MAX {
                self.retry.first_pause
            } else {
                self.retry.first_pause.min(self.retry.longest_pause) / 2
            };
            model.demand(
                now - outage.failed_at >= at_least,
                "a failure is followed by a pause",
                || format!("{:?} instead of {at_least:?}", now - outage.failed_at),
            );
        }
    }

    fn on_request(&mut self, request: &SpoolRequest<SimRow>, model: &mut Model) {
        if self.is_spool_gone {
            return;
        }
        match request {
            SpoolRequest::Append { copy, rows } => {
                self.appends += 1;
                let (appends, max) = (self.appends, self.max_appends);
                model.demand(appends <= max, "appends that wait are bounded", || {
                    format!("{appends} of {max}")
                });
                self.appending.insert(copy.0, keys(rows));
            }
            SpoolRequest::Read => {
                let was_reading = std::mem::replace(&mut self.is_reading, true);
                model.demand(!was_reading, "one read at a time", String::new);
            }
            SpoolRequest::Remove(ids) => {
                for key in self.let_go(ids, model) {
                    self.check_removal(key, model);
                }
            }
            SpoolRequest::Return { batches, .. } => {
                for key in self.let_go(batches, model) {
                    let row = model.row(key);
                    let is_settled = row.said.is_some() || row.seq == 0 || row.writer != self.writer;
                    if !is_settled {
                        let row = format!("{row:?}");
                        model.report("what is left to the spool is settled", || row);
                    }
                }
            }
            SpoolRequest::Rewind | SpoolRequest::Quarantine { .. } => {}
        }
    }

    fn let_go(&mut self, ids: &[SpoolId], model: &mut Model) -> Vec<u32> {
        let mut rows = Vec::new();
        for id in ids {
            match self.held.remove(id) {
                Some(held) => rows.extend(held),
                None => model.report("only held batches are removed or returned", || format!("{id:?}")),
            }
        }
        rows
    }

    /// A removal is asked for after the entries are settled for good.
    fn check_removal(&self, key: u32, model: &mut Model) {
        let row = model.row(key);
        let is_own = row.seq > 0 && row.writer == self.writer;
        let is_final = !is_own || row.said.is_some_and(|said| said != SaidFate::Spooled);
        if !is_final {
            let row = format!("{}/{}: {row:?}", row.writer, row.seq);
            model.report("an entry is settled before its copy is removed", || row);
        }
    }

    /// True if the database accepted the last batch, and answers.
    pub(super) fn is_accepted(&self) -> bool {
        self.outage.is_none() && !self.lanes.contains(&true)
    }

    /// How many batches of the spool the core holds.
    pub(super) fn holds(&self) -> usize {
        self.held.len()
    }
}

//! What does the writer's thread know of its spool?

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use audit_core::spool::{Again, CopyId, SpoolId, SpoolReply, SpoolRequest, Ticket};
use db_schema::NewAuditLog;
use tokio::sync::mpsc::UnboundedReceiver;

use super::hand::Kept;
use super::ledger::Range;
use crate::audit::row::LogRow;
use crate::audit::sink::Rows;
use crate::audit::spool::{Spool, log_notice};

/// How long a spool that failed is left alone.
const BROKEN_FOR: Duration = Duration::from_secs(5);

/// Appends that wait for the disk at a time: while two are synced together the next two are made.
pub(super) const APPENDS: usize = 4;

/// Batches that are left out at a time, about.
const LEFT_OUT: usize = 1_000;

/// What the spool's thread answers.
pub(super) enum Answer {
    Appended { token: u64, result: Result<SpoolId, String> },
    Oldest(Option<(Vec<SpoolId>, Vec<NewAuditLog>)>),
    SetAside { token: u64, sqlstate: Option<String>, result: Result<(), String> },
    Adopted,
}

/// A spool on its way to the writer's thread.
pub(super) struct Started {
    pub(super) spool: Spool,
    pub(super) answers: UnboundedReceiver<SpoolReply<LogRow>>,
    /// True for `WriteAhead`.
    pub(super) ahead: bool,
}

/// The spool's end in the writer's thread.
pub(super) struct Spooling {
    spool: Spool,
    answers: UnboundedReceiver<SpoolReply<LogRow>>,
    /// True for `WriteAhead`: every batch goes there first.
    pub(super) ahead: bool,
    /// Appends that are not answered yet.
    pub(super) asked: HashMap<u64, (Rc<Kept>, Vec<Range>)>,
    /// True if there may be batches in the spool that are not in memory and that it was not asked for.
    pub(super) backlog: bool,
    /// True while the oldest batch is being read.
    pub(super) reading: bool,
    /// Batches that the database did not take for a lasting reason, while it took no other either:
    /// the next is tried in their place.
    pub(super) left_out: Vec<SpoolId>,
    sqlstates: HashMap<u64, Option<String>>,
    broken_until: Option<Instant>,
    broken: bool,
    /// True from the first entry that lies in the spool alone until all are replayed.
    pub(super) in_use: bool,
}

impl Spooling {
    pub(super) fn new(Started { spool, answers, ahead }: Started) -> Self {
        Self {
            spool,
            answers,
            ahead,
            asked: HashMap::new(),
            backlog: false,
            reading: false,
            left_out: Vec::new(),
            sqlstates: HashMap::new(),
            broken_until: None,
            broken: false,
            in_use: false,
        }
    }

    /// False for a while after it failed.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.broken_until.is_none_or(|until| until <= now)
    }

    /// True if an append may be asked for.
    pub(super) fn has_room(&self, now: Instant) -> bool {
        self.is_usable(now) && self.asked.len() < APPENDS
    }

    /// True from a failure until it takes a batch again.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn broken_until(&self) -> Option<Instant> {
        self.broken_until
    }

    pub(super) fn works(&mut self) {
        if std::mem::take(&mut self.broken) {
            log::warn!("audit: the spool takes entries again");
        }
        self.broken_until = None;
    }

    pub(super) fn fails(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.broken, true) {
            log::error!("audit: the spool does not take entries, they wait in memory alone: {reason}");
        }
        self.broken_until = Some(Instant::now() + BROKEN_FOR);
    }

    pub(super) fn append(&self, token: u64, rows: &Rows) {
        let rows = rows.iter().cloned().map(LogRow).collect();
        self.spool.send(SpoolRequest::Append { copy: CopyId(token), rows: std::sync::Arc::new(rows) });
    }

    pub(super) fn read(&self) {
        self.spool.send(SpoolRequest::Read);
    }

    pub(super) fn remove(&self, ids: &[SpoolId]) {
        self.spool.send(SpoolRequest::Remove(ids.to_vec()));
    }

    pub(super) fn put_back(&self, ids: &[SpoolId]) {
        let is_left_out = ids.iter().any(|id| self.left_out.contains(id));
        let again = if is_left_out { Again::AfterOthers } else { Again::InOrder };
        self.spool.send(SpoolRequest::Return { batches: ids.to_vec(), again });
    }

    pub(super) fn set_aside(&mut self, token: u64, rows: &Rows, reason: String, sqlstate: Option<String>) {
        let rows = std::sync::Arc::new(rows.iter().cloned().map(LogRow).collect());
        self.sqlstates.insert(token, sqlstate.clone());
        self.spool.send(SpoolRequest::Quarantine { ticket: Ticket(token), rows, reason, sqlstate });
    }

    fn answer(&mut self, reply: SpoolReply<LogRow>) -> Option<Answer> {
        Some(match reply {
            SpoolReply::Appended { copy, result } => {
                Answer::Appended { token: copy.0, result: result.map_err(|failure| failure.to_string()) }
            }
            SpoolReply::Read(batch) => {
                let rows = |rows: Vec<LogRow>| rows.into_iter().map(|row| row.0).collect();
                Answer::Oldest(batch.map(|batch| (batch.ids, rows(batch.rows))))
            }
            SpoolReply::Quarantined { ticket, result } => Answer::SetAside {
                token: ticket.0,
                sqlstate: self.sqlstates.remove(&ticket.0).flatten(),
                result: result.map_err(|failure| failure.to_string()),
            },
            SpoolReply::Adopted => Answer::Adopted,
            SpoolReply::Notice(notice) => {
                log_notice(&notice);
                return None;
            }
        })
    }

    /// Tries another batch before this one again.
    pub(super) fn leave_out(&mut self, ids: &[SpoolId]) {
        if self.left_out.len() > LEFT_OUT {
            self.leave_none_out();
        }
        self.left_out.extend(ids);
    }

    /// Tries those again that were left out.
    pub(super) fn leave_none_out(&mut self) {
        // It may be asked at this moment for all but those.
        self.backlog |= !self.left_out.is_empty();
        if !self.left_out.is_empty() {
            self.spool.send(SpoolRequest::Rewind);
        }
        self.left_out.clear();
    }

    /// Notes that entries lie in the spool alone; says so once.
    pub(super) fn is_used(&mut self) {
        self.backlog = true;
        if !std::mem::replace(&mut self.in_use, true) {
            log::warn!("audit: entries go to the spool");
        }
    }

    /// Notes that everything was replayed; says so once.
    pub(super) fn is_replayed(&mut self) {
        if std::mem::take(&mut self.in_use) {
            log::warn!("audit: the spool is replayed");
        }
    }

    /// Waits for the spool's thread to close its files, once nothing more is asked of it.
    pub(super) async fn close(self, limit: Duration) {
        let Self { spool, mut answers, .. } = self;
        drop(spool);
        let closed = async { while answers.recv().await.is_some() {} };
        if tokio::time::timeout(limit, closed).await.is_err() {
            log::error!("audit: the disk of the spool does not answer");
        }
    }
}

/// The spool's next answer; never, if there is no spool. None if its thread is gone.
pub(super) async fn next(spooling: &mut Option<Spooling>) -> Option<Answer> {
    match spooling {
        Some(spooling) => loop {
            let reply = spooling.answers.recv().await?;
            if let Some(answer) = spooling.answer(reply) {
                return Some(answer);
            }
        },
        None => std::future::pending().await,
    }
}

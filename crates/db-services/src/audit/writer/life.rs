//! What does a writer put on record about itself?
//!
//! Rows with reserved actions, `writer_id` and no `writer_seq`, so that [`super::super::verify`] can
//! tell who lost what. Instants and counts handed in, no clock of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use compact_str::format_compact;
use db_schema::{JsonText, NewAuditLog};
use serde_json::{Value, json};
use uuid::Uuid;

use super::DropReason;
use super::ledger::Range;
use crate::audit::verify::action;

/// How often a writer that writes says that it lives.
const ALIVE_EVERY: Duration = Duration::from_secs(300);

/// How long losses gather before they are declared without an entry to go with.
const DECLARE_AFTER: Duration = Duration::from_secs(1);

/// Ranges that are kept apart until they are declared; beyond it the two latest become one.
const RANGES: usize = 4_096;

/// Ranges in one row: about 25 KiB.
const RANGES_IN_A_ROW: usize = 1_000;

/// Entries that a writer was given and gave up.
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
    /// True if everything from first to last was lost.
    fn is_whole(&self) -> bool {
        self.count == self.last + 1 - self.first
    }
}

/// What is called with each loss.
pub(super) type OnLoss = Arc<dyn Fn(&Loss) + Send + Sync>;

/// Losses that are not declared yet.
#[derive(Default)]
pub(super) struct Losses {
    list: Vec<Loss>,
}

impl Losses {
    /// Notes the loss of a whole range.
    pub(super) fn note(&mut self, Range { first, last }: Range, reason: &DropReason) {
        self.add(Loss { first, last, count: last + 1 - first, reason: reason.clone() });
    }

    fn add(&mut self, new: Loss) {
        let full = self.list.len() >= RANGES;
        match self.list.iter_mut().rev().find(|loss| loss.reason.label() == new.reason.label()) {
            Some(loss) if full || (loss.last + 1 == new.first && loss.is_whole() && new.is_whole()) => {
                loss.first = loss.first.min(new.first);
                loss.last = loss.last.max(new.last);
                loss.count += new.count;
            }
            _ => self.list.push(new),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Loss> {
        std::mem::take(&mut self.list)
    }
}

/// What a writer says of itself, and when it last did.
pub(super) struct Life {
    writer_id: Uuid,
    service: String,
    /// What the first row tells.
    started: Value,
    last_said: Option<Instant>,
    losses: Losses,
    /// Other rows to go with the next batch.
    due: Vec<NewAuditLog>,
    due_since: Option<Instant>,
    stopped: bool,
}

impl Life {
    pub(super) fn new(writer_id: Uuid, service: String, mut started: Value) -> Self {
        started["service"] = json!(service);
        started["host"] = json!(gethostname::gethostname().to_string_lossy());
        started["version"] = json!(env!("CARGO_PKG_VERSION"));
        started["process"] = json!(std::process::id());
        Self {
            writer_id,
            service,
            started,
            last_said: None,
            losses: Losses::default(),
            due: Vec::new(),
            due_since: None,
            stopped: false,
        }
    }

    /// The rows to write with a batch of entries.
    pub(super) fn with_entries(&mut self, now: Instant, resolved_through: u64) -> Vec<NewAuditLog> {
        let mut rows = Vec::new();
        match self.last_said {
            None => rows.push(self.row(action::STARTED, self.started.clone())),
            Some(last) if now.duration_since(last) >= ALIVE_EVERY => {
                rows.push(self.row(action::ALIVE, json!({"resolved_through": resolved_through})));
            }
            Some(_) => return self.take_due(),
        }
        self.last_said = Some(now);
        rows.append(&mut self.take_due());
        rows
    }

    /// Notes losses, to be declared.
    pub(super) fn lost(&mut self, losses: Vec<Loss>, now: Instant) {
        losses.into_iter().for_each(|loss| self.losses.add(loss));
        self.due_since.get_or_insert(now);
    }

    /// Notes a refused entry, to be declared.
    pub(super) fn quarantined(&mut self, row: &NewAuditLog, sqlstate: Option<&str>, now: Instant) {
        let Some(seq) = row.writer_seq else { return };
        let refused = json!({
            "seq": seq,
            "sqlstate": sqlstate,
            "id": row.id,
            "created_at": row.created_at.to_rfc3339(),
        });
        self.due.push(self.row(action::QUARANTINED, refused));
        self.due_since.get_or_insert(now);
    }

    /// True if what is to be declared waited long enough for entries to go with.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due_since.map(|since| since + DECLARE_AFTER)
    }

    /// The last rows, once: all that is to be declared, and that the writer stopped. None if it never
    /// had an entry to write.
    pub(super) fn end(&mut self, last_seq: u64) -> Vec<NewAuditLog> {
        if self.stopped || last_seq == 0 {
            return Vec::new();
        }
        self.stopped = true;
        let mut rows = Vec::new();
        if self.last_said.is_none() {
            // Every entry was lost before the first batch: that is worth a beginning too.
            rows.push(self.row(action::STARTED, self.started.clone()));
        }
        rows.append(&mut self.take_due());
        rows.push(self.row(action::STOPPED, json!({"last_seq": last_seq})));
        rows
    }

    fn take_due(&mut self) -> Vec<NewAuditLog> {
        self.due_since = None;
        let mut rows = std::mem::take(&mut self.due);
        rows.extend(self.declarations());
        rows
    }

    /// The rows that declare the losses: for each reason one, or more where there are many ranges.
    fn declarations(&mut self) -> Vec<NewAuditLog> {
        let losses = self.losses.take();
        let mut labels: Vec<&str> = losses.iter().map(|loss| loss.reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        let mut rows = Vec::new();
        for label in labels {
            let same: Vec<&Loss> = losses.iter().filter(|loss| loss.reason.label() == label).collect();
            for some in same.chunks(RANGES_IN_A_ROW) {
                let range = |loss: &&Loss| match loss.is_whole() {
                    true => json!([loss.first, loss.last]),
                    false => json!([loss.first, loss.last, loss.count]),
                };
                let ranges: Vec<Value> = some.iter().map(range).collect();
                let count: u64 = some.iter().map(|loss| loss.count).sum();
                let declared = json!({"ranges": ranges, "count": count, "reason": label});
                rows.push(self.row(action::LOST, declared));
            }
        }
        rows
    }

    fn row(&self, action: &str, metadata: Value) -> NewAuditLog {
        let micros = Utc::now().timestamp_micros();
        NewAuditLog {
            id: Uuid::now_v7(),
            created_at: chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default(),
            tenant_id: None,
            actor_id: Some(self.service.as_str().into()),
            actor_type: Some("system".into()),
            on_behalf_of: None,
            action: action.into(),
            outcome: "success".into(),
            resource_type: Some("audit_writer".into()),
            resource_id: Some(format_compact!("{}", self.writer_id)),
            ip_address: None,
            user_agent: None,
            request_id: None,
            trace_id: None,
            operation_id: None,
            metadata: JsonText::from_text(metadata.to_string()),
            writer_id: Some(self.writer_id),
            writer_seq: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(first: u64, last: u64) -> Range {
        Range { first, last }
    }

    fn life() -> Life {
        Life::new(Uuid::now_v7(), "shop".to_owned(), json!({}))
    }

    fn actions(rows: &[NewAuditLog]) -> Vec<&str> {
        rows.iter().map(|row| row.action.as_str()).collect()
    }

    #[test]
    fn adjacent_losses_are_one_and_too_many_are_merged_with_their_count() {
        let mut losses = Losses::default();
        losses.note(range(1, 1), &DropReason::QueueFull);
        losses.note(range(2, 5), &DropReason::QueueFull);
        assert_eq!(losses.take(), [Loss { first: 1, last: 5, count: 5, reason: DropReason::QueueFull }]);
        for n in 0..10_000 {
            losses.note(range(2 * n + 1, 2 * n + 1), &DropReason::QueueFull);
        }
        let all = losses.take();
        assert_eq!(all.len(), RANGES);
        assert_eq!(all.iter().map(|loss| loss.count).sum::<u64>(), 10_000);
    }

    #[test]
    fn it_says_that_it_started_with_its_first_entries_and_later_that_it_lives() {
        let (mut life, now) = (life(), Instant::now());
        assert_eq!(actions(&life.with_entries(now, 0)), ["audit.writer_started"]);
        assert_eq!(actions(&life.with_entries(now + ALIVE_EVERY / 2, 10)), [""; 0]);
        let alive = life.with_entries(now + ALIVE_EVERY, 20);
        assert_eq!(actions(&alive), ["audit.writer_alive"]);
        assert_eq!(alive[0].metadata.as_str(), r#"{"resolved_through":20}"#);
        assert_eq!(actions(&life.end(25)), ["audit.writer_stopped"]);
        assert_eq!(life.end(25), [], "once");
    }

    #[test]
    fn losses_are_declared_in_rows_of_bounded_size() {
        let (mut life, now) = (life(), Instant::now());
        let losses: Vec<Loss> = (0..2_500)
            .map(|n| Loss {
                first: 3 * n + 1,
                last: 3 * n + 2,
                count: 2 - n % 2,
                reason: DropReason::QueueFull,
            })
            .collect();
        life.lost(losses, now);
        assert!(!life.is_due(now) && life.is_due(now + DECLARE_AFTER));
        let rows = life.with_entries(now, 0);
        assert_eq!(actions(&rows[1..]), ["audit.entries_lost"; 3]);
        let counts: u64 =
            rows[1..].iter().map(|row| row.metadata.parse().unwrap()["count"].as_u64().unwrap()).sum();
        assert_eq!(counts, 2_500 + 1_250);
        assert!(rows.iter().all(|row| row.metadata.as_str().len() < crate::audit::limits::METADATA_BYTES));
        assert_eq!(rows[1].metadata.parse().unwrap()["ranges"][1], json!([4, 5, 1]));
        assert!(!life.is_due(now + DECLARE_AFTER));
    }

    #[test]
    fn who_never_wrote_leaves_no_trace() {
        assert_eq!(life().end(0), []);
        assert_eq!(actions(&life().end(3)), ["audit.writer_started", "audit.writer_stopped"]);
    }
}

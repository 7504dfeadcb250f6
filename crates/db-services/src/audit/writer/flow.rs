//! Where does a batch go: to a lane, to the spool, or to both?

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use db_schema::NewAuditLog;

use super::batch;
use super::hand::{Batch, Kept, Place, ranges};
use super::lock;
use super::queue::Weight;
use super::receipt::{Delivery, DropReason};
use super::spooling::Answer;
use super::worker::{BATCH, LINGER, Worker};
use audit_core::spool::SpoolId;

/// Batches of `WriteAhead` that wait in memory for a lane; further ones wait in the spool alone.
const READY: usize = 8;

/// Batches of the spool in memory at a time.
const REPLAYED: usize = 2;

/// Batches that are tried in turn while the database takes none for a lasting reason.
const TRIED: usize = 4;

/// Where new batches go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Lane,
    Spool,
    Both,
}

impl Worker {
    /// True while new entries go to the spool instead of to the database.
    fn diverts(&self, now: Instant) -> bool {
        let Some(spooling) = &self.spooling else { return false };
        if !spooling.is_usable(now) {
            return false;
        }
        let lanes_hang = self.idle.is_empty()
            && self
                .hand
                .batches
                .values()
                .filter(|batch| batch.place == Place::Lane)
                .all(|batch| now.duration_since(batch.since) >= self.policy.spill_after);
        let down = self.health.down_for(now).is_some_and(|down| down >= self.policy.spill_after);
        let ending =
            self.closing.as_ref().is_some_and(|closing| closing.divert_at <= now || self.health.is_down());
        down || lanes_hang || ending || self.shared.queue.is_half_full()
    }

    fn way(&self, now: Instant) -> Way {
        match &self.spooling {
            _ if self.diverts(now) => Way::Spool,
            Some(spooling) if spooling.ahead && spooling.is_usable(now) => Way::Both,
            _ => Way::Lane,
        }
    }

    /// True if a further batch would be taken from the queue.
    pub(super) fn takes_more(&self, now: Instant) -> bool {
        match (self.way(now), &self.spooling) {
            // What the spool did not take waits in memory as it is: no more of that before it does.
            (Way::Spool | Way::Both, Some(spooling)) => {
                spooling.has_room(now) && !(spooling.is_broken() && self.hand.has_unkept())
            }
            _ if self.health.is_set_up_wrong() => {
                self.health.allows(now) && self.hand.batches.len() < TRIED && !self.idle.is_empty()
            }
            _ => !self.health.is_down() && self.hand.ready.is_empty() && !self.idle.is_empty(),
        }
    }

    /// Takes what is due from the queue.
    pub(super) fn take_batches(&mut self, now: Instant) {
        while self.takes_more(now) && self.is_due(now) {
            let taken = self.gatherer.next(&self.shared.queue);
            if taken.entries.is_empty() {
                // Counted but not pushed yet: the next look finds it.
                return;
            }
            if lock(&self.shared.ledger).is_awaited() {
                self.returning.came_back(now);
            }
            let since = self.gathering_since.take().unwrap_or(now);
            let way = self.way(now);
            let batch = self.prepare(taken, since, now);
            self.send_off(batch, way);
            if way == Way::Lane {
                self.dispatch(now);
            }
        }
        let way = self.way(now);
        if self.life.is_due(now) && way != Way::Spool && !self.health.is_down() {
            let rows = self.life.with_entries(now, self.resolved_through());
            let batch = self.batch(rows, Weight::default(), now);
            self.send_off(batch, way);
        }
    }

    fn send_off(&mut self, batch: Batch, way: Way) {
        let token = self.hand.add(batch);
        if way != Way::Lane {
            self.append(token);
        }
        if way != Way::Spool {
            self.hand.ready.push_back(token);
        } else if let Some(batch) = self.hand.batches.get_mut(&token) {
            batch.place = Place::Spool;
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let waiting = self.waiting();
        if waiting.entries == 0 {
            self.gathering_since = None;
            return false;
        }
        let since = *self.gathering_since.get_or_insert(now);
        let enough = waiting.entries >= BATCH.entries
            || waiting.bytes >= BATCH.bytes
            || self.gatherer.carried().is_some();
        let awaited =
            || !self.returning.more_than(waiting.entries, now) && lock(&self.shared.ledger).is_awaited();
        let urgent = enough || self.shared.queue.is_closed() || awaited();
        urgent || now.duration_since(since) >= LINGER
    }

    /// Makes the rows of a batch: here, on the writer's thread, limits are applied. The writer's own rows go with it.
    fn prepare(&mut self, taken: batch::Batch, since: Instant, now: Instant) -> Batch {
        let weight = taken.weight();
        let mut rows = self.life.with_entries(now, self.resolved_through());
        rows.reserve(taken.entries.len());
        for (seq, entry) in taken.entries {
            let mut row = NewAuditLog::from(entry);
            row.writer_id = Some(self.shared.writer_id);
            row.writer_seq = i64::try_from(seq).ok();
            rows.push(row);
        }
        self.hand.taken.entries += weight.entries;
        self.hand.taken.bytes += weight.bytes;
        self.batch(rows, weight, since)
    }

    pub(super) fn batch(&self, rows: Vec<NewAuditLog>, weight: Weight, since: Instant) -> Batch {
        Batch {
            ranges: ranges(&rows, self.shared.writer_id),
            rows: Arc::new(rows),
            weight,
            since,
            repeat: false,
            replayed: false,
            place: Place::Ready,
            kept: None,
        }
    }

    /// Puts the last rows on their way, whichever is open.
    pub(super) fn send_last(&mut self, rows: Vec<NewAuditLog>, now: Instant) {
        let batch = self.batch(rows, Weight::default(), now);
        let way = self.way(now);
        self.send_off(batch, way);
    }

    /// Asks for a copy of a batch in the spool.
    fn append(&mut self, token: u64) {
        let (Some(spooling), Some(batch)) = (&mut self.spooling, self.hand.batches.get_mut(&token)) else {
            return;
        };
        let kept = Rc::new(Kept { parts: 1.into(), ..Kept::default() });
        spooling.asked.insert(token, (Rc::clone(&kept), batch.ranges.clone()));
        spooling.append(token, &batch.rows);
        batch.kept = Some(kept);
    }

    /// Moves to the spool what has waited too long for the database.
    pub(super) fn spill(&mut self, now: Instant) {
        if !self.diverts(now) {
            return;
        }
        let mut tokens: Vec<u64> = self.hand.batches.keys().copied().collect();
        tokens.sort_unstable();
        for token in tokens {
            let has_room = self.spooling.as_ref().is_some_and(|spooling| spooling.has_room(now));
            let Some(batch) = self.hand.batches.get(&token) else { continue };
            let overdue =
                self.closing.is_some() || now.duration_since(batch.since) >= self.policy.spill_after;
            match (batch.place, &batch.kept) {
                // What was read from the spool is the next to be tried.
                (Place::Ready, Some(kept))
                    if kept.is_synced() && kept.parts.get() == 1 && !batch.replayed =>
                {
                    self.hand.ready.retain(|ready| *ready != token);
                    self.back_to_spool(token);
                }
                // A lane that hangs has it too; whichever is done first settles it.
                (Place::Ready | Place::Lane, None) if overdue && has_room => self.append(token),
                _ => {}
            }
        }
    }

    /// Gives up the copy in memory of a batch that lies in the spool.
    pub(super) fn back_to_spool(&mut self, token: u64) {
        let Some(batch) = self.hand.batches.remove(&token) else { return };
        self.shared.settle(&batch.ranges, &Delivery::Spooled);
        self.hand.taken.entries -= batch.weight.entries;
        self.hand.taken.bytes -= batch.weight.bytes;
        self.shared.queue.release(batch.weight);
        if let Some(spooling) = &mut self.spooling {
            spooling.is_used();
            if let Some(kept) = batch.kept.filter(|kept| !self.hand.holds(kept)) {
                spooling.put_back(&kept.ids.borrow());
            }
        }
    }

    /// Gives idle lanes what is ready; reads on in the spool when a lane could take more.
    pub(super) fn dispatch(&mut self, now: Instant) {
        while let Some(&lane) = self.idle.last() {
            if !self.health.allows(now) {
                return;
            }
            self.read_on();
            let Some(token) = self.hand.next_ready() else { return };
            self.health.sent(token);
            self.send(token, lane);
        }
    }

    /// Asks for the oldest batch of the spool that is not in memory, unless enough of it is: one is read
    /// while another is written, and new entries flow beside them.
    fn read_on(&mut self) {
        let Some(spooling) = &mut self.spooling else { return };
        let enough = spooling.reading || self.hand.replays() >= REPLAYED;
        let busy = enough || !spooling.backlog || self.closing.is_some();
        if !busy {
            spooling.reading = true;
            // Until it finds one. What comes to it meanwhile, the answer knows nothing of.
            spooling.backlog = false;
            spooling.read();
        }
    }

    /// Does what the spool's answer asks for.
    pub(super) fn spool_says(&mut self, answer: Option<Answer>) {
        match answer {
            Some(Answer::Appended { token, result: Ok(id) }) => self.appended(token, id),
            Some(Answer::Appended { token, result: Err(reason) }) => self.not_appended(token, &reason),
            Some(Answer::Oldest(found)) => self.read(found),
            Some(Answer::SetAside { token, sqlstate, result }) => {
                self.set_aside(token, sqlstate.as_deref(), result);
            }
            Some(Answer::Adopted) => {
                if let Some(spooling) = &mut self.spooling {
                    spooling.is_used();
                }
            }
            None => {
                log::error!("audit: the spool's thread ended; entries wait in memory alone");
                let asked = self.spooling.take().map(|spooling| spooling.asked).unwrap_or_default();
                for token in asked.into_keys() {
                    self.only_in_memory(token);
                }
            }
        }
    }

    fn appended(&mut self, token: u64, id: SpoolId) {
        let Some(spooling) = &mut self.spooling else { return };
        spooling.works();
        let Some((kept, ranges)) = spooling.asked.remove(&token) else { return };
        if kept.parts.get() == 0 {
            // Committed before it was synced.
            return spooling.remove(&[id]);
        }
        kept.ids.borrow_mut().push(id);
        let told = self.shared.settle(&ranges, &Delivery::Spooled).told;
        self.returning.answered(told, Instant::now());
        let place = self.hand.batches.get(&token).map(|batch| batch.place);
        if place == Some(Place::Spool) {
            self.back_to_spool(token);
        } else if place == Some(Place::Ready) && self.hand.ready.len() > READY {
            self.hand.ready.retain(|ready| *ready != token);
            self.back_to_spool(token);
        }
    }

    fn not_appended(&mut self, token: u64, reason: &str) {
        if let Some(spooling) = &mut self.spooling {
            spooling.fails(reason);
            spooling.asked.remove(&token);
        }
        self.only_in_memory(token);
    }

    /// Goes on with a batch that has no copy in the spool.
    fn only_in_memory(&mut self, token: u64) {
        let Some(batch) = self.hand.batches.get_mut(&token) else { return };
        batch.kept = None;
        if batch.place == Place::Spool {
            batch.place = Place::Ready;
            self.hand.ready.push_back(token);
        }
    }

    /// Takes a batch from the spool into the line.
    fn read(&mut self, found: Option<(Vec<SpoolId>, Vec<NewAuditLog>)>) {
        let Some(spooling) = &mut self.spooling else { return };
        spooling.reading = false;
        let Some((ids, rows)) = found else {
            spooling.leave_none_out();
            return self.say_if_replayed();
        };
        spooling.backlog = true;
        let mut batch = self.batch(rows, Weight::default(), Instant::now());
        batch.replayed = true;
        // What is read again may have been stored before.
        batch.repeat = true;
        batch.kept = Some(Rc::new(Kept { ids: ids.into(), parts: 1.into() }));
        let token = self.hand.add(batch);
        self.hand.ready.push_front(token);
    }

    /// Says that the spool is replayed, once nothing is left in it and nothing from it is on its way.
    pub(super) fn say_if_replayed(&mut self) {
        if let Some(spooling) = &mut self.spooling
            && !(spooling.backlog || spooling.reading)
            && self.hand.replays() == 0
        {
            spooling.is_replayed();
        }
    }

    fn set_aside(&mut self, token: u64, sqlstate: Option<&str>, result: Result<(), String>) {
        let Some(batch) = self.hand.batches.remove(&token) else { return };
        match result {
            Ok(()) => self.quarantine(batch, sqlstate),
            Err(reason) => {
                if let Some(spooling) = &mut self.spooling {
                    spooling.fails(&reason);
                }
                log::error!("audit: a refused entry could not be kept aside and is lost: {reason}");
                let lost = Delivery::Dropped(DropReason::Database(reason.into()));
                self.shared.settle(&batch.ranges, &lost);
                self.let_go(&batch);
            }
        }
    }

    /// The next moment at which there is something to do without being woken.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let untried = !self.hand.ready.is_empty() || self.spooling.as_ref().is_some_and(|s| s.backlog);
        let retry = self.health.try_again().filter(|_| untried || self.waiting().entries > 0);
        let spill = self.spooling.as_ref().filter(|_| !self.hand.batches.is_empty()).and_then(|spooling| {
            let unkept = self.hand.batches.values().filter(|batch| batch.kept.is_none());
            let oldest = unkept.map(|batch| batch.since + self.policy.spill_after).min();
            oldest.map(|oldest| spooling.broken_until().map_or(oldest, |until| until.max(oldest)))
        });
        // A moment that has passed is waiting for an event, not for time.
        let times =
            [retry, spill, self.life.due_at(), self.closing.as_ref().map(|closing| closing.next(now))];
        times.into_iter().flatten().filter(|time| *time > now).min()
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;

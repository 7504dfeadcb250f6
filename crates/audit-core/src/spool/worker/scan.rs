//! Files of writers that ended are adopted.

use std::collections::BTreeSet;

use super::file::OpenFile;
use super::salvage::FileLoss;
use super::{Replies, SpoolWorker};
use crate::Time;
use crate::spool::{Adoption, SpoolNotice, SpoolReply, Store, StoreError};

impl<S: Store> SpoolWorker<S> {
    /// Searches the directory for files to adopt, and repeats what could not be done before.
    pub(super) fn scan(&mut self, now: Time, replies: &mut Replies<S::Row>) {
        self.left = 0;
        // Also finds out whether each file is still in the directory.
        self.commit_removals(self.files.keys().copied().collect(), now, replies);
        match self.store.sweep().and_then(|()| self.store.list()) {
            Ok(names) => {
                self.is_scan_failing = false;
                self.adopt_all(&names, now, replies);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_scan_failing, true) {
                    let reason = error.to_string();
                    replies.push(SpoolReply::Notice(SpoolNotice::ScanFailed { reason }));
                }
            }
        }
        self.run_salvages(now, replies);
        self.left += self.salvages.len() as u64;
        // A read makes room for the files that wait.
        if self.has_unadopted()
            || self
                .files
                .iter()
                .any(|(key, open)| open.has_waiting_stop() && self.may_hand_out_stops(*key))
        {
            replies.push(SpoolReply::Adopted);
        }
        let is_more = self.waiting > 0 && self.has_room() && !self.is_scan_failing;
        self.next_scan = if is_more {
            now
        } else {
            now + self.config.scan_interval
        };
    }

    /// True if another file may be adopted.
    fn has_room(&self) -> bool {
        let adopted = self.files.len() - usize::from(self.own.is_some());
        adopted < self.config.max_adopted
    }

    /// True if files are to be adopted once there is room.
    pub(super) fn has_unadopted(&self) -> bool {
        self.waiting > 0 || !self.postponed.is_empty()
    }

    /// Removes files that are done, and closes those that have nothing but stop records, so that others can be
    /// adopted. True if they can.
    pub(super) fn make_room(&mut self, now: Time, replies: &mut Replies<S::Row>) -> bool {
        if self.pending_removals() > 0 {
            self.flush_removals(now, replies);
        }
        if self.waiting > 0 {
            // Removals that failed are forgotten: those batches are replayed, and found stored.
            let own = self.own;
            let closed = self
                .files
                .extract_if(.., |key, open| own != Some(*key) && open.waits_for_others());
            self.postponed.extend(closed.map(|(_, open)| open.name));
        }
        self.has_room() && !self.is_scan_failing
    }

    fn adopt_all(&mut self, names: &[String], now: Time, replies: &mut Replies<S::Row>) {
        let is_there = |name: &String| names.contains(name);
        self.ignored.retain(is_there);
        self.failing.retain(is_there);
        let open = self.files.values().map(|open| &open.name);
        let known: BTreeSet<String> = open
            .chain(self.salvages.values().map(|salvage| &salvage.name))
            .cloned()
            .collect();
        self.waiting = 0;
        self.postponed.retain(is_there);
        let unknown = names.iter().filter(|name| !known.contains(*name));
        let (last, first): (Vec<&String>, Vec<&String>) =
            unknown.partition(|name| self.postponed.contains(*name));
        for name in first {
            if self.ignored.contains(name) {
                self.left += 1;
            } else if !self.has_room() {
                self.waiting += 1;
            } else if !self.adopt(name, now, replies) {
                self.left += 1;
            }
        }
        for name in last {
            // Their stop records attest what may be in the others.
            if self.waiting == 0 && self.has_room() {
                self.postponed.remove(name);
                self.left += u64::from(!self.adopt(name, now, replies));
            }
        }
    }

    /// Adopts a file; false if it was left alone.
    fn adopt(&mut self, name: &str, now: Time, replies: &mut Replies<S::Row>) -> bool {
        let target = (!(self.config.any_target || planted!(TargetIgnored))).then_some(&*self.config.target);
        let file = name.to_owned();
        let adoption = self.store.adopt(name, target);
        if !matches!(
            adoption,
            Err(_) | Ok(Adoption::Adopted(_) | Adoption::UnknownTarget(_))
        ) {
            self.failing.remove(name);
        }
        let notice = match adoption {
            Ok(Adoption::Adopted(adopted)) => return self.take_over(name, adopted, now, replies),
            Ok(Adoption::Missing) => return true,
            Ok(Adoption::InUse) => return false,
            Ok(Adoption::OtherTarget) => None,
            Ok(Adoption::NewerVersion(version)) => Some(SpoolNotice::NewerVersion { file, version }),
            Ok(Adoption::UnknownTarget(reason)) => {
                // It is tried again, as it may be repaired; it is reported once.
                if self.failing.insert(file.clone()) {
                    replies.push(SpoolReply::Notice(SpoolNotice::UnknownTarget { file, reason }));
                }
                return false;
            }
            Err(error) => {
                self.adoption_failed(name, &error, replies);
                return false;
            }
        };
        self.ignored.insert(name.to_owned());
        replies.extend(notice.map(SpoolReply::Notice));
        false
    }

    fn take_over(&mut self, name: &str, file: S::File, now: Time, replies: &mut Replies<S::Row>) -> bool {
        let mut open = OpenFile::new(name.to_owned(), file, Default::default());
        match self.store.check(&mut open.file) {
            Ok(usage) => open.usage = usage,
            Err(error) => {
                let reason = error.clone();
                let Some(loss) = FileLoss::of(error) else {
                    self.adoption_failed(name, &reason, replies);
                    return false;
                };
                if self.salvages.len() >= self.config.max_adopted {
                    self.run_salvages(now, replies);
                }
                if self.salvages.len() >= self.config.max_adopted {
                    // Others cannot be copied, either, and each keeps its file open.
                    self.failing.insert(name.to_owned());
                    return false;
                }
                let key = self.next_key();
                self.files.insert(key, open);
                self.begin_salvage(key, loss, now, replies);
                return true;
            }
        }
        self.failing.remove(name);
        self.before_stops = None;
        let (key, batches) = (self.next_key(), open.usage.batches);
        self.files.insert(key, open);
        if batches == 0 {
            self.remove_if_empty(key, now, replies);
            return true;
        }
        let file = name.to_owned();
        replies.push(SpoolReply::Notice(SpoolNotice::Adopted { file, batches }));
        replies.push(SpoolReply::Adopted);
        true
    }

    fn adoption_failed(&mut self, name: &str, error: &StoreError, replies: &mut Replies<S::Row>) {
        if self.failing.insert(name.to_owned()) {
            let notice = SpoolNotice::AdoptionFailed {
                file: name.to_owned(),
                reason: error.to_string(),
            };
            replies.push(SpoolReply::Notice(notice));
        }
    }
}

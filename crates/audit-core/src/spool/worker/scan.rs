//! Files of writers that ended are adopted.

use std::collections::BTreeSet;

use super::file::OpenFile;
use super::salvage::{FileLoss, check};
use super::{Replies, SpoolWorker};
use crate::Time;
use crate::spool::{Adoption, SpoolNotice, SpoolReply, Store, StoreError};

impl<S: Store> SpoolWorker<S> {
    /// Searches the directory for files to adopt, and repeats what could not be done before.
    pub(super) fn scan(&mut self, now: Time, replies: &mut Replies<S::Row>) {
        self.left = 0;
        // Also finds out whether each file is still in the directory.
        self.commit_removals(self.files.keys().copied().collect(), now, replies);
        match self.store.list() {
            Ok(names) => {
                self.is_scan_failing = false;
                self.note_names(names);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_scan_failing, true) {
                    let reason = error.to_string();
                    replies.push(SpoolReply::Notice(SpoolNotice::ScanFailed { reason }));
                }
            }
        }
        self.adopt_waiting(now, replies);
        let is_more = self.run_salvages(now, replies);
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
        let pause = if is_more {
            self.config.retry_delay
        } else {
            self.config.scan_interval
        };
        self.next_scan = now + pause;
    }

    /// True if another file may be adopted.
    pub(super) fn has_room(&self) -> bool {
        let adopted = self.files.len() - usize::from(self.own.is_some());
        adopted < self.config.max_adopted
    }

    /// True if files are to be adopted once there is room.
    pub(super) fn has_unadopted(&self) -> bool {
        !(self.unadopted.is_empty() && self.postponed.is_empty())
    }

    /// Removes files that are done, and closes those that have nothing but stop records, so that others can be
    /// adopted. True if they can now.
    pub(super) fn make_room(&mut self, now: Time, replies: &mut Replies<S::Row>) -> bool {
        if self.pending_removals() > 0 {
            self.flush_removals(now, replies);
        }
        if !self.unadopted.is_empty() {
            // Removals that failed are forgotten: those batches are replayed, and found stored.
            let own = self.own;
            let closed = self
                .files
                .extract_if(.., |key, open| own != Some(*key) && open.waits_for_others());
            self.postponed.extend(closed.map(|(_, open)| open.name));
        }
        self.has_room() && self.looks > 0
    }

    /// Notes which files of the directory may be adopted. They are listed once in a scan, however many there
    /// are.
    fn note_names(&mut self, names: Vec<String>) {
        let listed: BTreeSet<&String> = names.iter().collect();
        let is_there = |name: &String| listed.contains(name);
        self.ignored.retain(is_there);
        self.failing.retain(is_there);
        self.postponed.retain(is_there);
        let open = self.files.values().map(|open| &open.name);
        let known: BTreeSet<&String> = open
            .chain(self.salvages.values().map(|salvage| &salvage.name))
            .chain(&self.ignored)
            .chain(&self.postponed)
            .collect();
        let unadopted = names.iter().filter(|name| !known.contains(name));
        self.unadopted = unadopted.cloned().collect();
        self.left += self.ignored.len() as u64;
    }

    /// Adopts files that wait, while there is room for them and as many as may be looked at in one go. The
    /// postponed ones come last: their stop records attest what may be in the others.
    pub(super) fn adopt_waiting(&mut self, now: Time, replies: &mut Replies<S::Row>) {
        while self.has_room() && self.looks > 0 {
            let next = self.unadopted.pop_front();
            let Some(name) = next.or_else(|| self.postponed.pop_first()) else {
                break;
            };
            self.looks -= 1;
            self.left += u64::from(!self.adopt(&name, now, replies));
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
        match check(&mut self.store, &mut open.file) {
            Ok(usage) => open.usage = usage,
            Err(error) => {
                let loss = match FileLoss::of(error) {
                    Ok(loss) => loss,
                    Err(error) => {
                        self.adoption_failed(name, &error, replies);
                        return false;
                    }
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

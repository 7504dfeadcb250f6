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
        if self.files.iter().any(|(key, open)| open.has_waiting_stop() && self.may_hand_out_stops(*key)) {
            replies.push(SpoolReply::Adopted);
        }
        self.next_scan = now + self.config.scan_interval;
    }

    fn adopt_all(&mut self, names: &[String], now: Time, replies: &mut Replies<S::Row>) {
        let is_there = |name: &String| names.contains(name);
        self.ignored.retain(is_there);
        self.failing.retain(is_there);
        let open = self.files.values().map(|open| &open.name);
        let known: BTreeSet<String> =
            open.chain(self.salvages.values().map(|salvage| &salvage.name)).cloned().collect();
        for name in names.iter().filter(|name| !known.contains(*name)) {
            if self.ignored.contains(name) || !self.adopt(name, now, replies) {
                self.left += 1;
            }
        }
    }

    /// Adopts a file; false if it was left alone.
    fn adopt(&mut self, name: &str, now: Time, replies: &mut Replies<S::Row>) -> bool {
        let target = (!(self.config.any_target || planted!(TargetIgnored))).then_some(&*self.config.target);
        let file = name.to_owned();
        let adoption = self.store.adopt(name, target);
        if !matches!(adoption, Err(_) | Ok(Adoption::Adopted(_))) {
            self.failing.remove(name);
        }
        let notice = match adoption {
            Ok(Adoption::Adopted(adopted)) => return self.take_over(name, adopted, now, replies),
            Ok(Adoption::Missing) => return true,
            Ok(Adoption::InUse) => return false,
            Ok(Adoption::OtherTarget) => None,
            Ok(Adoption::NewerVersion(version)) => Some(SpoolNotice::NewerVersion { file, version }),
            Ok(Adoption::UnknownTarget(reason)) => Some(SpoolNotice::UnknownTarget { file, reason }),
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
            let notice = SpoolNotice::AdoptionFailed { file: name.to_owned(), reason: error.to_string() };
            replies.push(SpoolReply::Notice(notice));
        }
    }
}

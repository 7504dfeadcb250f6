mod store;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::spool::{CopyId, SpoolNotice, StoreError, Ticket};
use store::{DiskFile, MemoryStore, TestRow};

fn row(seq: u64) -> TestRow {
    TestRow { seq, is_stop: false, is_damaged: false }
}

fn stop(seq: u64) -> TestRow {
    TestRow { is_stop: true, ..row(seq) }
}

fn full() -> StoreError {
    StoreError::DiskFull("full".to_owned())
}

fn passing() -> StoreError {
    StoreError::Transient("no file descriptor".to_owned())
}

/// A worker, its disk, and a clock that moves by milliseconds.
struct World {
    store: MemoryStore,
    worker: SpoolWorker<MemoryStore>,
    now: Time,
    replies: Vec<SpoolReply<TestRow>>,
    notices: Vec<SpoolNotice>,
    copies: u64,
}

impl World {
    fn new(files: impl IntoIterator<Item = (&'static str, DiskFile)>) -> Self {
        Self::with(files, |_| {})
    }

    fn with(
        files: impl IntoIterator<Item = (&'static str, DiskFile)>,
        configure: impl FnOnce(&mut SpoolConfig),
    ) -> Self {
        let store = MemoryStore::default();
        for (name, file) in files {
            store.0.borrow_mut().files.insert(name.to_owned(), file);
        }
        let mut config = SpoolConfig::new("here", 1_000_000);
        config.max_read_batches = 4;
        configure(&mut config);
        let worker = SpoolWorker::open(store.clone(), config, Time::START).unwrap();
        let (replies, notices) = (Vec::new(), Vec::new());
        Self { store, worker, now: Time::START, replies, notices, copies: 0 }
    }

    fn ask(&mut self, requests: Vec<SpoolRequest<TestRow>>) {
        self.now = self.now + Duration::from_millis(1);
        let mut replies = Vec::new();
        self.worker.handle(requests, self.now, &mut replies);
        self.hear(replies);
    }

    fn hear(&mut self, replies: Vec<SpoolReply<TestRow>>) {
        for reply in replies {
            match reply {
                SpoolReply::Notice(notice) => self.notices.push(notice),
                other => self.replies.push(other),
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut replies = Vec::new();
        self.worker.tick(self.now, &mut replies);
        self.hear(replies);
    }

    fn append(&mut self, batches: &[Vec<TestRow>]) -> Vec<Result<SpoolId, SpoolFailure>> {
        let requests = batches.iter().map(|rows| {
            self.copies += 1;
            SpoolRequest::Append { copy: CopyId(self.copies), rows: Arc::new(rows.clone()) }
        });
        let requests = requests.collect();
        self.ask(requests);
        let results = self.replies.extract_if(.., |reply| matches!(reply, SpoolReply::Appended { .. }));
        results
            .filter_map(|reply| match reply {
                SpoolReply::Appended { result, .. } => Some(result),
                _ => None,
            })
            .collect()
    }

    fn read(&mut self) -> Option<(Vec<SpoolId>, Vec<u64>)> {
        self.ask(vec![SpoolRequest::Read]);
        self.answer()
    }

    /// The answer to a read; none for the end, and while it is not known.
    fn answer(&mut self) -> Option<(Vec<SpoolId>, Vec<u64>)> {
        match self.replies.extract_if(.., |reply| matches!(reply, SpoolReply::Read(_))).last()? {
            SpoolReply::Read(batch) => {
                batch.map(|batch| (batch.ids, batch.rows.iter().map(|row| row.seq).collect()))
            }
            _ => None,
        }
    }

    /// Reads and removes until nothing is left.
    fn drain(&mut self) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some((ids, rows)) = self.read() {
            all.extend(rows);
            self.ask(vec![SpoolRequest::Remove(ids)]);
        }
        all
    }

    fn give_back(&mut self, batches: Vec<SpoolId>, again: Again) {
        self.ask(vec![SpoolRequest::Return { batches, again }]);
    }

    fn fail(&mut self, what: &'static str, error: StoreError) {
        self.store.0.borrow_mut().failing.insert(what, error);
    }

    fn recover(&mut self) {
        self.store.0.borrow_mut().failing.clear();
    }

    fn did(&self, what: &str) -> usize {
        self.store.0.borrow().log.iter().filter(|done| done.starts_with(what)).count()
    }

    fn names(&self) -> Vec<String> {
        self.store.0.borrow().files.keys().cloned().collect()
    }
}

fn singles(seqs: impl IntoIterator<Item = u64>) -> Vec<Vec<TestRow>> {
    seqs.into_iter().map(|seq| vec![row(seq)]).collect()
}

const SCAN: Duration = Duration::from_secs(30);

#[test]
fn batches_are_handed_out_in_order_and_returned_ones_in_their_place_or_at_the_end() {
    let mut world = World::new([("a", DiskFile::new("here", singles(1..=10)))]);
    world.wait(Duration::ZERO);
    let (first, rows) = world.read().unwrap();
    assert_eq!(rows, [1, 2, 3, 4]);
    world.give_back(first.clone(), Again::InOrder);
    assert_eq!(world.read().unwrap(), (first.clone(), vec![1, 2, 3, 4]));
    world.give_back(first.clone(), Again::AfterOthers);
    assert_eq!(world.read().unwrap().1, [5, 6, 7, 8]);
    assert_eq!(world.read().unwrap().1, [9, 10]);
    assert_eq!(world.read().unwrap(), (first.clone(), vec![1, 2, 3, 4]), "the next pass");
    world.give_back(first.clone(), Again::AfterOthers);
    world.ask(vec![SpoolRequest::Rewind]);
    assert_eq!(world.read().unwrap(), (first, vec![1, 2, 3, 4]), "a batch was committed meanwhile");
    assert_eq!(world.read(), None, "all is held");
}

#[test]
fn an_append_is_held_by_the_writer_until_it_is_returned() {
    let mut world = World::new([]);
    let ids: Vec<SpoolId> = world.append(&singles(1..=3)).into_iter().map(Result::unwrap).collect();
    assert_eq!(world.read(), None);
    world.give_back(vec![ids[1]], Again::InOrder);
    assert_eq!(world.read().unwrap(), (vec![ids[1]], vec![2]));
    world.ask(vec![SpoolRequest::Remove(ids)]);
    assert_eq!(world.drain(), [0; 0]);
    world.worker.close();
    assert_eq!(world.store.0.borrow().files.len(), 0, "an empty file is removed at the end");
}

/// 32,766 removals that wait were more than SQLite's statements may have values, and each error counted as
/// damage.
#[test]
fn the_replay_of_50_000_small_batches_binds_no_more_than_a_few_at_a_time() {
    let mut world = World::with([("a", DiskFile::new("here", singles(1..=50_000)))], |config| {
        config.max_read_batches = 250;
    });
    world.wait(Duration::ZERO);
    assert_eq!(world.drain(), (1..=50_000).collect::<Vec<_>>());
    assert!(world.store.0.borrow().largest_call <= 750, "{}", world.store.0.borrow().largest_call);
    assert_eq!(world.did("set_aside"), 0);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"], "an emptied file of another writer is removed");
}

#[test]
fn removals_are_committed_after_their_delay_though_requests_keep_coming() {
    let mut world = World::new([]);
    let ids: Vec<SpoolId> = world.append(&singles(1..=2)).into_iter().map(Result::unwrap).collect();
    world.ask(vec![SpoolRequest::Remove(vec![ids[0]])]);
    for _ in 0..99 {
        world.ask(vec![SpoolRequest::Read]);
    }
    assert_eq!(world.did("remove"), 0, "they wait for an append to share its sync");
    world.ask(vec![SpoolRequest::Read]);
    assert_eq!(world.did("remove"), 1);
    world.ask(vec![SpoolRequest::Remove(vec![ids[1]])]);
    world.append(&singles([3]));
    world.wait(Duration::from_secs(1));
    assert_eq!(world.did("remove"), 1, "the append took them along");
}

#[test]
fn removals_that_fail_are_repeated_and_reported_once() {
    let mut world = World::new([("a", DiskFile::new("here", singles(1..=2)))]);
    world.wait(Duration::ZERO);
    let (mut ids, _) = world.read().unwrap();
    world.fail("remove", full());
    let kept = ids.split_off(1);
    world.ask(vec![SpoolRequest::Remove(ids)]);
    for _ in 0..5 {
        world.wait(Duration::from_secs(1));
        world.give_back(kept.clone(), Again::InOrder);
        assert_eq!(world.read().unwrap().0, kept, "what is committed is not handed out again");
    }
    let reported = |notice: &&SpoolNotice| matches!(notice, SpoolNotice::RemovalFailed { .. });
    assert_eq!(world.notices.iter().filter(reported).count(), 1);
    world.recover();
    world.ask(vec![SpoolRequest::Remove(kept)]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"]);
}

#[test]
fn a_file_whose_batches_are_all_done_is_removed_though_the_disk_takes_no_removal() {
    let mut world = World::new([("a", DiskFile::new("here", singles(1..=2)))]);
    world.wait(Duration::ZERO);
    let own = world.append(&singles([3])).remove(0).unwrap();
    world.fail("remove", full());
    world.fail("append", full());
    assert_eq!(world.drain(), [1, 2]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"]);
    assert!(world.append(&singles([4]))[0].is_err());
    world.ask(vec![SpoolRequest::Remove(vec![own])]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), [""; 0], "the writer's file as well");
    assert_eq!(world.notices.len(), 1, "nothing failed: {:?}", world.notices);
    world.recover();
    assert!(world.append(&singles([5]))[0].is_ok());
    assert_eq!(world.names(), ["own2"]);
}

#[test]
fn a_file_with_a_batch_that_is_not_done_is_not_removed() {
    let mut world = World::new([("a", DiskFile::new("here", singles(1..=2)))]);
    world.wait(Duration::ZERO);
    let (ids, _) = world.read().unwrap();
    world.ask(vec![SpoolRequest::Remove(vec![ids[0]])]);
    world.wait(Duration::from_secs(1));
    world.fail("remove", full());
    // A second removal of the same batch counts for nothing.
    world.ask(vec![SpoolRequest::Remove(vec![ids[0]])]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["a", "own1"]);
    world.give_back(vec![ids[1]], Again::InOrder);
    assert_eq!(world.drain(), [2]);
}

#[test]
fn a_writer_without_a_file_adopts_others_while_the_disk_is_full() {
    let store = MemoryStore::default();
    store.0.borrow_mut().files.insert("a".to_owned(), DiskFile::new("here", singles([1])));
    store.0.borrow_mut().failing.insert("create", full());
    let worker = SpoolWorker::open(store.clone(), SpoolConfig::new("here", 1_000), Time::START).unwrap();
    let mut world = World { worker, store, ..World::new([]) };
    world.wait(Duration::ZERO);
    assert!(matches!(world.append(&singles([2]))[..], [Err(SpoolFailure::Io(_))]));
    assert_eq!(world.drain(), [1]);
    world.recover();
    assert!(world.append(&singles([3]))[0].is_ok());
    world.store.0.borrow_mut().failing.insert("create", passing());
    let refused = SpoolWorker::open(world.store.clone(), SpoolConfig::new("here", 1_000), Time::START);
    assert!(refused.is_err(), "a directory that takes no file for another reason");
}

#[test]
fn a_few_orphans_are_open_at_a_time_and_the_next_when_one_is_done() {
    const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let files = NAMES.into_iter().zip(1..).map(|(name, seq)| (name, DiskFile::new("here", singles([seq]))));
    let mut world = World::with(files, |config| config.max_adopted = 2);
    let open = |world: &World| world.store.0.borrow().files.values().filter(|file| file.is_locked).count();
    world.wait(Duration::ZERO);
    let mut all = Vec::new();
    while let Some((ids, rows)) = world.read() {
        assert_eq!(open(&world), if all.len() < 8 { 3 } else { 2 }, "the own file and two: {all:?}");
        all.extend(rows);
        world.ask(vec![SpoolRequest::Remove(ids)]);
    }
    assert_eq!(all, (1..=9).collect::<Vec<_>>());
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"]);
}

#[test]
fn orphans_that_wait_for_room_are_adopted_after_a_failed_scan() {
    let files = [("a", 1), ("b", 2)].map(|(name, seq)| (name, DiskFile::new("here", singles([seq]))));
    let mut world = World::with(files, |config| config.max_adopted = 1);
    world.wait(Duration::ZERO);
    let (ids, _) = world.read().unwrap();
    world.fail("list", passing());
    world.ask(vec![SpoolRequest::Remove(ids), SpoolRequest::Read]);
    world.wait(Duration::from_secs(1));
    assert!(world.answer().is_none());
    world.recover();
    world.wait(SCAN);
    assert_eq!(world.answer().unwrap().1, [2]);
}

#[test]
fn stop_records_of_more_files_than_may_be_open_wait_for_the_entries_of_all() {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let batches = |seq| vec![vec![stop(100 + seq)], vec![row(seq)]];
    let files = NAMES.into_iter().zip(1..).map(|(name, seq)| (name, DiskFile::new("here", batches(seq))));
    let mut world = World::with(files, |config| config.max_adopted = 2);
    world.wait(Duration::ZERO);
    let mut rows = world.drain();
    assert_eq!(rows[..6], [1, 2, 3, 4, 5, 6]);
    rows.sort_unstable();
    assert_eq!(rows[6..], [101, 102, 103, 104, 105, 106]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"]);
}

#[test]
fn damaged_files_that_cannot_be_copied_are_not_all_open() {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let damaged = || DiskFile { damaged_at: Some(2), ..DiskFile::new("here", singles(1..=3)) };
    let files = NAMES.into_iter().map(|name| (name, damaged()));
    let mut world = World::with(files, |config| config.max_adopted = 2);
    world.fail("append", full());
    world.wait(Duration::ZERO);
    let open = world.store.0.borrow().files.values().filter(|file| file.is_locked).count();
    assert_eq!(open, 3);
    world.recover();
    for _ in 0..3 {
        world.wait(SCAN);
    }
    assert_eq!(world.drain().len(), 12);
    assert_eq!(world.names().iter().filter(|name| name.ends_with(".damaged")).count(), 6);
}

#[test]
fn an_orphan_is_adopted_on_schedule_however_busy_the_writer_is() {
    let mut world = World::new([]);
    world.append(&singles([1]));
    world.store.0.borrow_mut().files.insert("late".to_owned(), DiskFile::new("here", singles([7])));
    for _ in 0..31_000 {
        world.ask(vec![SpoolRequest::Rewind]);
    }
    assert!(world.replies.iter().any(|reply| matches!(reply, SpoolReply::Adopted)));
    assert_eq!(world.read().unwrap().1, [7]);
}

#[test]
fn files_of_others_are_not_read_from_end_to_end_and_reported_once() {
    let newer = DiskFile { version: 2, ..DiskFile::new("here", singles([1])) };
    let mut world = World::new([("a", DiskFile::new("elsewhere", singles([1]))), ("b", newer)]);
    for _ in 0..5 {
        world.wait(SCAN);
    }
    assert_eq!((world.did("check"), world.did("adopt")), (0, 2));
    assert_eq!(world.notices, [SpoolNotice::NewerVersion { file: "b".to_owned(), version: 2 }]);
    assert_eq!(world.worker.close(), Closed { left: 2, removed: 0 });
}

#[test]
fn a_passing_error_leaves_an_orphan_as_it_is_until_it_can_be_adopted() {
    for what in ["adopt", "check"] {
        let mut world = World::new([("a", DiskFile::new("here", singles([1])))]);
        world.fail(what, passing());
        world.wait(Duration::ZERO);
        world.wait(SCAN);
        assert!(matches!(&world.notices[..], [SpoolNotice::AdoptionFailed { .. }]), "{:?}", world.notices);
        assert_eq!(world.names(), ["a", "own1"]);
        world.recover();
        world.wait(SCAN);
        assert_eq!(world.drain(), [1]);
        assert_eq!(world.did("set_aside"), 0);
    }
}

#[test]
fn a_passing_error_of_a_read_renames_nothing_and_the_answer_waits() {
    for what in ["sizes", "read"] {
        let mut world = World::new([("a", DiskFile::new("here", singles(1..=3)))]);
        world.wait(Duration::ZERO);
        world.fail(what, passing());
        world.replies.clear();
        assert_eq!(world.read(), None);
        world.recover();
        assert!(world.replies.is_empty(), "what is not known is not answered: it would mean the end");
        world.wait(Duration::from_secs(2));
        let (ids, rows) = world.answer().unwrap();
        assert_eq!(rows, [1, 2, 3]);
        world.ask(vec![SpoolRequest::Remove(ids)]);
        assert_eq!(world.did("set_aside"), 0);
    }
}

#[test]
fn a_damaged_file_is_copied_before_it_is_renamed() {
    let damaged = DiskFile { damaged_at: Some(5), ..DiskFile::new("here", singles(1..=9)) };
    let mut world = World::new([("a", damaged)]);
    world.wait(Duration::ZERO);
    let log = world.store.0.borrow().log.clone();
    let at = |what: &str| log.iter().position(|done| done.starts_with(what)).unwrap();
    assert!(at("append own1") < at("set_aside a"), "{log:?}");
    let mut rows = world.drain();
    rows.sort_unstable();
    assert_eq!(rows, [1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!(world.names(), ["a.damaged", "own1"]);
    let renamed = Some("a.damaged".to_owned());
    let last = SpoolNotice::Salvaged { file: "a".to_owned(), renamed, batches: 8 };
    assert_eq!(world.notices.last(), Some(&last));
}

#[test]
fn a_damaged_file_stays_as_it_is_while_it_cannot_be_copied_or_renamed() {
    for what in ["append", "set_aside"] {
        let damaged = DiskFile { damaged_at: Some(2), ..DiskFile::new("here", singles(1..=3)) };
        let mut world = World::new([("a", damaged)]);
        world.fail(what, full());
        for _ in 0..3 {
            world.wait(SCAN);
            assert_eq!(world.names(), ["a", "own1"], "{what}");
        }
        let failed = |notice: &&SpoolNotice| matches!(notice, SpoolNotice::SalvageFailed { .. });
        assert_eq!(world.notices.iter().filter(failed).count(), 1, "{what}");
        world.recover();
        world.wait(SCAN);
        let mut rows = world.drain();
        rows.sort_unstable();
        assert_eq!(rows, [1, 3], "{what}: each once");
        assert_eq!(world.names(), ["a.damaged", "own1"]);
    }
}

#[test]
fn a_writer_whose_file_was_removed_acknowledges_in_a_new_file_and_keeps_what_it_acknowledged() {
    let mut world = World::new([]);
    let before: Vec<SpoolId> = world.append(&singles(1..=3)).into_iter().map(Result::unwrap).collect();
    world.give_back(vec![before[0]], Again::InOrder);
    world.store.0.borrow_mut().files.clear();
    let after = world.append(&singles([4])).remove(0).unwrap();
    assert_eq!(world.store.0.borrow().files["own2"].batches.len(), 4);
    assert_eq!(world.read().unwrap().1, [1], "the writer still holds the others");
    world.ask(vec![SpoolRequest::Remove(vec![before[1], after])]);
    world.give_back(vec![before[2]], Again::InOrder);
    assert_eq!(world.read().unwrap().1, [3]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.store.0.borrow().files["own2"].batches.len(), 2);
    assert!(matches!(world.notices[0], SpoolNotice::Gone { .. }), "{:?}", world.notices);
}

#[test]
fn a_removed_file_is_noticed_at_a_scan_and_at_the_end_as_well() {
    for at_end in [false, true] {
        let mut world = World::new([]);
        world.wait(Duration::ZERO);
        world.append(&singles([1]));
        world.store.0.borrow_mut().files.clear();
        let store = world.store.clone();
        if at_end {
            world.worker.close();
        } else {
            world.wait(SCAN);
        }
        assert_eq!(store.0.borrow().files["own2"].batches.len(), 1);
    }
}

#[test]
fn a_stop_record_is_handed_out_alone_after_everything_else_of_its_file() {
    let mut batches = singles(1..=6);
    batches.insert(2, vec![stop(99)]);
    let mut world = World::new([("a", DiskFile::new("here", batches))]);
    world.wait(Duration::ZERO);
    let mut held = Vec::new();
    let mut rows = Vec::new();
    while let Some((ids, read)) = world.read() {
        held.extend(ids);
        rows.extend(read);
    }
    assert_eq!(rows, (1..=6).collect::<Vec<_>>());
    let last = held.pop().unwrap();
    world.ask(vec![SpoolRequest::Remove(held)]);
    world.ask(vec![SpoolRequest::Read]);
    let is_answer = |reply: &SpoolReply<TestRow>| matches!(reply, SpoolReply::Read(_));
    assert!(!world.replies.iter().any(is_answer), "one is still held: the answer waits for it");
    world.give_back(vec![last], Again::AfterOthers);
    assert_eq!(world.answer().unwrap().1, [6]);
    assert_eq!(world.read(), None, "it is held again");
    world.ask(vec![SpoolRequest::Remove(vec![last])]);
    let (stop, read) = world.answer().unwrap();
    assert_eq!(read, [99]);
    world.give_back(stop, Again::InOrder);
    assert_eq!(world.drain(), [99]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"]);
}

#[test]
fn damaged_rows_are_kept_before_their_batch_is_removed() {
    let damaged = TestRow { is_damaged: true, ..row(2) };
    let batches = vec![vec![row(1), damaged], vec![damaged], vec![row(3)]];
    let mut world = World::new([("a", DiskFile::new("here", batches))]);
    world.fail("quarantine", full());
    world.wait(Duration::ZERO);
    assert_eq!(world.drain(), [3]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.store.0.borrow().files["a"].batches.len(), 2, "nothing else holds those rows");
    world.recover();
    world.wait(SCAN);
    let (ids, rows) = world.answer().unwrap();
    assert_eq!(rows, [1]);
    world.ask(vec![SpoolRequest::Remove(ids)]);
    world.wait(Duration::from_secs(1));
    assert_eq!((world.names(), world.store.0.borrow().quarantined), (vec!["own1".to_owned()], 2));
}

#[test]
fn a_rejected_row_is_reported_as_kept_only_if_it_is() {
    let mut world = World::new([]);
    let ask = |ticket| SpoolRequest::Quarantine {
        ticket: Ticket(ticket),
        rows: Arc::new(vec![row(1)]),
        reason: "rude".to_owned(),
        sqlstate: None,
    };
    world.fail("quarantine", passing());
    world.ask(vec![ask(1)]);
    world.recover();
    world.ask(vec![ask(2)]);
    let results = world.replies.iter().filter_map(|reply| match reply {
        SpoolReply::Quarantined { ticket, result } => Some((ticket.0, result.is_ok())),
        _ => None,
    });
    assert_eq!(results.collect::<Vec<_>>(), [(1, false), (2, true)]);
}

#[test]
fn appends_share_a_sync_up_to_the_bytes_that_may_be_in_memory() {
    let mut world = World::with([], |config| config.max_group_bytes = 50);
    let large = vec![row(1); 8];
    let results = world.append(&[singles(1..=9), vec![large], singles(1..=3)].concat());
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(world.store.0.borrow().largest_commit, 80, "one batch is never split");
    assert_eq!(world.did("append"), 4, "50, 40, 80 and 30 bytes");
}

#[test]
fn a_full_spool_takes_what_fits_and_everything_again_once_it_is_emptied() {
    let mut world = World::with([], |config| config.limit_bytes = 30);
    let results = world.append(&[vec![vec![row(1); 2], vec![row(2); 2]], singles([3])].concat());
    assert!(matches!(results[..], [Ok(_), Err(SpoolFailure::Full { limit: 30 }), Ok(_)]), "{results:?}");
    let held = results.into_iter().flatten().collect();
    world.ask(vec![SpoolRequest::Remove(held)]);
    assert!(world.append(&[vec![row(4); 3]])[0].is_ok());
}

#[test]
fn a_failed_scan_is_reported_once_and_repeated() {
    let mut world = World::new([("a", DiskFile::new("here", singles([1])))]);
    world.fail("list", passing());
    for _ in 0..3 {
        world.wait(SCAN);
    }
    assert!(matches!(world.notices[..], [SpoolNotice::ScanFailed { .. }]), "{:?}", world.notices);
    world.recover();
    world.wait(SCAN);
    assert_eq!(world.drain(), [1]);
}

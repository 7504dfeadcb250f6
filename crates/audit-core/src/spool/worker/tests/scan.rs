use super::*;

#[test]
fn a_writer_without_a_file_adopts_others_while_the_disk_is_full() {
    let store = MemoryStore::default();
    store
        .0
        .borrow_mut()
        .files
        .insert("a".to_owned(), DiskFile::new("here", singles([1])));
    store.0.borrow_mut().failing.insert("create", full());
    let worker = SpoolWorker::open(store.clone(), SpoolConfig::new("here", 1_000), Time::START).unwrap();
    let mut world = World {
        worker,
        store,
        ..World::new([])
    };
    world.wait(Duration::ZERO);
    assert!(matches!(
        world.append(&singles([2]))[..],
        [Err(SpoolFailure::Io(_))]
    ));
    assert_eq!(world.drain(), [1]);
    world.recover();
    assert!(world.append(&singles([3]))[0].is_ok());
    world.store.0.borrow_mut().failing.insert("create", passing());
    let refused = SpoolWorker::open(world.store.clone(), SpoolConfig::new("here", 1_000), Time::START);
    assert!(
        refused.is_err(),
        "a directory that takes no file for another reason"
    );
}

#[test]
fn a_few_orphans_are_open_at_a_time_and_the_next_when_one_is_done() {
    const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let files = NAMES
        .into_iter()
        .zip(1..)
        .map(|(name, seq)| (name, DiskFile::new("here", singles([seq]))));
    let mut world = World::with(files, |config| config.max_adopted = 2);
    let open = |world: &World| {
        world
            .store
            .0
            .borrow()
            .files
            .values()
            .filter(|file| file.is_locked)
            .count()
    };
    world.wait(Duration::ZERO);
    let mut all = Vec::new();
    while let Some((ids, rows)) = world.read() {
        assert_eq!(
            open(&world),
            if all.len() < 8 { 3 } else { 2 },
            "the own file and two: {all:?}"
        );
        all.extend(rows);
        world.ask(vec![SpoolRequest::Remove(ids)]);
    }
    assert_eq!(all, (1..=9).collect::<Vec<_>>());
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"]);
}

#[test]
fn orphans_that_wait_for_room_are_adopted_though_the_directory_cannot_be_listed() {
    let files = [("a", 1), ("b", 2)].map(|(name, seq)| (name, DiskFile::new("here", singles([seq]))));
    let mut world = World::with(files, |config| config.max_adopted = 1);
    world.wait(Duration::ZERO);
    let (ids, _) = world.read().unwrap();
    world.fail("list", passing());
    world.ask(vec![SpoolRequest::Remove(ids), SpoolRequest::Read]);
    assert_eq!(world.answer().unwrap().1, [2]);
}

#[test]
fn stop_records_of_more_files_than_may_be_open_wait_for_the_entries_of_all() {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let batches = |seq| vec![vec![stop(100 + seq)], vec![row(seq)]];
    let files = NAMES
        .into_iter()
        .zip(1..)
        .map(|(name, seq)| (name, DiskFile::new("here", batches(seq))));
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
fn an_orphan_is_adopted_on_schedule_however_busy_the_writer_is() {
    let mut world = World::new([]);
    world.append(&singles([1]));
    world
        .store
        .0
        .borrow_mut()
        .files
        .insert("late".to_owned(), DiskFile::new("here", singles([7])));
    for _ in 0..31_000 {
        world.ask(vec![SpoolRequest::Rewind]);
    }
    assert!(
        world
            .replies
            .iter()
            .any(|reply| matches!(reply, SpoolReply::Adopted))
    );
    assert_eq!(world.read().unwrap().1, [7]);
}

#[test]
fn files_of_others_are_not_read_from_end_to_end_and_reported_once() {
    let newer = DiskFile {
        version: 2,
        ..DiskFile::new("here", singles([1]))
    };
    let mut world = World::new([("a", DiskFile::new("elsewhere", singles([1]))), ("b", newer)]);
    for _ in 0..5 {
        world.wait(SCAN);
    }
    assert_eq!((world.did("check"), world.did("adopt")), (0, 2));
    assert_eq!(
        world.notices,
        [SpoolNotice::NewerVersion {
            file: "b".to_owned(),
            version: 2
        }]
    );
    assert_eq!(world.worker.close(), Closed { left: 2, removed: 0 });
}

#[test]
fn a_passing_error_leaves_an_orphan_as_it_is_until_it_can_be_adopted() {
    for what in ["adopt", "check"] {
        let mut world = World::new([("a", DiskFile::new("here", singles([1])))]);
        world.fail(what, passing());
        world.wait(Duration::ZERO);
        world.wait(SCAN);
        assert!(
            matches!(&world.notices[..], [SpoolNotice::AdoptionFailed { .. }]),
            "{:?}",
            world.notices
        );
        assert_eq!(world.names(), ["a", "own1"]);
        world.recover();
        world.wait(SCAN);
        assert_eq!(world.drain(), [1]);
        assert_eq!(world.did("mark_damaged"), 0);
    }
}

#[test]
fn a_failed_scan_is_reported_once_and_repeated() {
    let mut world = World::new([("a", DiskFile::new("here", singles([1])))]);
    world.fail("list", passing());
    for _ in 0..3 {
        world.wait(SCAN);
    }
    assert!(
        matches!(world.notices[..], [SpoolNotice::ScanFailed { .. }]),
        "{:?}",
        world.notices
    );
    world.recover();
    world.wait(SCAN);
    assert_eq!(world.drain(), [1]);
}

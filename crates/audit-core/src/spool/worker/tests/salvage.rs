use super::*;

#[test]
fn damaged_files_that_cannot_be_copied_are_not_all_open() {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let damaged = || DiskFile {
        damaged_at: Some(2),
        ..DiskFile::new("here", singles(1..=3))
    };
    let files = NAMES.into_iter().map(|name| (name, damaged()));
    let mut world = World::with(files, |config| config.max_adopted = 2);
    world.fail("append", full());
    world.wait(Duration::ZERO);
    let open = world
        .store
        .0
        .borrow()
        .files
        .values()
        .filter(|file| file.is_locked)
        .count();
    assert_eq!(open, 3);
    world.recover();
    for _ in 0..3 {
        world.wait(SCAN);
    }
    assert_eq!(world.drain().len(), 12);
    assert_eq!(
        world
            .names()
            .iter()
            .filter(|name| name.ends_with(".damaged"))
            .count(),
        6
    );
}

#[test]
fn a_damaged_file_is_copied_before_it_is_renamed() {
    let damaged = DiskFile {
        damaged_at: Some(5),
        ..DiskFile::new("here", singles(1..=9))
    };
    let mut world = World::new([("a", damaged)]);
    world.wait(Duration::ZERO);
    let log = world.store.0.borrow().log.clone();
    let at = |what: &str| log.iter().position(|done| done.starts_with(what)).unwrap();
    assert!(at("append own1") < at("mark_damaged a"), "{log:?}");
    let mut rows = world.drain();
    rows.sort_unstable();
    assert_eq!(rows, [1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!(world.names(), ["a.damaged", "own1"]);
    let renamed = Some("a.damaged".to_owned());
    let last = SpoolNotice::Salvaged {
        file: "a".to_owned(),
        renamed,
        batches: 8,
    };
    assert_eq!(world.notices.last(), Some(&last));
}

#[test]
fn a_damaged_file_stays_as_it_is_while_it_cannot_be_copied_or_renamed() {
    for what in ["append", "mark_damaged"] {
        let damaged = DiskFile {
            damaged_at: Some(2),
            ..DiskFile::new("here", singles(1..=3))
        };
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
    let before: Vec<SpoolId> = world
        .append(&singles(1..=3))
        .into_iter()
        .map(Result::unwrap)
        .collect();
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
    assert!(
        matches!(world.notices[0], SpoolNotice::Gone { .. }),
        "{:?}",
        world.notices
    );
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

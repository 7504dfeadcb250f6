//! What has to be proven before a file counts as damaged, and what a second fault changes.

use super::*;

fn malformed() -> StoreError {
    StoreError::Corrupt("database disk image is malformed".to_owned())
}

fn damaged_at(batch: i64, batches: u64) -> DiskFile {
    DiskFile {
        damaged_at: Some(batch),
        ..DiskFile::new("here", singles(1..=batches))
    }
}

fn is_damage_reported(world: &World) -> bool {
    world
        .notices
        .iter()
        .any(|notice| matches!(notice, SpoolNotice::Damaged { .. }))
}

#[test]
fn an_operation_that_finds_damage_in_a_file_that_is_whole_failed_for_a_passing_reason() {
    for what in ["sizes", "read"] {
        let mut world = World::new([("a", DiskFile::new("here", singles(1..=3)))]);
        world.wait(Duration::ZERO);
        world.fail(what, malformed());
        assert_eq!(world.read(), None, "{what}");
        world.recover();
        world.wait(Duration::from_secs(2));
        assert_eq!(world.answer().unwrap().1, [1, 2, 3], "{what}");
        assert!(!is_damage_reported(&world), "{what}");
    }
    let mut world = World::new([]);
    world.fail("append", malformed());
    assert!(matches!(
        world.append(&singles([1]))[..],
        [Err(SpoolFailure::Io(_))]
    ));
    world.recover();
    assert!(world.append(&singles([2]))[0].is_ok());
    assert_eq!(world.names(), ["own1"]);
    assert!(!is_damage_reported(&world));
}

#[test]
fn a_file_whose_bytes_cannot_be_read_is_not_damaged() {
    let mut world = World::new([("a", damaged_at(2, 3))]);
    world.fail("verify_readable", passing());
    for _ in 0..3 {
        world.wait(SCAN);
    }
    assert!(!is_damage_reported(&world));
    assert!(matches!(&world.notices[..], [SpoolNotice::AdoptionFailed { .. }]));
    assert_eq!(world.names(), ["a", "own1"]);
    world.recover();
    world.wait(SCAN);
    assert_eq!(world.names(), ["a.damaged", "own1"]);
}

#[test]
fn a_damaged_file_is_not_renamed_while_its_bytes_cannot_be_read() {
    let mut world = World::new([("a", damaged_at(2, 3))]);
    world.fail("append", full());
    world.wait(Duration::ZERO);
    assert!(is_damage_reported(&world));
    world.recover();
    world.fail("verify_readable", passing());
    for _ in 0..3 {
        world.wait(SCAN);
        assert_eq!(world.names(), ["a", "own1"]);
    }
    world.recover();
    world.wait(SCAN);
    assert_eq!(world.names(), ["a.damaged", "own1"]);
    assert_eq!(world.drain().len(), 2, "each once");
}

/// The damage may be where no check looks: the batches are copied, and the file is removed, not renamed.
#[test]
fn a_file_that_looks_damaged_again_and_is_whole_is_copied_and_removed() {
    let mut world = World::new([]);
    assert!(world.append(&singles([1]))[0].is_ok());
    world.fail("append", malformed());
    let results: Vec<bool> = (2..=3)
        .map(|seq| world.append(&singles([seq]))[0].is_ok())
        .collect();
    assert_eq!(results, [false; 2]);
    assert!(is_damage_reported(&world));
    world.recover();
    world.wait(SCAN);
    assert_eq!(world.did("mark_damaged"), 0);
    let names = world.names();
    assert!(names.len() == 1 && names[0] != "own1", "{names:?}");
    assert_eq!(world.store.0.borrow().files[&names[0]].batches.len(), 1);
}

#[test]
fn a_file_that_is_whole_stays_if_a_copy_of_its_batches_was_lost() {
    let mut world = World::with([], |config| config.max_group_bytes = 10);
    let ids: Vec<SpoolId> = world
        .append(&singles(1..=3))
        .into_iter()
        .map(Result::unwrap)
        .collect();
    world.give_back(ids, Again::InOrder);
    // The file with the first copy is removed.
    world.store.0.borrow_mut().removed_after_append = Some("own2");
    world.fail("sizes", malformed());
    assert_eq!(world.read(), None);
    world.wait(Duration::from_secs(2));
    assert!(is_damage_reported(&world));
    world.recover();
    world.wait(SCAN);
    assert!(world.names().contains(&"own1".to_owned()), "{:?}", world.names());
    assert_eq!(world.did("mark_damaged"), 0);
}

#[test]
fn a_second_file_that_is_removed_while_the_first_is_copied_is_copied_soon() {
    let mut world = World::with([], |config| config.max_group_bytes = 10);
    let ids: Vec<SpoolId> = world
        .append(&singles(1..=3))
        .into_iter()
        .map(Result::unwrap)
        .collect();
    world.store.0.borrow_mut().files.remove("own1");
    // The first batch is copied to it.
    world.store.0.borrow_mut().removed_after_append = Some("own2");
    world.wait(SCAN);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.store.0.borrow().files["own3"].batches.len(), 3);
    world.give_back(ids, Again::InOrder);
    let mut rows = world.drain();
    rows.sort_unstable();
    assert_eq!(rows, [1, 2, 3]);
}

#[test]
fn a_file_is_damaged_if_that_is_found_twice_between_reads_of_all_its_bytes() {
    let mut world = World::new([("a", damaged_at(2, 3))]);
    world.fail("append", full());
    world.wait(Duration::ZERO);
    let log = world.store.0.borrow().log.clone();
    let checks: Vec<&String> = log.iter().filter(|done| done.ends_with(" a")).take(5).collect();
    let expected = [
        "adopt a",
        "check a",
        "verify_readable a",
        "check a",
        "verify_readable a",
    ];
    assert_eq!(checks, expected);
}

/// Its owner, whose lock was taken, appended while the adopter emptied it.
#[test]
fn an_adopted_file_that_was_used_meanwhile_is_read_again() {
    let mut world = World::new([("a", DiskFile::new("here", singles([1])))]);
    world.wait(Duration::ZERO);
    let (ids, rows) = world.read().unwrap();
    assert_eq!(rows, [1]);
    world.store.0.borrow_mut().appended_at_delete = Some(vec![row(2)]);
    world.ask(vec![SpoolRequest::Remove(ids)]);
    world.replies.clear();
    world.wait(Duration::from_secs(1));
    let is_news = |reply: &SpoolReply<TestRow>| matches!(reply, SpoolReply::Adopted);
    assert!(world.replies.iter().any(is_news), "the writer hears of it");
    assert_eq!(world.names(), ["a", "own1"]);
    assert_eq!(world.drain(), [2]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.names(), ["own1"]);
}

#[test]
fn no_stop_record_is_appended_while_a_damaged_file_is_not_copied() {
    let mut world = World::new([("a", damaged_at(2, 3))]);
    world.fail("mark_damaged", full());
    world.wait(Duration::ZERO);
    assert!(matches!(
        world.append(&[vec![stop(9)]])[..],
        [Err(SpoolFailure::Damaged(_))]
    ));
    assert!(world.append(&singles([4]))[0].is_ok());
    world.recover();
    world.wait(SCAN);
    assert!(world.append(&[vec![stop(9)]])[0].is_ok());
}

use super::*;

#[test]
fn an_append_is_held_by_the_writer_until_it_is_returned() {
    let mut world = World::new([]);
    let ids: Vec<SpoolId> = world
        .append(&singles(1..=3))
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(world.read(), None);
    world.give_back(vec![ids[1]], Again::InOrder);
    assert_eq!(world.read().unwrap(), (vec![ids[1]], vec![2]));
    world.ask(vec![SpoolRequest::Remove(ids)]);
    assert_eq!(world.drain(), [0; 0]);
    world.worker.close();
    assert_eq!(
        world.store.0.borrow().files.len(),
        0,
        "an empty file is removed at the end"
    );
}

/// 32,766 removals that wait were more than SQLite's statements may have values, and each error counted as
/// damage.

#[test]
fn removals_are_committed_after_their_delay_though_requests_keep_coming() {
    let mut world = World::new([]);
    let ids: Vec<SpoolId> = world
        .append(&singles(1..=2))
        .into_iter()
        .map(Result::unwrap)
        .collect();
    world.ask(vec![SpoolRequest::Remove(vec![ids[0]])]);
    for _ in 0..99 {
        world.ask(vec![SpoolRequest::Read]);
    }
    assert_eq!(
        world.did("remove"),
        0,
        "they wait for an append to share its sync"
    );
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
        assert_eq!(
            world.read().unwrap().0,
            kept,
            "what is committed is not handed out again"
        );
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
fn damaged_rows_are_kept_before_their_batch_is_removed() {
    let damaged = TestRow {
        is_damaged: true,
        ..row(2)
    };
    let batches = vec![vec![row(1), damaged], vec![damaged], vec![row(3)]];
    let mut world = World::new([("a", DiskFile::new("here", batches))]);
    world.fail("quarantine", full());
    world.wait(Duration::ZERO);
    assert_eq!(world.drain(), [3]);
    world.wait(Duration::from_secs(1));
    assert_eq!(
        world.store.0.borrow().files["a"].batches.len(),
        2,
        "nothing else holds those rows"
    );
    world.recover();
    world.wait(SCAN);
    let (ids, rows) = world.answer().unwrap();
    assert_eq!(rows, [1]);
    world.ask(vec![SpoolRequest::Remove(ids)]);
    world.wait(Duration::from_secs(1));
    assert_eq!(
        (world.names(), world.store.0.borrow().quarantined),
        (vec!["own1".to_owned()], 2)
    );
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
    assert_eq!(
        world.store.0.borrow().largest_commit,
        80,
        "one batch is never split"
    );
    assert_eq!(world.did("append"), 4, "50, 40, 80 and 30 bytes");
}

#[test]
fn a_full_spool_takes_what_fits_and_everything_again_once_it_is_emptied() {
    let mut world = World::with([], |config| config.limit_bytes = 30);
    let results = world.append(&[vec![vec![row(1); 2], vec![row(2); 2]], singles([3])].concat());
    assert!(
        matches!(results[..], [Ok(_), Err(SpoolFailure::Full { limit: 30 }), Ok(_)]),
        "{results:?}"
    );
    let held = results.into_iter().flatten().collect();
    world.ask(vec![SpoolRequest::Remove(held)]);
    assert!(world.append(&[vec![row(4); 3]])[0].is_ok());
}

use super::*;

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
    assert_eq!(
        world.read().unwrap(),
        (first.clone(), vec![1, 2, 3, 4]),
        "the next pass"
    );
    world.give_back(first.clone(), Again::AfterOthers);
    world.ask(vec![SpoolRequest::Rewind]);
    assert_eq!(
        world.read().unwrap(),
        (first, vec![1, 2, 3, 4]),
        "a batch was committed meanwhile"
    );
    assert_eq!(world.read(), None, "all is held");
}

#[test]
fn the_replay_of_50_000_small_batches_binds_no_more_than_a_few_at_a_time() {
    let mut world = World::with([("a", DiskFile::new("here", singles(1..=50_000)))], |config| {
        config.max_read_batches = 250;
    });
    world.wait(Duration::ZERO);
    assert_eq!(world.drain(), (1..=50_000).collect::<Vec<_>>());
    assert!(
        world.store.0.borrow().largest_call <= 750,
        "{}",
        world.store.0.borrow().largest_call
    );
    assert_eq!(world.did("mark_damaged"), 0);
    world.wait(Duration::from_secs(1));
    assert_eq!(
        world.names(),
        ["own1"],
        "an emptied file of another writer is removed"
    );
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
        assert!(
            world.replies.is_empty(),
            "what is not known is not answered: it would mean the end"
        );
        world.wait(Duration::from_secs(2));
        let (ids, rows) = world.answer().unwrap();
        assert_eq!(rows, [1, 2, 3]);
        world.ask(vec![SpoolRequest::Remove(ids)]);
        assert_eq!(world.did("mark_damaged"), 0);
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
    assert!(
        !world.replies.iter().any(is_answer),
        "one is still held: the answer waits for it"
    );
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

//! The last records of a writer.

use std::time::Duration;

use super::*;

const SHUTDOWN: Duration = Duration::from_secs(4);

/// A writer whose declaration of a loss is on a lane.
fn declaring(spool: Option<SpoolMode>) -> (Driver, Lane) {
    let mut driver = Driver::started(spool, 1, 100);
    assert_eq!(sends(&driver.lose(DropReason::QueueFull)), []);
    let lane = only(&sends(&driver.pass(Limits::default().declare_after)));
    (driver, lane)
}

#[test]
fn a_clean_end_follows_a_declaration_that_is_stored_and_none_follows_one_that_was_rejected() {
    let (mut driver, lane) = declaring(Some(SpoolMode::Overflow));
    driver.commit(lane);
    let actions = driver.close(SHUTDOWN);
    assert!(
        has_stop_record(&actions) && sends(&actions) == [lane],
        "{actions:?}"
    );

    let (mut driver, lane) = declaring(Some(SpoolMode::Overflow));
    let ticket = only(&tickets(&driver.fail(lane, SinkErrorKind::RowRejected)));
    driver.spool(SpoolReply::Quarantined {
        ticket,
        result: Ok(()),
    });
    let actions = driver.close(SHUTDOWN);
    assert!(!has_stop_record(&actions), "{actions:?}");
    assert_eq!(driver.wait(), Wait::Finished);
}

#[test]
fn nothing_is_replayed_in_the_time_that_is_kept_for_the_last_records() {
    for (until_answer, expected) in [
        (SHUTDOWN / 4, true),
        (SHUTDOWN - Duration::from_millis(400), false),
    ] {
        let mut driver = Driver::started(Some(SpoolMode::Overflow), 1, 100);
        assert!(has_read(&driver.spool(SpoolReply::Adopted)));
        driver.close(SHUTDOWN);
        driver.pass(until_answer - Duration::from_millis(200));
        let lane = only(&sends(&driver.found(1, vec![TestRow::Record])));
        driver.now = driver.now + Duration::from_millis(200);
        let actions = driver.commit(lane);
        assert_eq!(has_read(&actions), expected, "{actions:?}");
        assert_eq!(has_stop_record(&actions), !expected, "{actions:?}");
    }
}

#[test]
fn a_declaration_that_went_through_the_spool_is_attested_once_the_spool_is_drained() {
    let mut driver = Driver::started(Some(SpoolMode::Overflow), 1, 100);
    driver.lose(DropReason::QueueFull);
    let actions = driver.push(60);
    let copy = only(&appends(&actions));
    assert_eq!(sends(&actions), [], "the queue is more than half full");
    let actions = driver.spool(SpoolReply::Appended {
        copy,
        result: Ok(at(1)),
    });
    assert!(has_read(&actions) && driver.fates.get(&3) == Some(&Fate::Spooled));
    let rows = std::iter::once(TestRow::Record)
        .chain((3..63).map(TestRow::Entry))
        .collect();
    let lane = only(&sends(&driver.found(1, rows)));
    assert!(has_read(&driver.commit(lane)));
    assert_eq!(
        notices(&driver.spool(SpoolReply::Read(None))),
        [Notice::SpoolDrained]
    );
    let actions = driver.close(SHUTDOWN);
    assert!(
        has_stop_record(&actions) && sends(&actions) == [lane],
        "{actions:?}"
    );
    assert_eq!(
        appends(&actions),
        [],
        "nothing is left that the stop record must follow in the spool"
    );
}

#[test]
fn the_stop_record_of_an_unhindered_write_ahead_writer_goes_to_the_database() {
    let mut driver = Driver::started(Some(SpoolMode::WriteAhead), 1, 100);
    let actions = driver.push(1);
    let (copy, lane) = (only(&appends(&actions)), only(&sends(&actions)));
    driver.spool(SpoolReply::Appended {
        copy,
        result: Ok(at(2)),
    });
    assert!(
        !has_stop_record(&driver.close(SHUTDOWN)),
        "its entry is not committed"
    );
    let mut actions = driver.commit(lane);
    actions.extend(driver.pass(Limits::default().linger));
    assert!(
        has_stop_record(&actions) && sends(&actions) == [lane],
        "{actions:?}"
    );
    assert_eq!(appends(&actions), []);
}

/// A writer whose declaration of number 2 went through the spool and is rejected there. Its entries 1 and 3 to 5
/// are committed, and the spool is drained.
fn with_a_rejected_declaration() -> Driver {
    let mut driver = Driver::started(Some(SpoolMode::Overflow), 1, 4);
    driver.lose(DropReason::QueueFull);
    let actions = driver.push(3);
    let copy = only(&appends(&actions));
    driver.spool(SpoolReply::Appended {
        copy,
        result: Ok(at(1)),
    });
    let rows = std::iter::once(TestRow::Record)
        .chain((3..=5).map(TestRow::Entry))
        .collect();
    let lane = only(&sends(&driver.found(1, rows)));
    // Two halvings single out the record; then its neighbours are sent.
    driver.fail(lane, SinkErrorKind::RowRejected);
    driver.fail(lane, SinkErrorKind::RowRejected);
    let ticket = only(&tickets(&driver.fail(lane, SinkErrorKind::RowRejected)));
    driver.commit(lane);
    driver.commit(lane);
    driver.spool(SpoolReply::Quarantined {
        ticket,
        result: Ok(()),
    });
    driver.spool(SpoolReply::Read(None));
    assert_eq!(driver.fates.get(&5), Some(&Fate::Committed));
    driver
}

#[test]
fn no_clean_end_follows_a_declaration_that_was_rejected_on_its_way_from_the_spool() {
    let mut driver = with_a_rejected_declaration();
    let actions = driver.close(SHUTDOWN);
    assert!(!has_stop_record(&actions), "{actions:?}");
    assert_eq!(driver.wait(), Wait::Finished);
}

#[test]
fn a_stop_record_in_the_spool_is_not_sent_once_a_declaration_was_rejected() {
    let mut driver = with_a_rejected_declaration();
    driver.spool(SpoolReply::Adopted);
    // It came to the spool before the declaration in front of it was rejected.
    let actions = driver.found(2, vec![TestRow::StopRecord]);
    assert_eq!(sends(&actions), [], "{actions:?}");
    let removed = |action: &Action<TestRow>| matches!(action, Action::Spool(SpoolRequest::Remove(_)));
    assert!(
        actions.iter().any(removed),
        "it is removed from the spool: {actions:?}"
    );
}

#[test]
fn a_stop_record_waits_for_the_records_that_came_from_the_spool_before_it() {
    let mut driver = Driver::started(Some(SpoolMode::Overflow), 2, 100);
    driver.spool(SpoolReply::Adopted);
    let first = only(&sends(&driver.found(1, vec![TestRow::Record])));
    assert_eq!(
        sends(&driver.found(2, vec![TestRow::StopRecord])),
        [],
        "the other lane is idle"
    );
    assert_eq!(sends(&driver.commit(first)).len(), 1);
}

#[test]
fn a_shutdown_does_not_wait_for_a_database_that_hangs_once_all_entries_are_in_the_spool() {
    let mut driver = Driver::started(Some(SpoolMode::Overflow), 1, 100);
    assert_eq!(sends(&driver.push(1)).len(), 1);
    let copy = only(&appends(&driver.pass(SPILL_AFTER)));
    driver.spool(SpoolReply::Appended {
        copy,
        result: Ok(at(1)),
    });
    assert_eq!(driver.fates.get(&2), Some(&Fate::Spooled));
    let actions = driver.close(Duration::from_secs(60));
    assert!(
        has_stop_record(&actions) && sends(&actions).is_empty(),
        "{actions:?}"
    );
    assert_eq!(
        appends(&actions).len(),
        1,
        "the stop record goes to the spool at once"
    );
}

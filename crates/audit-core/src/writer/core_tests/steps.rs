//! What the core asks for while the writer runs.

use super::*;
use crate::spool::Again;
use crate::writer::Counter;

#[test]
fn the_oldest_rejected_row_is_given_up_once_the_kept_ones_fill_more_than_a_quarter_of_the_queue() {
    let mut driver = Driver::started(Some(SpoolMode::Overflow), 2, 7);
    let lane = only(&sends(&driver.push(1)));
    let ticket = only(&tickets(&driver.fail(lane, SinkErrorKind::RowRejected)));
    driver.spool(SpoolReply::Quarantined {
        ticket,
        result: Err(disk_full()),
    });
    assert_eq!(
        (driver.fates.get(&2), driver.held),
        (None, size_of(1)),
        "one of seven is kept"
    );
    let lane = only(&sends(&driver.push(1)));
    let actions = driver.fail(lane, SinkErrorKind::RowRejected);
    let lost = Notice::RejectedRowLost {
        reason: "test".to_owned(),
    };
    assert!(notices(&actions).contains(&lost), "{actions:?}");
    assert_eq!(
        driver.fates.get(&2),
        Some(&Fate::Dropped(DropReason::Database("test".into())))
    );
    assert_eq!((driver.fates.get(&3), driver.held), (None, size_of(1)));
}

#[test]
fn a_full_queue_is_reported_at_once_and_then_once_in_an_interval() {
    let mut driver = Driver::started(None, 1, 100);
    let full = |entries| vec![Notice::QueueFull { entries }];
    assert_eq!(notices(&driver.lose(DropReason::ShutDown)), [], "another reason");
    assert_eq!(notices(&driver.lose(DropReason::QueueFull)), full(1));
    assert_eq!(notices(&driver.lose(DropReason::QueueFull)), []);
    driver.now = driver.now + Limits::default().notice_interval;
    assert_eq!(notices(&driver.lose(DropReason::QueueFull)), full(2));
}

#[test]
fn a_commit_from_the_spool_is_counted_and_deferred_batches_are_handed_out_again() {
    let mut driver = Driver::started(Some(SpoolMode::Overflow), 1, 100);
    assert!(has_read(&driver.spool(SpoolReply::Adopted)));
    let lane = only(&sends(&driver.found(1, vec![TestRow::Entry(7)])));
    let actions = driver.fail(lane, SinkErrorKind::Misconfigured);
    let is_deferred = |request: &SpoolRequest<_>| matches!(request, SpoolRequest::Return { batches, again: Again::AfterOthers } if *batches == [at(1)]);
    assert!(requests(&actions).any(is_deferred), "{actions:?}");
    assert!(has_read(&driver.pass(SPILL_AFTER)));
    let lane = only(&sends(
        &driver.found(2, vec![TestRow::Entry(8), TestRow::Record, TestRow::Entry(9)]),
    ));
    let actions = driver.commit(lane);
    assert!(has_rewind(&actions), "{actions:?}");
    let replayed = |action: &Action<_>| match action {
        Action::Count(Counter::Replayed, entries) => Some(*entries),
        _ => None,
    };
    assert_eq!(actions.iter().filter_map(replayed).collect::<Vec<_>>(), [2]);
    // The next commit finds nothing deferred.
    let lane = only(&sends(&driver.found(1, vec![TestRow::Entry(7)])));
    assert!(!has_rewind(&driver.commit(lane)));
}

#[test]
fn nothing_is_replayed_until_the_quarantine_takes_the_rejected_row() {
    let mut driver = Driver::started(Some(SpoolMode::Overflow), 1, 100);
    assert!(has_read(&driver.spool(SpoolReply::Adopted)));
    let lane = only(&sends(&driver.found(1, vec![TestRow::Entry(7)])));
    let actions = driver.fail(lane, SinkErrorKind::RowRejected);
    let ticket = only(&tickets(&actions));
    assert!(!has_read(&actions), "the row is on its way to the quarantine");
    let actions = driver.spool(SpoolReply::Quarantined {
        ticket,
        result: Err(disk_full()),
    });
    assert!(!has_read(&actions), "the row is kept in memory");
    let actions = driver.pass(Limits::default().retry_spool_after);
    let ticket = only(&tickets(&actions));
    assert!(!has_read(&actions), "the row is on its way again");
    assert!(has_read(&driver.spool(SpoolReply::Quarantined {
        ticket,
        result: Ok(())
    })));
}

#[test]
fn a_writer_without_events_wakes_when_a_lane_begins_to_hang() {
    let mut driver = Driver::started(Some(SpoolMode::WriteAhead), 1, 100);
    let actions = driver.push(1);
    let copy = only(&appends(&actions));
    assert_eq!(sends(&actions).len(), 1);
    driver.spool(SpoolReply::Appended {
        copy,
        result: Ok(at(2)),
    });
    assert_eq!(driver.parked_until(), driver.now + SPILL_AFTER);
    driver.commit(0);
    assert_eq!(driver.parked_until(), Time::NEVER, "no lane is busy");
}

#[test]
fn a_busy_writer_with_a_spool_looks_how_full_the_queue_is() {
    let wait = |spool| {
        let mut driver = Driver::started(spool, 1, 100);
        assert_eq!(sends(&driver.push(1)).len(), 1);
        assert_eq!(sends(&driver.push(1)), [], "the lane is busy");
        (driver.wait(), driver.now)
    };
    let (until, now) = wait(Some(SpoolMode::Overflow));
    assert_eq!(until, Wait::Until(now + Limits::default().queue_poll));
    let (until, now) = wait(None);
    assert_eq!(until, Wait::Until(now + SPILL_AFTER));
}

#[test]
fn an_entry_that_waits_for_others_counts_as_the_oldest() {
    let mut driver = Driver::started(None, 2, 100);
    assert_eq!(driver.core.oldest_since(), None);
    driver.has_waiters = false;
    let first = driver.now;
    assert_eq!(sends(&driver.push(1)), [], "it may wait for others");
    assert_eq!(driver.core.oldest_since(), Some(first));
    let lane = only(&sends(&driver.pass(Limits::default().linger)));
    assert_eq!(driver.core.oldest_since(), Some(first), "it is on a lane");
    driver.push(1);
    let second = driver.now;
    assert_eq!(driver.core.oldest_since(), Some(first));
    driver.commit(lane);
    assert_eq!(driver.core.oldest_since(), Some(second));
}

#[test]
fn a_misconfigured_database_is_tried_with_a_few_batches_in_turn() {
    let mut driver = Driver::started(None, 2, 100);
    let lane = only(&sends(&driver.push(1)));
    driver.fail(lane, SinkErrorKind::Misconfigured);
    for _ in 0..2 * Limits::default().misconfigured_batches {
        driver.push(1);
    }
    assert_eq!(
        driver.core.held(),
        size_of(Limits::default().misconfigured_batches)
    );
    assert_eq!(driver.queue.len(), Limits::default().misconfigured_batches + 1);
}

#[test]
fn a_row_with_transient_errors_of_its_own_is_retried_after_the_longest_pause() {
    const STEP: Duration = Duration::from_millis(10);
    let pause = RetryPolicy::default().longest_pause;
    let mut driver = Driver::started(None, 2, 100);
    let (mut actions, mut attempts) = (driver.push(1), Vec::new());
    let end = driver.now + 6 * pause;
    while driver.now < end {
        let sent: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Send { lane, rows, .. } => Some((*lane, rows.contains(&TestRow::Entry(2)))),
                _ => None,
            })
            .collect();
        actions = Vec::new();
        for (lane, is_rejected) in sent {
            actions.extend(if is_rejected {
                attempts.push(driver.now);
                driver.fail(lane, SinkErrorKind::Transient)
            } else {
                driver.commit(lane)
            });
        }
        if actions
            .iter()
            .all(|action| !matches!(action, Action::Send { .. }))
        {
            driver.now = driver.now + STEP;
            actions.extend(driver.push(1));
        }
    }
    let accepted = driver.fates.values().filter(|fate| **fate == Fate::Committed);
    assert!(
        accepted.count() > 1_000,
        "others are accepted meanwhile: {:?}",
        driver.fates
    );
    let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    let last = &gaps[gaps.len() - 3..];
    assert!(
        last.iter().all(|gap| (pause..pause + 2 * STEP).contains(gap)),
        "{gaps:?}"
    );
}

/// A writer with two lanes, of which the first has a batch of this many entries.
fn with_batch_in_flight(entries: usize) -> (Driver, Lane) {
    let mut driver = Driver::started(None, 2, 100);
    let lane = only(&sends(&driver.push(entries)));
    (driver, lane)
}

#[test]
fn a_smaller_batch_waits_for_the_answer_to_a_larger_one_for_a_short_time() {
    let (mut driver, lane) = with_batch_in_flight(3);
    assert_eq!(sends(&driver.push(2)), [], "two of three");
    assert_eq!(sends(&driver.push(1)).len(), 1, "three of three");
    let (mut driver, first) = with_batch_in_flight(3);
    assert_eq!(first, lane);
    assert_eq!(sends(&driver.push(1)), []);
    assert_eq!(
        sends(&driver.pass(Limits::default().linger)).len(),
        1,
        "as long as an entry lingers"
    );
    let mut driver = Driver::started(Some(SpoolMode::WriteAhead), 2, 100);
    driver.push(3);
    assert_eq!(appends(&driver.push(1)).len(), 1, "it is synced at once");
}

#[test]
fn entries_that_wait_are_sent_after_the_callers_of_a_committed_batch_were_notified() {
    let (mut driver, lane) = with_batch_in_flight(3);
    assert_eq!(sends(&driver.push(1)), []);
    assert_eq!(sends(&driver.commit(lane)), [], "its callers may be back at once");
    assert_eq!(
        sends(&driver.on(Event::Notified { callers: 3 })).len(),
        1,
        "they never came back at once"
    );
    let (mut driver, lane) = with_batch_in_flight(3);
    driver.push(1);
    driver.has_waiters = false;
    driver.now = driver.now + Limits::default().linger;
    assert_eq!(sends(&driver.commit(lane)).len(), 1, "nobody is notified");
}

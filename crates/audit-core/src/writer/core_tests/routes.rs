//! The route of a new batch.

use std::time::Duration;

use super::{Driver, SPILL_AFTER, appends, disk_full, only, sends, size_of};
use crate::Size;
use crate::spool::SpoolReply;
use crate::writer::routing::Route;
use crate::writer::{Event, Limits, SinkErrorKind, SpoolMode};

/// Changes the state of a writer whose two lanes are idle.
type Setup = fn(&mut Driver);

/// The shortest time.
const MOMENT: Duration = Duration::from_nanos(1);

const SHUTDOWN: Duration = Duration::from_secs(4);

fn hang(driver: &mut Driver, lanes: usize) {
    (0..lanes).for_each(|_| assert_eq!(sends(&driver.push(1)).len(), 1));
    driver.now = driver.now + SPILL_AFTER;
}

fn fail_one(driver: &mut Driver) {
    let lane = only(&sends(&driver.push(1)));
    driver.fail(lane, SinkErrorKind::Transient);
}

/// The spool refuses a batch of a queue that was more than half full.
fn fail_spool(driver: &mut Driver) {
    driver.held = Size {
        entries: 51,
        bytes: 0,
    };
    let copies = appends(&driver.push(1));
    copies.into_iter().for_each(|copy| {
        driver.spool(SpoolReply::Appended {
            copy,
            result: Err(disk_full()),
        });
    });
}

#[test]
fn the_route_of_a_new_batch_follows_from_the_database_the_queue_the_spool_and_the_shutdown() {
    use Route::{Both, Lane, Spool};
    // Without a spool, with one for overflow, with one that is written ahead.
    let table: [(&str, Setup, [Route; 3]); 15] = [
        ("idle", |_| (), [Lane, Lane, Both]),
        (
            "half of the entries",
            |d| d.held = size_of(50),
            [Lane, Lane, Both],
        ),
        (
            "an entry more",
            |d| {
                d.held = Size {
                    entries: 51,
                    bytes: 0,
                }
            },
            [Lane, Spool, Spool],
        ),
        (
            "a byte more",
            |d| {
                d.held = Size {
                    entries: 1,
                    bytes: 501,
                }
            },
            [Lane, Spool, Spool],
        ),
        ("just down", fail_one, [Lane, Lane, Both]),
        (
            "not down for long",
            |d| {
                fail_one(d);
                d.now = d.now + (SPILL_AFTER - MOMENT);
            },
            [Lane, Lane, Both],
        ),
        (
            "down for long",
            |d| {
                fail_one(d);
                d.now = d.now + SPILL_AFTER;
            },
            [Lane, Spool, Spool],
        ),
        ("one lane hangs", |d| hang(d, 1), [Lane, Lane, Both]),
        ("all lanes hang", |d| hang(d, 2), [Lane, Spool, Spool]),
        (
            "early in a shutdown",
            |d| {
                d.close(SHUTDOWN);
                d.now = d.now + (SHUTDOWN / 2 - MOMENT);
            },
            [Lane, Lane, Both],
        ),
        (
            "half of a shutdown is over",
            |d| {
                d.close(SHUTDOWN);
                d.now = d.now + SHUTDOWN / 2;
            },
            [Lane, Spool, Spool],
        ),
        (
            "a shutdown in an outage",
            |d| {
                fail_one(d);
                d.close(SHUTDOWN);
            },
            [Lane, Spool, Spool],
        ),
        ("the spool failed", fail_spool, [Lane, Lane, Lane]),
        (
            "the spool is tried again",
            |d| {
                fail_spool(d);
                d.now = d.now + Limits::default().retry_spool_after;
            },
            [Lane, Spool, Spool],
        ),
        (
            "the spool's thread ended",
            |d| {
                d.held = size_of(60);
                d.on(Event::SpoolGone);
            },
            [Lane, Lane, Lane],
        ),
    ];
    for (name, setup, expected) in table {
        for (spool, expected) in [None, Some(SpoolMode::Overflow), Some(SpoolMode::WriteAhead)]
            .into_iter()
            .zip(expected)
        {
            let mut driver = Driver::started(spool, 2, 100);
            // A number whose entry is not settled keeps the shutdown open.
            driver.submitted += 1;
            setup(&mut driver);
            assert_eq!(driver.route(), expected, "{name}, spool: {spool:?}");
        }
    }
}

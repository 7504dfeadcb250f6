//! Commands and sessions that are killed while they wait for a lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::locked::LOCK;
use super::{Condition, Session, TIMEOUT, VERBS, World, check};

/// The other sessions of this database that wait for a lock.
const WAITING: &str = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[test]
fn a_session_that_the_server_ends_is_no_success() {
    let world = World::new();
    let mut holder = Session::open(&world.url);
    holder.batch(LOCK);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut admin = Session::open(&world.url);
            while !is_done.load(Ordering::Relaxed) {
                admin.number(&format!(
                    "SELECT count(pg_terminate_backend(pid)) AS value {WAITING}"
                ));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check(Condition::Terminated, |verb| world.run(verb));
        }));
        is_done.store(true, Ordering::Relaxed);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The verbs that wait for the locked tables, except those that give up within a second.
const WAITERS: [&str; 11] = [
    "write",
    "import cloudtrail",
    "list",
    "verify writers",
    "actions --used",
    "partitions move-default",
    "retention plan",
    "retention apply",
    "hold add",
    "hold release",
    "restore",
];

#[test]
fn a_verb_that_was_killed_leaves_a_consistent_state() {
    let world = World::new();
    let mut holder = Session::open(&world.url);
    holder.batch(LOCK);
    let mut admin = Session::open(&world.url);
    let mut wait_for = |what: &str, sql: &str| {
        let begun = Instant::now();
        loop {
            match admin.number(sql) {
                0 => assert!(begun.elapsed() < TIMEOUT, "{what}"),
                number => return number,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut sessions = "0".to_owned();
    for name in WAITERS {
        let verb = VERBS.iter().find(|verb| verb.name == name).unwrap();
        let (_dir, mut command) = world.command(verb, &world.url);
        let mut child = command.spawn().unwrap();
        let new =
            format!("SELECT coalesce(max(pid), 0)::bigint AS value {WAITING} AND pid NOT IN ({sessions})");
        sessions = format!("{sessions}, {}", wait_for(name, &new));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "a signal ended {name}");
    }
    holder.batch("ROLLBACK");
    // The sessions of the killed commands end, and with them what they did.
    let none_is_left = format!(
        "SELECT (count(*) = 0)::int::bigint AS value FROM pg_stat_activity WHERE pid IN ({sessions})"
    );
    wait_for("a session remains", &none_is_left);
    for verb in VERBS {
        let ran = world.run(verb);
        assert_eq!(ran.code, Some(verb.usual), "{}: {ran:?}", verb.name);
    }
}

//! Commands and sessions that are killed while they wait for a lock.

use std::process::{Child, Stdio};
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
const WAITERS: [&str; 10] = [
    "write",
    "import cloudtrail",
    "list",
    "verify writers",
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
    let verbs: Vec<_> = VERBS.iter().filter(|verb| WAITERS.contains(&verb.name)).collect();
    assert_eq!(verbs.len(), WAITERS.len());
    let commands: Vec<_> = verbs.iter().map(|verb| world.command(verb, &world.url)).collect();
    holder.batch(LOCK);
    let mut children: Vec<(_, Child)> = commands
        .into_iter()
        .map(|(dir, mut command)| {
            let command = command.stdout(Stdio::null()).stderr(Stdio::null());
            (dir, command.spawn().unwrap())
        })
        .collect();
    let mut admin = Session::open(&world.url);
    let mut wait_for = |what: &str, sql: &str, number: i64| {
        let begun = Instant::now();
        while admin.number(sql) != number {
            assert!(begun.elapsed() < TIMEOUT, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let waiting = format!("SELECT count(*) AS value {WAITING}");
    wait_for("not every verb waits", &waiting, verbs.len() as i64);
    for (_, child) in &mut children {
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().code(), None, "a signal ended it");
    }
    holder.batch("ROLLBACK");
    // The sessions of the killed commands end, and with them what they did.
    let others = "SELECT count(*) AS value FROM pg_stat_activity WHERE datname = current_database() \
                  AND application_name <> ''";
    wait_for("a session remains", others, 0);
    for verb in VERBS {
        let ran = world.run(verb);
        assert_eq!(ran.code, Some(verb.usual), "{}: {ran:?}", verb.name);
    }
}

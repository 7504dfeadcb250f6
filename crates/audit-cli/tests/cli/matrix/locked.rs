//! Tables and files that somebody else has locked.

use diesel::connection::SimpleConnection;

use super::{Condition, Session, VERBS, World, check};

/// Locks everything of the trail against readers.
pub(crate) const LOCK: &str =
    "BEGIN; LOCK TABLE audit_logs, audit_legal_holds, audit_retention_ledger IN ACCESS EXCLUSIVE MODE";

#[test]
fn no_verb_waits_without_a_bound_for_a_locked_table() {
    let world = World::new();
    let mut holder = Session::open(&world.url);
    holder.batch(LOCK);
    check(Condition::Locked, |verb| world.run(verb));
}

#[test]
fn a_verb_that_migrates_names_the_lock_on_the_list_of_migrations() {
    let world = World::new();
    let mut holder = Session::open(&world.url);
    holder.batch("BEGIN; LOCK TABLE __diesel_schema_migrations IN ACCESS EXCLUSIVE MODE");
    check(Condition::LockedMigrations, |verb| world.run(verb));
}

#[test]
fn no_verb_waits_without_a_bound_for_a_locked_file() {
    let world = World::new();
    check(Condition::LockedFile, |verb| {
        let (dir, _) = world.command(verb, "");
        let path = dir.path().join("audit.db").display().to_string();
        let url = format!("sqlite://{path}");
        // For `migrate` there is something to do.
        if verb.name != "migrate" {
            let write = VERBS.iter().find(|verb| verb.name == "write --action").unwrap();
            assert_eq!(world.run_at(write, &url).code, Some(0));
        }
        let mut holder: diesel::SqliteConnection = diesel::Connection::establish(&path).unwrap();
        holder
            .batch_execute("PRAGMA journal_mode = wal; BEGIN EXCLUSIVE")
            .unwrap();
        world.run_at(verb, &url)
    });
}

//! Each verb through PgBouncer, in both modes: it ends as it does without, and leaves nothing in the session that it
//! used.

use db_test::Bouncer;

use super::world::server;
use super::{Session, VERBS, Verb, World};

/// The settings of a session that a command could change, with their values in a new session. The isolation is
/// that of a transaction, whatever was chosen for one before.
const SETTINGS: &str = "SELECT count(*) AS value FROM pg_settings \
    WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'transaction_isolation')";

/// What a session holds that its next user would meet: settings, prepared statements, locks, temporary tables. PgBouncer
/// itself sets the parameters of the start of a connection, and takes care of them.
const LEFT: [(&str, &str); 4] = [
    ("settings", SETTINGS),
    (
        "prepared statements",
        "SELECT count(*) AS value FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_prepared_statements%'",
    ),
    (
        "advisory locks",
        "SELECT count(*) AS value FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
    ),
    (
        "temporary tables",
        "SELECT count(*) AS value FROM pg_class WHERE relpersistence = 't'",
    ),
];

/// The verbs that write as a writer does, with prepared statements of a session.
const WRITERS: [&str; 2] = ["spool replay", "spool quarantine --retry"];

/// Runs a verb, and returns what it left in the session of the pooler that it used.
fn run_and_look(world: &World, bouncer: &Bouncer, verb: &Verb) -> Vec<String> {
    let ran = world.run_at(verb, &bouncer.url("postgres"));
    assert_eq!(ran.code, Some(verb.usual), "{}: {ran:?}", verb.name);
    left_in_session(bouncer)
        .iter()
        .map(|what| format!("{}: {what}", verb.name))
        .collect()
}

/// What the session holds that the pooler used last: it gives that one to the next client.
fn left_in_session(bouncer: &Bouncer) -> Vec<&'static str> {
    let is_left = |query| count(&bouncer.url("postgres"), query) > 0;
    LEFT.iter()
        .filter(|(_, query)| is_left(query))
        .map(|(what, _)| *what)
        .collect()
}

/// Something of each kind that is left in a session is seen.
fn assert_that_it_would_be_seen(bouncer: &Bouncer) {
    let mut other = Session::open(&bouncer.url("postgres"));
    other.batch(
        "SET work_mem = '5MB'; PREPARE x AS SELECT 1; SELECT pg_advisory_lock(1); CREATE TEMP TABLE t ()",
    );
    assert_eq!(left_in_session(bouncer), LEFT.map(|(what, _)| what));
    other.batch("DISCARD ALL");
    assert!(left_in_session(bouncer).is_empty());
}

/// A count in a session, without a prepared statement.
fn count(url: &str, query: &str) -> i64 {
    let database = db_services::client::Database::from_url(url).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = database.postgres_client().await.unwrap().unwrap();
        let messages = client.simple_query(query).await.unwrap();
        let value = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        value.unwrap().parse().unwrap()
    })
}

#[test]
fn each_verb_works_behind_pgbouncer_and_leaves_nothing_in_its_session() {
    for mode in ["session", "transaction"] {
        let world = World::new();
        // For `doctor`, a pooler that can give its connections two sessions.
        let bouncer = Bouncer::start(server(), &world.url, mode, 2).unwrap();
        if mode == "transaction" {
            assert_that_it_would_be_seen(&bouncer);
        }
        let mut left = Vec::new();
        for verb in VERBS.iter().filter(|verb| !WRITERS.contains(&verb.name)) {
            left.extend(run_and_look(&world, &bouncer, verb));
        }
        assert!(left.is_empty(), "{mode}: {left:#?}");
    }
}

/// A writer sets up its session once, and prepares its statement there.
#[test]
fn a_replay_behind_pgbouncer_succeeds_or_names_the_pooler() {
    for mode in ["session", "transaction"] {
        let world = World::new();
        let bouncer = Bouncer::start(server(), &world.url, mode, 2).unwrap();
        for verb in VERBS.iter().filter(|verb| WRITERS.contains(&verb.name)) {
            let ran = world.run_at(verb, &bouncer.url("postgres"));
            // The statement of the first is still in the session when the second one comes.
            let names_the_pooler = ran
                .err
                .contains("PgBouncer in transaction mode needs 1.21 or newer");
            let is_fine = ran.code == Some(verb.usual)
                || (ran.code == Some(3) && names_the_pooler && mode == "transaction");
            assert!(is_fine, "{mode}: {}: {ran:?}", verb.name);
        }
    }
}

/// A statement with the name of one of the command's is in the pooler's session.
#[test]
fn a_statement_that_another_program_left_in_the_session_is_named_with_its_remedy() {
    let world = World::new();
    let bouncer = Bouncer::start(server(), &world.url, "transaction", 1).unwrap();
    let mut other = Session::open(&bouncer.url("postgres"));
    other.batch("PREPARE s0 AS SELECT 1");
    let list = VERBS.iter().find(|verb| verb.name == "list").unwrap();
    let ran = world.run_at(list, &bouncer.url("postgres"));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let parts = [
        "\"s0\" already exists",
        "PgBouncer in transaction mode needs 1.21",
        "connect directly",
    ];
    assert!(parts.iter().all(|part| ran.err.contains(part)), "{ran:?}");
}

/// Each of them prepares statements of the same names. A session that changed hands between a statement and its use
/// would show in one of them.
#[test]
fn commands_that_share_sessions_do_not_disturb_each_other() {
    let world = World::new();
    let bouncer = Bouncer::start(server(), &world.url, "transaction", 3).unwrap();
    let verb = |name| VERBS.iter().find(|verb| verb.name == name).unwrap();
    let url = bouncer.url("postgres");
    std::thread::scope(|scope| {
        for name in ["list", "write", "retention plan", "hold add"]
            .into_iter()
            .cycle()
            .take(24)
        {
            let (world, url) = (&world, &url);
            scope.spawn(move || {
                let ran = world.run_at(verb(name), url);
                assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
            });
        }
    });
}

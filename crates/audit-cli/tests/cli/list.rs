//! `auditlog list`.

use crate::fixture::CliFixture;

#[test]
fn listed_entries_cannot_control_the_terminal() {
    let cli = CliFixture::new();
    assert_eq!(
        cli.run(&["write", "--action", "\x1b[2J\tx", "--actor", "a\nb"]).0,
        0
    );
    let (_, out, _) = cli.run(&["list"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(!out.contains('\x1b'), "{out}");
}

/// Only the owner may read the list of migrations; `list` and `verify` work without it.
#[test]
fn a_login_that_may_only_read_can_list_and_verify() {
    let server = db_test::Server::start(&[]).unwrap_or_else(|error| panic!("{error}"));
    let owner = server.migrated().unwrap();
    let sql = "CREATE ROLE alice LOGIN PASSWORD 'pw' IN ROLE audit_auditor; \
         INSERT INTO audit_logs (action) VALUES ('seen.by_alice')";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
        AsyncPgConnection::establish(&owner)
            .await
            .unwrap()
            .batch_execute(sql)
            .await
            .unwrap();
    });
    let alice = server.url_as("alice", "pw", owner.rsplit_once('/').unwrap().1);
    let cli = CliFixture::new();
    let (code, out, err) = cli.run(&["--database-url", &alice, "list", "--json"]);
    assert_eq!((code, out.contains("seen.by_alice")), (0, true), "{err}");
    let (code, _, err) = cli.run(&["--database-url", &alice, "verify", "writers"]);
    assert_eq!(code, 0, "{err}");
    // Where no list of migrations exists, every user gets the hint.
    for empty in [server.url("postgres"), server.url_as("alice", "pw", "postgres")] {
        let (code, _, err) = cli.run(&["--database-url", &empty, "list"]);
        assert!(code == 3 && err.contains("auditlog migrate"), "{err}");
    }
}

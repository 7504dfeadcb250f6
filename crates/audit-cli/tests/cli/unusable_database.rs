//! Every verb, with a database that does not answer, that refuses the connection, or that lacks a right: exit code
//! 3, a text that names the cause, and no line of the input blamed.

use std::net::TcpListener;

use db_test::Server;

use crate::fixture::{CliFixture, output_of};

/// The arguments of each verb that needs a database.
const VERBS: [&[&str]; 15] = [
    &["migrate"],
    &["migrate", "--status"],
    &["migrate", "--revert"],
    &["write", "--action", "x"],
    &["write", "lines.ndjson"],
    &["import", "cloudtrail", "log.json"],
    &["list"],
    &["verify", "writers"],
    &["spool", "--dir", "spool", "replay"],
    &["partitions", "list"],
    &["partitions", "ensure"],
    &["retention", "plan", "--keep", "13months"],
    &["hold", "list"],
    &["hold", "add", "--everything", "--reason", "r"],
    &["doctor"],
];

/// A working directory with the input of the verbs.
fn fixture() -> CliFixture {
    let cli = CliFixture::new();
    let write = |name: &str, text: &str| std::fs::write(cli.dir.path().join(name), text).unwrap();
    write("lines.ndjson", "{\"action\":\"a\"}\n{\"action\":\"b\"}\n");
    let event = r#"{"eventID":"5ec0c7e5-7f9d-4c4c-8b9e-2f7a0e6d8e01","eventTime":"2023-07-10T11:42:18Z",
        "eventSource":"s3.amazonaws.com","eventName":"GetObject"}"#;
    write("log.json", &format!("{{\"Records\":[{event}]}}"));
    std::fs::create_dir(cli.dir.path().join("spool")).unwrap();
    cli
}

/// Asserts that each of these verbs ends with exit code 3 and a text with one of these parts.
fn assert_each_fails(
    cli: &CliFixture,
    url: &str,
    verbs: impl Iterator<Item = &'static [&'static str]>,
    parts: &[&str],
) {
    let mut tried = 0;
    for arguments in verbs {
        let output = cli.command(arguments).env("DATABASE_URL", url).output().unwrap();
        let (code, out, err) = output_of(output);
        assert_eq!(code, 3, "{arguments:?}: {out}{err}");
        assert!(
            parts.iter().any(|part| err.contains(part)),
            "{arguments:?} does not say why: {err}"
        );
        let blamed = ["lines.ndjson:1", "lines.ndjson:2", "record 1"];
        assert!(
            !blamed.iter().any(|place| err.contains(place)),
            "{arguments:?}: {err}"
        );
        tried += 1;
    }
    assert!(tried > 0);
}

#[test]
fn each_verb_ends_when_the_server_stays_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1");
    // A spool without files needs no database.
    let verbs = VERBS.into_iter().filter(|verb| verb[0] != "spool");
    assert_each_fails(&fixture(), &url, verbs, &["took longer than 1s"]);
}

#[test]
fn each_verb_ends_when_nothing_listens() {
    // One that was free a moment ago may be another test's by now.
    let port = 1;
    let verbs = VERBS.into_iter().filter(|verb| verb[0] != "spool");
    let url = format!("postgres://u@127.0.0.1:{port}/d");
    assert_each_fails(&fixture(), &url, verbs, &["refused"]);
}

#[test]
fn each_verb_names_the_right_that_its_user_lacks() {
    let server = Server::start(&[]).unwrap();
    let owner = server.migrated().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
        let mut conn = AsyncPgConnection::establish(&owner).await.unwrap();
        conn.batch_execute("CREATE ROLE nobody LOGIN PASSWORD 'pw'")
            .await
            .unwrap();
    });
    let cli = fixture();
    for verb in VERBS.iter().filter(|verb| !verb.contains(&"--revert")) {
        let output = cli.command(verb).env("DATABASE_URL", &owner).output().unwrap();
        assert_ne!(
            output.status.code(),
            Some(3),
            "the owner may: {verb:?} {output:?}"
        );
    }
    let nobody = server.url_as("nobody", "pw", owner.rsplit_once('/').unwrap().1);
    // Nothing is pending, so that `migrate` has nothing to do; the spool is empty.
    let verbs = VERBS
        .into_iter()
        .filter(|verb| !matches!(verb, ["migrate", ..] | ["spool", ..] | ["doctor"]));
    assert_each_fails(&cli, &nobody, verbs, &["permission denied for", "GRANT audit_"]);
}

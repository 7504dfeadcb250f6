//! Invalid arguments.

use crate::fixture::{CliFixture, output_of};

#[test]
fn invalid_arguments_are_explained_without_the_password() {
    let cli = CliFixture::new();
    for (arguments, message) in [
        (&["write"][..], "--action"),
        (&["write", "--action", ""], "a value is required"),
        (
            &["write", "--action", "x", "--ip", "nowhere"],
            "invalid IP address",
        ),
        (
            &["write", "--action", "x", "--outcome", "fine"],
            "success, failure, denied, unknown",
        ),
        (
            &["write", "--action", "x", "--metadata", "[1]"],
            "expected a JSON object",
        ),
        (
            &["write", "--action", "x", "events.ndjson"],
            "cannot be used with",
        ),
        (
            &["--database-url", "mysql://u:hush@h/d", "list"],
            "expected postgres://",
        ),
        (
            &[
                "--database-url",
                "postgres://u:hush@db.example/d?sslmode=verify-ca",
                "list",
            ],
            "sslrootcert",
        ),
    ] {
        let (code, _, err) = cli.run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(
            err.contains(message) && !err.contains("hush"),
            "{arguments:?}: {err}"
        );
    }
    let help = cli
        .command(&["--help"])
        .env("DATABASE_URL", "postgres://u:hush@h/d")
        .output()
        .unwrap();
    assert!(!output_of(help).1.contains("hush"));
}

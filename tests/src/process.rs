//! An application that is configured only by its environment.

use std::process::{Command, Output};

use crate::support::{TestDb, on_both};

/// Runs the application with this environment. Its log goes to standard error.
pub fn app(argument: &str, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_app"));
    command
        .arg(argument)
        .env("RUST_LOG", "info")
        .env("RUST_BACKTRACE", "0");
    for name in [
        "DATABASE_URL",
        "AUDIT_DATABASE_URL",
        "AUDIT_LOG",
        "AUDIT_SPOOL_DIR",
    ] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied()).output().unwrap()
}

pub fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}

on_both! {
    async fn a_shutdown_writes_fire_and_forget_entries(db: TestDb) {
        for (nth, argument) in ["shutdown", "blocking", "guard", "panic"].into_iter().enumerate() {
            let output = app(argument, &[("DATABASE_URL", &db.url)]);
            assert_eq!(output.status.success(), argument != "panic", "{output:?}");
            assert_eq!(db.count().await, 1_000 * (nth as i64 + 1), "{argument}: {output:?}");
        }
    }

    async fn the_first_entry_starts_a_writer_from_the_environment(db: TestDb) {
        let output = app("await", &[("AUDIT_DATABASE_URL", &db.url), ("DATABASE_URL", "mysql://wrong")]);
        let printed = lines(&output.stdout);
        assert_eq!(printed[..5], ["NotStarted", "committed", "committed", "committed", "committed"], "{output:?}");
        assert!(printed[5].starts_with("Running"), "{output:?}");
        assert_eq!(db.count().await, 3);
    }

    async fn installing_a_writer_after_the_first_entry_is_an_error(db: TestDb) {
        let output = app("install-late", &[("DATABASE_URL", &db.url)]);
        assert_eq!(lines(&output.stdout)[0], "Err(InstallError)", "{output:?}");
        assert_eq!(db.count().await, 1);
    }
}

#[test]
fn a_missing_configuration_disables_the_trail_and_is_logged_once() {
    for environment in [&[][..], &[("DATABASE_URL", "")][..]] {
        let output = app("await", environment);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            lines(&output.stdout),
            [
                "NotStarted",
                "disabled",
                "disabled",
                "disabled",
                "committed",
                "Disabled"
            ]
        );
        let logged = lines(&output.stderr);
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(
            logged[0].contains("WARN") && logged[0].contains("no database is configured"),
            "{logged:?}"
        );
    }
}

#[test]
fn a_trail_that_is_switched_off_logs_nothing() {
    let output = app(
        "await",
        &[("AUDIT_LOG", "off"), ("DATABASE_URL", "postgres://localhost/db")],
    );
    assert_eq!(lines(&output.stdout)[1], "disabled");
    assert_eq!(lines(&output.stderr), [""; 0]);
}

#[test]
fn an_unreachable_database_is_logged_once_and_at_the_end() {
    let output = app(
        "await-a-moment",
        &[("DATABASE_URL", "postgres://u:hush@127.0.0.1:1/db")],
    );
    assert!(output.status.success(), "{output:?}");
    let printed = lines(&output.stdout);
    assert_eq!(printed, ["pending"]);
    let errors: Vec<_> = lines(&output.stderr)
        .into_iter()
        .filter(|line| line.contains("ERROR"))
        .collect();
    assert_eq!(
        errors.len(),
        2,
        "at the first failure and at the shutdown: {errors:?}"
    );
    assert!(
        errors[0].contains("does not accept entries") && errors[0].contains("refused"),
        "{errors:?}"
    );
    assert!(errors[1].contains("ended"), "{errors:?}");
    assert!(!format!("{printed:?}{errors:?}").contains("hush"));
}

#[test]
fn an_unusable_url_is_logged_once() {
    for url in [
        "mysql://u:hush@localhost/db",
        "postgres://u:hush@db.example/db?sslmode=verify-ca",
        "postgres://u:hush@localhost/db?sslcert=me.crt",
    ] {
        let output = app("await", &[("DATABASE_URL", url)]);
        assert!(output.status.success(), "{output:?}");
        let (printed, logged) = (lines(&output.stdout), lines(&output.stderr));
        assert!(
            printed[1].starts_with("dropped: the database cannot be used"),
            "{printed:?}"
        );
        assert!(printed[5].starts_with("Unusable"), "{printed:?}");
        assert_eq!(logged.len(), 1, "{logged:?}");
        assert!(!format!("{printed:?}{logged:?}").contains("hush"));
    }
}

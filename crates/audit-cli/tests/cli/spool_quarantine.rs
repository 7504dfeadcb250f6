//! `auditlog spool quarantine` with a directory that two databases share.

use std::path::Path;

use db_services::audit::{AuditEntry, AuditWriter, Durability};
use db_services::client::Database;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use crate::fixture::CliFixture;

fn execute(path: &Path, sql: &str) {
    SqliteConnection::establish(&path.display().to_string())
        .unwrap()
        .batch_execute(sql)
        .unwrap();
}

/// Three entries that this database rejected are in the quarantine of the directory.
fn quarantine_three(path: &Path, dir: &Path) {
    execute(
        path,
        "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'rude.word' BEGIN SELECT RAISE(ABORT, 'rude'); END",
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let database = Database::from_url(&format!("sqlite://{}", path.display())).unwrap();
        let builder = AuditWriter::builder(database).durability(Durability::Spill(dir.to_owned()));
        let (writer, guard) = builder.start().unwrap();
        let entries = ["rude.word"; 3].map(AuditEntry::new);
        drop(writer.write_all(entries.into_iter().chain([AuditEntry::new("kind.word")])));
        assert_eq!(
            guard
                .shutdown(std::time::Duration::from_secs(60))
                .await
                .quarantined,
            3
        );
    });
}

#[test]
fn entries_for_another_database_are_left_and_reported() {
    let cli = CliFixture::new();
    let dir = cli.dir.path();
    let spool = dir.join("spool");
    std::fs::create_dir(&spool).unwrap();
    let url = |name: &str| format!("sqlite://{}", dir.join(name).display());
    let on = |name: &str, arguments: &[&str]| {
        let url = url(name);
        cli.run(&[&["--database-url", &url], arguments].concat())
    };
    let retry = ["spool", "--dir", "spool", "quarantine", "--retry"];
    for name in ["a.db", "b.db"] {
        assert_eq!(on(name, &["migrate"]).0, 0);
    }
    quarantine_three(&dir.join("b.db"), &spool);

    let (code, out, err) = on("a.db", &retry);
    assert_eq!((code, &*out), (1, "wrote 0 entries, 3 in quarantine\n"));
    assert!(
        err.contains("3 entries for another database") && err.contains("--any-target"),
        "{err}"
    );
    let (_, out, _) = on("a.db", &["spool", "--dir", "spool", "quarantine"]);
    assert_eq!(out.matches(&url("b.db")).count(), 3, "{out}");

    let (code, out, err) = on("b.db", &retry);
    assert_eq!((code, &*out), (1, "wrote 0 entries, 3 in quarantine\n"));
    assert!(
        err.contains("still rejects 3 entries: ") && err.contains("rude"),
        "{err}"
    );

    execute(&dir.join("b.db"), "DROP TRIGGER polite");
    let (code, out, err) = on("b.db", &retry);
    assert_eq!((code, &*out), (0, "wrote 3 entries, 0 in quarantine\n"), "{err}");
    assert_eq!(on("a.db", &["list", "--json"]).1.lines().count(), 0);
    assert_eq!(on("b.db", &["list", "--json"]).1.lines().count(), 4);
}

#[test]
fn entries_for_another_database_are_written_on_request() {
    let cli = CliFixture::new();
    let dir = cli.dir.path();
    std::fs::create_dir(dir.join("spool")).unwrap();
    for name in ["sqlite://a.db", "sqlite://audit.db"] {
        assert_eq!(cli.run(&["--database-url", name, "migrate"]).0, 0);
    }
    quarantine_three(&dir.join("a.db"), &dir.join("spool"));
    let (code, out, err) = cli.run(&["spool", "--dir", "spool", "quarantine", "--retry", "--any-target"]);
    assert_eq!((code, &*out), (0, "wrote 3 entries, 0 in quarantine\n"), "{err}");
    assert_eq!(cli.rows().len(), 3);
    let (code, _, err) = cli.run(&["spool", "--dir", "spool", "quarantine", "--any-target"]);
    assert!(code == 2 && err.contains("--retry"), "{err}");
}

#[test]
fn a_damaged_quarantine_is_reported_and_left_as_it_is() {
    let cli = CliFixture::new();
    let spool = cli.dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    std::fs::write(spool.join("quarantine.sqlite"), [0xA5; 8_192]).unwrap();
    std::fs::write(spool.join("quarantine.older.damaged"), "older").unwrap();
    let (code, _, err) = cli.run(&["spool", "--dir", "spool", "quarantine"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("not a database") && err.contains("quarantine.older.damaged"),
        "{err}"
    );
    let (code, _, err) = cli.run(&["spool", "--dir", "spool", "status"]);
    assert!(code == 1 && err.contains("not a database"), "{err}");
    assert_eq!(
        std::fs::read(spool.join("quarantine.sqlite")).unwrap(),
        [0xA5; 8_192]
    );
}

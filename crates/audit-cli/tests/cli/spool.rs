//! `auditlog spool`.

use std::path::Path;

use crate::fixture::CliFixture;

/// Leaves three entries in a spool, for a database that does not exist.
pub(crate) fn leave_a_spool(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let is_in_use = || {
        audit_ops::spool::status(dir).unwrap().iter().any(|file| {
            matches!(
                file.state,
                audit_ops::spool::SpoolState::Waiting { in_use: true, .. }
            )
        })
    };
    runtime.block_on(async {
        let database = db_services::client::Database::from_url("sqlite:///nowhere/audit.db").unwrap();
        let (writer, guard) = db_services::audit::AuditWriter::builder(database)
            .durability(db_services::audit::Durability::Spill(dir.to_owned()))
            .start()
            .unwrap();
        for n in 0..3 {
            drop(writer.write(db_services::audit::AuditEntry::new("shop.order").actor(n.to_string())));
        }
        assert_eq!(
            guard.shutdown(std::time::Duration::from_secs(60)).await.spooled,
            3
        );
        // A child process that another test has forked holds the lock of the file until it executes the command.
        db_test::wait_for("the end of its use", async || !is_in_use()).await;
    });
}

#[test]
fn a_spool_is_listed_and_replayed() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let spool = cli.dir.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let at = |arguments: &[&str]| cli.run(&[&["spool", "--dir", "spool"], arguments].concat());
        assert_eq!(
            at(&["status"]),
            (0, "file\tstate\tentries\tbytes\tfor\n".to_owned(), String::new())
        );
        leave_a_spool(&spool);
        let (code, out, _) = at(&["status"]);
        assert!(
            code == 0 && out.contains("orphan\t5\t") && out.contains("sqlite:///nowhere/audit.db"),
            "{out}"
        );
        let (_, out, _) = at(&["status", "--json"]);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&out).unwrap()["state"],
            "orphan"
        );

        let (code, out, _) = at(&["replay"]);
        assert!(
            code == 0 && out.contains("wrote 0 entries") && out.contains("1 file skipped"),
            "{out}"
        );
        let (code, out, err) = at(&["replay", "--any-target"]);
        assert!(
            code == 0 && out.starts_with("wrote 3 entries of 1 file;"),
            "{out}{err}"
        );
        assert_eq!(cli.rows().len(), 3);
        assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);

        let (code, out, err) = cli.run(&["verify", "writers"]);
        assert!(
            code == 0 && out.contains("\tcomplete\t3\t0\t0\t0\t0\t0\t0"),
            "{out}{err}"
        );
        let (_, out, _) = cli.run(&["list", "--all"]);
        assert!(
            out.contains("audit.writer_started") && out.contains("audit.writer_stopped"),
            "{out}"
        );
    }
}

#[test]
fn a_damaged_file_is_replayed_on_request() {
    let cli = CliFixture::new();
    let spool = cli.dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let at = |arguments: &[&str]| cli.run(&[&["spool", "--dir", "spool"], arguments].concat());
    cli.run(&["migrate"]);
    leave_a_spool(&spool);
    let files = || {
        std::fs::read_dir(&spool)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let file = files().find(|path| path.extension().unwrap() == "spool").unwrap();
    // As an earlier version left it, which treated any error as damage.
    std::fs::rename(&file, file.with_extension("damaged")).unwrap();
    let (code, out, _) = at(&["status"]);
    assert!(code == 1 && out.contains("damaged"), "{out}");
    assert_eq!(at(&["status", "--json"]).0, 1);
    let (code, out, _) = at(&["replay", "--any-target"]);
    assert!(
        code == 1 && out.contains("wrote 0 entries"),
        "a damaged file remains: {out}"
    );
    let (code, out, err) = at(&["replay", "--damaged"]);
    assert!(
        code == 1 && out.contains("reading 0 damaged files again"),
        "for another database: {out}{err}"
    );
    let (code, out, err) = at(&["replay", "--damaged", "--any-target"]);
    assert!(
        code == 0 && out.contains("reading 1 damaged file again") && out.contains("wrote 3 entries"),
        "{out}{err}"
    );
    assert_eq!(files().count(), 0);
}

#[test]
fn a_failed_replay_keeps_the_spool() {
    let cli = CliFixture::new();
    let spool = cli.dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    leave_a_spool(&spool);
    // A database without the table.
    std::fs::write(cli.dir.path().join("empty.db"), "").unwrap();
    let (code, _, err) = cli.run(&[
        "--database-url",
        "sqlite://empty.db",
        "spool",
        "--dir",
        "spool",
        "replay",
        "--any-target",
    ]);
    assert!(
        code == 3 && err.contains("auditlog migrate") && err.contains("stay in the spool"),
        "{code} {err}"
    );
    assert!(std::fs::read_dir(&spool).unwrap().count() > 0);
    let (code, _, err) = cli.run(&["spool", "--dir", "nowhere", "status"]);
    assert!(code == 3 && err.contains("no such directory"), "{err}");
}

#[test]
fn the_quarantine_is_listed_and_retried() {
    for cli in CliFixture::on_both() {
        assert_eq!(cli.run(&["migrate"]).0, 0);
        let spool = cli.dir.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let at = |arguments: &[&str]| cli.run(&[&["spool", "--dir", "spool"], arguments].concat());
        assert_eq!(
            at(&["quarantine", "--retry"]).1,
            "wrote 0 entries, 0 in quarantine\n"
        );
        let sql = |postgres: &str, sqlite: &str| match &cli.postgres {
            Some(_) => cli.execute(postgres),
            None => cli.execute_sqlite(sqlite),
        };
        sql(
            "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'shop.order')",
            "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'shop.order' BEGIN SELECT RAISE(ABORT, 'rude'); END",
        );
        leave_a_spool(&spool);
        let (code, out, err) = at(&["replay", "--any-target"]);
        assert!(code == 1 && out.contains("3 quarantined"), "{out}{err}");
        // Now the spool is empty, and the quarantine is not.
        for arguments in [&["replay"][..], &["status"], &["status", "--json"]] {
            let (code, _, err) = at(arguments);
            assert!(
                code == 1 && err.contains("3 entries are in quarantine"),
                "{arguments:?}: {err}"
            );
        }
        let (_, out, _) = at(&["quarantine"]);
        assert_eq!(out.matches("shop.order").count(), 3, "{out}");
        assert_eq!(at(&["quarantine", "--json"]).1.lines().count(), 3);
        let (code, out, err) = at(&["quarantine", "--retry"]);
        assert_eq!((code, &*out), (1, "wrote 0 entries, 3 in quarantine\n"));
        assert!(err.contains("still rejects 3 entries: "), "{err}");
        sql(
            "ALTER TABLE audit_logs DROP CONSTRAINT polite",
            "DROP TRIGGER polite",
        );
        assert_eq!(
            at(&["quarantine", "--retry"]).1,
            "wrote 3 entries, 0 in quarantine\n"
        );
        assert_eq!((at(&["status"]).0, at(&["replay"]).0), (0, 0));
        assert_eq!(cli.rows().len(), 3);
    }
}

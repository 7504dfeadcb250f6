//! Does the command do what its help says, on both databases?
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};

use support::{Place, both, execute, on_sqlite, told};

fn sample() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cloudtrail");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect()
}

#[test]
fn a_first_look_needs_nothing() {
    let place = Place::new();
    let (code, _, err) = place.run(&["list"]);
    assert_eq!(code, 3);
    assert!(
        err.contains("audit.db does not exist") && err.contains("auditlog migrate"),
        "{err}"
    );
    for arguments in [&["migrate", "--status"][..], &["migrate", "--revert"]] {
        assert_eq!(place.run(arguments).0, 3);
    }
    assert_eq!(
        std::fs::read_dir(&place.dir).unwrap().count(),
        0,
        "looking creates nothing"
    );

    let (code, out, err) = place.run(&[
        "write",
        "--action",
        "auth.login",
        "--actor",
        "alice",
        "--ip",
        "::1",
    ]);
    assert!(
        code == 0 && out.starts_with("wrote ") && err.contains("created sqlite://audit.db"),
        "{out}{err}"
    );
    let (code, out, _) = place.run(&["list"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((code, lines.len()), (0, 2));
    assert!(
        lines[1].contains("\tsuccess\tauth.login\talice\t\t\t::1"),
        "{out}"
    );
}

#[test]
fn a_database_without_tables_says_what_to_do() {
    let place = Place::on_postgres();
    for arguments in [&["list"][..], &["write", "--action", "x"]] {
        let (code, _, err) = place.run(arguments);
        assert_eq!(code, 3);
        assert!(err.contains("run `auditlog migrate`"), "{err}");
    }
}

#[test]
fn migrate_goes_up_down_and_up() {
    for place in both() {
        let (code, out, _) = place.run(&["migrate"]);
        assert!(code == 0 && out.contains("applied 20"), "{out}");
        let (code, out, _) = place.run(&["migrate"]);
        assert!(code == 0 && out.contains("up to date"), "{out}");
        let (_, before, _) = place.run(&["migrate", "--status"]);
        assert!(
            before.contains("applied\t2026") && !before.contains("pending"),
            "{before}"
        );

        let (code, out, err) = place.run(&["migrate", "--revert"]);
        assert!(code == 0 && out.contains("reverted 20"), "{out}{err}");
        assert!(place.run(&["migrate", "--status"]).1.contains("pending\t2026"));
        assert_eq!(place.run(&["migrate"]).0, 0);

        assert_eq!(place.run(&["write", "--action", "x"]).0, 0);
        let (code, _, err) = place.run(&["migrate", "--revert"]);
        assert!(
            code == 3 && err.contains("holds 1 entries") && err.contains("--force"),
            "{err}"
        );
        assert_eq!(place.rows().len(), 1);
        assert_eq!(place.run(&["migrate", "--revert", "--force"]).0, 0);
    }
}

#[test]
fn an_event_from_options_has_them_all() {
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let arguments = [
            "write",
            "--action",
            "api_key.revoke",
            "--actor",
            "a",
            "--actor-type",
            "user",
            "--on-behalf-of",
            "b",
            "--tenant",
            "t",
            "--outcome",
            "denied",
            "--resource-type",
            "k",
            "--resource-id",
            "1",
            "--ip",
            "10.0.0.1",
            "--user-agent",
            "u",
            "--request-id",
            "r",
            "--trace-id",
            "w",
            "--operation-id",
            "00000000-0000-0000-0000-000000000001",
            "--metadata",
            r#"{"n":1}"#,
            "--created-at",
            "2026-11-01T12:00:00.5Z",
            "--id",
            "00000000-0000-0000-0000-000000000002",
        ];
        assert_eq!(place.run(&arguments).0, 0);
        assert!(place.run(&arguments).1.starts_with("already there"));
        let rows = place.rows();
        assert_eq!(rows.len(), 1);
        let mut row = rows[0].clone();
        row["recorded_at"].take();
        row["tx_id"].take();
        assert_eq!(
            row,
            serde_json::json!({
                "id": "00000000-0000-0000-0000-000000000002", "created_at": "2026-11-01T12:00:00.500Z", "recorded_at": null,
                "tenant_id": "t", "actor_id": "a", "actor_type": "user", "on_behalf_of": "b", "action": "api_key.revoke",
                "outcome": "denied", "resource_type": "k", "resource_id": "1", "ip_address": "10.0.0.1", "user_agent": "u",
                "request_id": "r", "trace_id": "w", "operation_id": "00000000-0000-0000-0000-000000000001",
                "metadata": {"n": 1}, "writer_id": null, "writer_seq": null, "tx_id": null
            })
        );
    }
}

#[test]
fn bad_lines_are_named_and_the_rest_is_written() {
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let mut input = b"\xEF\xBB\xBF{\"action\":\"first\"}\r\n".to_vec();
        input.extend(b"no json\n\n{\"action\":\"x\",\"colour\":1}\n{\"action\":\"\xFF\"}\n");
        input.extend(b"{\"action\":\"lone \\ud800\"}\n{\"action\":\"x\",\"metadata\":{\"n\":1E400}}\n");
        input.extend(
            format!(
                "{{\"action\":\"deep\",\"metadata\":{}{}}}\n",
                "[".repeat(5_000),
                "]".repeat(5_000)
            )
            .bytes(),
        );
        input.extend(b"{\"action\":\"");
        input.extend(std::iter::repeat_n(b'x', 17 << 20));
        input.extend(b"\"}\n{\"action\":\"last\",\"ip_address\":\"unknown\"}");
        let (code, out, err) = place.run_with_input(&["write", "-"], &input);
        assert_eq!(code, 1, "{err}");
        assert_eq!(out, "wrote 2 entries, 0 were there already, 7 lines were bad\n");
        let numbers: Vec<_> = err.lines().map(|line| line.split(':').nth(1).unwrap()).collect();
        assert_eq!(numbers, ["2", "4", "5", "6", "7", "8", "9"], "{err}");
        assert!(
            err.contains("unknown field `colour`") && err.contains("line:9: longer than 16 MiB"),
            "{err}"
        );
        let mut actions: Vec<_> = place
            .rows()
            .iter()
            .map(|row| row["action"].as_str().unwrap().to_owned())
            .collect();
        actions.sort();
        assert_eq!(actions, ["first", "last"]);
    }
}

#[test]
fn a_row_the_database_refuses_is_named_and_its_neighbours_are_written() {
    let place = Place::on_postgres();
    assert_eq!(place.run(&["migrate"]).0, 0);
    execute(
        place.postgres.as_ref().unwrap(),
        "ALTER TABLE audit_logs ADD CHECK (action <> 'refused')",
    );
    let lines: String = (0..2_500)
        .map(|n| {
            format!(
                "{{\"action\":\"{}\"}}\n",
                if n == 1_234 { "refused" } else { "fine" }
            )
        })
        .collect();
    let file = place.dir.path().join("events.ndjson");
    std::fs::write(&file, lines).unwrap();
    let (code, out, err) = place.run(&["write", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{err}");
    assert_eq!(
        out,
        "wrote 2,499 entries, 0 were there already, 1 lines were bad\n"
    );
    assert!(
        err.contains("events.ndjson:1235: ") && err.contains("check constraint"),
        "{err}"
    );
}

#[test]
fn an_import_keeps_every_event_and_can_be_repeated() {
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let files = sample();
        let mut arguments = vec!["import", "cloudtrail"];
        arguments.extend(files.iter().map(|path| path.to_str().unwrap()));
        let (code, out, err) = place.run(&arguments);
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (
                0,
                "read 52 events from 2 files: 52 new, 0 there already, 0 bad\n",
                ""
            )
        );
        let first = place.rows();
        let (code, out, _) = place.run(&arguments);
        assert_eq!(
            (code, out.as_str()),
            (0, "read 52 events from 2 files: 0 new, 52 there already, 0 bad\n")
        );
        assert_eq!(place.rows(), first, "a second import changes nothing");
        let denied: Vec<_> = first.iter().filter(|row| row["outcome"] == "denied").collect();
        assert_eq!(denied.len(), 1);
        assert!(first.iter().all(|row| row["tenant_id"] == "123837392027"
            && row["created_at"].as_str().unwrap().starts_with("2023-07-10")));
        let failed = first.iter().filter(|row| row["outcome"] == "failure").count();
        let with_code = first
            .iter()
            .filter(|row| row["metadata"].get("errorCode").is_some())
            .count();
        assert_eq!(failed + denied.len(), with_code);
    }
}

#[test]
fn an_import_makes_the_months_it_needs() {
    let place = Place::on_postgres();
    assert_eq!(place.run(&["migrate"]).0, 0);
    assert_eq!(
        place
            .run(&["import", "cloudtrail", sample()[0].to_str().unwrap()])
            .0,
        0
    );
    let strays = "DO $$ BEGIN ASSERT (SELECT count(*) FROM audit_logs_default) = 0; \
                  ASSERT (SELECT count(*) FROM audit_logs_2023_07) = 26; END $$";
    execute(place.postgres.as_ref().unwrap(), strays);
}

#[test]
fn compressed_files_and_broken_ones() {
    let place = Place::new();
    let whole = std::fs::read(&sample()[0]).unwrap();
    let gz = place.dir.path().join("trail.json.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(std::fs::File::create(&gz).unwrap(), flate2::Compression::fast());
    encoder.write_all(&whole).unwrap();
    encoder.finish().unwrap();
    let broken = place.dir.path().join("broken.json");
    std::fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    let odd = place.dir.path().join("odd.json");
    std::fs::write(&odd, r#"{"Records":[{"eventID":"no uuid"},7]}"#).unwrap();
    let (code, out, err) = place.run(&[
        "import",
        "cloudtrail",
        gz.to_str().unwrap(),
        broken.to_str().unwrap(),
        odd.to_str().unwrap(),
        "absent.json",
    ]);
    assert_eq!(code, 1);
    assert!(out.contains("26 new, 0 there already, 4 bad"), "{out}");
    for reason in [
        "broken.json: no CloudTrail log file",
        "odd.json: record 1: ",
        "odd.json: record 2: not an object",
        "absent.json: No such file",
    ] {
        assert!(err.contains(reason), "{reason}: {err}");
    }
}

#[test]
fn an_entry_that_is_not_stored_is_not_reported_as_stored() {
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        match &place.postgres {
            Some(postgres) => execute(
                postgres,
                "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN IF NEW.action = 'skipped' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
                 CREATE TRIGGER skip BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION skip()",
            ),
            None => on_sqlite(
                &place,
                "CREATE TRIGGER skip BEFORE INSERT ON audit_logs WHEN NEW.action = 'skipped' \
                 BEGIN SELECT RAISE(IGNORE); END",
            ),
        }
        let (code, out, err) = place.run(&["write", "--action", "skipped"]);
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(
            err.contains("a trigger or rule of audit_logs skipped the row"),
            "{err}"
        );
        let lines = b"{\"action\":\"a\"}\n{\"action\":\"skipped\"}\n{\"action\":\"b\"}\n";
        let (code, out, err) = place.run_with_input(&["write", "-"], lines);
        assert_eq!(code, 1, "{out}{err}");
        assert!(
            out.contains("wrote 2 entries, 0 were there already, 1 lines were bad"),
            "{out}"
        );
        assert!(
            err.contains("line:2: ") && err.contains("skipped the row"),
            "{err}"
        );
        assert_eq!(place.rows().len(), 2);
    }
}

#[test]
fn wrong_arguments_are_explained_and_tell_no_password() {
    let place = Place::new();
    for (arguments, said) in [
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
        let (code, _, err) = place.run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(
            err.contains(said) && !err.contains("hush"),
            "{arguments:?}: {err}"
        );
    }
    let help = place
        .command(&["--help"])
        .env("DATABASE_URL", "postgres://u:hush@h/d")
        .output()
        .unwrap();
    assert!(!told(help).1.contains("hush"));
}

#[test]
fn what_is_in_the_trail_cannot_move_the_cursor() {
    let place = Place::new();
    assert_eq!(
        place
            .run(&["write", "--action", "\x1b[2J\tx", "--actor", "a\nb"])
            .0,
        0
    );
    let (_, out, _) = place.run(&["list"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(!out.contains('\x1b'), "{out}");
}

/// Leaves three entries in a spool, for a database that was never there.
fn leave_a_spool(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
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
    });
}

#[test]
fn a_spool_is_shown_and_replayed() {
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let spool = place.dir.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let at = |arguments: &[&str]| place.run(&[&["spool", "--dir", "spool"], arguments].concat());
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
            code == 0 && out.contains("wrote 0 entries") && out.contains("1 files were left alone"),
            "{out}"
        );
        let (code, out, err) = at(&["replay", "--any-target"]);
        assert!(
            code == 0 && out.starts_with("wrote 3 entries of 1 files"),
            "{out}{err}"
        );
        assert_eq!(place.rows().len(), 3);
        assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);

        let (code, out, err) = place.run(&["verify", "writers"]);
        assert!(
            code == 0 && out.contains("\tcomplete\t3\t0\t0\t0\t0\t0\t0"),
            "{out}{err}"
        );
        let (_, out, _) = place.run(&["list", "--all"]);
        assert!(
            out.contains("audit.writer_started") && out.contains("audit.writer_stopped"),
            "{out}"
        );
    }
}

#[test]
fn a_damaged_file_is_replayed_again_on_request() {
    let place = Place::new();
    let spool = place.dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let at = |arguments: &[&str]| place.run(&[&["spool", "--dir", "spool"], arguments].concat());
    place.run(&["migrate"]);
    leave_a_spool(&spool);
    let files = || {
        std::fs::read_dir(&spool)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let file = files().find(|path| path.extension().unwrap() == "spool").unwrap();
    // As a version left it that took any error for damage.
    std::fs::rename(&file, file.with_extension("damaged")).unwrap();
    assert!(at(&["status"]).1.contains("damaged"));
    let (code, out, _) = at(&["replay", "--any-target"]);
    assert!(
        code == 1 && out.contains("wrote 0 entries"),
        "a damaged file is left: {out}"
    );
    let (code, out, err) = at(&["replay", "--damaged"]);
    assert!(
        code == 1 && out.contains("0 damaged files are read again"),
        "for another database: {out}{err}"
    );
    let (code, out, err) = at(&["replay", "--damaged", "--any-target"]);
    assert!(
        code == 0 && out.contains("1 damaged files") && out.contains("wrote 3 entries"),
        "{out}{err}"
    );
    assert_eq!(files().count(), 0);
}

#[test]
fn a_replay_that_fails_keeps_the_spool() {
    let place = Place::new();
    let spool = place.dir.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    leave_a_spool(&spool);
    // A database without the table.
    std::fs::write(place.dir.path().join("empty.db"), "").unwrap();
    let (code, _, err) = place.run(&[
        "--database-url",
        "sqlite://empty.db",
        "spool",
        "--dir",
        "spool",
        "replay",
        "--any-target",
    ]);
    assert!(
        code == 3 && err.contains("auditlog migrate") && err.contains("stays in the spool"),
        "{code} {err}"
    );
    assert!(std::fs::read_dir(&spool).unwrap().count() > 0);
    let (code, _, err) = place.run(&["spool", "--dir", "nowhere", "status"]);
    assert!(code == 3 && err.contains("no such directory"), "{err}");
}

#[test]
fn the_quarantine_is_shown_and_tried_again() {
    for place in both() {
        assert_eq!(place.run(&["migrate"]).0, 0);
        let spool = place.dir.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let at = |arguments: &[&str]| place.run(&[&["spool", "--dir", "spool"], arguments].concat());
        assert_eq!(
            at(&["quarantine", "--retry"]).1,
            "wrote 0 entries, 0 stay in quarantine\n"
        );
        let sql = |postgres: &str, sqlite: &str| match &place.postgres {
            Some(database) => execute(database, postgres),
            None => on_sqlite(&place, sqlite),
        };
        sql(
            "ALTER TABLE audit_logs ADD CONSTRAINT polite CHECK (action <> 'shop.order')",
            "CREATE TRIGGER polite BEFORE INSERT ON audit_logs WHEN NEW.action = 'shop.order' BEGIN SELECT RAISE(ABORT, 'rude'); END",
        );
        leave_a_spool(&spool);
        let (code, out, err) = at(&["replay", "--any-target"]);
        assert!(
            code == 1 && out.contains("3 were put into quarantine"),
            "{out}{err}"
        );
        let (_, out, _) = at(&["quarantine"]);
        assert_eq!(out.matches("shop.order").count(), 3, "{out}");
        assert_eq!(at(&["quarantine", "--json"]).1.lines().count(), 3);
        let (code, out, err) = at(&["quarantine", "--retry"]);
        assert_eq!((code, &*out), (1, "wrote 0 entries, 3 stay in quarantine\n"));
        assert!(err.contains("still rejects 3 entries: "), "{err}");
        sql(
            "ALTER TABLE audit_logs DROP CONSTRAINT polite",
            "DROP TRIGGER polite",
        );
        assert_eq!(
            at(&["quarantine", "--retry"]).1,
            "wrote 3 entries, 0 stay in quarantine\n"
        );
        assert_eq!(place.rows().len(), 3);
    }
}

#[test]
fn missing_entries_are_exit_code_1() {
    let place = Place::new();
    assert_eq!(place.run(&["migrate"]).0, 0);
    let writer = "x'0123456789abcdef0123456789abcdef'";
    on_sqlite(
        &place,
        &format!(
            "INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES ('a', {writer}, 1), ('b', {writer}, 4);
             INSERT INTO audit_logs (action, writer_id, metadata) VALUES ('audit.writer_stopped', {writer}, '{{\"last_seq\": 4}}')"
        ),
    );
    let (code, out, err) = place.run(&["verify", "writers"]);
    assert!(
        code == 1 && out.contains("missing") && err.contains("numbers 2-3"),
        "{out}{err}"
    );
    let (_, out, _) = place.run(&["verify", "writers", "--json"]);
    let account: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&account["verdict"], &account["missing"]),
        (&"missing".into(), &2.into())
    );

    let record = r#"{"ranges": [[2, 3]], "count": 2}"#;
    on_sqlite(
        &place,
        &format!(
            "INSERT INTO audit_logs (action, writer_id, metadata) VALUES ('audit.entries_duplicate', {writer}, '{record}')"
        ),
    );
    let (code, out, err) = place.run(&["verify", "writers"]);
    assert!(
        code == 0 && out.contains("\tcomplete\t2\t0\t0\t0\t2\t0\t0") && err.is_empty(),
        "{out}{err}"
    );
}

#[test]
fn the_bound_of_an_open_writer_says_what_it_leaves_out() {
    let place = Place::new();
    assert_eq!(place.run(&["migrate"]).0, 0);
    on_sqlite(
        &place,
        "INSERT INTO audit_logs (action, writer_id, metadata) \
         VALUES ('audit.writer_started', x'0123456789abcdef0123456789abcdef', '{\"queue_capacity\": 700}')",
    );
    let (code, out, err) = place.run(&["verify", "writers"]);
    assert!(code == 0 && out.contains("at most 700 accepted"), "{out}{err}");
    assert!(
        err.contains("Not included, and not bounded: entries that a full queue refused"),
        "{err}"
    );
}

/// The list of migrations is the owner's; who may only read the trail is not asked for it.
#[test]
fn who_may_only_read_can_list_and_verify() {
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
    let place = Place::new();
    let (code, out, err) = place.run(&["--database-url", &alice, "list", "--json"]);
    assert_eq!((code, out.contains("seen.by_alice")), (0, true), "{err}");
    let (code, _, err) = place.run(&["--database-url", &alice, "verify", "writers"]);
    assert_eq!(code, 0, "{err}");
    // Who may see that tables are missing is told so.
    let empty = server.url("postgres");
    let (code, _, err) = place.run(&["--database-url", &empty, "list"]);
    assert!(code == 3 && err.contains("auditlog migrate"), "{err}");
    let nothing = server.url_as("alice", "pw", "postgres");
    let (code, _, err) = place.run(&["--database-url", &nothing, "list"]);
    assert!(code == 3 && err.contains("audit_logs"), "{err}");
}

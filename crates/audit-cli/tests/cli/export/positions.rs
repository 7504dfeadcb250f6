//! Exports that go on where others have ended.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{checked_manifest, files_of, values, with_events};
use crate::fixture::CliFixture;
use crate::matrix::{Session, server};

/// The ids of the rows of a file.
fn ids(cli: &CliFixture, file: &str) -> Vec<String> {
    let lines = std::fs::read(cli.dir.path().join(file)).unwrap();
    let ids = values(&lines)
        .into_iter()
        .map(|row| row["id"].as_str().unwrap().to_owned());
    ids.collect()
}

#[test]
fn each_export_under_a_name_has_what_is_new() {
    for cli in CliFixture::on_both().map(with_events) {
        let export = |file: &str, more: &[&str]| {
            let (code, _, err) = cli.run(&[&["export", "--position", "siem", "--out", file], more].concat());
            assert!([0, 1].contains(&code), "{err}");
            (code, ids(&cli, file).len())
        };
        assert_eq!(export("1", &["--limit", "300"]), (1, 300));
        assert_eq!(export("2", &[]), (0, 985));
        assert_eq!(export("3", &[]), (0, 0));
        assert_eq!(cli.run(&["write", "--action", "new"]).0, 0);
        assert_eq!(export("4", &[]), (0, 1));
        // Behind the manifest of another one, whatever is saved.
        assert_eq!(export("5", &["--after", "1.manifest.json"]), (0, 986));
        assert_eq!(export("6", &[]), (0, 0));
        let manifests: Vec<Value> = ["1", "2", "3"]
            .iter()
            .map(|file| checked_manifest(&cli.dir.path().join(file)))
            .collect();
        for pair in manifests.windows(2) {
            assert_eq!(pair[0]["last_position"], pair[1]["first_position"]);
        }
    }
}

#[test]
fn rows_that_were_committed_late_come_with_the_next_export() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["migrate"]).0, 0);
    let url = cli.postgres.as_ref().unwrap().url().to_owned();
    let mut late = Session::open(&url);
    late.batch("BEGIN; INSERT INTO audit_logs (action) VALUES ('late')");
    assert_eq!(cli.run(&["write", "--action", "early"]).0, 0);
    let export = |file: &str| {
        let (code, _, err) = cli.run(&["export", "--no-record", "--position", "p", "--out", file]);
        assert_eq!(code, 0, "{err}");
        let lines = std::fs::read(cli.dir.path().join(file)).unwrap();
        let actions: Vec<_> = values(&lines)
            .iter()
            .map(|row| row["action"].as_str().unwrap().to_owned())
            .collect();
        (actions, err)
    };
    let (actions, err) = export("1");
    assert_eq!(actions, ["early"]);
    assert!(
        err.contains("transaction is open") || err.contains("transactions are open"),
        "{err}"
    );
    late.batch("COMMIT");
    assert_eq!(export("2").0, ["late"]);
}

#[test]
fn a_name_that_another_export_has_used_meanwhile_is_a_conflict_that_keeps_the_file() {
    let cli = CliFixture::on_postgres();
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 3, "it is not migrated");
    assert_eq!(cli.run(&["migrate"]).0, 0);
    assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let url = cli.postgres.as_ref().unwrap().url().to_owned();
    let mut holder = Session::open(&url);
    holder.batch("BEGIN; LOCK TABLE audit_logs IN ACCESS EXCLUSIVE MODE");
    let first = cli.spawn(&["export", "--no-record", "--position", "p", "--out", "1"]);
    while files_of(&cli, "1").is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    holder.batch("SELECT audit_feed_save('p', NULL, 'another'); COMMIT");
    let output = first.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(3) && err.contains("1 is complete, but where it ends is not saved"),
        "{err}"
    );
    checked_manifest(&cli.dir.path().join("1"));
}

#[test]
fn an_export_goes_on_only_behind_a_file_that_is_there() {
    let cli = CliFixture::new();
    let at = |name: &str| cli.dir.path().join(name);
    let write = || assert_eq!(cli.run(&["write", "--action", "x"]).0, 0);
    let export = |arguments: &[&str]| cli.run(&[&["export", "--no-record"], arguments].concat());
    write();
    assert_eq!(export(&["--out", "a", "--limit", "1"]).0, 0);
    write();
    let after = |manifest: &str| export(&["--after", manifest]);
    assert_eq!(after("a.manifest.json").1.lines().count(), 1);
    // As when it was killed between the names of its files; the second time it was to replace a file of the same size.
    std::fs::rename(at("a"), at("other")).unwrap();
    let (code, out, err) = after("a.manifest.json");
    assert!(
        code == 3 && out.is_empty() && err.contains("a does not exist"),
        "{err}"
    );
    let mut lines = std::fs::read(at("other")).unwrap();
    let last = lines.len() - 1;
    lines[last] = b' ';
    std::fs::write(at("a"), lines).unwrap();
    let (code, out, err) = after("a.manifest.json");
    assert!(
        code == 3 && out.is_empty() && err.contains("a is not the file of a.manifest.json"),
        "{err}"
    );
    // Both may be renamed.
    std::fs::rename(at("other"), at("b.ndjson")).unwrap();
    std::fs::rename(at("a.manifest.json"), at("b.ndjson.manifest.json")).unwrap();
    assert_eq!(after("b.ndjson.manifest.json").1.lines().count(), 1);
    // It has no end.
    let (code, out, err) = after("/dev/zero");
    assert!(
        code == 3 && out.is_empty() && err.contains("/dev/zero is no manifest of an export"),
        "{err}"
    );
}

#[test]
fn a_name_needs_the_rights_of_the_auditor() {
    let url = server().migrated().unwrap();
    Session::open(&url).batch(
        "INSERT INTO audit_logs (action, tenant_id) SELECT 'x', t FROM unnest('{acme,acme,globex}'::text[]) t; \
         DO $$ BEGIN CREATE ROLE tenants_shipper LOGIN PASSWORD 'pw'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
         GRANT audit_reader TO tenants_shipper; \
         DO $$ BEGIN CREATE ROLE shipping_auditor LOGIN PASSWORD 'pw'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; \
         GRANT audit_auditor TO shipping_auditor",
    );
    let name = url.rsplit_once('/').unwrap().1;
    let cli = CliFixture::new();
    let export = |login: &str, arguments: &[&str]| {
        let url = server().url_as(login, "pw", name);
        let connect = ["--database-url", &url, "export", "--tenant", "acme"];
        cli.run(&[&connect, arguments].concat())
    };
    let (code, _, err) = export("tenants_shipper", &["--position", "p", "--out", "1"]);
    assert!(
        code == 3 && err.contains("--position needs the rights of the auditor (GRANT audit_auditor"),
        "{err}"
    );
    assert!(files_of(&cli, "1").is_empty());
    // It goes on by its files.
    assert_eq!(export("tenants_shipper", &["--limit", "1", "--out", "2"]).0, 1);
    let (code, out, _) = export("tenants_shipper", &["--after", "2.manifest.json"]);
    assert_eq!((code, out.lines().count()), (0, 1));
    assert_eq!(
        export("shipping_auditor", &["--position", "p", "--out", "3"]).0,
        0
    );
    assert_eq!(ids(&cli, "3").len(), 2);
    assert_eq!(
        export("shipping_auditor", &["--position", "p", "--out", "4"]).0,
        0
    );
    assert_eq!(ids(&cli, "4").len(), 0);
}

/// Whenever it is killed, what has its name is whole, and all files together have each row.
#[test]
fn exports_that_are_killed_and_repeated_have_every_row() {
    for cli in CliFixture::on_both().map(with_events) {
        let (mut number, mut killed) = (0, 0);
        loop {
            number += 1;
            let file = format!("part-{number:03}");
            let arguments = ["export", "--position", "p", "--limit", "100", "--out", &file];
            let mut child = cli.spawn(&arguments);
            // At another moment each time, and each third one runs to its end.
            if number % 3 != 0 {
                std::thread::sleep(Duration::from_millis(number * 37 % 200));
                let _ = child.kill();
            }
            match child.wait().unwrap().code() {
                Some(0) => break,
                Some(1) => {}
                None => killed += 1,
                other => panic!("{other:?}"),
            }
            assert!(number < 300);
        }
        assert!(killed > 0);
        let mut by_position = BTreeMap::new();
        for name in files_of(&cli, "part-") {
            if !name.contains('.') {
                let manifest = checked_manifest(&cli.dir.path().join(&name));
                // One that was killed before its position was saved was repeated.
                by_position.insert(
                    manifest["first_position"].as_str().unwrap().to_owned(),
                    ids(&cli, &name),
                );
            }
        }
        let mut exported: Vec<_> = by_position.into_values().flatten().collect();
        let mut stored: Vec<_> = cli
            .rows()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        exported.sort();
        stored.sort();
        assert_eq!(exported, stored);
        assert_eq!(stored.len(), 1_285);
        assert_eq!(cli.run(&["export", "--force", "--out", "part-001"]).0, 0);
        assert!(
            !files_of(&cli, "part-001.")
                .iter()
                .any(|name| name.ends_with(".partial"))
        );
    }
}

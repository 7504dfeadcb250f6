//! A row that was not archived is not restored, whatever the files say and whoever accepts them.

use std::fs;

use audit_ops::archive::{self, Trust};
use audit_ops::{ArchiveProblem, OpsError, partitions};
use tempfile::TempDir;

use crate::archive_tampered::{Json, forge, forge_files, lines_of, manifest_of, restore, with_archives};

/// A line counts as a piece only where a long value is due: otherwise neither the number of rows nor the digest would
/// show that a row was added.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_hidden_as_a_piece() {
    let dir = TempDir::new().unwrap();
    let (db, [first, ..]) = with_archives(dir.path()).await;
    let (lines, manifest) = (lines_of(&first), manifest_of(&first));
    let pieces = lines
        .iter()
        .filter(|line| line.starts_with("{\"_piece\""))
        .count();
    assert!(pieces > 1 && lines.len() == pieces + 4, "{pieces}");
    let row = lines[lines.len() - 1].replace("\"id\":\"0", "\"id\":\"1");
    let members = row.strip_prefix('{').unwrap();
    let forged_dir = TempDir::new().unwrap();
    for added in [
        format!("{{\"_piece\":\"\",{members}"),
        format!("{{\"_piece\":\"x\",{members}"),
        "{\"_piece\":\"\"}".to_owned(),
        "{\"_piece\":\"x\"}".to_owned(),
    ] {
        for at in 0..=lines.len() {
            let mut lines = lines.clone();
            lines.insert(at, added.clone());
            let forged = forge_files(forged_dir.path(), &lines, manifest.clone());
            let figures: Json = serde_json::from_slice(&fs::read(&forged).unwrap()).unwrap();
            assert_eq!(figures["digest"], manifest["digest"], "the digest of the ledger");
            match archive::check(&forged).map(|_| ()).expect_err(&added) {
                OpsError::Archive {
                    source: ArchiveProblem::Line(_) | ArchiveProblem::Value { .. },
                    ..
                } => {}
                other => panic!("{added} at {at}: {other:?}"),
            }
        }
        // The count of docs/retention.md.
        let count = r#"printf '%s\n' "$1" | grep -Evc '^\{"_piece":"([^"\\]|\\.)*"\}$'"#;
        let counted = std::process::Command::new("sh")
            .args(["-c", count, "sh", &added])
            .output()
            .unwrap();
        let has_row = added.contains("\"id\"");
        assert_eq!(counted.stdout, if has_row { b"1\n" } else { b"0\n" }, "{added}");
    }
    assert_eq!(restore(&db, &first, &Trust::Ledger).await, Ok(4));
}

/// A restore inserts what was checked, whatever somebody has put in its place meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_replaced_after_its_check_is_not_restored() {
    let dir = TempDir::new().unwrap();
    let (db, [first, second, _]) = with_archives(dir.path()).await;
    let (lines, manifest) = (lines_of(&first), manifest_of(&first));
    let before = db.count().await;
    let last = lines.len() - 1;
    let piece: Json = serde_json::from_str(&lines[1]).unwrap();
    let (head, tail) = piece["_piece"].as_str().unwrap().split_at(10);
    let pieces = [head, tail].map(|text| format!("{{\"_piece\":\"{}\"}}", text.replace('"', "\\\"")));
    type Change<'a> = &'a dyn Fn(&mut Vec<String>);
    let replaced: [(&str, Change<'_>); 6] = [
        ("a value is changed", &|lines| {
            lines[last] = lines[last].replace("\"row\"", "\"forged\"");
        }),
        ("a row is removed", &|lines| {
            lines.pop();
        }),
        ("a row is there twice", &|lines| lines.push(lines[last].clone())),
        ("rows change places", &|lines| lines.swap(last, last - 1)),
        ("a long value is cut at another place", &|lines| {
            lines.splice(1..2, pieces.clone());
        }),
        ("the same lines are compressed in another way", &|_| {}),
    ];
    let forged_dir = TempDir::new().unwrap();
    let checked = archive::check(&first.manifest_path).unwrap();
    let original = fs::read(&checked.path).unwrap();
    for (what, change) in replaced {
        let mut lines = lines.clone();
        change(&mut lines);
        let forged = forge_files(forged_dir.path(), &lines, manifest.clone());
        archive::check(&forged).unwrap();
        fs::copy(forged.with_file_name("forged.ndjson.gz"), &checked.path).unwrap();
        for trust in [Trust::Ledger, Trust::Operator("test".to_owned())] {
            let error = restore(&db, &checked, &trust).await.expect_err(what);
            assert!(error.contains("changed since it was checked"), "{what}: {error}");
            assert_eq!(db.count().await, before, "{what}");
        }
    }
    // Nor does it become another month's.
    fs::copy(&second.path, &checked.path).unwrap();
    assert!(restore(&db, &checked, &Trust::Ledger).await.is_err());
    assert_eq!(db.count().await, before);
    fs::write(&checked.path, original).unwrap();
    assert_eq!(restore(&db, &checked, &Trust::Ledger).await, Ok(4));
}

/// Of every kind: each is inserted in another way.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_of_another_month_is_restored_even_if_an_operator_accepts_it() {
    let dir = TempDir::new().unwrap();
    let (db, [first, ..]) = with_archives(dir.path()).await;
    let (lines, manifest) = (lines_of(&first), manifest_of(&first));
    let of_this_month = db.text("SELECT to_char(now(), 'YYYY-MM') AS value").await;
    let accept = Trust::Operator("test".to_owned());
    let forged_dir = TempDir::new().unwrap();
    let last = lines.len() - 1;
    let before = db.count().await;
    let deep = format!("\"metadata\":{}{}", "[".repeat(600), "]".repeat(600));
    for (at, metadata) in [(0, None), (last, None), (last, Some(deep))] {
        let mut lines = lines.clone();
        let month = &first.manifest.month;
        lines[at] = lines[at].replacen(
            &format!("\"created_at\":\"{month}"),
            &format!("\"created_at\":\"{of_this_month}"),
            1,
        );
        if let Some(deep) = metadata {
            lines[at] = lines[at].replace("\"metadata\":{\"n\": 3}", &deep);
            assert!(lines[at].contains("[[["), "{}", lines[at]);
        }
        let forged = forge(forged_dir.path(), &lines, manifest.clone());
        let error = restore(&db, &forged, &accept).await.unwrap_err();
        assert!(error.contains("rows of other months"), "{at}: {error}");
        assert_eq!(db.count().await, before);
    }
}

/// Its rows would be dropped never, and nobody would know.
#[tokio::test(flavor = "multi_thread")]
async fn no_row_is_restored_to_the_default_partition() {
    let dir = TempDir::new().unwrap();
    let (db, [first, ..]) = with_archives(dir.path()).await;
    let late = format!(
        "INSERT INTO audit_logs (created_at, action) VALUES ('{}-15', 'late')",
        first.manifest.month
    );
    db.sql(&late).await.unwrap();
    let in_default = "SELECT count(*)::text AS value FROM audit_logs_default";
    assert_eq!(db.text(in_default).await, "1");
    let error = restore(&db, &first, &Trust::Ledger).await.unwrap_err();
    assert!(error.contains("partitions move-default"), "{error}");
    assert_eq!(db.text(in_default).await, "1");
    for month in partitions::default_partition_months(&mut db.connection().await)
        .await
        .unwrap()
    {
        partitions::move_month(&mut db.connection().await, &month, 480)
            .await
            .unwrap();
    }
    assert_eq!(restore(&db, &first, &Trust::Ledger).await, Ok(4));
    assert_eq!(db.text(in_default).await, "0");
}

/// Otherwise one override would make a forged archive genuine forever.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_was_accepted_once_is_not_in_the_ledger() {
    let dir = TempDir::new().unwrap();
    let (db, [first, _, third]) = with_archives(dir.path()).await;
    let accept = Trust::Operator("test".to_owned());
    let (mut lines, manifest) = (lines_of(&first), manifest_of(&first));
    lines.pop();
    let forged_dir = TempDir::new().unwrap();
    let shorter = forge(forged_dir.path(), &lines, manifest);
    for (archived, why) in [
        (&shorter, "differs from entry"),
        (&third, "no entry about its rows"),
    ] {
        restore(&db, archived, &accept).await.unwrap();
        let error = restore(&db, archived, &Trust::Ledger).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

//! An archive that was changed, with a manifest that was computed again, is not restored.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use audit_ops::archive::{self, LedgerVerdict, Trust, VerifiedArchive};
use audit_ops::retention::{self, RetentionPolicy};
use audit_ops::{ArchiveProblem, OpsError};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::archive::write;
use crate::retention::{aged, rule};
use crate::support::TestDb;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn lines_of(archived: &VerifiedArchive) -> Vec<String> {
    let mut text = String::new();
    let file = fs::File::open(&archived.path).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

pub type Json = serde_json::Map<String, serde_json::Value>;

pub fn manifest_of(archived: &VerifiedArchive) -> Json {
    serde_json::from_slice(&fs::read(&archived.manifest_path).unwrap()).unwrap()
}

/// Writes an archive of these lines, with a manifest whose figures are all computed again.
pub fn forge(dir: &Path, lines: &[String], manifest: Json) -> VerifiedArchive {
    let path = forge_files(dir, lines, manifest);
    archive::check(&path).unwrap_or_else(|error| panic!("the manifest matches: {error}"))
}

pub fn forge_files(dir: &Path, lines: &[String], mut manifest: Json) -> PathBuf {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut file = GzEncoder::new(Vec::new(), Compression::fast());
    file.write_all(text.as_bytes()).unwrap();
    let file = file.finish().unwrap();
    let mut digest = [0; 32];
    let rows: Vec<_> = lines
        .iter()
        .filter(|line| !line.starts_with("{\"_piece\""))
        .collect();
    for line in &rows {
        digest = Sha256::new()
            .chain_update(digest)
            .chain_update(Sha256::digest(line.as_bytes()))
            .finalize()
            .into();
    }
    for (field, value) in [
        ("rows", rows.len().into()),
        ("digest", hex(&digest).into()),
        ("bytes", text.len().into()),
        ("sha256", hex(&Sha256::digest(text.as_bytes())).into()),
        ("file_bytes", file.len().into()),
        ("file_sha256", hex(&Sha256::digest(&file)).into()),
        ("file", "forged.ndjson.gz".into()),
    ] {
        manifest.insert(field.to_owned(), value);
    }
    fs::write(dir.join("forged.ndjson.gz"), file).unwrap();
    let path = dir.join("forged.manifest.json");
    fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    path
}

/// Two months are archived and dropped, and one that was not dropped is archived.
pub async fn with_archives(dir: &Path) -> (TestDb, [VerifiedArchive; 3]) {
    let (db, parts) = aged(20).await;
    let long = format!(
        "INSERT INTO audit_logs (created_at, action, metadata) \
         SELECT from_time, 'row', jsonb_build_object('long', repeat('x', 100000)) FROM audit_logs_months() WHERE partition = '{}'",
        parts[0]
    );
    db.sql(&long).await.unwrap();
    let mut archives = Vec::new();
    for part in &parts[..3] {
        archives.push(write(&db, part, dir).await.unwrap());
    }
    for (part, archived) in parts[..2].iter().zip(&archives) {
        let mut conn = db.connection().await;
        retention::drop_month(&mut conn, part, &rule(), Some(archived))
            .await
            .unwrap();
    }
    (db, archives.try_into().unwrap())
}

pub async fn restore(db: &TestDb, archived: &VerifiedArchive, trust: &Trust) -> Result<u64, String> {
    let done = archive::restore(&mut db.connection().await, archived, trust, &mut |_| {}).await;
    done.map(|done| done.inserted).map_err(|error| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tampered_archive_is_restored() {
    let dir = TempDir::new().unwrap();
    let (db, [first, second, third]) = with_archives(dir.path()).await;
    let (lines, manifest) = (lines_of(&first), manifest_of(&first));
    assert!(
        lines.len() > 4 && lines[1].starts_with("{\"_piece\""),
        "{}",
        lines.len()
    );
    let last = lines.len() - 1;
    let before = db.count().await;
    let forged_dir = TempDir::new().unwrap();
    let changed = |change: &dyn Fn(&mut Vec<String>, &mut Json)| {
        let (mut lines, mut manifest) = (lines.clone(), manifest.clone());
        change(&mut lines, &mut manifest);
        forge(forged_dir.path(), &lines, manifest)
    };
    let of_the_second = lines_of(&second);
    type Change<'a> = &'a dyn Fn(&mut Vec<String>, &mut Json);
    let tampered: [(&str, Change<'_>); 11] = [
        ("a value is changed", &|lines, _| {
            lines[last] = lines[last].replace("\"row\"", "\"forged\"");
        }),
        ("a row is removed", &|lines, _| {
            lines.pop();
        }),
        ("all rows are removed", &|lines, _| lines.clear()),
        ("a row is added", &|lines, _| {
            let added = lines[last].replace("\"id\":\"0", "\"id\":\"1");
            lines.push(added);
        }),
        ("a row is there twice", &|lines, _| {
            lines.push(lines[last].clone());
        }),
        ("two rows change places", &|lines, _| lines.swap(last, last - 1)),
        ("a row of another month is added", &|lines, _| {
            lines.push(of_the_second[0].clone());
        }),
        ("the rows are those of another month", &|lines, _| {
            *lines = of_the_second.clone();
        }),
        ("the month has another name", &|_, manifest| {
            manifest.insert("month".into(), "1999-01".into());
        }),
        ("the range is another", &|_, manifest| {
            manifest.insert("to_time".into(), "2999-01-01T00:00:00Z".into());
        }),
        ("a number is written differently", &|lines, _| {
            lines[last] = lines[last].replace("\"n\": 3", "\"n\": 3.0");
        }),
    ];
    for (what, change) in tampered {
        let forged = changed(change);
        let verdict = archive::check_ledger(&mut db.connection().await, &forged)
            .await
            .unwrap();
        assert!(
            matches!(verdict, LedgerVerdict::Different { .. }),
            "{what}: {verdict:?}"
        );
        let error = restore(&db, &forged, &Trust::Ledger).await.expect_err(what);
        assert!(error.contains("differs from entry"), "{what}: {error}");
        assert_eq!(db.count().await, before, "{what}");
    }
    // The ledger of the trail has no entry about a month that was not dropped.
    let error = restore(&db, &third, &Trust::Ledger).await.unwrap_err();
    assert!(error.contains("no entry about its rows"), "{error}");
    // A long value whose line is unchanged does not even match the manifest.
    let mut pieces = lines.clone();
    pieces[1] = pieces[1].replacen("xxx", "yyy", 1);
    let forged = forge_files(forged_dir.path(), &pieces, manifest.clone());
    match archive::check(&forged).unwrap_err() {
        OpsError::Archive {
            source: ArchiveProblem::Value { column, row },
            ..
        } => {
            assert_eq!(column, "metadata");
            assert!(lines[0].starts_with(&row) && row.contains("created_at"), "{row}");
        }
        other => panic!("{other}"),
    }

    let same = archive::check_ledger(&mut db.connection().await, &first)
        .await
        .unwrap();
    assert_eq!(
        same,
        LedgerVerdict::Same {
            entry: 1,
            is_same_file: true
        }
    );
    // The same rows in another file are the same rows.
    let again = changed(&|_, _| {});
    let same = archive::check_ledger(&mut db.connection().await, &again)
        .await
        .unwrap();
    assert_eq!(
        same,
        LedgerVerdict::Same {
            entry: 1,
            is_same_file: false
        }
    );
    assert_eq!(restore(&db, &again, &Trust::Ledger).await, Ok(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_an_operator_accepts_is_recorded() {
    let dir = TempDir::new().unwrap();
    let (db, [first, _, third]) = with_archives(dir.path()).await;
    let forged_dir = TempDir::new().unwrap();
    let accept = Trust::Operator("the ledger was restored from a backup".to_owned());
    let (mut lines, manifest) = (lines_of(&first), manifest_of(&first));
    lines.pop();
    let shorter = forge(forged_dir.path(), &lines, manifest.clone());
    assert_eq!(restore(&db, &shorter, &accept).await, Ok(3));

    let last = retention::ledger(&mut db.connection().await)
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(
        (last.event.as_str(), last.reason.as_str(), last.row_count),
        ("restored", "the ledger was restored from a backup", 3)
    );
    assert_eq!(last.overrides, ["differs_from_ledger"]);

    let other = TestDb::postgres().await;
    assert_eq!(restore(&other, &third, &accept).await, Ok(3));
    let last = retention::ledger(&mut other.connection().await)
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(last.overrides, ["not_in_ledger"]);
    // Even then the rows must be of the month, and the month must be the one that the manifest names.
    let strange = forge(forged_dir.path(), &lines_of(&third), manifest.clone());
    let error = restore(&other, &strange, &accept).await.unwrap_err();
    assert!(error.contains("rows of other months"), "{error}");
    for (field, value) in [("month", "1999-01"), ("to_time", "2999-01-01T00:00:00Z")] {
        let mut manifest = manifest.clone();
        manifest.insert(field.to_owned(), value.into());
        let strange = forge(forged_dir.path(), &lines, manifest);
        let error = restore(&other, &strange, &accept).await.unwrap_err();
        assert!(
            error.contains("are not the month that it names"),
            "{field}: {error}"
        );
    }
    assert_eq!(other.count().await, 3);
}

/// What the ledger says counts, not what the plan for the drop was.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_a_month_that_was_dropped_twice_is_restored() {
    let (dir, (db, parts)) = (TempDir::new().unwrap(), aged(20).await);
    let first = write(&db, &parts[0], dir.path()).await.unwrap();
    let policy = RetentionPolicy {
        max_months: 9,
        ..rule()
    };
    let mut conn = db.connection().await;
    retention::drop_month(&mut conn, &parts[0], &policy, Some(&first))
        .await
        .unwrap();
    restore(&db, &first, &Trust::Ledger).await.unwrap();
    let late = format!(
        "INSERT INTO audit_logs (created_at, action) SELECT from_time, 'late' FROM audit_logs_months() WHERE partition = '{}'",
        parts[0]
    );
    db.sql(&late).await.unwrap();
    let second = write(&db, &parts[0], dir.path()).await.unwrap();
    retention::drop_month(&mut conn, &parts[0], &policy, Some(&second))
        .await
        .unwrap();
    for (archived, inserted) in [(&first, 3), (&second, 1)] {
        assert_eq!(restore(&db, archived, &Trust::Ledger).await, Ok(inserted));
    }
}

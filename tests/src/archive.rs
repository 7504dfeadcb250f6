//! An archive contains every row unchanged, and a restore returns every row unchanged.

use std::path::Path;

use audit_ops::archive::{self, Trust, VerifiedArchive};
use audit_ops::retention::{self, PartitionVerdict, PlannedPartition, RetentionPolicy};
use audit_ops::{OpsError, holds, partitions};
use tempfile::TempDir;

use crate::retention::{aged, rule, sql_on_new_connection};
use crate::support::TestDb;

pub async fn planned(db: &TestDb, part: &str) -> PlannedPartition {
    let plan = retention::plan(&mut db.connection().await, &rule())
        .await
        .unwrap();
    plan.into_iter().find(|month| month.name == part).unwrap()
}

pub async fn write(db: &TestDb, part: &str, dir: &Path) -> Result<VerifiedArchive, OpsError> {
    let month = planned(db, part).await;
    archive::write(&mut db.connection().await, &month, dir, &mut |_| {}).await
}

pub async fn restore(db: &TestDb, archived: &VerifiedArchive) -> Result<(u64, u64), String> {
    restore_as(db, archived, &Trust::Ledger).await
}

/// For archives of months that this database has not dropped.
fn accepted() -> Trust {
    Trust::Operator("for the test".to_owned())
}

async fn restore_as(db: &TestDb, archived: &VerifiedArchive, trust: &Trust) -> Result<(u64, u64), String> {
    let done = archive::restore(&mut db.connection().await, archived, trust, &mut |_| {}).await;
    done.map(|done| (done.inserted, done.already_stored))
        .map_err(|error| error.to_string())
}

/// All rows as text, in order, with every column.
async fn all(db: &TestDb) -> String {
    db.text(
        "SELECT string_agg(row_to_json(a)::text, E'\\n' ORDER BY created_at, id) AS value FROM audit_logs a",
    )
    .await
}

/// Rows with unusual values, in months from 4713 BC to 294276.
async fn with_unusual_rows() -> TestDb {
    let db = TestDb::postgres().await;
    db.sql(
        "INSERT INTO audit_logs (created_at, action, metadata) SELECT '2019-02-15', 'json', m::jsonb FROM (VALUES \
         ('{\"n\": 1E400}'), ('{\"n\": 1.0, \"m\": 1, \"o\": 1e-7, \"big\": 9007199254740993}'), ('{}'), (NULL), \
         (repeat('[', 2000) || repeat(']', 2000)), ('\"no object\"'), ('{\"a\": \"\\uFFFD \\\\n \\u2028 \\ud83d\\ude00 \\\\u007f\"}')) v (m); \
         INSERT INTO audit_logs (id, created_at, recorded_at, tenant_id, actor_id, actor_type, on_behalf_of, action, outcome, resource_type, \
             resource_id, ip_address, user_agent, request_id, trace_id, operation_id, metadata, writer_id, writer_seq, tx_id) VALUES \
         ('00000000-0000-0000-0000-000000000000', '2019-02-01', '2019-02-01 00:00:00.000001', '', E'a\\tb\\n\\\"c\\\\', '', '', '', '', 'r', \
             repeat('é', 3000), '10.1.2.3/8', 'ü', 'q', 't', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '{\"x\": null}', \
             'ffffffff-ffff-ffff-ffff-ffffffffffff', 9223372036854775807, -1), \
         ('00000000-0000-0000-0000-000000000001', '2019-02-28 23:59:59.999999Z', 'infinity', NULL, NULL, NULL, NULL, 'x', 'weird', NULL, NULL, \
             '2001:db8::1/64', NULL, NULL, NULL, NULL, '{}', NULL, -9223372036854775808, 9223372036854775807); \
         INSERT INTO audit_logs (created_at, action) VALUES ('0044-03-15 BC', 'ides'), ('4713-01-01 BC', 'first'), ('294276-11-30', 'late'), ('12024-01-01', 'y10k')",
    )
    .await
    .unwrap();
    let mut conn = db.connection().await;
    for month in partitions::default_partition_months(&mut conn).await.unwrap() {
        partitions::move_month(&mut conn, &month, partitions::MAX_PARTITIONS)
            .await
            .unwrap();
    }
    db
}

/// Asserts that an entry of the ledger and its archive describe the same rows.
fn assert_archived(entry: &retention::LedgerEntry, archives: &[VerifiedArchive]) {
    let archived = archives
        .iter()
        .find(|archived| Some(&archived.manifest.file) == entry.archive.as_ref())
        .unwrap();
    assert_eq!(
        (&archived.manifest.digest, archived.manifest.rows),
        (&entry.digest, entry.row_count as u64)
    );
    assert_eq!(
        Some(&archived.manifest.file_sha256),
        entry.archive_sha256.as_ref()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_restored_unchanged() {
    let (db, dir) = (with_unusual_rows().await, TempDir::new().unwrap());
    let before = all(&db).await;
    assert_eq!(before.lines().count(), 13);
    let trusting = RetentionPolicy {
        trust_clock: true,
        max_months: 100,
        ..rule()
    };
    for part in [
        "audit_logs_2019_02",
        "audit_logs_0044_03_bc",
        "audit_logs_4713_01_bc",
    ] {
        let archived = write(&db, part, dir.path()).await.unwrap();
        retention::drop_month(&mut db.connection().await, part, &trusting, Some(&archived))
            .await
            .unwrap();
    }
    // Months in the future can be archived as well, but not dropped.
    for part in ["audit_logs_294276_11", "audit_logs_12024_01"] {
        assert_eq!(write(&db, part, dir.path()).await.unwrap().manifest.rows, 1);
    }
    assert_eq!(all(&db).await.lines().count(), 2);

    let manifests = archive::manifests(dir.path()).unwrap();
    assert_eq!(manifests.len(), 5);
    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    let archives: Vec<_> = manifests
        .iter()
        .map(|path| archive::check(path).unwrap())
        .collect();
    for entry in &ledger {
        assert_archived(entry, &archives);
    }
    for archived in &archives {
        let (expected, trust) = if archived.manifest.month.starts_with("294276")
            || archived.manifest.month.starts_with("12024")
        {
            ((0, archived.manifest.rows), accepted())
        } else {
            ((archived.manifest.rows, 0), Trust::Ledger)
        };
        assert_eq!(
            restore_as(&db, archived, &trust).await,
            Ok(expected),
            "{}",
            archived.manifest.month
        );
        // A second restore changes nothing.
        assert_eq!(
            restore_as(&db, archived, &trust).await,
            Ok((0, archived.manifest.rows))
        );
    }
    assert_eq!(all(&db).await, before, "every column of every row");
    let ledger = retention::ledger(&mut db.connection().await).await.unwrap();
    let events: Vec<_> = ledger.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, [["dropped"; 3], ["restored"; 3]].concat());
    let ids: Vec<_> = ledger.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    // Archive again, and restore into another database.
    let other = TestDb::postgres().await;
    let again = write(&db, "audit_logs_2019_02", dir.path()).await.unwrap();
    assert_eq!(
        again.manifest.digest, ledger[0].digest,
        "the same rows have the same digest"
    );
    for archived in &archives {
        assert!(restore(&other, archived).await.is_err(), "its ledger is empty");
        restore_as(&other, archived, &accepted()).await.unwrap();
    }
    assert_eq!(all(&other).await, before);
}

/// Uses gzip and sha256sum only.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_can_be_read_and_verified_with_standard_tools() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let archived = write(&db, &parts[0], dir.path()).await.unwrap();
    let shell = |script: &str| {
        let run = std::process::Command::new("sh")
            .arg("-ec")
            .arg(script)
            .current_dir(dir.path())
            .output()
            .unwrap();
        String::from_utf8(run.stdout)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let manifest = &archived.manifest;
    assert_eq!(
        shell(&format!("sha256sum {}", manifest.file)),
        manifest.file_sha256
    );
    assert_eq!(
        shell(&format!("gzip -dc {} | sha256sum", manifest.file)),
        manifest.sha256
    );
    assert_eq!(
        shell(&format!("gzip -dc {} | wc -l", manifest.file)),
        manifest.rows.to_string()
    );
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
    #[cfg(unix)]
    for name in names {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_not_dropped_when_its_archive_lacks_a_row() {
    let ((db, parts), dir) = (aged(20).await, TempDir::new().unwrap());
    let archived = write(&db, &parts[0], dir.path()).await.unwrap();
    let late = format!(
        "INSERT INTO audit_logs (created_at, action) SELECT from_time, 'late' FROM audit_logs_months() WHERE partition = '{}'",
        parts[0]
    );
    db.sql(&late).await.unwrap();
    let mut conn = db.connection().await;
    for (part, archived) in [(&parts[0], &archived), (&parts[1], &archived)] {
        let error = retention::drop_month(&mut conn, part, &rule(), Some(archived))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("does not have its rows"), "{error}");
    }
    assert_eq!(db.count().await, 64);
    // Both archives exist: their rows differ, and so do their names.
    let again = write(&db, &parts[0], dir.path()).await.unwrap();
    assert_ne!(again.path, archived.path);
    assert!(archive::check(&archived.manifest_path).is_ok());
    retention::drop_month(&mut conn, &parts[0], &rule(), Some(&again))
        .await
        .unwrap();
}

/// A reader who sees only some rows must not archive a month.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_sees_only_some_rows_cannot_archive() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let month = planned(&db, &parts[0]).await;
    for (role, why) in [
        ("reader", "cannot see all of them"),
        ("maintainer", "cannot see all of them"),
        ("writer", "cannot see all of them"),
    ] {
        let url = format!("{}?options=-c%20role%3Daudit_{role}", db.url);
        let database = db_services::client::Database::from_url(&url).unwrap();
        let mut conn = database.connection().await.unwrap();
        let error = archive::write(&mut conn, &month, dir.path(), &mut |_| {})
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{role}: {error}");
        assert!(archive::manifests(dir.path()).is_err(), "{role}");
    }
    let database =
        db_services::client::Database::from_url(&format!("{}?options=-c%20role%3Daudit_auditor", db.url))
            .unwrap();
    let archived = archive::write(
        &mut database.connection().await.unwrap(),
        &month,
        dir.path(),
        &mut |_| {},
    )
    .await
    .unwrap();
    assert_eq!(archived.manifest.rows, 3);
    // Only the owner may restore.
    let error = archive::restore(
        &mut database.connection().await.unwrap(),
        &archived,
        &accepted(),
        &mut |_| {},
    )
    .await
    .unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_differs_is_neither_restored_nor_overwritten() {
    let ((db, parts), dir) = (aged(20).await, TempDir::new().unwrap());
    let archived = write(&db, &parts[0], dir.path()).await.unwrap();
    retention::drop_month(&mut db.connection().await, &parts[0], &rule(), Some(&archived))
        .await
        .unwrap();
    let lines = std::process::Command::new("gzip")
        .arg("-dc")
        .arg(&archived.path)
        .output()
        .unwrap()
        .stdout;
    let line: serde_json::Value =
        serde_json::from_slice(lines.split(|byte| *byte == b'\n').nth(1).unwrap()).unwrap();
    let forged = format!(
        "INSERT INTO audit_logs (id, created_at, action) VALUES ({}, {}, 'forged')",
        line["id"].to_string().replace('"', "'"),
        line["created_at"].to_string().replace('"', "'")
    );
    let partition = "SELECT audit_logs_ensure_partitions(now() - interval '20 months', now())";
    db.sql(partition).await.unwrap();
    db.sql(&forged).await.unwrap();
    let before = all(&db).await;
    let error = restore(&db, &archived).await.unwrap_err();
    assert!(
        error.starts_with("1 archived rows conflict") && error.contains("nothing was restored"),
        "{error}"
    );
    assert_eq!(all(&db).await, before);
    assert_eq!(
        retention::ledger(&mut db.connection().await).await.unwrap().len(),
        1
    );
}

/// A restored month is due to be dropped again, unless a hold keeps it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_month_is_accounted_for_once() {
    let ((db, parts), dir) = (aged(20).await, TempDir::new().unwrap());
    let writer = "0198c0de-0000-7000-8000-000000000002";
    db.sql(&format!(
        "INSERT INTO audit_logs (created_at, action, writer_id, writer_seq, metadata) \
         SELECT from_time, action, '{writer}', seq, metadata::jsonb FROM audit_logs_months(), (VALUES ('x', 1, '{{}}'), \
         ('audit.entries_lost', NULL, '{{\"ranges\": [[2, 2]]}}'), ('audit.writer_stopped', NULL, '{{\"last_seq\": 3}}')) v (action, seq, metadata) \
         WHERE partition = '{}'; INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES ('x', '{writer}', 3)",
        parts[0]
    ))
    .await
    .unwrap();
    let account = async || {
        db_services::audit::verify_writers(&mut db.connection().await)
            .await
            .unwrap()
            .remove(0)
    };
    let before = account().await;
    assert_eq!(
        (before.verdict.as_str(), before.stored, before.declared_lost),
        ("declared", 2, 1)
    );
    let archived = write(&db, &parts[0], dir.path()).await.unwrap();
    let mut conn = db.connection().await;
    retention::drop_month(&mut conn, &parts[0], &rule(), Some(&archived))
        .await
        .unwrap();
    let dropped = account().await;
    assert_eq!(
        (
            dropped.verdict,
            dropped.stored,
            dropped.expired,
            dropped.declared_lost
        ),
        (before.verdict, 1, 1, 1)
    );
    assert_eq!(restore(&db, &archived).await, Ok((6, 0)));
    assert_eq!(account().await, before);

    assert_eq!(planned(&db, &parts[0]).await.verdict, PartitionVerdict::Drop);
    holds::add(&mut conn, &holds::HoldScope::default(), "restored for the case")
        .await
        .unwrap();
    assert_eq!(planned(&db, &parts[0]).await.verdict, PartitionVerdict::Held);
    // Rows of the ledger cannot be inserted twice.
    assert!(
        sql_on_new_connection(
            &db,
            "INSERT INTO audit_retention_ledger SELECT * FROM audit_retention_ledger"
        )
        .await
        .is_err()
    );
}

//! An archive has its name only after it was proven: its files are complete, and its rows are those of the trail.

use std::path::Path;

use audit_ops::archive::{self, Trust, VerifiedArchive};
use audit_ops::retention;
use audit_ops::{ArchiveProblem, OpsError};
use db_test::wait_for;
use tempfile::TempDir;

use crate::archive::{planned, write};
use crate::retention::{aged, rule, sql_on_new_connection};
#[cfg(target_os = "linux")]
use crate::small_disk::{SmallDisk, rerun_in_name_space};
use crate::support::TestDb;

/// Writes an archive while this SQL changes the trail: after its rows were read, and before they are compared.
async fn write_while(db: &TestDb, part: &str, dir: &Path, sql: &str) -> Result<VerifiedArchive, OpsError> {
    let month = planned(db, part).await;
    let mut is_done = false;
    let mut change = |_| {
        if !std::mem::replace(&mut is_done, true) {
            let change = sql_on_new_connection(db, sql);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(change)).unwrap();
        }
    };
    let written = archive::write(&mut db.connection().await, &month, dir, &mut change).await;
    assert!(is_done);
    written
}

/// Everything that a change of the trail can do to a row of any kind is seen before the month is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_not_restored_as_it_is_stored_is_found_before_the_drop() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let part = &parts[0];
    db.sql(&format!(
        "INSERT INTO audit_logs (created_at, action, actor_id, metadata) SELECT from_time, action, actor, metadata::jsonb \
         FROM audit_logs_months(), (VALUES \
             ('plain', 'x', '{{\"n\": 1.0}}'), ('long', repeat('x', 70000), '{{}}'), \
             ('deep', 'x', repeat('[', 600) || repeat(']', 600))) v (action, actor, metadata) WHERE partition = '{part}'"
    ))
    .await
    .unwrap();
    for change in [
        "action = 'forged' WHERE action = 'plain'",
        "metadata = '{\"n\": 1}' WHERE action = 'plain'",
        "action = 'forged' WHERE action = 'long'",
        "actor_id = overlay(actor_id PLACING 'y' FROM 70000) WHERE action = 'long'",
        "action = 'forged' WHERE action = 'deep'",
        "metadata = (repeat('[', 601) || repeat(']', 601))::jsonb WHERE action = 'deep'",
        "created_at = created_at + interval '1 s' WHERE action = 'plain'",
    ] {
        let undo = "CREATE TABLE undo AS SELECT * FROM audit_logs";
        let forge = format!(
            "{undo}; ALTER TABLE {part} DISABLE TRIGGER audit_logs_append_only; UPDATE {part} SET {change}"
        );
        let error = write_while(&db, part, dir.path(), &forge).await.unwrap_err();
        match error {
            OpsError::NotRestorable { rows: 1, row } => assert!(row.len() > 40, "{change}: {row}"),
            other => panic!("{change}: {other}"),
        }
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 0, "{change}: no archive that is not proven stays");
        let undo = format!(
            "DELETE FROM {part}; INSERT INTO {part} SELECT u.* FROM undo u WHERE u.tableoid IS NOT NULL \
             AND u.created_at >= (SELECT from_time FROM audit_logs_months() WHERE partition = '{part}') \
             AND u.created_at < (SELECT to_time FROM audit_logs_months() WHERE partition = '{part}'); \
             ALTER TABLE {part} ENABLE ALWAYS TRIGGER audit_logs_append_only; DROP TABLE undo"
        );
        db.sql(&undo).await.unwrap();
    }
    let archived = write_while(&db, part, dir.path(), "SELECT").await.unwrap();
    assert_eq!(archived.manifest.rows, 6);
}

/// How often other months were read, and this one, by index or in whole. Ends all other sessions of the database first,
/// because a session reports its scans at its end.
async fn scans(monitor: &TestDb, part: &str) -> (u64, u64) {
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
         AND backend_type = 'client backend'";
    wait_for("the other sessions to end", async || {
        let ended = format!("SELECT count(pg_terminate_backend(pid))::text AS value {others}");
        monitor.text(&ended).await == "0"
    })
    .await;
    let of = async |is_this: bool| {
        let condition = if is_this { "=" } else { "<>" };
        let sum = format!(
            "SELECT coalesce(sum(seq_scan + idx_scan), 0)::text AS value FROM pg_stat_user_tables \
             WHERE relname LIKE 'audit!_logs!_2%' ESCAPE '!' AND relname {condition} '{part}'"
        );
        monitor.text(&sum).await.parse::<u64>().unwrap()
    };
    let mut found = (of(false).await, of(true).await);
    // PostgreSQL 14 collects them in another process, which writes them twice a second.
    let version = "SELECT (current_setting('server_version_num')::int / 10000)::text AS value";
    let (mut quiet, needed) = (0, if monitor.text(version).await == "14" { 3 } else { 0 });
    while quiet < needed {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let now = (of(false).await, of(true).await);
        quiet = if now == found { quiet + 1 } else { 0 };
        found = now;
    }
    found
}

/// Otherwise the time for a month would grow with the trail.
#[tokio::test(flavor = "multi_thread")]
async fn neither_the_proof_of_a_month_nor_its_restore_reads_another_month() {
    let ((db, parts), dir) = (aged(20).await, TempDir::new().unwrap());
    let part = &parts[0];
    let month = planned(&db, part).await;
    db.sql("ANALYZE audit_logs").await.unwrap();
    let (monitor, session) = (TestDb::at(db.url.clone()), || TestDb::at(db.url.clone()));
    let before = scans(&monitor, part).await;
    assert!(before.0 > 20, "reading all months is noticed: {before:?}");
    let mut conn = session().connection().await;
    let archived = archive::write(&mut conn, &month, dir.path(), &mut |_| {})
        .await
        .unwrap();
    let after = scans(&monitor, part).await;
    assert!(after.1 > before.1, "{after:?}");
    assert_eq!(after.0, before.0, "the archive and its proof");

    let mut conn = session().connection().await;
    retention::drop_month(&mut conn, part, &rule(), Some(&archived))
        .await
        .unwrap();
    let again = "SELECT audit_logs_ensure_partitions(now() - interval '20 months', now())";
    sql_on_new_connection(&db, again).await.unwrap();
    let before = scans(&monitor, part).await;
    let mut conn = session().connection().await;
    let restored = archive::restore(&mut conn, &archived, &Trust::Ledger, &mut |_| {}).await;
    assert_eq!(restored.unwrap().inserted, 3);
    let after = scans(&monitor, part).await;
    assert!(after.1 > before.1, "{after:?}");
    assert_eq!(after.0, before.0, "the restore");
}

/// Two processes could replace each other's files.
#[tokio::test(flavor = "multi_thread")]
async fn one_process_at_a_time_writes_to_a_directory() {
    let ((db, parts), dir) = (aged(14).await, TempDir::new().unwrap());
    let other = std::fs::File::open(dir.path()).unwrap();
    other.try_lock().unwrap();
    match write(&db, &parts[0], dir.path()).await.unwrap_err() {
        OpsError::Archive { source, .. } => assert!(matches!(source, ArchiveProblem::Locked), "{source}"),
        other => panic!("{other}"),
    }
    drop(other);
    write(&db, &parts[0], dir.path()).await.unwrap();
}

/// Whatever fits: nothing, the lines without the manifest, or both.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_file_stays_when_the_disk_is_full() {
    use std::os::unix::fs::PermissionsExt;
    if rerun_in_name_space("archive_proof::no_file_stays_when_the_disk_is_full") {
        return;
    }
    let (disk, (db, parts)) = (SmallDisk::mount(1), aged(14).await);
    std::fs::set_permissions(disk.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let dir = disk.path().join("kept");
    let mut outcomes = Vec::new();
    for free in [0, 4 << 10, 64 << 10] {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        disk.fill_but(free);
        let written = write(&db, &parts[0], &dir).await;
        let files = std::fs::read_dir(&dir).unwrap().count();
        match &written {
            Ok(_) => assert_eq!(files, 2, "{free}"),
            Err(OpsError::File { source, .. }) => {
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{free}: {source}");
                assert_eq!(files, 0, "{free}");
            }
            Err(other) => panic!("{free}: {other}"),
        }
        outcomes.push(written.is_ok());
        disk.free();
    }
    assert_eq!(outcomes, [false, false, true]);
}

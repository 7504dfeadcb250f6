//! An SQLite database that is opened for reading only: the file is not changed, and this user may lack write access.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use db_services::audit::{AuditEntry, count, insert};
use db_services::client::{Connection, Database};
use diesel_async::SimpleAsyncConnection;
use tempfile::TempDir;

use crate::small_disk::{SmallDisk, rerun_in_name_space};
use crate::support::{TestDb, has_all_migrations, has_no_migration};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

fn at(path: &Path) -> Database {
    Database::from_url(&format!("sqlite://{}", path.display())).unwrap()
}

/// A migrated database with one entry, which no connection has open.
async fn with_an_entry(path: &Path) {
    let database = at(path);
    database.migrate().await.unwrap();
    insert(&mut database.connection().await.unwrap(), &AuditEntry::new("x"))
        .await
        .unwrap();
    assert_eq!(count(&mut database.connection().await.unwrap()).await.unwrap(), 1);
    drop(database);
    wait_until_closed(path).await;
}

/// SQLite removes the log when the last connection is closed, which the pool does on another thread.
async fn wait_until_closed(path: &Path) {
    crate::support::wait_for("the end of the connections", async || {
        !side(path, "-wal").exists()
    })
    .await;
}

fn side(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

async fn sql(database: &Database, sql: &str) -> Result<(), String> {
    match database.connection().await.unwrap() {
        Connection::Sqlite(mut conn) => conn.batch_execute(sql).await.map_err(|error| error.to_string()),
        Connection::Postgres(_) => unreachable!(),
    }
}

async fn entries(database: &Database) -> Result<i64, String> {
    let mut conn = database.connection().await.map_err(|error| error.to_string())?;
    count(&mut conn).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_file_is_read_and_not_changed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a #%41.db");
    with_an_entry(&path).await;
    let before = std::fs::read(&path).unwrap();

    let database = at(&path).read_only().unwrap();
    assert_eq!(database.sqlite_path(), Some(&*path));
    assert_eq!(entries(&database).await, Ok(1));
    assert!(has_all_migrations(&database).await);
    let refused = insert(&mut database.connection().await.unwrap(), &AuditEntry::new("y")).await;
    assert!(refused.unwrap_err().to_string().contains("readonly"));
    assert!(database.revert_migration().await.is_err());
    drop(database);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // A writer can use it afterwards.
    insert(&mut at(&path).connection().await.unwrap(), &AuditEntry::new("z"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_reader_sees_what_a_writer_commits_meanwhile() {
    let db = TestDb::sqlite().await;
    let reader = Database::from_url(&db.url).unwrap().read_only().unwrap();
    for expected in 1..5 {
        insert(&mut db.connection().await, &AuditEntry::new("x"))
            .await
            .unwrap();
        assert_eq!(entries(&reader).await, Ok(expected));
    }
}

#[tokio::test]
async fn neither_reading_nor_the_migration_status_changes_a_foreign_database() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("foreign.db");
    assert!(has_no_migration(&at(&path)).await);
    assert!(entries(&at(&path).read_only().unwrap()).await.is_err());
    assert!(!path.exists(), "no file is created");

    std::fs::write(&path, "").unwrap();
    assert!(has_no_migration(&at(&path)).await);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);

    sql(
        &at(&path),
        "PRAGMA journal_mode = DELETE; CREATE TABLE foreigners (name TEXT)",
    )
    .await
    .unwrap();
    wait_until_closed(&path).await;
    let before = std::fs::read(&path).unwrap();
    assert!(has_no_migration(&at(&path)).await);
    assert!(entries(&at(&path).read_only().unwrap()).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "only the file is there");
}

#[tokio::test]
async fn a_file_on_read_only_media_is_read() {
    if rerun_in_name_space("read_only::a_file_on_read_only_media_is_read") {
        return;
    }
    let mut disk = SmallDisk::mount(2);
    let (whole, crashed) = (disk.path().join("audit.db"), disk.path().join("crashed.db"));
    with_an_entry(&whole).await;
    // A copy with its log, as a killed process leaves it.
    let writer = at(&whole);
    sql(
        &writer,
        "PRAGMA wal_autocheckpoint = 0; CREATE TABLE late (name TEXT)",
    )
    .await
    .unwrap();
    std::fs::copy(&whole, &crashed).unwrap();
    std::fs::copy(side(&whole, "-wal"), side(&crashed, "-wal")).unwrap();
    drop(writer);
    wait_until_closed(&whole).await;
    disk.forbid_writing();
    assert!(
        std::fs::write(disk.path().join("x"), "").is_err(),
        "nothing can be written"
    );

    let error = at(&whole).connection().await.unwrap_err().to_string();
    assert!(error.contains("readonly") || error.contains("open"), "{error}");
    let database = at(&whole).read_only().unwrap();
    assert_eq!(entries(&database).await, Ok(1));
    assert!(has_all_migrations(&database).await);
    assert!(has_all_migrations(&at(&whole)).await);

    let error = entries(&at(&crashed).read_only().unwrap()).await.unwrap_err();
    assert!(
        error.contains("crashed.db-wal") && error.contains("copy both files"),
        "{error}"
    );
    disk.allow_writing();
    assert_eq!(entries(&at(&crashed).read_only().unwrap()).await, Ok(1));
}

/// Runs the application as another user, who prints the number of entries.
fn count_as_nobody(path: &Path) -> Output {
    // A copy: the other user may not be allowed into the directory of the build.
    let dir = TempDir::new().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("app");
    std::fs::copy(env!("CARGO_BIN_EXE_app"), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .arg("count-read-only")
        .env("DATABASE_URL", format!("sqlite://{}", path.display()));
    if is_root(path) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

fn is_root(path: &Path) -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap()) == 0
}

#[tokio::test]
async fn another_user_may_read_a_file_in_a_directory_that_only_its_owner_writes_to() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.db");
    with_an_entry(&path).await;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o555)).unwrap();
    let output = count_as_nobody(&path);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(printed.trim(), "Ok(1)", "{output:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    if is_root(&path) {
        // While its owner writes.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let writer = at(&path);
        insert(&mut writer.connection().await.unwrap(), &AuditEntry::new("y"))
            .await
            .unwrap();
        let output = count_as_nobody(&path);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(printed.trim(), "Ok(2)", "{output:?}");
    }
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_new_database_belongs_to_its_owner_alone() {
    let db = TestDb::sqlite().await;
    let path = db.database.sqlite_path().unwrap().to_owned();
    let _open = db.connection().await;
    insert(&mut db.connection().await, &AuditEntry::new("x"))
        .await
        .unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let mode = std::fs::metadata(side(&path, suffix))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    // A mode that somebody chose stays.
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    insert(&mut at(&path).connection().await.unwrap(), &AuditEntry::new("y"))
        .await
        .unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
}

/// A service must be able to use the file that root has created in its directory.
#[tokio::test]
async fn a_new_database_of_root_belongs_to_the_owner_of_its_directory() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = TempDir::new().unwrap();
    let user = match is_root(dir.path()) {
        true => NOBODY,
        false => std::fs::metadata(dir.path()).unwrap().uid(),
    };
    chown(dir.path(), Some(user), None).unwrap();
    let path = dir.path().join("audit.db");
    let database = at(&path);
    database.migrate().await.unwrap();
    insert(&mut database.connection().await.unwrap(), &AuditEntry::new("x"))
        .await
        .unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(
            std::fs::metadata(side(&path, suffix)).unwrap().uid(),
            user,
            "{suffix}"
        );
    }
}

//! Disks that are full or read-only: the server's, the SQLite file's and the spool's.

use db_services::audit::{Delivery, Durability};
use db_test::Server;

use super::{MIGRATE, NO_TABLE, Scenario};
use crate::captured_logs;
use crate::small_disk::{SmallDisk, rerun_in_name_space};
use crate::support::{TestDb, wait_for};

/// Moves a database to a tablespace on a disk. The write-ahead log stays where it is: a server that cannot write it crashes.
async fn move_to(disk: &SmallDisk, db: &TestDb, server: &Server) {
    let (_, name) = db.url.rsplit_once('/').unwrap();
    let directory = disk.path().join("tablespace").display().to_string();
    let administrator = TestDb::at(server.url("postgres"));
    for statement in [
        // Executed as the user of the server, who must own the directory.
        format!("COPY (SELECT) TO PROGRAM 'mkdir {directory}'"),
        format!("CREATE TABLESPACE small LOCATION '{directory}'"),
        format!("ALTER DATABASE {name} SET TABLESPACE small"),
    ] {
        administrator.sql(&statement).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_a_server_with_a_full_disk() {
    let disk = SmallDisk::mount(64);
    let server = Server::start(&[]).unwrap();
    let db = TestDb::on(&server);
    move_to(&disk, &db, &server).await;
    let mut scenario = Scenario::start(&db.url);
    scenario.assert_commits().await;
    disk.fill_but(64 << 10);
    scenario
        .assert_fails(&[
            "does not accept entries",
            "No space left on device",
            "free space on the server's disk",
        ])
        .await;
    disk.free();
    scenario.assert_recovers(&db, &["does not accept entries"]).await;
}

/// An SQLite database in a directory of a small disk, migrated, with no connection left open.
async fn sqlite_on(disk: &SmallDisk) -> TestDb {
    let url = format!("sqlite://{}", disk.path().join("audit.db").display());
    TestDb::at(url.clone()).database.migrate().await.unwrap();
    TestDb::at(url)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_an_sqlite_file_on_a_full_disk() {
    if rerun_in_name_space("misconfiguration::disks::the_writer_recovers_from_an_sqlite_file_on_a_full_disk")
    {
        return;
    }
    let disk = SmallDisk::mount(8);
    let db = sqlite_on(&disk).await;
    let mut scenario = Scenario::start(&db.url);
    scenario.assert_commits().await;
    disk.fill_but(0);
    scenario
        .assert_fails(&["does not accept entries", "free space on the disk"])
        .await;
    disk.free();
    scenario.assert_recovers(&db, &["database or disk is full"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_an_sqlite_file_on_a_disk_that_is_full_at_the_start() {
    if rerun_in_name_space(
        "misconfiguration::disks::the_writer_recovers_from_an_sqlite_file_on_a_disk_that_is_full_at_the_start",
    ) {
        return;
    }
    let disk = SmallDisk::mount(8);
    let db = sqlite_on(&disk).await;
    disk.fill_but(0);
    let mut scenario = Scenario::start(&db.url);
    // SQLite cannot even create its journal.
    scenario
        .assert_fails(&["does not accept entries", "see whether the disk is full"])
        .await;
    disk.free();
    scenario.assert_recovers(&db, &["does not accept entries"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_a_read_only_sqlite_file() {
    if rerun_in_name_space("misconfiguration::disks::the_writer_recovers_from_a_read_only_sqlite_file") {
        return;
    }
    let mut disk = SmallDisk::mount(8);
    let db = sqlite_on(&disk).await;
    disk.forbid_writing();
    let mut scenario = Scenario::start(&db.url);
    scenario
        .assert_fails(&["is misconfigured", "make the file and its directory writable"])
        .await;
    disk.allow_writing();
    scenario.assert_recovers(&db, &["is misconfigured"]).await;
}

/// While only the spool's disk is full, entries reach the database. When the database fails as well, they wait
/// in memory. When the disk has space again they go to the spool, and from there to the database.
#[tokio::test(flavor = "multi_thread")]
async fn the_writer_recovers_from_a_spool_on_a_full_disk() {
    if rerun_in_name_space("misconfiguration::disks::the_writer_recovers_from_a_spool_on_a_full_disk") {
        return;
    }
    for durability in [Durability::Spill, Durability::WriteAhead] {
        let (disk, db) = (SmallDisk::mount(8), TestDb::sqlite().await);
        let mut scenario = Scenario::with_spool(&db.url, disk.path(), durability);
        disk.fill_but(0);
        // Many, because a few would fit into the spool's file.
        assert_eq!(scenario.write(1_000).await, Delivery::Committed);
        db.sql(NO_TABLE[0]).await.unwrap();
        let waiting = scenario.next(1_000);
        drop(scenario.writer.write_all(waiting));
        let spool_fault = [
            "does not take entries, they wait in memory",
            "free space on its disk",
        ];
        captured_logs::wait_for(&scenario.database, &spool_fault).await;
        captured_logs::wait_for(&scenario.database, &MIGRATE).await;
        let stats = scenario.writer.stats();
        assert_eq!((stats.spooled, stats.queued, stats.dropped), (0, 1_000, 0));
        disk.free();
        wait_for("the spool", async || scenario.writer.stats().spooled == 1_000).await;
        assert!(scenario.write(10).await.is_durable());
        db.sql(NO_TABLE[1]).await.unwrap();
        scenario
            .assert_recovers(&db, &[MIGRATE[0], spool_fault[0], "takes entries again"])
            .await;
    }
}

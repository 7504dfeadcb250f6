//! The memory of command and server does not grow with the rows of a month, nor with a value of a row.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use db_test::Server;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use tokio_postgres::NoTls;

/// The memory that the processes may take beyond that for one row, in KiB. The largest value has 20 MB; in the form before,
/// the server took 1 GB and the command 300 MB.
const MARGIN: u64 = 150 << 10;

/// The most memory that a process had, without what it shares with others, in KiB; none if it has ended.
fn peak(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(field("VmHWM:")?.saturating_sub(field("RssShmem:")?))
}

/// Runs the command, and returns the peaks of its process and of its session in the server.
async fn peaks(url: &str, dir: &std::path::Path, arguments: &str) -> (u64, u64) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_auditlog"))
        .args(arguments.split(' '))
        .current_dir(dir)
        .env("DATABASE_URL", url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sessions = "SELECT pid::text FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let (mut of_command, mut of_server) = (0, 0);
    while child.try_wait().unwrap().is_none() {
        of_command = of_command.max(peak(&child.id().to_string()).unwrap_or(0));
        for row in client.query(sessions, &[]).await.unwrap() {
            of_server = of_server.max(peak(row.get(0)).unwrap_or(0));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
    (of_command, of_server)
}

#[tokio::test]
async fn a_month_of_large_rows_is_archived_dropped_and_restored_in_bounded_memory() {
    let server = Server::start(&[("shared_buffers", "16MB")]).unwrap();
    let url = server.migrated().unwrap();
    let mut conn = AsyncPgConnection::establish(&url).await.unwrap();
    conn.batch_execute(
        "SELECT audit_logs_ensure_partitions('2019-01-01', '2019-01-01'); \
         INSERT INTO audit_logs (created_at, action) VALUES ('2019-01-02', 'short')",
    )
    .await
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let apply = "retention apply --keep 13months --trust-clock --yes --archive kept";
    let small = peaks(&url, dir.path(), apply).await;
    conn.batch_execute(
        "SELECT audit_logs_ensure_partitions('2019-02-01', '2019-02-01'); \
         INSERT INTO audit_logs (created_at, action, metadata) \
         SELECT '2019-02-02'::timestamptz + n * interval '1 minute', 'a megabyte', jsonb_build_object('x', repeat(md5(n::text), 32768)) \
         FROM generate_series(1, 60) n; \
         INSERT INTO audit_logs (created_at, action, actor_id) VALUES ('2019-02-03', 'control characters', repeat(E'\\x01', 20000000))",
    )
    .await
    .unwrap();
    drop(conn);
    for arguments in [apply, "restore kept"] {
        let large = peaks(&url, dir.path(), arguments).await;
        println!("{arguments}: {large:?} KiB, {small:?} KiB for one row");
        assert!(large.0 > 0 && large.1 > 0);
        assert!(
            large.0 < small.0 + MARGIN && large.1 < small.1 + MARGIN,
            "{arguments}: command and server took {large:?} KiB, {small:?} KiB for one row"
        );
    }
}

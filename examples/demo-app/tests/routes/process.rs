//! Clients that go away, and the end of the process.

use std::process::{ExitStatus, Stdio};

use db_services::audit;
use db_services::client::Database;
use db_test::{TIMEOUT, wait_for};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::world::on_both;

/// A sign-in with a wrong password, as bytes.
const WRONG: &str = "POST /sign-in HTTP/1.1\r\nhost: demo\r\nconnection: close\r\ncontent-length: 21\r\n\
     content-type: application/x-www-form-urlencoded\r\n\r\nname=bob&password=bad";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_does_not_stop_its_request() {
    on_both(async |world| {
        let mut alice = world.signed_in("alice").await;
        // A handler that is stopped may have come to its end before: so several times.
        for _ in 0..10 {
            let created = alice.post("/skills", &[("name", "Go"), ("level", "1")]).await;
            let id = created.rows[0].resource_id.clone().unwrap();
            let begun = world.begun();
            let mut client = TcpStream::connect(world.address).await.unwrap();
            let request = format!(
                "POST /skills/{id}/delete HTTP/1.1\r\nhost: demo\r\ncookie: {}\r\ncontent-length: 0\r\n\r\n",
                alice.cookie()
            );
            client.write_all(request.as_bytes()).await.unwrap();
            wait_for("the beginning of the request", async || world.begun() > begun).await;
            drop(client);
            let mut entries = Vec::new();
            wait_for("the entry of the request", async || {
                entries = world.new_entries().await;
                !entries.is_empty()
            })
            .await;
            assert_eq!(
                entries,
                [format!("skill.delete success user:alice acme skill/{id}")]
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_writes_what_is_queued_before_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("demo-app.db").display());
    let mut process = Command::new(env!("CARGO_BIN_EXE_demo-app"))
        .env("DATABASE_URL", &url)
        .env("DEMO_APP_ADDRESS", "127.0.0.1:0")
        .env_remove("AUDIT_DATABASE_URL")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut line_with = async |text: &str| {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(text) {
                return line;
            }
        }
        panic!("the application has not printed {text:?}")
    };
    let address = line_with("Open http://").await.replace("Open http://", "");
    assert!(line_with("carol").await.contains("carol's demo password"));

    let mut client = TcpStream::connect(&address).await.unwrap();
    client.write_all(WRONG.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");

    assert!(terminated(&mut process).await.success());
    line_with("ending on SIGTERM").await;
    line_with("1 committed, 0 lost").await;
    let mut conn = Database::from_url(&url).unwrap().connection().await.unwrap();
    let newest = audit::latest(&mut conn, 1).await.unwrap();
    assert_eq!(newest[0].action, "auth.login_failed");
}

/// Sends SIGTERM and waits for the end.
async fn terminated(process: &mut Child) -> ExitStatus {
    let id = i32::try_from(process.id().unwrap()).unwrap();
    rustix::process::kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    timeout(TIMEOUT, process.wait()).await.unwrap().unwrap()
}

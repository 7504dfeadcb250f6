//! Clients that go away, and the end of the process.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use db_services::audit;
use db_services::client::{Connection, Database};
use db_test::{TIMEOUT, wait_for};
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, sql_query};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

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
    let mut process = Process::start().await;
    let mut client = TcpStream::connect(&process.address).await.unwrap();
    client.write_all(WRONG.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");

    process.terminate();
    process.line_with("ending on SIGTERM").await;
    process.line_with("1 committed, 0 lost").await;
    assert!(process.end().await.success());
    let newest = audit::latest(&mut process.connection().await, 1).await.unwrap();
    assert_eq!(newest[0].action, "auth.login_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waits_for_the_database_at_the_end_is_on_record() {
    let mut process = Process::start().await;
    let cookie = process.sign_in().await;
    let created = process.begin_post("/skills", &cookie, 15).await;
    let Connection::Sqlite(mut other) = process.connection().await else {
        panic!("not an SQLite database")
    };
    other.batch_execute("BEGIN IMMEDIATE").await.unwrap();
    let answer = finish_post(created, "name=Go&level=1").await;
    process.terminate();
    process.line_with("ending on SIGTERM").await;
    // Nearly as long as SQLite waits for a lock.
    sleep(Duration::from_millis(4500)).await;
    other.batch_execute("COMMIT").await.unwrap();
    assert!(process.end().await.success());
    answer.await.unwrap();

    let rows = audit::latest(&mut process.connection().await, 100).await.unwrap();
    let of_skill: Vec<_> = rows.iter().filter(|row| row.action == "skill.create").collect();
    let [entry] = &of_skill[..] else {
        panic!("{of_skill:?}")
    };
    let count = "SELECT COUNT(*) AS count FROM skills WHERE name = 'Go'";
    let skills: Count = sql_query(count).get_result(&mut other).await.unwrap();
    // A slow machine may take longer than the lock may: the request then fails, and its failure is recorded.
    assert_eq!(skills.count == 1, entry.outcome == "success", "{entry:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_fails_if_it_gives_a_request_up() {
    let mut process = Process::start().await;
    let cookie = process.sign_in().await;
    // Its form never comes.
    let _unfinished = process.begin_post("/skills", &cookie, 15).await;
    process.terminate();
    process.line_with("requests are given up").await;
    assert_eq!(process.end().await.code(), Some(1));
}

#[derive(QueryableByName)]
pub(crate) struct Count {
    #[diesel(sql_type = BigInt)]
    pub(crate) count: i64,
}

/// The application as a process, on an SQLite database of its own.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
    url: String,
    _directory: TempDir,
}

impl Process {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("demo-app.db").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_demo-app"))
            .env("DATABASE_URL", &url)
            .env("DEMO_APP_ADDRESS", "127.0.0.1:0")
            .env_remove("AUDIT_DATABASE_URL")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self {
            child,
            lines,
            address: String::new(),
            url,
            _directory: directory,
        };
        let address = process.line_with("Open http://").await;
        process.address = address.replace("Open http://", "");
        assert!(process.line_with("carol").await.contains("carol's demo password"));
        process
    }

    async fn line_with(&mut self, text: &str) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if line.contains(text) {
                return line;
            }
        }
        panic!("the application has not printed {text:?}")
    }

    async fn connection(&self) -> Connection {
        Database::from_url(&self.url).unwrap().connection().await.unwrap()
    }

    /// Signs alice in, and returns her cookie.
    async fn sign_in(&self) -> String {
        let form = "name=alice&password=alice%27s+demo+password";
        let sign_in = self.begin_post("/sign-in", "", form.len()).await;
        let answer = finish_post(sign_in, form).await.await.unwrap();
        let (_, cookie) = answer.split_once("set-cookie: ").unwrap();
        cookie.split_once(';').unwrap().0.to_owned()
    }

    /// Sends a request without its form, and waits until the handler asks for the form.
    async fn begin_post(&self, path: &str, cookie: &str, length: usize) -> TcpStream {
        let mut client = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\ncookie: {cookie}\r\ncontent-length: {length}\r\n\
             expect: 100-continue\r\ncontent-type: application/x-www-form-urlencoded\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut asked = [0; 25];
        client.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        client
    }

    /// Sends SIGTERM.
    fn terminate(&self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        rustix::process::kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
    }

    async fn end(&mut self) -> ExitStatus {
        timeout(TIMEOUT, self.child.wait()).await.unwrap().unwrap()
    }
}

/// Sends the form. The task returns the answer.
async fn finish_post(mut client: TcpStream, form: &str) -> JoinHandle<String> {
    client.write_all(form.as_bytes()).await.unwrap();
    tokio::spawn(async move {
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    })
}

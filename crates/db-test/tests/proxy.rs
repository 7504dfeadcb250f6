//! Does the proxy pass everything on, and fail in each way that it is told to?

// The support of a test fails loudly: that is its way to report.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod support;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use db_test::{Network, Postgres, Proxy, wait_for};
use support::{connect, text};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls};

/// A database, the proxy to it, a client that goes straight to it and one by the proxy.
struct Line {
    database: Postgres,
    proxy: Proxy,
    direct: Client,
    client: Client,
    /// How the client's connection ended.
    end: JoinHandle<Result<(), Error>>,
}

/// Connects, and gives the end of the connection too.
async fn open(url: &str) -> (Client, JoinHandle<Result<(), Error>>) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    (client, tokio::spawn(connection))
}

impl Line {
    async fn new() -> Self {
        let database = Postgres::empty().unwrap_or_else(|error| panic!("{error}"));
        let proxy = Proxy::to(database.url()).unwrap();
        let direct = connect(database.url()).await.unwrap();
        direct
            .batch_execute("CREATE TABLE said (word text)")
            .await
            .unwrap();
        let (client, end) = open(proxy.url()).await;
        Self {
            database,
            proxy,
            direct,
            client,
            end,
        }
    }

    /// Says a word by the proxy, with a prepared statement.
    async fn say(&self, word: &str) -> Result<u64, Error> {
        self.client.execute("INSERT INTO said SELECT $1", &[&word]).await
    }

    /// Says a word in vain; gives what the operating system said of it. Connects anew.
    async fn say_in_vain(&mut self, word: &str) -> ErrorKind {
        assert!(self.say(word).await.is_err());
        let (client, end) = open(self.proxy.url()).await;
        self.client = client;
        let end = std::mem::replace(&mut self.end, end).await.unwrap();
        kind(&end.unwrap_err()).unwrap()
    }

    async fn said(&self) -> i64 {
        text(&self.direct, "SELECT count(*)::text FROM said")
            .await
            .parse()
            .unwrap()
    }
}

/// The error of the operating system below a client's error.
fn kind(error: &Error) -> Option<ErrorKind> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}

#[tokio::test]
async fn it_passes_on_everything_as_it_is() {
    let line = Line::new().await;
    assert_ne!(line.proxy.url(), line.database.url());
    let long = "ä".repeat(1_000_000);
    assert_eq!(line.say(&long).await.unwrap(), 1);
    assert_eq!(text(&line.client, "SELECT word FROM said").await, long);
    let seen = line.proxy.seen();
    assert_eq!(
        (
            seen.accepted,
            seen.slowed,
            seen.held,
            seen.reset,
            seen.answers_lost
        ),
        (1, 0, 0, 0, 0)
    );
}

#[tokio::test]
async fn cut_it_breaks_what_is_connected_and_refuses_new_connections_on_the_same_port() {
    let mut line = Line::new().await;
    line.say("before").await.unwrap();
    for _ in 0..3 {
        line.proxy.set(Network::Cut).unwrap();
        assert!(line.say("lost").await.is_err());
        let refused = connect(line.proxy.url()).await.err().unwrap();
        assert_eq!(kind(&refused), Some(ErrorKind::ConnectionRefused), "{refused:?}");
        line.proxy.set(Network::Passes).unwrap();
        (line.client, line.end) = open(line.proxy.url()).await;
    }
    line.say("after").await.unwrap();
    assert_eq!(line.said().await, 2);
}

#[tokio::test]
async fn slow_it_takes_at_least_so_long() {
    let line = Line::new().await;
    let begun = Instant::now();
    line.proxy.set(Network::Slow(Duration::from_millis(10))).unwrap();
    line.say(&"a".repeat(50_000)).await.unwrap();
    let seen = line.proxy.seen();
    assert!(seen.slowed >= 5, "{seen:?}");
    assert!(begun.elapsed() >= Duration::from_millis(10) * 5);
    assert_eq!(line.said().await, 1);
}

#[tokio::test]
async fn hanging_it_accepts_and_answers_only_when_it_is_over() {
    let line = Line::new().await;
    line.proxy.set(Network::Hangs).unwrap();
    let said = tokio::time::timeout(Duration::from_millis(50), line.say("never")).await;
    assert!(said.is_err(), "no answer");
    wait_for("the statement", async || line.proxy.seen().held > 0).await;
    let held = line.proxy.seen().held;
    let url = line.proxy.url().to_owned();
    let waiting = tokio::spawn(async move { connect(&url).await.map(drop) });
    wait_for("a connection", async || line.proxy.seen().accepted == 2).await;
    wait_for("its first words", async || line.proxy.seen().held > held).await;
    assert!(!waiting.is_finished());
    assert_eq!(line.said().await, 0);
    line.proxy.set(Network::Passes).unwrap();
    waiting.await.unwrap().unwrap();
    line.say("after").await.unwrap();
}

#[tokio::test]
async fn what_a_client_said_before_it_gave_up_arrives_after_the_hang() {
    let Line {
        proxy,
        direct,
        client,
        database: _database,
        ..
    } = Line::new().await;
    let insert = client.prepare("INSERT INTO said SELECT 'late'").await.unwrap();
    proxy.set(Network::Hangs).unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(50), client.execute(&insert, &[])).await;
    assert!(given_up.is_err(), "no answer");
    wait_for("the statement", async || proxy.seen().held > 0).await;
    drop(client);
    proxy.set(Network::Passes).unwrap();
    wait_for("what was said", async || {
        text(&direct, "SELECT count(*)::text FROM said").await == "1"
    })
    .await;
}

#[tokio::test]
async fn it_resets_a_connection_in_the_middle_of_what_the_client_sends() {
    let mut line = Line::new().await;
    line.say("before").await.unwrap();
    line.proxy.set(Network::ResetsAfter(40_000)).unwrap();
    assert_eq!(
        line.say_in_vain(&"a".repeat(100_000)).await,
        ErrorKind::ConnectionReset
    );
    assert_eq!(line.proxy.seen().reset, 1);
    line.say("short").await.unwrap();
    assert_eq!(line.said().await, 2, "half a statement is none");
}

#[tokio::test]
async fn it_loses_the_answer_to_what_the_server_has_done() {
    let mut line = Line::new().await;
    line.proxy.set(Network::LosesAnswers).unwrap();
    for nth in 1..=3 {
        assert_eq!(line.say_in_vain("done").await, ErrorKind::ConnectionReset);
        assert_eq!(line.proxy.seen().answers_lost, nth);
        assert_eq!(
            line.said().await,
            nth as i64,
            "committed before the client heard of it"
        );
        // Connecting, plain queries and preparing go well.
        line.client.batch_execute("SELECT 1").await.unwrap();
    }
    line.proxy.set(Network::Passes).unwrap();
    line.say("done").await.unwrap();
    assert_eq!(line.said().await, 4);
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_connection_that_closes() {
    let server = support::server();
    let proxy = Proxy::to(&server.url("postgres")).unwrap();
    assert!(connect(proxy.url()).await.is_ok());
    server.stop_immediate().unwrap();
    assert!(connect(proxy.url()).await.is_err());
    server.start_again().unwrap();
    assert!(
        connect(proxy.url()).await.is_ok(),
        "the proxy outlives its server"
    );
}

#[tokio::test]
async fn it_ends_with_its_value() {
    let Line {
        proxy,
        client,
        database: _database,
        ..
    } = Line::new().await;
    let url = proxy.url().to_owned();
    drop(proxy);
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert!(connect(&url).await.is_err());
}

#[test]
fn it_runs_while_the_test_blocks() {
    let database = Postgres::empty().unwrap_or_else(|error| panic!("{error}"));
    let proxy = Proxy::to(database.url()).unwrap();
    for network in [Network::Hangs, Network::Cut, Network::Passes] {
        proxy.set(network).unwrap();
    }
    let client =
        std::net::TcpStream::connect(proxy.url().split_once('@').unwrap().1.split_once('/').unwrap().0);
    assert!(client.is_ok());
}

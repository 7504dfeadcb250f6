//! The proxy forwards everything, and simulates each network failure.

// Test support reports an error by panicking.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod support;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use db_test::{Network, Postgres, Proxy, wait_for};
use support::{connect, text};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls};

/// A database, a proxy to it, a client with a direct connection and one with a connection through the proxy.
struct ProxyFixture {
    database: Postgres,
    proxy: Proxy,
    direct: Client,
    client: Client,
    /// The end of the client's connection.
    end: JoinHandle<Result<(), Error>>,
}

/// Connects. Returns the end of the connection too.
async fn open(url: &str) -> (Client, JoinHandle<Result<(), Error>>) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    (client, tokio::spawn(connection))
}

impl ProxyFixture {
    async fn new() -> Self {
        let database = Postgres::empty().unwrap_or_else(|error| panic!("{error}"));
        let proxy = Proxy::to(database.url()).unwrap();
        let direct = connect(database.url()).await.unwrap();
        direct
            .batch_execute("CREATE TABLE words (word text)")
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

    /// Inserts a word through the proxy, with a prepared statement.
    async fn insert(&self, word: &str) -> Result<u64, Error> {
        self.client.execute("INSERT INTO words SELECT $1", &[&word]).await
    }

    /// Inserts a word, which must fail. Returns the error of the operating system, and connects again.
    async fn insert_and_fail(&mut self, word: &str) -> ErrorKind {
        assert!(self.insert(word).await.is_err());
        let (client, end) = open(self.proxy.url()).await;
        self.client = client;
        let end = std::mem::replace(&mut self.end, end).await.unwrap();
        io_error_kind(&end.unwrap_err()).unwrap()
    }

    async fn count(&self) -> i64 {
        text(&self.direct, "SELECT count(*)::text FROM words")
            .await
            .parse()
            .unwrap()
    }
}

/// The error of the operating system that caused a client's error.
fn io_error_kind(error: &Error) -> Option<ErrorKind> {
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
async fn the_proxy_forwards_everything_unchanged() {
    let fixture = ProxyFixture::new().await;
    assert_ne!(fixture.proxy.url(), fixture.database.url());
    let long = "ä".repeat(1_000_000);
    assert_eq!(fixture.insert(&long).await.unwrap(), 1);
    assert_eq!(text(&fixture.client, "SELECT word FROM words").await, long);
    let seen = fixture.proxy.seen();
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
async fn a_cut_network_closes_connections_and_refuses_new_ones_on_the_same_port() {
    let mut fixture = ProxyFixture::new().await;
    fixture.insert("before").await.unwrap();
    for _ in 0..3 {
        fixture.proxy.set(Network::Cut).unwrap();
        assert!(fixture.insert("lost").await.is_err());
        let refused = connect(fixture.proxy.url()).await.err().unwrap();
        assert_eq!(
            io_error_kind(&refused),
            Some(ErrorKind::ConnectionRefused),
            "{refused:?}"
        );
        fixture.proxy.set(Network::Passes).unwrap();
        (fixture.client, fixture.end) = open(fixture.proxy.url()).await;
    }
    fixture.insert("after").await.unwrap();
    assert_eq!(fixture.count().await, 2);
}

#[tokio::test]
async fn a_slow_network_delays_each_piece() {
    let fixture = ProxyFixture::new().await;
    let begun = Instant::now();
    fixture
        .proxy
        .set(Network::Slow(Duration::from_millis(10)))
        .unwrap();
    fixture.insert(&"a".repeat(50_000)).await.unwrap();
    let seen = fixture.proxy.seen();
    assert!(seen.slowed >= 5, "{seen:?}");
    assert!(begun.elapsed() >= Duration::from_millis(10) * 5);
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test]
async fn a_hanging_network_accepts_connections_and_answers_afterwards() {
    let fixture = ProxyFixture::new().await;
    fixture.proxy.set(Network::Hangs).unwrap();
    let inserted = tokio::time::timeout(Duration::from_millis(50), fixture.insert("never")).await;
    assert!(inserted.is_err(), "no answer");
    wait_for("the statement", async || fixture.proxy.seen().held > 0).await;
    let held = fixture.proxy.seen().held;
    let url = fixture.proxy.url().to_owned();
    let waiting = tokio::spawn(async move { connect(&url).await.map(drop) });
    wait_for("a connection", async || fixture.proxy.seen().accepted == 2).await;
    wait_for("its startup message", async || fixture.proxy.seen().held > held).await;
    assert!(!waiting.is_finished());
    assert_eq!(fixture.count().await, 0);
    fixture.proxy.set(Network::Passes).unwrap();
    waiting.await.unwrap().unwrap();
    fixture.insert("after").await.unwrap();
}

#[tokio::test]
async fn a_statement_of_a_client_that_gave_up_arrives_after_the_hang() {
    let ProxyFixture {
        proxy,
        direct,
        client,
        database: _database,
        ..
    } = ProxyFixture::new().await;
    let insert = client.prepare("INSERT INTO words SELECT 'late'").await.unwrap();
    proxy.set(Network::Hangs).unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(50), client.execute(&insert, &[])).await;
    assert!(given_up.is_err(), "no answer");
    wait_for("the statement", async || proxy.seen().held > 0).await;
    drop(client);
    proxy.set(Network::Passes).unwrap();
    wait_for("the row", async || {
        text(&direct, "SELECT count(*)::text FROM words").await == "1"
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_reset_within_a_statement_of_the_client() {
    let mut fixture = ProxyFixture::new().await;
    fixture.insert("before").await.unwrap();
    fixture.proxy.set(Network::ResetsAfter(40_000)).unwrap();
    assert_eq!(
        fixture.insert_and_fail(&"a".repeat(100_000)).await,
        ErrorKind::ConnectionReset
    );
    assert_eq!(fixture.proxy.seen().reset, 1);
    fixture.insert("short").await.unwrap();
    assert_eq!(fixture.count().await, 2, "half a statement inserts nothing");
}

#[tokio::test]
async fn the_answer_to_a_committed_statement_is_lost() {
    let mut fixture = ProxyFixture::new().await;
    fixture.proxy.set(Network::LosesAnswers).unwrap();
    for nth in 1..=3 {
        assert_eq!(fixture.insert_and_fail("done").await, ErrorKind::ConnectionReset);
        assert_eq!(fixture.proxy.seen().answers_lost, nth);
        assert_eq!(
            fixture.count().await,
            nth as i64,
            "committed before the client gets an answer"
        );
        // Connecting, simple queries and preparing still work.
        fixture.client.batch_execute("SELECT 1").await.unwrap();
    }
    fixture.proxy.set(Network::Passes).unwrap();
    fixture.insert("done").await.unwrap();
    assert_eq!(fixture.count().await, 4);
}

#[tokio::test]
async fn a_server_becomes_silent_after_some_answers() {
    let fixture = ProxyFixture::new().await;
    fixture.proxy.set(Network::SilentAfter(3)).unwrap();
    let client = connect(fixture.proxy.url()).await.unwrap();
    for _ in 0..2 {
        client.batch_execute("SELECT 1").await.unwrap();
    }
    let third = tokio::time::timeout(Duration::from_millis(500), client.batch_execute("SELECT 1"));
    assert!(third.await.is_err(), "neither an answer nor an error");
}

#[tokio::test]
async fn the_proxy_closes_connections_while_its_server_is_stopped() {
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
async fn a_dropped_proxy_closes_its_connections_and_its_port() {
    let ProxyFixture {
        proxy,
        client,
        database: _database,
        ..
    } = ProxyFixture::new().await;
    let url = proxy.url().to_owned();
    drop(proxy);
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert!(connect(&url).await.is_err());
}

#[test]
fn the_proxy_runs_while_the_test_blocks() {
    let database = Postgres::empty().unwrap_or_else(|error| panic!("{error}"));
    let proxy = Proxy::to(database.url()).unwrap();
    for network in [Network::Hangs, Network::Cut, Network::Passes] {
        proxy.set(network).unwrap();
    }
    let client =
        std::net::TcpStream::connect(proxy.url().split_once('@').unwrap().1.split_once('/').unwrap().0);
    assert!(client.is_ok());
}

//! Servers that do not answer, and that refuse.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Condition, Session, World, check};

#[test]
fn each_verb_ends_when_nothing_listens() {
    let world = World::new();
    // A port that was free a moment ago may be another test's by now.
    check(Condition::NoServer, |verb| {
        world.run_at(verb, "postgres://u@127.0.0.1:1/d")
    });
}

#[test]
fn each_verb_ends_when_the_server_stays_silent() {
    let world = World::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1");
    check(Condition::Silent, |verb| world.run_at(verb, &url));
}

#[test]
fn each_verb_ends_when_the_network_swallows_its_packets() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    // Its queue is full: the kernel does not answer further connections.
    let (port, _listener, _queued) = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue has no end");
        }
        (address.port(), listener, queued)
    });
    let url = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1");
    check(Condition::BlackHole, |verb| world.run_at(verb, &url));
}

#[test]
fn each_verb_names_the_right_that_its_login_lacks() {
    let world = World::new();
    let nobody = world.url_of_nobody();
    assert_eq!(
        Session::open(&nobody).number("SELECT 1::bigint AS value"),
        1,
        "it can log in"
    );
    check(Condition::NoRight, |verb| world.run_at(verb, &nobody));
}

#[test]
fn each_verb_that_writes_says_that_transactions_are_read_only() {
    let world = World::new();
    let url = format!("{}?options=-c%20default_transaction_read_only%3Don", world.url);
    check(Condition::ReadOnly, |verb| world.run_at(verb, &url));
}

/// A user who may do everything can create no file there either.
#[test]
fn each_verb_says_that_no_file_can_be_created() {
    let world = World::new();
    check(Condition::ClosedDirectory, |verb| {
        world.run_at(verb, "sqlite:///proc/audit.db")
    });
}

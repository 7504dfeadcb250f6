//! Connecting to several servers, some of which do not answer.

use std::net::Ipv4Addr;
use std::time::Instant;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_postgres::error::SqlState;

use super::*;
use crate::client::test_servers::{CLOSED, refusing, route, server, welcoming};

/// A host that does not answer a TCP connection at all: its queue is full. With the connections in it.
async fn black_hole() -> (String, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(queueing)) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        queued.push(queueing);
        assert!(queued.len() < 100, "the queue has no end");
    }
    (address.to_string(), listener, queued)
}

async fn try_to_connect(route: &Route) -> Result<(), ConnectError> {
    connect(route).await.map(drop)
}

async fn error(hosts: &[&str]) -> ConnectError {
    let error = try_to_connect(&route(hosts, "connect_timeout=1"))
        .await
        .unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hush"), "{shown}");
    error
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_passed() {
    let (welcoming, silent) = (welcoming().await, server(None).await);
    let (hole, _listener, _queued) = black_hole().await;
    let ends_at_once = server(Some(Vec::new())).await;
    let busy = refusing("53300", "too many connections").await;
    assert!(try_to_connect(&route(&[&welcoming], "")).await.is_ok());
    for (hosts, options) in [
        (vec![&silent, &welcoming], "connect_timeout=1"),
        (vec![&hole, &welcoming], "connect_timeout=1"),
        (vec![&CLOSED.to_owned(), &welcoming], ""),
        (
            vec![&silent, &hole, &CLOSED.to_owned(), &welcoming],
            "connect_timeout=1",
        ),
        (vec![&ends_at_once, &welcoming], "connect_timeout=1"),
        (vec![&busy, &welcoming], ""),
    ] {
        let hosts: Vec<&str> = hosts.into_iter().map(String::as_str).collect();
        let connected = try_to_connect(&route(&hosts, options)).await;
        assert!(connected.is_ok(), "{hosts:?}: {connected:?}");
    }
}

#[test]
fn the_only_host_gets_the_whole_attempt_of_a_writer_unless_the_url_has_a_limit() {
    let attempt = Duration::from_secs(30);
    for (hosts, options, seconds) in [
        (&["a.example:1"][..], "sslmode=disable", 30),
        (&["a.example:1"], "sslmode=disable&connect_timeout=7", 7),
        (&["a.example:1"], "sslmode=disable&connect_timeout=40", 30),
        (&["a.example:1", "b.example:1"], "sslmode=disable", 5),
    ] {
        let limit = route(hosts, options).limited(attempt).limit();
        assert_eq!(limit.as_secs(), seconds, "{hosts:?} {options}");
    }
}

#[tokio::test]
async fn the_limit_covers_tcp_tls_and_authentication_of_each_address() {
    let silent = server(None).await;
    let (hole, _listener, _queued) = black_hole().await;
    for options in ["connect_timeout=1", "connect_timeout=1&sslmode=require"] {
        let started = Instant::now();
        let route = route(&[&silent, &hole], options);
        let Err(error) = timeout(Duration::from_secs(60), connect(&route))
            .await
            .expect("no limit")
        else {
            panic!("connected")
        };
        assert!(started.elapsed() >= Duration::from_secs(2), "each has its second");
        let text = error.to_string();
        for address in [&silent, &hole] {
            assert!(
                text.contains(&format!("127.0.0.1 port {}: ", port(address))),
                "{text}"
            );
        }
        // The driver has the same limit for TCP alone.
        let timed_out =
            ["took longer than 1s", "connection timed out"].map(|part| text.matches(part).count());
        assert!(timed_out[0] + timed_out[1] == 2 && timed_out[0] > 0, "{text}");
        assert!(error.code().is_none() && !error.is_permanent());
    }
}

#[tokio::test]
async fn a_server_that_answers_ends_the_search_unless_it_is_starting() {
    let (welcoming, starting) = (welcoming().await, refusing("57P03", "starting up").await);
    let wrong = refusing("28P01", "wrong password").await;
    assert!(try_to_connect(&route(&[&starting, &welcoming], "")).await.is_ok());

    let error = error(&[&wrong, &welcoming]).await;
    assert_eq!(error.code(), Some(&SqlState::INVALID_PASSWORD));
    assert_eq!(error.to_string(), "wrong password");
}

#[tokio::test]
async fn the_answer_of_a_server_says_more_than_a_server_that_is_not_reachable() {
    let (silent, closed) = (server(None).await, CLOSED.to_owned());
    let starting = refusing("57P03", "starting up").await;
    let wrong = refusing("28P01", "wrong password").await;
    for (hosts, code) in [
        ([&closed, &wrong], Some(SqlState::INVALID_PASSWORD)),
        ([&silent, &wrong], Some(SqlState::INVALID_PASSWORD)),
        ([&starting, &wrong], Some(SqlState::INVALID_PASSWORD)),
        ([&starting, &closed], Some(SqlState::CANNOT_CONNECT_NOW)),
        ([&closed, &silent], None),
    ] {
        let error = error(&hosts.map(String::as_str)).await;
        assert_eq!(error.code(), code.as_ref(), "{error}");
        let text = error.to_string();
        assert!(hosts.iter().all(|host| text.contains(port(host))), "{text}");
        assert!(!error.is_permanent(), "{text}");
    }
    // A server that answers, but not as it must: TLS is refused.
    let without_tls = server(Some(b"N".to_vec())).await;
    let route = route(&[&without_tls, &closed], "sslmode=require&connect_timeout=1");
    let Err(error) = connect(&route).await else {
        panic!("connected")
    };
    assert!(error.code().is_none() && error.is_permanent(), "{error}");
}

#[tokio::test]
async fn an_address_of_localhost_that_is_another_machines_is_not_reached_unencrypted() {
    let address = welcoming().await;
    let route = route(&[&address.replace("127.0.0.1", "localhost")], "");
    assert_eq!(route.encryption, Encryption::OnlyLoopback);
    let at = |ip: &str| Server {
        address: Some(ip.parse().unwrap()),
        ..servers(&route.config).remove(0)
    };
    for (ip, is_reached) in [("127.0.0.1", true), ("192.0.2.1", false), ("2001:db8::1", false)] {
        match connect_to(&route, &at(ip), NoTls).await {
            Ok(_) => assert!(is_reached, "{ip}"),
            Err(failure) => {
                assert!(
                    !is_reached && matches!(failure, Failure::NotLoopback),
                    "{ip}: {failure}"
                );
                let mut error = ConnectError::default();
                error.push(&at(ip), failure);
                assert!(error.is_permanent());
            }
        }
    }
}

#[tokio::test]
async fn a_random_order_is_random() {
    let route = route(&["127.0.0.1:1", "127.0.0.1:2"], "load_balance_hosts=random");
    let first = || ordered(servers(&route.config), route.config.get_load_balance_hosts())[0].port;
    let seen: std::collections::HashSet<u16> = (0..1_000).map(|_| first()).collect();
    assert_eq!(seen.len(), 2);
    let all = ordered(servers(&route.config), LoadBalanceHosts::Disable);
    assert_eq!([all[0].port, all[1].port], [1, 2]);
}

#[tokio::test]
async fn a_name_is_tried_at_each_of_its_addresses() {
    let route = route(&["localhost:1"], "connect_timeout=1");
    let addresses = servers(&route.config)[0]
        .resolve(Duration::from_secs(60))
        .await
        .unwrap();
    assert!(!addresses.is_empty() && addresses.iter().all(|server| server.address.is_some()));
    let text = try_to_connect(&route).await.unwrap_err().to_string();
    match addresses.len() {
        1 => assert!(text.contains("refused"), "{text}"),
        more => assert_eq!(text.matches("localhost (").count(), more, "{text}"),
    }
}

/// `Config` has no way to remove hosts, so a copy of its settings must not forget one.
#[test]
fn a_configuration_for_one_server_has_all_settings() {
    let options = "options=-cx%3Dy&application_name=n&connect_timeout=7&tcp_user_timeout=8&keepalives=0\
                   &keepalives_idle=9&keepalives_interval=10&keepalives_retries=11&sslmode=require\
                   &target_session_attrs=read-write&channel_binding=require&load_balance_hosts=random";
    for host in ["db.example:5433", "%2Frun%2Fpostgresql:5433"] {
        let all = route(&[host], options).config;
        let one = for_server(&all, &servers(&all)[0]);
        assert_eq!(all, one);
        assert_eq!(all.get_password(), Some(&b"hush"[..]));
    }
    let all = route(&["db.example"], &format!("hostaddr=10.0.0.1&{options}")).config;
    assert_eq!(all, for_server(&all, &servers(&all)[0]));
}

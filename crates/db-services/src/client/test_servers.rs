//! Listeners that know a few messages of PostgreSQL's protocol, for tests of servers that do not answer.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Database, Kind, Route};

/// AuthenticationOk and ReadyForQuery.
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

/// A server that sends this answer to a client that has sent its first message; none: it stays silent.
pub(super) async fn server(answer: Option<Vec<u8>>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            if let Some(answer) = &answer {
                let _ = client.read(&mut [0; 1024]).await.unwrap();
                client.write_all(answer).await.unwrap();
            }
            // Without an answer in it, the connection ends.
            if answer.as_ref().is_none_or(|answer| !answer.is_empty()) {
                open.push(client);
            }
        }
    });
    address
}

pub(super) async fn welcoming() -> String {
    server(Some(WELCOME.to_vec())).await
}

/// A server that answers with an error.
pub(super) async fn refusing(code: &str, message: &str) -> String {
    let fields = format!("SFATAL\0C{code}\0M{message}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    server(Some([b"E", &length[..], fields.as_bytes()].concat())).await
}

/// A port on which nothing listens. One that was free a moment ago may be another test's by now.
pub(super) const CLOSED: &str = "127.0.0.1:1";

pub(super) fn route(hosts: &[&str], options: &str) -> Route {
    let url = format!("postgres://u:hush@{}/db?{options}", hosts.join(","));
    match Database::from_url(&url).unwrap().kind() {
        Kind::Postgres { route, .. } => (**route).clone(),
        Kind::Sqlite { .. } => unreachable!(),
    }
}

//! A tower service behind hyper, without a web framework: one layer gives each request its context.
//!
//! `cargo run --example tower_service` serves on 127.0.0.1, calls itself, and prints the rows that it wrote to a temporary
//! SQLite file.
#![allow(clippy::print_stdout)]

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use audit_http::{AuditLayer, Peer};
use db_services::audit::context::{self, AuditContext};
use db_services::audit::{self, AuditEntry, AuditLog, AuditWriter, Outcome, write_audit_log};
use db_services::client::Database;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{ServiceBuilder, service_fn};

db_services::actions! {
    /// What this service records.
    pub const ACTIONS = {
        DOCUMENT_DELETE = ("document.delete", Data, Delete, Medium, "A document was deleted.");
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for row in run().await? {
        println!(
            "{} {:7} {} {} {} {}",
            row.action,
            row.outcome,
            row.resource_id.unwrap_or_default(),
            row.actor_id.unwrap_or_default(),
            row.request_id.unwrap_or_default(),
            row.ip_address
                .map(|net| net.addr().to_string())
                .unwrap_or_default(),
        );
    }
    Ok(())
}

/// Serves two requests, and returns the rows that they left, the oldest first.
async fn run() -> Result<Vec<AuditLog>, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let url = format!("sqlite://{}", dir.path().join("documents.db").display());
    let database = Database::from_url(&url)?;
    database.migrate().await?;
    let (writer, guard) = AuditWriter::builder(database.clone())
        .service("documents")
        .start()?;
    audit::install(writer)?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { serve(listener).await });
    for user in ["alice", "mallory"] {
        println!("{}", delete_as(address, user).await?);
    }
    server.abort();

    // Once, before `main` returns.
    let report = guard.shutdown(Duration::from_secs(10)).await;
    if report.lost > 0 {
        return Err("entries were lost".into());
    }
    let mut rows = audit::latest(&mut database.connection().await?, 100).await?;
    rows.reverse();
    Ok(rows)
}

/// Serves each connection with the same stack.
async fn serve(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let service = ServiceBuilder::new()
            // The layer reads the address of the client from this extension.
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer));
                request
            })
            .layer(AuditLayer::new())
            .service(service_fn(handle));
        tokio::spawn(
            http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)),
        );
    }
}

/// Deletes a document, if the user may do that. The entry has the request's id and the client's address already.
async fn handle(request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let user = request
        .headers()
        .get("x-user")
        .and_then(|user| user.to_str().ok());
    // A real service checks a session or a token here.
    context::bind(AuditContext::new().actor(user.unwrap_or("anonymous")));
    let path = request.uri().path().strip_prefix("/documents/");
    let (&Method::DELETE, Some(document)) = (request.method(), path) else {
        return Ok(answer(StatusCode::NOT_FOUND));
    };
    let entry = AuditEntry::new(DOCUMENT_DELETE).resource("document", document);
    if user != Some("alice") {
        write_audit_log(entry.outcome(Outcome::Denied));
        return Ok(answer(StatusCode::FORBIDDEN));
    }
    // … delete it …
    write_audit_log(entry);
    Ok(answer(StatusCode::NO_CONTENT))
}

fn answer(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

/// Sends a request, and returns the first line of the answer.
async fn delete_as(address: SocketAddr, user: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "DELETE /documents/d-1 HTTP/1.1\r\nHost: localhost\r\nX-User: {user}\r\nX-Request-Id: r-{user}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[tokio::test]
    async fn each_request_leaves_a_row_with_its_own_context() {
        let rows = super::run().await.unwrap();
        let seen: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    &*row.outcome,
                    row.actor_id.as_deref().unwrap(),
                    row.request_id.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("success", "alice", "r-alice"),
                ("denied", "mallory", "r-mallory")
            ]
        );
        for row in rows {
            assert_eq!(row.action, "document.delete");
            assert_eq!(row.resource_id.as_deref(), Some("d-1"));
            assert!(row.ip_address.unwrap().addr().is_loopback());
        }
    }
}

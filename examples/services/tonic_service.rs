//! A gRPC service with tonic: the same layer gives each call its context.
//!
//! `cargo run --example tonic_service` serves on 127.0.0.1, calls itself, and prints the rows that it wrote to a temporary
//! SQLite file.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Duration;

use audit_http::AuditLayer;
use db_services::audit::context::{self, AuditContext};
use db_services::audit::{self, AuditEntry, AuditLog, AuditWriter, Outcome, write_audit_log};
use db_services::client::Database;
use documents::{DeleteReply, DeleteRequest, DocumentsServer};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};
use tonic::{Request, Response, Status};

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

/// Serves two calls, and returns the rows that they left, the oldest first.
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
    // tonic keeps the peer's address in an extension of its own.
    let audit_layer = AuditLayer::new().peer(|extensions| {
        let peer = extensions.get::<TcpConnectInfo>()?;
        peer.remote_addr().map(|address| address.ip())
    });
    let server = tonic::transport::Server::builder()
        .layer(audit_layer)
        .add_service(DocumentsServer)
        .serve_with_incoming(TcpIncoming::from(listener));
    let server = tokio::spawn(server);

    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    for user in ["alice", "mallory"] {
        let mut request = Request::new(DeleteRequest { id: "d-1".to_owned() });
        request.metadata_mut().insert("x-user", user.parse()?);
        request
            .metadata_mut()
            .insert("x-request-id", format!("r-{user}").parse()?);
        match documents::call_delete(channel.clone(), request).await {
            Ok(_) => println!("{user}: deleted"),
            Err(status) => println!("{user}: {:?}", status.code()),
        }
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

/// Deletes a document, if the user may do that. The entry has the request's id and the client's address already.
async fn delete(request: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
    let user = request
        .metadata()
        .get("x-user")
        .and_then(|user| user.to_str().ok());
    // A real service checks a token here, or in an interceptor: it runs inside of the layer.
    context::bind(AuditContext::new().actor(user.unwrap_or("anonymous")));
    let entry = AuditEntry::new(DOCUMENT_DELETE).resource("document", &*request.get_ref().id);
    if user != Some("alice") {
        write_audit_log(entry.outcome(Outcome::Denied));
        return Err(Status::permission_denied("not yours"));
    }
    // … delete it …
    write_audit_log(entry);
    Ok(Response::new(DeleteReply {}))
}

/// What `tonic-prost-build` generates from a `.proto`, shortened, so that the example needs no protoc.
mod documents {
    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http::uri::PathAndQuery;
    use tonic::body::Body;
    use tonic::server::NamedService;
    use tonic::transport::Channel;
    use tonic::{Request, Response, Status};
    use tonic_prost::ProstCodec;
    use tower::Service;

    const DELETE: &str = "/documents.Documents/Delete";

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct DeleteRequest {
        #[prost(string, tag = "1")]
        pub(super) id: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct DeleteReply {}

    #[derive(Clone)]
    pub(super) struct DocumentsServer;

    impl NamedService for DocumentsServer {
        const NAME: &'static str = "documents.Documents";
    }

    impl Service<http::Request<Body>> for DocumentsServer {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            Box::pin(async {
                if request.uri().path() != DELETE {
                    return Ok(Status::unimplemented("no such method").into_http());
                }
                let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
                Ok(grpc.unary(tower::service_fn(super::delete), request).await)
            })
        }
    }

    pub(super) async fn call_delete(
        channel: Channel,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteReply>, Status> {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<DeleteRequest, DeleteReply> = ProstCodec::default();
        grpc.unary(request, PathAndQuery::from_static(DELETE), codec)
            .await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[tokio::test]
    async fn each_call_leaves_a_row_with_its_own_context() {
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
            assert!(row.user_agent.unwrap().starts_with("tonic/"));
        }
    }
}

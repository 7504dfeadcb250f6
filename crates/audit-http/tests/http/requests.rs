//! Entries carry the values of their own request.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use audit_http::{AuditLayer, MAX_REQUEST_ID_BYTES, Peer};
use axum::Router;
use axum::body::Body;
use axum::routing::post;
use db_services::audit::context::{self, AuditContext};
use db_services::audit::testing::MemoryDatabase;
use db_services::audit::{self, AuditEntry, testing, write_audit_log};
use http::{HeaderName, HeaderValue, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, ServiceExt};
use tower_http::request_id::{MakeRequestUuid, SetRequestIdLayer};

use crate::app::{entries, request, router, signed_out};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn an_entry_has_the_values_of_its_request() {
    let traceparent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let headers = [
        ("x-request-id", "r-1"),
        ("traceparent", &*traceparent),
        ("user-agent", "curl/8"),
    ];
    let rows = entries(
        router().layer(AuditLayer::new()),
        request("/sign-in", "203.0.113.7", &headers),
    )
    .await;
    let actors: Vec<_> = rows
        .iter()
        .map(|row| (&*row.action, row.actor_id.as_deref()))
        .collect();
    assert_eq!(actors, [("auth.attempt", None), ("auth.login", Some("alice"))]);
    for row in rows {
        assert_eq!(row.request_id.as_deref(), Some("r-1"));
        assert_eq!(row.trace_id.as_deref(), Some(TRACE));
        assert_eq!(row.user_agent.as_deref(), Some("curl/8"));
        assert_eq!(row.ip_address.unwrap().addr(), IpAddr::from([203, 0, 113, 7]));
    }
}

#[tokio::test]
async fn a_service_without_axum_gets_the_context() {
    let handle = async |request: Request<&str>| {
        write_audit_log(AuditEntry::new("greeted").resource("text", *request.body()));
        Ok::<_, Infallible>("well")
    };
    let service = AuditLayer::new().layer(tower::service_fn(handle));
    let mut request = Request::get("/")
        .header("x-request-id", "r-1")
        .body("hello")
        .unwrap();
    request
        .extensions_mut()
        .insert(Peer(SocketAddr::from(([203, 0, 113, 8], 1))));
    let captured = testing::capture(service.oneshot(request)).await;
    assert_eq!(captured.output, Ok("well"));
    let expected = AuditEntry::new("greeted")
        .resource("text", "hello")
        .request_id("r-1");
    captured.assert_one(&expected.ip([203, 0, 113, 8]));
}

#[tokio::test]
async fn a_request_alone_records_nothing() {
    let rows = entries(
        router().layer(AuditLayer::new()),
        request("/health", "203.0.113.7", &[]),
    )
    .await;
    assert_eq!(rows, []);
}

#[tokio::test]
async fn the_extractor_works_without_the_layer() {
    let rows = entries(
        router(),
        request("/sign-out", "203.0.113.7", &[("x-request-id", "r-1")]),
    )
    .await;
    assert_eq!(rows[0].request_id.as_deref(), Some("r-1"));
    assert_eq!(rows[0].ip_address.unwrap().addr(), IpAddr::from([203, 0, 113, 7]));
}

#[tokio::test]
async fn the_id_that_set_request_id_makes_is_used() {
    // The layer that is added last is outermost.
    let app = Router::new()
        .route(
            "/",
            post(async |headers: http::HeaderMap| {
                write_audit_log(
                    AuditEntry::new("seen").resource("id", headers["x-request-id"].to_str().unwrap()),
                );
            }),
        )
        .layer(AuditLayer::new())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid));
    let rows = entries(app, request("/", "203.0.113.7", &[])).await;
    assert!(rows[0].request_id.is_some());
    assert_eq!(rows[0].request_id, rows[0].resource_id);
}

#[tokio::test]
async fn an_id_is_made_if_there_is_none_that_can_be_used() {
    let long = "x".repeat(MAX_REQUEST_ID_BYTES + 1);
    for headers in [
        &[][..],
        &[("x-request-id", "two words")],
        &[("x-request-id", &*long)],
    ] {
        let row = signed_out(AuditLayer::new(), "203.0.113.7", headers).await;
        let id = row.request_id.unwrap();
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    }
    let layer = AuditLayer::new().request_id(HeaderName::from_static("x-correlation-id"));
    let row = signed_out(
        layer,
        "203.0.113.7",
        &[("x-correlation-id", "c-1"), ("x-request-id", "r-1")],
    )
    .await;
    assert_eq!(row.request_id.as_deref(), Some("c-1"));
}

#[tokio::test]
async fn the_peer_comes_from_an_extension_or_from_the_applications_code() {
    let mut with_peer = Request::post("/sign-out").body(Body::empty()).unwrap();
    with_peer
        .extensions_mut()
        .insert(Peer(SocketAddr::from(([203, 0, 113, 8], 1))));
    let rows = entries(router().layer(AuditLayer::new()), with_peer).await;
    assert_eq!(rows[0].ip_address.unwrap().addr(), IpAddr::from([203, 0, 113, 8]));
    let layer = AuditLayer::new().peer(|extensions| extensions.get::<IpAddr>().copied());
    let mut with_address = Request::post("/sign-out").body(Body::empty()).unwrap();
    with_address
        .extensions_mut()
        .insert(IpAddr::from([203, 0, 113, 9]));
    let rows = entries(router().layer(layer), with_address).await;
    assert_eq!(rows[0].ip_address.unwrap().addr(), IpAddr::from([203, 0, 113, 9]));
    let nothing = Request::post("/sign-out").body(Body::empty()).unwrap();
    let rows = entries(router().layer(AuditLayer::new()), nothing).await;
    assert_eq!(rows[0].ip_address, None);
}

#[tokio::test]
async fn a_user_agent_of_any_bytes_is_kept_as_text() {
    let mut odd = request("/sign-out", "203.0.113.7", &[]);
    odd.headers_mut()
        .insert("user-agent", HeaderValue::from_bytes(b"curl\xff/8").unwrap());
    let rows = entries(router().layer(AuditLayer::new()), odd).await;
    assert_eq!(rows[0].user_agent.as_deref(), Some("curl\u{fffd}/8"));
}

#[tokio::test]
async fn requests_of_one_connection_share_nothing() {
    let database = MemoryDatabase::new();
    let (writer, guard) = database.writer().start().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router().layer(AuditLayer::new()).layer(axum::middleware::from_fn(
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            audit::with_writer(writer.clone(), next.run(request))
        },
    ));
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(axum::serve(listener, service).into_future());
    let mut connection = TcpStream::connect(address).await.unwrap();
    for (path, id) in [("sign-in", "r-1"), ("sign-out", "r-2")] {
        let text =
            format!("POST /{path} HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\ncontent-length: 0\r\n\r\n");
        connection.write_all(text.as_bytes()).await.unwrap();
        let mut answer = [0; 1_024];
        let read = connection.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    }
    server.abort();
    guard.shutdown(db_test::TIMEOUT).await;
    let rows = database.entries();
    let actors: Vec<_> = rows
        .iter()
        .map(|row| (&*row.action, row.request_id.as_deref(), row.actor_id.as_deref()))
        .collect();
    let expected = [
        ("auth.attempt", Some("r-1"), None),
        ("auth.login", Some("r-1"), Some("alice")),
        ("auth.logout", Some("r-2"), None),
    ];
    assert_eq!(actors, expected);
    assert!(
        rows.iter()
            .all(|row| row.ip_address.unwrap().addr() == Ipv4Addr::LOCALHOST)
    );
}

async fn work(headers: http::HeaderMap) {
    let actor = headers["authorization"].to_str().unwrap().to_owned();
    tokio::task::yield_now().await;
    context::bind(AuditContext::new().actor(actor));
    tokio::task::yield_now().await;
    write_audit_log(AuditEntry::new("work.begin"));
    let task = context::carry(async {
        tokio::task::yield_now().await;
        write_audit_log(AuditEntry::new("work.end"));
    });
    tokio::spawn(task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_concurrent_requests_carry_their_own_values() {
    let database = MemoryDatabase::new();
    let (writer, guard) = database.writer().queue_capacity(1 << 20).start().unwrap();
    let app = Router::new().route("/", post(work)).layer(AuditLayer::new());
    let address = |nth: u32| Ipv4Addr::from_bits((203 << 24) | nth);
    let tasks: Vec<_> = (0..10_000)
        .map(|nth| {
            let (id, actor) = (nth.to_string(), format!("user-{nth}"));
            let headers = [("x-request-id", &*id), ("authorization", &*actor)];
            let request = request("/", &address(nth).to_string(), &headers);
            tokio::spawn(audit::with_writer(writer.clone(), app.clone().oneshot(request)))
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().unwrap().status().is_success());
    }
    guard.shutdown(db_test::TIMEOUT).await;
    let rows = database.entries();
    assert_eq!(rows.len(), 20_000);
    for row in rows {
        let nth: u32 = row.request_id.unwrap().parse().unwrap();
        assert_eq!(row.actor_id.unwrap(), format!("user-{nth}"));
        assert_eq!(row.ip_address.unwrap().addr(), address(nth));
    }
}

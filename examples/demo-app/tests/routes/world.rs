//! A running application on a database of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, header};
use axum::middleware::{Next, from_fn};
use db_services::audit::{self, AuditLog, AuditWriter, WriterGuard};
use db_services::client::Database;
use db_test::Postgres;
use demo_app::{DEMO_USERS, Store, router};
use futures_util::future::join_all;
use futures_util::poll;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::browser::{Browser, encoded};

const TIMEOUT: Duration = Duration::from_secs(60);

/// The application, with the writer of its trail.
pub(crate) struct World {
    pub(crate) database: Database,
    writer: AuditWriter,
    pub(crate) address: SocketAddr,
    requests: Cell<u32>,
    begun: Arc<AtomicU32>,
    seen: RefCell<HashSet<uuid::Uuid>>,
    _guard: WriterGuard,
    _held: Held,
}

/// What the database needs to exist.
enum Held {
    Directory { _directory: TempDir },
    Postgres { _postgres: Postgres },
}

/// Runs a test on SQLite, and on PostgreSQL.
pub(crate) async fn on_both(test: impl AsyncFn(&World)) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("demo-app.db").display());
    let held = Held::Directory {
        _directory: directory,
    };
    test(&World::start(&url, held).await).await;

    let postgres = Postgres::empty().unwrap();
    let url = postgres.url().to_owned();
    test(&World::start(&url, Held::Postgres { _postgres: postgres }).await).await;
}

impl World {
    async fn start(url: &str, held: Held) -> Self {
        let database = Database::from_url(url).unwrap();
        let store = Store::open(database.clone()).await.unwrap();
        let (writer, guard) = AuditWriter::builder(database.clone()).start().unwrap();
        let (scoped, begun) = (writer.clone(), Arc::new(AtomicU32::new(0)));
        let counter = Arc::clone(&begun);
        let app = router(store, TaskTracker::new()).layer(from_fn(move |request, next: Next| {
            let (scoped, counter) = (scoped.clone(), Arc::clone(&counter));
            async move {
                let mut answer = pin!(audit::with_writer(scoped, next.run(request)));
                let first = poll!(answer.as_mut());
                counter.fetch_add(1, Ordering::SeqCst);
                match first {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => answer.await,
                }
            }
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(axum::serve(listener, service).into_future());
        let world = Self {
            database,
            writer,
            address,
            requests: Cell::new(0),
            begun,
            seen: RefCell::default(),
            _guard: guard,
            _held: held,
        };
        let seeded = world.new_rows().await;
        assert_eq!(
            shown(&seeded),
            [
                "demo.seed success system:demo-app acme tenant/acme",
                "demo.seed success system:demo-app globex tenant/globex"
            ]
        );
        world
    }

    /// The rows that no earlier call has returned, the oldest first.
    pub(crate) async fn new_rows(&self) -> Vec<AuditLog> {
        let report = self.writer.flush(TIMEOUT).await;
        assert_eq!(report.lost, 0);
        let mut conn = self.database.connection().await.unwrap();
        let mut rows = audit::latest(&mut conn, 10_000).await.unwrap();
        rows.reverse();
        rows.retain(|row| self.seen.borrow_mut().insert(row.id));
        rows
    }

    /// The number of requests that have been polled once.
    pub(crate) fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }

    /// A number for each request.
    pub(crate) fn next_request(&self) -> u32 {
        self.requests.replace(self.requests.get() + 1)
    }

    /// The entries that no earlier call has returned, as text: action, outcome, actor, tenant, resource.
    pub(crate) async fn new_entries(&self) -> Vec<String> {
        shown(&self.new_rows().await)
    }

    /// Sends the same form many times at once, and returns the entries.
    pub(crate) async fn at_once(&self, times: usize, path: &str, fields: &[(&str, &str)]) -> Vec<String> {
        let sent = (0..times).map(|_| async {
            self.browser()
                .exchange(Method::POST, path, encoded(fields), "r")
                .await
        });
        for answer in join_all(sent).await {
            assert!(answer.status < 500, "{}", answer.body);
        }
        self.new_entries().await
    }

    /// A browser with which nobody is signed in.
    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser::new(self)
    }

    /// A browser with which a user of the demonstration is signed in.
    pub(crate) async fn signed_in(&self, name: &str) -> Browser<'_> {
        let mut browser = self.browser();
        let answer = browser.sign_in(name, password(name)).await;
        let user = DEMO_USERS.iter().find(|user| user.0 == name).unwrap();
        assert_eq!((answer.status, answer.location.as_str()), (303, "/skills"));
        assert_eq!(
            answer.entries,
            [format!("auth.login success user:{name} {} user/{name}", user.1)]
        );
        browser
    }
}

/// The password of a user of the demonstration.
pub(crate) fn password(name: &str) -> &'static str {
    DEMO_USERS.iter().find(|user| user.0 == name).unwrap().3
}

/// Rows as text.
pub(crate) fn shown(rows: &[AuditLog]) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let shown = rows.iter().map(|row| {
        let mut actor = text(&row.actor_type);
        for (mark, name) in [(":", &row.actor_id), ("/", &row.on_behalf_of)] {
            if let Some(name) = name {
                actor = actor + mark + name;
            }
        }
        let resource = match (&row.resource_type, &row.resource_id) {
            (None, None) => String::new(),
            (kind, id) => format!(" {}/{}", text(kind), text(id)),
        };
        format!(
            "{} {} {actor} {}{resource}",
            row.action,
            row.outcome,
            text(&row.tenant_id)
        )
    });
    shown.collect()
}

/// The metadata of a row.
pub(crate) fn metadata(row: &AuditLog) -> serde_json::Value {
    row.metadata.as_ref().unwrap().parse().unwrap()
}

/// A request for a router without a server.
pub(crate) fn form(path: &str, cookie: &str, fields: &str) -> Request<Body> {
    Request::post(path)
        .header(header::COOKIE, cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(fields.to_owned()))
        .unwrap()
}

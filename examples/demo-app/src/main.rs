//! Starts the example application: `cargo run -p demo-app`, or `just demo-app`.
//!
//! It keeps its data and the trail in `demo-app.db`, or on the PostgreSQL server that `DATABASE_URL` names.
//! `DEMO_APP_ADDRESS` is where it listens, by default 127.0.0.1:8080.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use db_services::audit::{self, AuditWriter};
use db_services::client::Database;
use demo_app::{DEMO_USERS, Store, router};
use env_logger::Env;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests under way may take to end: longer than they wait for the database, which is 5 seconds for a
/// connection and 5 for a lock of SQLite. A request that goes on after the writer has ended changes rows without an
/// entry.
const REQUESTS: Duration = Duration::from_secs(15);
/// How long the trail may take after that. Both together are less than the platform's grace period: 30 seconds with
/// Kubernetes; with Docker it is 10, unless `--stop-timeout 30` is given.
const TRAIL: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    env_logger::Builder::from_env(Env::default().default_filter_or("info")).init();
    let database = match Database::from_env()? {
        Some(database) => database,
        None => Database::from_url("sqlite://demo-app.db")?,
    };
    let store = Store::open(database.clone()).await?;
    let (writer, _guard) = AuditWriter::builder(database.clone())
        .service("demo-app")
        .start()?;
    audit::install(writer)?;

    let address = std::env::var("DEMO_APP_ADDRESS").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|error| {
        format!("cannot listen on {address}: {error}; DEMO_APP_ADDRESS=127.0.0.1:0 chooses a free port")
    })?;
    // Before the first request: a signal that comes earlier would end the process at once.
    let asked_to_end = asked_to_end()?;
    greet(&database, listener.local_addr()?);

    let (tasks, ending) = (TaskTracker::new(), CancellationToken::new());
    let service = router(store, tasks.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(ending.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());
    println!("ending on {}", asked_to_end.await);

    // First what still writes entries, then the writer.
    ending.cancel();
    tasks.close();
    let ended = timeout(REQUESTS, async { (server.await, tasks.wait().await) }).await;
    if ended.is_err() {
        println!("requests are given up: what they still change is not recorded");
    }
    let report = audit::shutdown(TRAIL).await;
    println!("{} committed, {} lost", report.committed, report.lost);
    Ok(if ended.is_ok() && report.lost + report.unknown == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn greet(database: &Database, address: SocketAddr) {
    println!("\nOpen http://{address}\n\nname   tenant  password");
    for (name, tenant, is_admin, password) in DEMO_USERS {
        println!(
            "{name:6} {tenant:7} {password}{}",
            if is_admin { " (administrator)" } else { "" }
        );
    }
    println!("\nData and trail are in {database}; Ctrl-C ends.\n");
}

/// Waits for SIGTERM or SIGINT; returns its name.
#[cfg(unix)]
fn asked_to_end() -> std::io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
fn asked_to_end() -> std::io::Result<impl Future<Output = &'static str>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    })
}

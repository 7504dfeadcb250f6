//! A server that ends as its platform asks: on SIGTERM or Ctrl-C it takes no more connections, answers
//! the requests under way, and writes what is still queued.
//!
//! `cargo run --example graceful_shutdown` keeps the trail in `audit.db`, or on the server that
//! `DATABASE_URL` names. Say `login alice` to it (`nc 127.0.0.1 PORT`), then press Ctrl-C.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use db_services::audit::{self, AuditEntry, AuditWriter, Outcome, write_audit_log};
use db_services::client::Database;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long requests under way may take to end, and then how long the trail may take. Together less
/// than the platform's grace period: 10 seconds with Docker, 30 with Kubernetes.
const REQUESTS: Duration = Duration::from_secs(4);
const TRAIL: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    env_logger::init();
    let database = match Database::from_env()? {
        Some(database) => database,
        None => Database::from_url("sqlite://audit.db")?,
    };
    database.migrate().await?;
    let (writer, _guard) = AuditWriter::builder(database).service("doorkeeper").start()?;
    audit::install(writer)?;

    // Before the first request: a signal that comes earlier would end the process at once.
    let told_to_end = told_to_end()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let (ending, is_ending) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(told_to_end);
    let signal = loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                connections.spawn(serve(client, is_ending.clone()));
            }
            Some(_) = connections.join_next() => {}
            signal = &mut told_to_end => break signal,
        }
    };
    println!("ending on {signal}");

    // First what still writes entries, then the writer.
    drop(listener);
    ending.send_replace(true);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(REQUESTS, all_ended).await.is_err() {
        println!("requests are given up");
    }
    let report = audit::shutdown(TRAIL).await;
    println!(
        "{} committed, {} spooled, {} lost",
        report.committed, report.spooled, report.lost
    );
    Ok(if report.lost + report.unknown == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Answers a client's requests, a line each, until it leaves or the server ends.
async fn serve(mut client: TcpStream, mut is_ending: watch::Receiver<bool>) -> std::io::Result<()> {
    let address = client.peer_addr()?.ip();
    let (from_client, mut to_client) = client.split();
    let mut lines = BufReader::new(from_client).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            // Between two requests, never within one.
            _ = is_ending.wait_for(|ending| *ending) => return Ok(()),
        };
        let Some(line) = line else { return Ok(()) };
        let (entry, answer) = match line.split_once(' ') {
            Some(("login", user)) => (
                AuditEntry::new("auth.login").actor(user),
                format!("hello {user}\n"),
            ),
            Some(("logout", user)) => (
                AuditEntry::new("auth.logout").actor(user),
                format!("bye {user}\n"),
            ),
            _ => (
                AuditEntry::new("door.knock").outcome(Outcome::Failure),
                "who?\n".to_owned(),
            ),
        };
        write_audit_log(entry.ip(address));
        to_client.write_all(answer.as_bytes()).await?;
    }
}

/// Waits for SIGTERM or SIGINT; gives its name.
#[cfg(unix)]
fn told_to_end() -> std::io::Result<impl Future<Output = &'static str>> {
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
fn told_to_end() -> std::io::Result<impl Future<Output = &'static str>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    })
}

//! An application whose database is configured by the environment alone, for tests that need a separate
//! process. Its argument says what it does; it prints the deliveries of its entries.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "app/exit_modes.rs"]
mod exit_modes;
#[path = "app/flood.rs"]
mod flood;
#[cfg(target_os = "linux")]
#[path = "app/limits.rs"]
mod limits;
#[cfg(target_os = "linux")]
#[path = "app/user_code.rs"]
mod user_code;

use std::time::{Duration, Instant};

use db_services::audit::{
    self, AuditEntry, AuditWriter, AuditWriterBuilder, Durability, RetryPolicy, write_audit_log,
    write_audit_logs,
};
use db_services::client::Database;
use uuid::Uuid;

/// The longest that it waits for anything.
const TIMEOUT: Duration = Duration::from_secs(120);

fn main() {
    let argument = std::env::args().nth(1);
    // The scenarios with application code install their own loggers.
    if argument.as_deref() != Some("user-code") {
        env_logger::init();
    }
    match argument.as_deref() {
        #[cfg(target_os = "linux")]
        Some("user-code") => user_code::user_code(&std::env::args().nth(2).unwrap()),
        Some("await") => runtime().block_on(await_entries()),
        Some("await-lines") => runtime().block_on(await_lines()),
        Some("await-a-moment") => runtime().block_on(await_a_moment()),
        Some("await-input") => runtime().block_on(await_input()),
        Some("shutdown") => runtime().block_on(async {
            write_without_awaiting();
            println!("{:?}", audit::shutdown(TIMEOUT).await);
        }),
        Some("write-ahead") => runtime().block_on(write_ahead()),
        Some("flood") => flood::flood(),
        Some("exit-mode") => runtime().block_on(exit_modes::exit_mode()),
        Some("blocking") => {
            // Without a runtime.
            write_without_awaiting();
            println!("{:?}", audit::shutdown_blocking(TIMEOUT));
        }
        Some("guard") => return_with_guard(),
        Some("panic") => panic_with_guard(),
        Some("install-late") => install_late(),
        Some("count-read-only") => runtime().block_on(count_read_only()),
        Some("migrate") => println!("{:?}", runtime().block_on(database().migrate())),
        other => panic!("unknown argument {other:?}"),
    }
}

fn builder() -> AuditWriterBuilder {
    AuditWriter::builder(database())
}

fn database() -> Database {
    Database::from_env().unwrap().unwrap()
}

/// Prints the number of entries, or the error, of a database that is opened for reading only.
async fn count_read_only() {
    let counted = match database().read_only().unwrap().connection().await {
        Ok(mut conn) => audit::count(&mut conn).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    println!("{counted:?}");
}

async fn await_entries() {
    println!("{:?}", audit::status());
    for _ in 0..3 {
        println!("{}", write_audit_log(AuditEntry::new("app.await")).await);
    }
    println!("{}", write_audit_logs([]).await);
    println!("{:?}", audit::status());
}

/// Writes an entry for each line of standard input.
async fn await_lines() {
    for line in std::io::stdin().lines() {
        let entry = AuditEntry::new("app.await").resource("line", line.unwrap());
        println!("{}", write_audit_log(entry).await);
    }
    audit::shutdown(TIMEOUT).await;
}

/// Writes an entry with a short receipt timeout, and ends when an attempt has failed, which is logged.
async fn await_a_moment() {
    let (writer, guard) = builder()
        .receipt_timeout(Duration::from_millis(200))
        .start()
        .unwrap();
    println!("{}", writer.write(AuditEntry::new("app.await")).await);
    let started = Instant::now();
    while writer.stats().retries == 0 && started.elapsed() < TIMEOUT {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    guard.shutdown(Duration::from_millis(200)).await;
}

/// Writes an entry, and runs until the end of its input.
async fn await_input() {
    println!("{}", write_audit_log(AuditEntry::new("app.await")).await);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    audit::shutdown(TIMEOUT).await;
}

/// Writes as fast as it can, and prints the id of each durable entry, until it is killed.
async fn write_ahead() {
    let dir = std::env::args().nth(2).unwrap();
    let mut retry = RetryPolicy::default();
    retry.first_pause = Duration::from_millis(5);
    retry.longest_pause = Duration::from_millis(50);
    retry.spill_after = Duration::from_millis(50);
    let (writer, _guard) = builder()
        .durability(Durability::WriteAhead(dir.into()))
        .retry(retry)
        .start()
        .unwrap();
    let callers: Vec<_> = (0..16)
        .map(|_| tokio::spawn(print_durable_ids(writer.clone())))
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

async fn print_durable_ids(writer: AuditWriter) {
    loop {
        let id = Uuid::now_v7();
        if writer
            .write(AuditEntry::new("app.safe").id(id))
            .await
            .is_durable()
        {
            println!("{id}");
        }
    }
}

/// Returns immediately after writing; dropping the guard writes the entries.
fn return_with_guard() {
    let (writer, _guard) = builder().start().unwrap();
    audit::install(writer.clone()).unwrap();
    println!("{}", audit::install(writer).unwrap_err());
    write_without_awaiting();
}

fn panic_with_guard() {
    let (writer, _guard) = builder().start().unwrap();
    audit::install(writer).unwrap();
    write_without_awaiting();
    panic!("as planned");
}

/// Installs a writer after the first entry.
fn install_late() {
    drop(write_audit_log(AuditEntry::new("app.first")));
    let (writer, _guard) = AuditWriter::builder(Database::from_url("sqlite::memory:").unwrap())
        .start()
        .unwrap();
    println!("{:?}", audit::install(writer));
    println!("{:?}", audit::shutdown_blocking(TIMEOUT));
}

fn write_without_awaiting() {
    for n in 0..1_000 {
        drop(write_audit_log(
            AuditEntry::new("app.fire_and_forget").resource("number", n.to_string()),
        ));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

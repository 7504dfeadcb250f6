//! An application that knows its database from the environment alone. Its argument says how it ends;
//! it prints what it is told about its entries.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "app/exit_modes.rs"]
mod exit_modes;
#[path = "app/flood.rs"]
mod flood;
#[cfg(target_os = "linux")]
#[path = "app/user_code.rs"]
mod user_code;

use std::time::Duration;

use db_services::audit::{
    self, AuditEntry, AuditWriter, Durability, RetryPolicy, write_audit_log, write_audit_logs,
};
use db_services::client::Database;
use uuid::Uuid;

const TIMEOUT: Duration = Duration::from_secs(60);

fn main() {
    let argument = std::env::args().nth(1);
    // The scenarios of its own code bring their loggers.
    if argument.as_deref() != Some("user-code") {
        env_logger::init();
    }
    match argument.as_deref() {
        #[cfg(target_os = "linux")]
        Some("user-code") => user_code::user_code(&std::env::args().nth(2).unwrap()),
        Some("await") => runtime().block_on(async {
            println!("{:?}", audit::status());
            for _ in 0..3 {
                println!("{}", write_audit_log(AuditEntry::new("app.await")).await);
            }
            println!("{}", write_audit_logs([]).await);
            println!("{:?}", audit::status());
        }),
        // An entry for each line of standard input, when it comes.
        Some("await-lines") => runtime().block_on(async {
            for line in std::io::stdin().lines() {
                let entry = AuditEntry::new("app.await").resource("line", line.unwrap());
                println!("{}", write_audit_log(entry).await);
            }
            audit::shutdown(TIMEOUT).await;
        }),
        // With a receipt that gives up sooner than by default.
        Some("await-a-moment") => runtime().block_on(async {
            let (writer, guard) = AuditWriter::builder(Database::from_env().unwrap().unwrap())
                .receipt_timeout(Duration::from_millis(200))
                .start()
                .unwrap();
            println!("{}", writer.write(AuditEntry::new("app.await")).await);
            // An attempt that has failed has been logged.
            while writer.stats().retries == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            guard.shutdown(Duration::from_millis(200)).await;
        }),
        Some("shutdown") => runtime().block_on(async {
            forget();
            println!("{:?}", audit::shutdown(TIMEOUT).await);
        }),
        // Writes as fast as it can, and prints the id of each entry that is safe. Ends when killed.
        Some("write-ahead") => runtime().block_on(async {
            let dir = std::env::args().nth(2).unwrap();
            let mut retry = RetryPolicy::default();
            retry.first_pause = Duration::from_millis(5);
            retry.longest_pause = Duration::from_millis(50);
            retry.spill_after = Duration::from_millis(50);
            let (writer, _guard) = AuditWriter::builder(Database::from_env().unwrap().unwrap())
                .durability(Durability::WriteAhead(dir.into()))
                .retry(retry)
                .start()
                .unwrap();
            let callers: Vec<_> = (0..16)
                .map(|_| tokio::spawn(print_what_is_safe(writer.clone())))
                .collect();
            for caller in callers {
                caller.await.unwrap();
            }
        }),
        Some("flood") => flood::flood(),
        Some("exit-mode") => runtime().block_on(exit_modes::exit_mode()),
        // No runtime anywhere.
        Some("blocking") => {
            forget();
            println!("{:?}", audit::shutdown_blocking(TIMEOUT));
        }
        // A guard, and a return right after writing.
        Some("guard") => {
            let (writer, _guard) = AuditWriter::builder(Database::from_env().unwrap().unwrap())
                .start()
                .unwrap();
            audit::install(writer.clone()).unwrap();
            println!("{}", audit::install(writer).unwrap_err());
            forget();
        }
        // Runs until its input ends.
        Some("until-told") => runtime().block_on(async {
            println!("{}", write_audit_log(AuditEntry::new("app.await")).await);
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
            audit::shutdown(TIMEOUT).await;
        }),
        Some("panic") => {
            let (writer, _guard) = AuditWriter::builder(Database::from_env().unwrap().unwrap())
                .start()
                .unwrap();
            audit::install(writer).unwrap();
            forget();
            panic!("as planned");
        }
        Some("install-late") => {
            drop(write_audit_log(AuditEntry::new("app.first")));
            let (writer, _guard) = AuditWriter::builder(Database::from_url("sqlite::memory:").unwrap())
                .start()
                .unwrap();
            println!("{:?}", audit::install(writer));
            println!("{:?}", audit::shutdown_blocking(TIMEOUT));
        }
        other => panic!("unknown argument {other:?}"),
    }
}

async fn print_what_is_safe(writer: AuditWriter) {
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

fn forget() {
    for n in 0..1_000 {
        drop(write_audit_log(
            AuditEntry::new("app.forget").resource("number", n.to_string()),
        ));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

//! Processes that end without shutting the writer down.

use std::time::Duration;

use db_services::audit::{AuditEntry, AuditWriter, Durability, RetryPolicy};
use db_services::client::Database;
use uuid::Uuid;

/// `exit-mode exit|abort|flush ENTRIES [DIR]`: writes an entry and prints when it is committed. After a line of
/// input it writes the given number of entries, and ends in the given mode. Without a directory it does not
/// await them; with one it writes ahead, and prints the id of each durable entry.
pub(crate) async fn exit_mode() {
    let argument = |nth: usize| std::env::args().nth(nth);
    let mut retry = RetryPolicy::default();
    retry.longest_pause = Duration::from_millis(100);
    let mut builder = AuditWriter::builder(Database::from_env().unwrap().unwrap())
        .queue_capacity(5_000)
        .retry(retry)
        .receipt_timeout(crate::TIMEOUT);
    let (count, dir) = (argument(3).unwrap().parse::<usize>().unwrap(), argument(4));
    if let Some(dir) = &dir {
        builder = builder.durability(Durability::WriteAhead(dir.into()));
    }
    let (writer, _guard) = builder.start().unwrap();
    writer.write(AuditEntry::new("app.first")).await;
    while writer.stats().committed == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("committed");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let write = |id| (id, writer.write(AuditEntry::new("app.last").id(id)));
    let written: Vec<_> = (0..count).map(|_| write(Uuid::now_v7())).collect();
    for (id, receipt) in written.into_iter().filter(|_| dir.is_some()) {
        if receipt.await.is_durable() {
            println!("{id}");
        }
    }
    match argument(2).as_deref() {
        Some("exit") => std::process::exit(7),
        Some("abort") => std::process::abort(),
        Some("flush") => {
            println!("{} committed", writer.flush(crate::TIMEOUT).await.committed);
            std::process::exit(7);
        }
        other => panic!("unknown mode {other:?}"),
    }
}

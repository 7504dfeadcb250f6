//! A process that ends without shutting its writer down.

use std::time::Duration;

use db_services::audit::{AuditEntry, AuditWriter, Durability, RetryPolicy};
use db_services::client::Database;
use uuid::Uuid;

/// `leave exit|abort|flush ENTRIES [DIR]`: writes an entry and says when it is committed. Once a line comes
/// in it writes as many more as the second argument says, and ends as the first one says. Without a
/// directory it does not await them; with one it writes ahead, and prints the id of each that is safe.
pub(crate) async fn exit_mode() {
    let argument = |nth: usize| std::env::args().nth(nth);
    let mut retry = RetryPolicy::default();
    retry.longest_pause = Duration::from_millis(100);
    let mut builder = AuditWriter::builder(Database::from_env().unwrap().unwrap())
        .queue_capacity(5_000)
        .retry(retry)
        .receipt_timeout(Duration::from_secs(60));
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
            println!(
                "{} committed",
                writer.flush(Duration::from_secs(60)).await.committed
            );
            std::process::exit(7);
        }
        other => panic!("unknown end {other:?}"),
    }
}

//! A writer that gets far more entries than it can hold, and its memory.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use db_services::audit::{AuditEntry, AuditWriter, Durability, Outcome, RetryPolicy, limits};
use db_services::client::Database;
use serde_json::json;

/// Threads that write as fast as they can.
const PRODUCERS: usize = 2;

/// `flood BYTES ENTRIES KIND [DIR SPOOL_BYTES]`: offers this number of entries of a kind to a writer whose
/// queue holds that many bytes, with a spool in the directory. Prints by how many KiB its memory grew at
/// most, then how many entries were offered, accepted and spooled, and the most bytes that the queue counted.
/// With a spool it first prints `offered`, and goes on once its standard input ends: spooling after the last
/// entry allocates memory too. Another process looks at the spool meanwhile, as SQLite would read the file into
/// the memory that is measured here.
pub(crate) fn flood() {
    let argument = |nth: usize| std::env::args().nth(nth);
    let number = |nth: usize| argument(nth).unwrap().parse::<usize>().unwrap();
    let (bytes, entries, kind) = (number(2), number(3), argument(4).unwrap());
    let mut retry = RetryPolicy::default();
    retry.spill_after = Duration::from_millis(20);
    let mut builder = AuditWriter::builder(Database::from_env().unwrap().unwrap())
        .queue_capacity(usize::MAX)
        .queue_bytes(bytes)
        .retry(retry)
        .shutdown_timeout(Duration::ZERO);
    if let Some(dir) = argument(5) {
        builder = builder
            .durability(Durability::Spill(dir.into()))
            .spool_bytes(number(6) as u64);
    }
    let (writer, _guard) = builder.start().unwrap();
    let before = memory("VmRSS:");
    let most_queued = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                for n in 0..entries / PRODUCERS {
                    drop(writer.write(entry(&kind, n)));
                    if n.is_multiple_of(100) {
                        most_queued.fetch_max(writer.stats().queued_bytes, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let stats = writer.stats();
    if argument(5).is_some() {
        println!("offered");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
    let grown = memory("VmHWM:").saturating_sub(before);
    println!(
        "{grown} {} {} {} {}",
        stats.submitted,
        stats.accepted,
        stats.spooled,
        most_queued.into_inner()
    );
}

fn entry(kind: &str, n: usize) -> AuditEntry {
    match kind {
        "bare" => AuditEntry::new("app.bare"),
        "usual" => AuditEntry::new("invoice.delete")
            .tenant("acme")
            .actor(format!("user-{n}"))
            .actor_type("user")
            .resource("invoice", n.to_string())
            .ip_text("203.0.113.7")
            .user_agent("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
            .request_id(format!("req-{n}"))
            .outcome(Outcome::Denied)
            .metadata(json!({"reason": "not the owner", "amount": n, "currency": "EUR", "tags": ["a", "b"]})),
        "large" => {
            let list: Vec<_> = (0..200)
                .map(|m| json!({"id": m, "name": format!("item {m}")}))
                .collect();
            AuditEntry::new("order.import").metadata(json!({"number": n, "items": list}))
        }
        "ascii" => long_texts('a'),
        // In the spool each character takes six bytes.
        "control" => long_texts('\u{1}'),
        other => panic!("unknown kind {other}"),
    }
}

/// An entry whose texts are as long as they may be, of this character alone.
fn long_texts(character: char) -> AuditEntry {
    let text = |chars: usize| character.to_string().repeat(chars);
    AuditEntry::new("app.long")
        .tenant(text(limits::TEXT_CHARS))
        .actor(text(limits::TEXT_CHARS))
        .resource("text", text(limits::RESOURCE_ID_CHARS))
        .user_agent(text(limits::USER_AGENT_CHARS))
        .request_id(text(limits::TEXT_CHARS))
}

/// A field of this process's memory statistics in /proc, in KiB.
pub(crate) fn memory(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

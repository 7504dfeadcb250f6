//! Application code that the writer calls, or that calls the writer in unusual contexts.

use std::cell::OnceCell;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use db_services::audit::testing::{Failure, MemoryDatabase};
use db_services::audit::{
    self, AuditEntry, AuditWriter, AuditWriterBuilder, Delivery, DropReason, Receipt, RetryPolicy,
    write_audit_log,
};

use super::{TIMEOUT, limits, runtime};

/// Runs a scenario and prints its results. Aborts instead of hanging.
pub(crate) fn user_code(scenario: &str) {
    std::thread::spawn(|| {
        std::thread::sleep(TIMEOUT);
        println!("timed out");
        std::process::abort();
    });
    match scenario {
        "on-loss-writes" => on_loss_writes(),
        "on-loss-waits-for-a-write" => on_loss_waits_for_a_write(),
        "on-loss-panics" => on_loss_panics(),
        "logger-writes" => logger_writes(),
        "logger-panics" => logger_panics(),
        "driver-logger-panics" => driver_logger_panics(),
        "on-loss-blocks" => on_loss_blocks(),
        "on-loss-waits-for-itself" => on_loss_waits_for_itself(),
        "waker-panics" => waker_panics(),
        "destructor" => destructor(),
        "panic-hook" => panic_hook(),
        "no-thread" => without(&limits::NoThread),
        "no-thread-then-installed" => no_thread_then_installed(7),
        "no-thread-without-entries-then-installed" => no_thread_then_installed(0),
        "no-file" => without(&limits::NoFile),
        "first-call" => first_call(),
        "blocked-start" => blocked_start(),
        other => panic!("unknown scenario {other:?}"),
    }
}

fn fast_retry(database: &MemoryDatabase) -> AuditWriterBuilder {
    let mut retry = RetryPolicy::default();
    retry.first_pause = Duration::from_millis(5);
    retry.longest_pause = Duration::from_millis(20);
    database.writer().retry(retry).shutdown_timeout(Duration::ZERO)
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A database that always fails, and a callback that writes an entry for each loss, which is lost as well.
fn on_loss_writes() {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let (calls, reported) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let writer = Arc::new(OnceLock::<AuditWriter>::new());
    let callback = {
        let (calls, reported, writer) = (Arc::clone(&calls), Arc::clone(&reported), Arc::clone(&writer));
        move |loss: &audit::Loss| {
            calls.fetch_add(1, Ordering::Relaxed);
            reported.fetch_add(loss.count, Ordering::Relaxed);
            if let Some(writer) = writer.get() {
                drop(writer.write(AuditEntry::new("app.lost")));
            }
        }
    };
    let (started, guard) = fast_retry(&database)
        .queue_capacity(10)
        .on_loss(callback)
        .start()
        .unwrap();
    writer.set(started.clone()).unwrap();
    for _ in 0..100 {
        drop(started.write(AuditEntry::new("app.entry")));
    }
    // Losses in the callback are reported to it, but not again at each step of the writer.
    let attempts = database.attempts();
    wait_until(|| database.attempts() >= attempts + 30);
    let calls = calls.load(Ordering::Relaxed);
    let bound = 100 + 10 * database.attempts();
    println!(
        "{}",
        if (1..=bound).contains(&calls) {
            "called".to_owned()
        } else {
            format!("{calls} calls")
        }
    );
    let report = runtime().block_on(guard.shutdown(Duration::ZERO));
    let settled = report.lost + report.unknown == started.stats().submitted && report.pending == 0;
    println!(
        "{}",
        if settled {
            "all settled".to_owned()
        } else {
            format!("{report:?}")
        }
    );
    println!("{}", reported.load(Ordering::Relaxed) >= 90);
}

/// The callback of the last losses waits until another thread has written an entry.
fn on_loss_waits_for_a_write() {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let (called, begun) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let callback = move |loss: &audit::Loss| {
        if loss.reason == DropReason::ShutDown && called.send(()).is_ok() {
            let _ = wait.lock().unwrap().recv();
        }
    };
    // The first entry is in flight, so unknown at the end; the others are lost.
    let (writer, guard) = fast_retry(&database).on_loss(callback).start().unwrap();
    drop(writer.write(AuditEntry::new("app.sent")));
    wait_until(|| database.attempts() > 0);
    for _ in 0..3 {
        drop(writer.write_all((0..2_000).map(|_| AuditEntry::new("app.queued"))));
    }
    let ending = std::thread::spawn(|| drop(guard));
    begun.recv().unwrap();
    println!(
        "{}",
        runtime().block_on(writer.write(AuditEntry::new("app.late")).into_future())
    );
    drop(go_on);
    ending.join().unwrap();
    println!("ended");
}

/// A callback that blocks the writer's thread until the end: nothing else waits for it without a bound.
fn on_loss_blocks() {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let (called, begun) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let callback = move |_: &audit::Loss| {
        let _ = called.send(());
        let _ = wait.lock().unwrap().recv();
    };
    // Longer than the test may take: dropping a guard that was shut down waits no second time.
    let builder = fast_retry(&database)
        .queue_capacity(10)
        .shutdown_timeout(10 * TIMEOUT);
    let (writer, guard) = builder.on_loss(callback).start().unwrap();
    for _ in 0..100 {
        drop(writer.write(AuditEntry::new("app.entry")));
    }
    begun.recv().unwrap();
    runtime().block_on(async {
        println!("{}", writer.flush(Duration::from_millis(10)).await.pending > 0);
        println!("{}", guard.shutdown(Duration::ZERO).await.pending > 0);
    });
    drop(go_on);
}

/// A callback that awaits what only the writer's thread, which it blocks, can answer.
fn on_loss_waits_for_itself() {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let writer = Arc::new(OnceLock::<AuditWriter>::new());
    let (told, answers) = mpsc::channel();
    let callback = {
        let writer = Arc::clone(&writer);
        move |_: &audit::Loss| {
            let writer = writer.wait();
            let mut receipt = pin!(writer.write(AuditEntry::new("app.in_callback")).into_future());
            let mut flush = pin!(writer.flush(TIMEOUT));
            let mut context = Context::from_waker(std::task::Waker::noop());
            let is_ready = receipt.as_mut().poll(&mut context).is_ready();
            let _ = told.send(is_ready && flush.as_mut().poll(&mut context).is_ready());
        }
    };
    let builder = fast_retry(&database).queue_capacity(10).on_loss(callback);
    let (started, guard) = builder.start().unwrap();
    writer.set(started.clone()).unwrap();
    for _ in 0..100 {
        drop(started.write(AuditEntry::new("app.entry")));
    }
    println!("{}", answers.recv().unwrap());
    drop(guard);
}

fn on_loss_panics() {
    let database = MemoryDatabase::new();
    database.fail(Failure::Unreachable);
    let builder = fast_retry(&database)
        .queue_capacity(10)
        .on_loss(|loss| panic!("as planned: {loss:?}"));
    let (writer, guard) = builder.start().unwrap();
    for _ in 0..100 {
        drop(writer.write(AuditEntry::new("app.entry")));
    }
    wait_until(|| database.attempts() > 10);
    database.recover();
    runtime().block_on(async {
        println!("{} committed", writer.flush(TIMEOUT).await.committed);
        println!("{} lost", guard.shutdown(TIMEOUT).await.lost);
    });
}

/// A logger that calls a function.
struct Logger(fn(&log::Record<'_>), Records);

/// The records that a logger accepts.
#[derive(PartialEq)]
enum Records {
    Audit,
    All,
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Only the writer's records: those of the database drivers would follow each entry that is written here.
        metadata.target() == "audit" || self.1 == Records::All
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            (self.0)(record);
        }
    }

    fn flush(&self) {}
}

fn log_by(records: Records, call: fn(&log::Record<'_>)) {
    log::set_boxed_logger(Box::new(Logger(call, records))).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
}

/// A logger that writes its lines to the trail, from the first call on.
fn logger_writes() {
    static LINES: AtomicU64 = AtomicU64::new(0);
    log_by(Records::Audit, |record| {
        LINES.fetch_add(1, Ordering::Relaxed);
        drop(write_audit_log(
            AuditEntry::new("app.log").detail("line", record.args().to_string()),
        ));
    });
    runtime().block_on(async {
        println!("{}", write_audit_log(AuditEntry::new("app.first")).await);
        println!(
            "{} pending",
            audit::shutdown(Duration::from_secs(1)).await.pending
        );
    });
    // A late entry is logged, and the logger's entry for that line is late as well.
    drop(write_audit_log(AuditEntry::new("app.late")));
    println!("{}", LINES.load(Ordering::Relaxed) > 0);
}

/// A logger that panics on the first lines, which the database's driver logs while it connects and prepares its
/// statements: within the writer's lane.
fn driver_logger_panics() {
    static LEFT: AtomicU64 = AtomicU64::new(5);
    log_by(Records::All, |record| {
        if LEFT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            panic!("as planned: {}", record.args());
        }
    });
    runtime().block_on(async {
        let delivery = loop {
            // Pending where the machine is slow.
            match write_audit_log(AuditEntry::new("app.entry")).await {
                Delivery::Pending => {}
                delivery => break delivery,
            }
        };
        println!("{delivery}");
        let report = audit::shutdown(TIMEOUT).await;
        println!("{} lost, {} unknown", report.lost, report.unknown);
    });
    println!("{} panics left", LEFT.load(Ordering::Relaxed));
}

fn logger_panics() {
    static LINES: AtomicU64 = AtomicU64::new(0);
    log_by(Records::All, |record| {
        LINES.fetch_add(1, Ordering::Relaxed);
        panic!("as planned: {}", record.args());
    });
    let database = MemoryDatabase::new();
    let (writer, guard) = fast_retry(&database).queue_capacity(10).start().unwrap();
    for _ in 0..3 {
        database.fail(Failure::Unreachable);
        for _ in 0..100 {
            drop(writer.write(AuditEntry::new("app.entry")));
        }
        let attempts = database.attempts();
        wait_until(|| database.attempts() > attempts + 2);
        database.recover();
        runtime().block_on(writer.flush(TIMEOUT));
        // Settled entries leave the queue a moment later.
        wait_until(|| writer.stats().queued == 0);
    }
    assert!(LINES.load(Ordering::Relaxed) >= 3, "each outage was logged");
    println!(
        "{}",
        runtime().block_on(writer.write(AuditEntry::new("app.last")).into_future())
    );
    // The shutdown logs something too.
    database.fail(Failure::Unreachable);
    drop(writer.write_all((0..5).map(|_| AuditEntry::new("app.lost"))));
    let report = runtime().block_on(guard.shutdown(Duration::ZERO));
    println!("{} pending", report.pending);
}

/// A caller that panics when it is woken.
struct PanicsWhenWoken;

impl Wake for PanicsWhenWoken {
    fn wake(self: Arc<Self>) {
        panic!("as planned");
    }
}

fn waker_panics() {
    let database = MemoryDatabase::new();
    let (writer, guard) = fast_retry(&database).start().unwrap();
    let waker = Arc::new(PanicsWhenWoken).into();
    for expected in [3, 6, 9] {
        database.fail(Failure::Unreachable);
        let receipts: Vec<Receipt> = (0..3)
            .map(|_| writer.write(AuditEntry::new("app.entry")))
            .collect();
        let mut receipts: Vec<_> = receipts.into_iter().map(IntoFuture::into_future).collect();
        for receipt in &mut receipts {
            assert_eq!(
                pin!(receipt).poll(&mut Context::from_waker(&waker)),
                Poll::Pending
            );
        }
        database.recover();
        wait_until(|| writer.stats().committed >= expected);
        // Each receipt resolves, although wakers panicked.
        for receipt in receipts {
            println!("{}", runtime().block_on(receipt));
        }
    }
    println!(
        "{} committed",
        runtime().block_on(guard.shutdown(TIMEOUT)).committed
    );
}

/// Writes an entry when it is dropped.
struct WritesOnDrop(&'static str);

impl Drop for WritesOnDrop {
    fn drop(&mut self) {
        drop(write_audit_log(
            AuditEntry::new(self.0)
                .actor("alice")
                .detail("why", "the thread ended"),
        ));
    }
}

/// Entries written while thread-locals are destroyed, the first of the process among them.
fn destructor() {
    thread_local! {
        static FIRST: OnceCell<WritesOnDrop> = const { OnceCell::new() };
        static LAST: OnceCell<WritesOnDrop> = const { OnceCell::new() };
    }
    let only_in_destructors = || {
        FIRST.with(|cell| cell.set(WritesOnDrop("app.destructor"))).ok();
        LAST.with(|cell| cell.set(WritesOnDrop("app.destructor"))).ok();
    };
    std::thread::spawn(only_in_destructors).join().unwrap();
    // Thread-locals that writing uses are destroyed between the two.
    let around_an_entry = || {
        FIRST.with(|cell| cell.set(WritesOnDrop("app.destructor"))).ok();
        println!(
            "{}",
            runtime().block_on(write_audit_log(AuditEntry::new("app.thread")).into_future())
        );
        LAST.with(|cell| cell.set(WritesOnDrop("app.destructor"))).ok();
    };
    std::thread::spawn(around_an_entry).join().unwrap();
    println!("{} committed", audit::shutdown_blocking(TIMEOUT).committed);
}

fn panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        drop(write_audit_log(
            AuditEntry::new("app.panic").detail("location", location),
        ));
    }));
    assert!(std::panic::catch_unwind(|| panic!("as planned")).is_err());
    assert!(std::thread::spawn(|| panic!("as planned")).join().is_err());
    runtime().block_on(async {
        assert!(tokio::spawn(async { panic!("as planned") }).await.is_err());
        println!("{} committed", audit::shutdown(TIMEOUT).await.committed);
    });
}

/// Writes the first entry while the process lacks a resource, and others when it has it again.
fn without(limit: &dyn limits::Limit) {
    runtime().block_on(async {
        limit.set();
        let first = write_audit_log(AuditEntry::new("app.first")).await;
        println!("{first}");
        limit.lift();
        let mut dropped = u64::from(matches!(first, Delivery::Dropped(_)));
        loop {
            match write_audit_log(AuditEntry::new("app.next")).await {
                Delivery::Dropped(_) => dropped += 1,
                // The machine is slow: a later one says whether the writer works.
                Delivery::Pending => {}
                delivery => break println!("{delivery}"),
            }
            // The writer decides when it retries the start.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let report = audit::shutdown(TIMEOUT).await;
        println!("{}", report.lost == dropped && report.committed >= 1);
    });
}

/// Entries that are dropped for want of a thread are in the report of a shutdown, and the writer that is installed
/// later declares their loss.
fn no_thread_then_installed(entries: u32) {
    use limits::Limit;

    runtime().block_on(async {
        limits::NoThread.set();
        drop(audit::write_audit_logs([]));
        for _ in 0..entries {
            drop(write_audit_log(AuditEntry::new("app.entry")));
        }
        limits::NoThread.lift();
        println!("{} lost", audit::shutdown(TIMEOUT).await.lost);
        let database = MemoryDatabase::new();
        let (writer, guard) = database.writer().start().unwrap();
        audit::install(writer).unwrap();
        println!("{}", write_audit_log(AuditEntry::new("app.installed")).await);
        println!("{} lost", guard.shutdown(TIMEOUT).await.lost);
        let declares = |row: &&audit::NewAuditLog| row.action == "audit.entries_lost";
        println!("{}", database.rows().iter().filter(declares).count());
    });
}

/// Prints the bytes that this thread reads and writes during the first call.
fn first_call() {
    // The first reading allocates. The next two show what a reading itself counts.
    read_and_written();
    let (before, between) = (read_and_written(), read_and_written());
    let receipt = write_audit_log(AuditEntry::new("app.first"));
    let after = read_and_written();
    println!("{}", (after - between).saturating_sub(between - before));
    println!("{}", runtime().block_on(receipt.into_future()));
    audit::shutdown_blocking(TIMEOUT);
}

/// The bytes that this thread has read and written, as the kernel counts them.
fn read_and_written() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let fields = io.lines().filter_map(|line| line.split_once(": "));
    fields
        .filter(|(name, _)| ["rchar", "wchar"].contains(name))
        .filter_map(|(_, n)| n.parse::<u64>().ok())
        .sum()
}

/// The first call, while the configured certificate cannot be read yet.
fn blocked_start() {
    let receipt = write_audit_log(AuditEntry::new("app.first"));
    println!("returned");
    println!("{}", runtime().block_on(receipt.into_future()));
}

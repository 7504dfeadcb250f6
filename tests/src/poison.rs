//! Does the process live, and do the neighbours arrive, whatever an entry or a row holds?

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use db_services::audit::spool::{Quarantine, ReplayScope};
use db_services::audit::{
    self, AuditEntry, AuditLog, AuditWriter, Delivery, DropReason, Durability, NewAuditLog, Outcome, Verdict,
    verify_writers,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::spool::hasty;
use crate::support::{TestDb, make_requests_unique, numbered, on_both, skip_some, wait_for};

const PATIENCE: Duration = Duration::from_secs(120);

/// JSON of this number of levels, every second one an object.
fn nested(levels: usize) -> Value {
    (0..levels).fold(json!("bottom"), |inner, level| match level % 2 {
        0 => Value::Array(vec![inner]),
        _ => Value::Object(Map::from_iter([("d".to_owned(), inner)])),
    })
}

fn nul_everywhere() -> AuditEntry {
    let mut entry = AuditEntry::new("nul\0")
        .outcome(Outcome::Denied)
        .ip_text("\0nowhere\0")
        .resource("\0", "\0i\0");
    for field in [
        &mut entry.tenant_id,
        &mut entry.actor_id,
        &mut entry.actor_type,
        &mut entry.on_behalf_of,
        &mut entry.user_agent,
        &mut entry.request_id,
        &mut entry.trace_id,
    ] {
        *field = Some("\0a\0\0b\0".into());
    }
    let deep = (0..100).fold(
        json!("\0"),
        |inner, n| json!({format!("\0{n}\0"): [inner, "v\0"]}),
    );
    entry.metadata(json!({"\0": deep, "\0\0": "\0", "_audit\0": "\0"}))
}

/// Entries that are too large, too deep or too far away in one respect each.
fn poison() -> Vec<AuditEntry> {
    let members: Map<String, Value> = (0..100_000).map(|n| (format!("key\0{n}"), json!(n))).collect();
    let mut all = vec![
        nul_everywhere(),
        AuditEntry::new("big text").metadata(json!({"text": "x".repeat(1 << 20)})),
        AuditEntry::new("big list").metadata(json!({"list": vec!["\0"; 1 << 18]})),
        AuditEntry::new("big key").metadata(json!({"k".repeat(1 << 20): 1})),
        AuditEntry::new("many members").metadata(members),
        AuditEntry::new("first moment").created_at(DateTime::<Utc>::MIN_UTC),
        AuditEntry::new("last moment").created_at(DateTime::<Utc>::MAX_UTC),
        AuditEntry::new("numbers")
            .metadata(json!({"n": [f64::MAX, f64::MIN_POSITIVE, u64::MAX, i64::MIN, f64::NAN]})),
        AuditEntry::new("\u{FEFF}\u{202E}\u{10FFFF}\u{7F}\u{85}'\"\\;--{}%$1"),
        AuditEntry::new("")
            .actor("")
            .resource("", "")
            .metadata(json!({"": {"": [""]}})),
    ];
    for levels in [125, 126, 127, 128, 129, 1_000, 10_000, 100_000] {
        all.push(AuditEntry::new(format!("nested {levels}")).metadata(nested(levels)));
    }
    all
}

/// What is compared: jsonb keeps another spelling of the same value.
type Content = (String, [Option<String>; 9], DateTime<Utc>, Value);

/// The content of a row, to be inserted or read.
macro_rules! content {
    ($row:expr, $metadata:expr) => {{
        let row = $row;
        let who = [&row.tenant_id, &row.actor_id, &row.actor_type, &row.on_behalf_of];
        let what = [
            &row.resource_type,
            &row.resource_id,
            &row.user_agent,
            &row.request_id,
            &row.trace_id,
        ];
        let texts = std::array::from_fn(|nth| {
            who.iter()
                .chain(&what)
                .nth(nth)
                .unwrap()
                .as_deref()
                .map(str::to_owned)
        });
        (
            row.action.to_string(),
            texts,
            row.created_at,
            $metadata.parse().unwrap(),
        )
    }};
}

fn wanted_content(row: &NewAuditLog) -> Content {
    content!(row, row.metadata)
}

fn read_content(row: &AuditLog) -> Content {
    content!(row, row.metadata.as_ref().unwrap())
}

/// Writes the poison with a neighbour before and after each, on a thread with an ordinary stack, and
/// gives what the rows must be.
fn write_poison(writer: &AuditWriter) -> HashMap<Uuid, NewAuditLog> {
    let writer = writer.clone();
    let on_small_stack = move || {
        let mut wanted = HashMap::new();
        for (nth, entry) in poison().into_iter().enumerate() {
            let entries = [AuditEntry::new("before"), entry, AuditEntry::new("after")];
            let entries = entries.map(|entry| entry.id(Uuid::now_v7()));
            wanted.extend(entries.iter().map(NewAuditLog::from).map(|row| (row.id, row)));
            if nth % 2 == 0 {
                drop(writer.write_all(entries));
            } else {
                for entry in entries {
                    drop(writer.write(entry));
                }
            }
        }
        wanted
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(on_small_stack)
        .unwrap()
        .join()
        .unwrap()
}

async fn all_are_there(db: &TestDb, wanted: &HashMap<Uuid, NewAuditLog>) {
    let rows = db.rows().await;
    assert_eq!(rows.len(), wanted.len());
    for row in &rows {
        assert_eq!(read_content(row), wanted_content(&wanted[&row.id]));
    }
}

fn rows_are_limited(wanted: &HashMap<Uuid, NewAuditLog>) {
    let of = |action: &str| wanted.values().find(|row| row.action == action).unwrap();
    let marks = |action: &str| of(action).metadata.parse().unwrap()["_audit"].clone();
    assert!(
        wanted
            .values()
            .all(|row| !row.metadata.as_str().contains("\\u0000"))
    );
    assert!(
        wanted
            .values()
            .all(|row| row.metadata.as_str().len() < (64 << 10) + 1_024)
    );
    assert_eq!(
        of("nul\u{FFFD}").trace_id.as_deref(),
        Some("\u{FFFD}a\u{FFFD}\u{FFFD}b\u{FFFD}")
    );
    for big in ["big text", "big list", "big key", "many members"] {
        assert!(
            marks(big)["cut"]["metadata"]["bytes"].as_u64().unwrap() > 1 << 20,
            "{big}"
        );
    }
    for far in ["first moment", "last moment"] {
        assert!(marks(far)["clamped"]["created_at"].is_string(), "{far}");
    }
    // The object itself is a level too.
    for (levels, cut) in [
        (125, false),
        (126, false),
        (127, true),
        (128, true),
        (100_000, true),
    ] {
        assert_eq!(
            marks(&format!("nested {levels}"))["cut"]["metadata"]["depth"] == 127,
            cut,
            "{levels}"
        );
    }
}

fn spilling(db: &TestDb, dir: &Path) -> (AuditWriter, audit::WriterGuard) {
    let spill = Durability::Spill(dir.to_owned());
    AuditWriter::builder(db.database.clone())
        .durability(spill)
        .retry(hasty())
        .start()
        .unwrap()
}

/// Has the database refuse some rows, as an operator's own rule does.
async fn refuse(db: &TestDb, rule: &str) {
    let sql = match db.is_postgres() {
        true => format!("ALTER TABLE audit_logs ADD CONSTRAINT rule CHECK (NOT ({rule}))"),
        false => format!(
            "CREATE TRIGGER rule BEFORE INSERT ON audit_logs WHEN {} BEGIN SELECT RAISE(ABORT, 'rule'); END",
            rule.replace("action", "NEW.action")
        ),
    };
    db.sql(&sql).await.unwrap();
}

/// How many rows say that an entry was refused, and of which numbers.
async fn declared(db: &TestDb) -> Vec<u64> {
    let mut conn = db.connection().await;
    let rows = audit::latest_with_records(&mut conn, 1_000_000).await.unwrap();
    let said = rows.iter().filter(|row| row.action == "audit.entry_quarantined");
    let mut numbers: Vec<u64> = said
        .map(|row| {
            row.metadata.as_ref().unwrap().parse().unwrap()["seq"]
                .as_u64()
                .unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

on_both! {
    async fn no_entry_is_poison(db: TestDb) {
        let (writer, guard) = db.writer();
        let wanted = write_poison(&writer);
        rows_are_limited(&wanted);
        let report = guard.shutdown(PATIENCE).await;
        assert_eq!((report.committed, report.quarantined, report.lost), (wanted.len() as u64, 0, 0));
        all_are_there(&db, &wanted).await;
    }

    async fn nor_by_way_of_the_spool(db: TestDb) {
        let dir = TempDir::new().unwrap();
        db.sql("ALTER TABLE audit_logs RENAME TO hidden").await.unwrap();
        let (writer, guard) = spilling(&db, dir.path());
        let wanted = write_poison(&writer);
        wait_for("the spool", async || writer.stats().spooled == wanted.len() as u64).await;
        db.sql("ALTER TABLE hidden RENAME TO audit_logs").await.unwrap();
        wait_for("the replay", async || writer.stats().committed == wanted.len() as u64).await;
        guard.shutdown(PATIENCE).await;
        all_are_there(&db, &wanted).await;
        assert!(!Quarantine::exists(dir.path()));
    }

    async fn deep_entries_that_are_refused_harm_nobody(db: TestDb) {
        let (writer, guard) = AuditWriter::builder(db.database.clone()).queue_bytes(4 << 10).start().unwrap();
        let small_stack = |writer: AuditWriter| {
            let write = move || writer.write_all((0..9).map(|_| AuditEntry::new("x").metadata(nested(100_000))));
            std::thread::Builder::new().stack_size(2 << 20).spawn(write).unwrap().join().unwrap()
        };
        assert_eq!(small_stack(writer.clone()).await, Delivery::Dropped(DropReason::QueueFull));
        assert!(writer.write(AuditEntry::new("neighbour")).await.is_durable());
        guard.shutdown(PATIENCE).await;
        assert_eq!(small_stack(writer).await, Delivery::Dropped(DropReason::ShutDown));
        assert_eq!(db.count().await, 1);
    }

    async fn rows_that_an_operators_rule_refuses_leave_their_neighbours_in_peace(db: TestDb) {
        refuse(&db, "action LIKE 'rude.%'").await;
        for spooled in [true, false] {
            let dir = TempDir::new().unwrap();
            let (writer, guard) = if spooled { spilling(&db, dir.path()) } else { db.writer() };
            let before = db.count().await;
            // At both ends of the batch, side by side, and alone among others.
            let rude = [0_u64, 499, 500, 501, 999];
            let entries = (0_u64..).zip(numbered(1_000)).map(|(n, mut entry)| {
                if rude.contains(&n) {
                    entry.action = format!("rude.{n}").into();
                }
                entry
            });
            drop(writer.write_all(entries));
            wait_for("all of it", async || writer.stats().committed + writer.stats().quarantined == 1_000).await;
            assert_eq!((writer.stats().committed, writer.stats().quarantined), (995, 5));
            assert!(writer.write(AuditEntry::new("polite")).await.is_durable());
            // On a busy machine it goes by way of the spool, and what is in it at the end stays for the next.
            wait_for("the polite one", async || writer.stats().committed == 996).await;
            let report = guard.shutdown(PATIENCE).await;
            assert_eq!((report.committed, report.quarantined, report.lost), (996, 5, 0));
            assert_eq!(db.count().await - before, 996);

            assert_eq!(Quarantine::exists(dir.path()), spooled);
            if spooled {
                let kept = Quarantine::open(dir.path()).unwrap().list().unwrap();
                let mut actions: Vec<_> = kept.iter().map(|kept| kept.entry.as_ref().unwrap().action.clone()).collect();
                actions.sort();
                assert_eq!(actions, ["rude.0", "rude.499", "rude.500", "rude.501", "rude.999"]);
                assert!(kept.iter().all(|kept| kept.reason.contains("rule")), "{kept:?}");
            }
            let writers = if spooled { 1 } else { 2 };
            let numbers: Vec<u64> = rude.iter().flat_map(|n| vec![n + 1; writers]).collect();
            assert_eq!(declared(&db).await, numbers);
            let accounts = verify_writers(&mut db.connection().await).await.unwrap();
            assert_eq!((accounts[0].verdict, accounts[0].quarantined), (Verdict::Declared, 5));
        }
    }

    async fn entries_that_a_trigger_skips_are_quarantined_and_their_neighbours_are_stored(db: TestDb) {
        skip_some(&db).await;
        for spooled in [true, false] {
            let before = db.count().await;
            let dir = TempDir::new().unwrap();
            let (writer, guard) = if spooled { spilling(&db, dir.path()) } else { db.writer() };
            let entries = (0..1_000).zip(numbered(1_000)).map(|(n, mut entry)| {
                if [0, 500, 999].contains(&n) {
                    entry.action = format!("skipped.{n}").into();
                }
                entry
            });
            let counts = writer.write_all(entries).counts().await;
            assert_eq!(counts.committed + counts.spooled + counts.quarantined, 1_000, "{counts:?}");
            wait_for("all of it", async || writer.stats().committed + writer.stats().quarantined == 1_000).await;
            let report = guard.shutdown(PATIENCE).await;
            assert_eq!((report.committed, report.quarantined, report.lost), (997, 3, 0));
            assert_eq!(db.count().await - before, 997);
            if spooled {
                let kept = Quarantine::open(dir.path()).unwrap().list().unwrap();
                assert_eq!(kept.len(), 3);
                assert!(kept.iter().all(|kept| kept.reason.contains("skipped the row")), "{kept:?}");
                // Tried again, they stay: they are still not stored.
                let mut quarantine = Quarantine::open(dir.path()).unwrap();
                let done = quarantine.retry(&db.database, ReplayScope::SameDatabase).await.unwrap();
                assert_eq!((done.stored, done.rejected.values().sum::<u64>()), (0, 3), "{done:?}");
            }
        }
    }

    async fn entries_that_another_unique_index_rejects_are_quarantined(db: TestDb) {
        make_requests_unique(&db).await;
        let (writer, guard) = db.writer();
        let entries = (0..100).zip(numbered(100)).map(|(n, entry)| match n % 50 {
            7 => entry.request_id("r1"),
            _ => entry,
        });
        let counts = writer.write_all(entries).counts().await;
        assert_eq!((counts.committed, counts.quarantined), (99, 1), "{counts:?}");
        let report = guard.shutdown(PATIENCE).await;
        assert_eq!((report.committed, report.quarantined, report.lost), (99, 1, 0));
        assert_eq!(db.count().await, 99);
    }

    async fn a_rule_that_every_row_of_ours_breaks_is_told_from_a_broken_database(db: TestDb) {
        // Until an entry goes in, nothing tells whose fault it is: the row is held, not put aside.
        refuse(&db, "action NOT LIKE 'shop.%'").await;
        for spooled in [true, false] {
            let dir = TempDir::new().unwrap();
            let (writer, guard) = if spooled { spilling(&db, dir.path()) } else { db.writer() };
            drop(writer.write(AuditEntry::new("rude.word")));
            wait_for("attempts", async || writer.stats().retries >= 2).await;
            assert_eq!(writer.stats().quarantined, 0);
            drop(writer.write(AuditEntry::new("shop.order")));
            wait_for("both", async || writer.stats().committed == 1 && writer.stats().quarantined == 1).await;
            let report = guard.shutdown(PATIENCE).await;
            assert_eq!((report.committed, report.quarantined, report.lost, report.spooled), (1, 1, 0, 0));
        }
        assert_eq!(db.count().await, 2);
    }

    async fn forged_rows_of_writers_do_not_blind_the_account(db: TestDb) {
        let (writer, guard) = db.writer();
        assert!(writer.write_all(numbered(10)).await.is_durable());
        guard.shutdown(PATIENCE).await;
        let writer = match db.is_postgres() {
            true => "'01234567-89ab-cdef-0123-456789abcdef'",
            false => "x'0123456789abcdef0123456789abcdef'",
        };
        let mut said = vec![
            "null".to_owned(),
            "[]".to_owned(),
            r#"{"ranges":[[1,18446744073709551615],[0,18446744073709551615,18446744073709551615],[5],"x"]}"#.to_owned(),
            r#"{"last_seq":18446744073709551615}"#.to_owned(),
            r#"{"resolved_through":1E400}"#.to_owned(),
            format!("{}{}", "[".repeat(2_000), "]".repeat(2_000)),
        ];
        if !db.is_postgres() {
            said.extend([String::new(), "no json".to_owned()]);
        }
        for text in said {
            for action in ["writer_started", "writer_alive", "writer_stopped", "entries_lost", "entry_quarantined", "unheard_of"] {
                db.sql(&format!("INSERT INTO audit_logs (action, writer_id, metadata) VALUES ('audit.{action}', {writer}, '{text}')")).await.unwrap();
            }
        }
        for seq in [i64::MAX, -1, 0, 7] {
            db.sql(&format!("INSERT INTO audit_logs (action, writer_id, writer_seq) VALUES ('forged', {writer}, {seq})")).await.unwrap();
        }
        if db.is_postgres() {
            for time in ["infinity", "-infinity", "294276-12-31"] {
                db.sql(&format!("INSERT INTO audit_logs (action, writer_id, created_at) VALUES ('forged', {writer}, '{time}')")).await.unwrap();
            }
        } else {
            db.sql(&format!("INSERT INTO audit_logs (action, writer_id, metadata) VALUES (CAST(x'61756469742eff' AS TEXT), {writer}, x'ff00')")).await.unwrap();
        }
        let accounts = verify_writers(&mut db.connection().await).await.unwrap();
        assert_eq!(accounts.len(), 2);
        let honest = accounts.iter().find(|account| account.service.is_some()).unwrap();
        assert_eq!((honest.verdict, honest.stored), (Verdict::Complete, 10));
    }
}

#[tokio::test]
async fn whatever_text_is_in_sqlite_is_read() {
    let db = TestDb::sqlite().await;
    let texts = [
        "'no json'",
        "''",
        "x'fffe'",
        "CAST(x'7bff7d' AS TEXT)",
        "CAST(x'00' AS TEXT)",
        "42",
        "1e999",
        "'{\"n\":1E400}'",
    ];
    for text in texts {
        let columns = "action, outcome, tenant_id, actor_id, actor_type, on_behalf_of, resource_type, resource_id, ip_address, \
             user_agent, request_id, trace_id, metadata";
        let values = vec![text; 13].join(", ");
        db.sql(&format!("INSERT INTO audit_logs ({columns}) VALUES ({values})"))
            .await
            .unwrap();
    }
    let rows = db.rows().await;
    assert_eq!((rows.len(), db.count().await), (texts.len(), texts.len() as i64));
    for row in &rows {
        let text = Some(row.action.clone());
        assert_eq!(
            (
                &row.actor_id,
                row.metadata.as_ref().map(|json| json.as_str().to_owned())
            ),
            (&text, text.clone())
        );
        assert_eq!(row.ip_address, None);
    }
    assert!(rows.iter().any(|row| row.action == "{\u{FFFD}}") && rows.iter().any(|row| row.action == "\0"));
}

#[tokio::test]
async fn what_postgresql_cannot_hold_it_refuses_from_others_and_takes_from_us() {
    let db = TestDb::postgres().await;
    for bad in [r#"{"a":"\u0000"}"#, r#"{"a":"\ud800"}"#, "{", "NaN"] {
        let sql = format!("INSERT INTO audit_logs (action, metadata) VALUES ('x', '{bad}')");
        assert!(db.sql(&sql).await.is_err(), "{bad}");
    }
    let (writer, _guard) = db.writer();
    let entry = AuditEntry::new("x").metadata(json!({"a": "\0", "b": "\\ud800", "c": "NaN"}));
    assert_eq!(writer.write(entry).await, Delivery::Committed);
    assert_eq!(
        db.rows().await[0].metadata.as_ref().unwrap().parse().unwrap(),
        json!({"a": "\u{FFFD}", "b": "\\ud800", "c": "NaN"})
    );
}

/// A trigger can raise any error, one that should pass by itself too: such a row is not quarantined, and does
/// not keep others back.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_an_error_that_should_pass_does_not_keep_others_back() {
    let db = TestDb::postgres().await;
    db.sql(
        "CREATE FUNCTION in_use() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.action = 'stuck' THEN RAISE EXCEPTION 'in use' USING ERRCODE = '55006'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER in_use BEFORE INSERT ON audit_logs FOR EACH ROW EXECUTE FUNCTION in_use()",
    )
    .await
    .unwrap();
    let (writer, guard) = AuditWriter::builder(db.database.clone())
        .retry(hasty())
        .start()
        .unwrap();
    let neighbours = numbered(9).chain([AuditEntry::new("stuck")]).chain(numbered(90));
    drop(writer.write_all(neighbours));
    wait_for("an attempt", async || writer.stats().retries > 0).await;
    for entry in numbered(200) {
        drop(writer.write(entry));
    }
    wait_for("all others", async || writer.stats().committed == 299).await;
    let stats = writer.stats();
    assert_eq!(
        (stats.quarantined, stats.dropped, stats.queued),
        (0, 0, 1),
        "{stats:?}"
    );
    db.sql("DROP TRIGGER in_use ON audit_logs").await.unwrap();
    wait_for("the row itself", async || writer.stats().committed == 300).await;
    assert_eq!(guard.shutdown(PATIENCE).await.committed, 300);
    assert_eq!(db.count().await, 300);
}

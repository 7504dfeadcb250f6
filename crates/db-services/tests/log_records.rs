//! Log records have the target `audit` and fields. In a process of its own: a process has one logger.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use db_services::audit::{AuditEntry, AuditWriter};
use db_services::client::Database;
use log::kv::{self, VisitSource};

#[derive(Clone, Debug)]
struct Captured {
    target: String,
    message: String,
    fields: BTreeMap<String, String>,
}

static RECORDS: Mutex<Vec<Captured>> = Mutex::new(Vec::new());

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        struct Fields(BTreeMap<String, String>);
        impl<'kvs> VisitSource<'kvs> for Fields {
            fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
                self.0.insert(key.to_string(), value.to_string());
                Ok(())
            }
        }
        let mut fields = Fields(BTreeMap::new());
        record.key_values().visit(&mut fields).unwrap();
        RECORDS.lock().unwrap().push(Captured {
            target: record.target().to_owned(),
            message: record.args().to_string(),
            fields: fields.0,
        });
    }

    fn flush(&self) {}
}

fn wait_for_record(part: &str) -> Captured {
    let begun = Instant::now();
    loop {
        let records = RECORDS.lock().unwrap().clone();
        if let Some(found) = records.iter().find(|record| record.message.contains(part)) {
            return found.clone();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{part} was not logged: {records:#?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_record_has_the_target_audit_and_its_values_as_fields() {
    log::set_logger(&Capture).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    // Without its tables.
    let database = Database::from_url("sqlite::memory:").unwrap();
    let name = database.to_string();
    let (writer, guard) = AuditWriter::builder(database).start().unwrap();
    drop(writer.write(AuditEntry::new("auth.login")));
    let record = wait_for_record("is misconfigured");
    assert_eq!(record.target, "audit");
    assert_eq!(record.fields["database"], name);
    assert!(record.fields["reason"].contains("no such table"), "{record:?}");
    drop(guard);
    let ended = wait_for_record("ended:");
    assert_eq!(
        (ended.target.as_str(), ended.fields["unknown"].as_str()),
        ("audit", "1")
    );
}

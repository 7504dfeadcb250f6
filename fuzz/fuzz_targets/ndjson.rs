//! Is every line that can be read stored within the limits and read back as it was stored, and does
//! none do harm?
#![no_main]

use std::sync::LazyLock;

use db_schema::NewAuditLog;
use db_services::audit::{self, AuditEntry, limits};
use db_services::client::Database;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use uuid::Uuid;

struct Bench {
    runtime: Runtime,
    database: Database,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = Database::from_url("sqlite::memory:").unwrap();
    runtime.block_on(database.migrate()).unwrap();
    Bench { runtime, database }
});

fuzz_target!(|input: &[u8]| {
    let lines = input.split(|byte| *byte == b'\n');
    let mut entries: Vec<AuditEntry> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    // Entries without an id are not recognised when they are inserted again.
    for (entry, nth) in entries.iter_mut().zip(1..) {
        entry.id.get_or_insert(Uuid::from_u128(nth));
    }
    for entry in &entries {
        is_within_limits(&NewAuditLog::from(entry));
    }
    BENCH.runtime.block_on(async {
        let mut conn = BENCH.database.connection().await.unwrap();
        let new = audit::insert_many(&mut conn, &entries).await.unwrap();
        assert!(new <= entries.len());
        assert_eq!(
            audit::insert_many(&mut conn, &entries).await.unwrap(),
            0,
            "all of it is there"
        );
        for row in audit::latest(&mut conn, 5, true).await.unwrap() {
            assert!(row.metadata.unwrap().parse().is_ok());
        }
    });
});

fn is_within_limits(row: &NewAuditLog) {
    let texts = [
        Some(&row.action),
        row.tenant_id.as_ref(),
        row.actor_id.as_ref(),
        row.actor_type.as_ref(),
        row.on_behalf_of.as_ref(),
        row.resource_type.as_ref(),
        row.resource_id.as_ref(),
        row.user_agent.as_ref(),
        row.request_id.as_ref(),
        row.trace_id.as_ref(),
    ];
    assert!(texts.into_iter().flatten().all(|text| !text.contains('\0')));
    assert!(!row.action.starts_with("audit."), "reserved");
    let metadata = row.metadata.as_str();
    assert!(!metadata.contains("\\u0000") || metadata.contains("\\\\u0000"));
    assert!(row.metadata.parse().unwrap().is_object());
    assert!(
        metadata.len() <= limits::METADATA_BYTES + (4 << 10),
        "{}",
        metadata.len()
    );
}

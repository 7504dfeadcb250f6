//! Checks that each line that parses as an entry is stored once, within the limits, and can be read.

use std::sync::LazyLock;

use db_schema::NewAuditLog;
use db_services::audit::{self, AuditEntry, limits};
use uuid::Uuid;

use super::storage::Storage;

static STORAGE: LazyLock<Storage> = LazyLock::new(Storage::migrated);

/// Panics if a promise is broken. `input` is lines of JSON.
pub fn check(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n');
    let mut entries: Vec<AuditEntry> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    // Entries without an id are not recognised when they are inserted again.
    for (entry, nth) in entries.iter_mut().zip(1..) {
        entry.id.get_or_insert(Uuid::from_u128(nth));
    }
    for entry in &entries {
        assert_within_limits(&NewAuditLog::from(entry));
    }
    STORAGE.runtime.block_on(async {
        let mut conn = STORAGE.database.connection().await.unwrap();
        let new = audit::insert_many(&mut conn, &entries).await.unwrap();
        assert!(new <= entries.len());
        assert_eq!(
            audit::insert_many(&mut conn, &entries).await.unwrap(),
            0,
            "every entry is stored already"
        );
        for row in audit::latest_with_records(&mut conn, 5).await.unwrap() {
            assert!(row.metadata.unwrap().parse().is_ok());
        }
    });
}

fn assert_within_limits(row: &NewAuditLog) {
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

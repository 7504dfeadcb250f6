//! The transaction of a tenant's reader on SQLite.

use diesel::connection::{
    SimpleConnection, TransactionDepthChange, TransactionManager, TransactionManagerStatus,
};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{Changed, NESTED};

type Manager = <SqliteConnection as diesel::Connection>::TransactionManager;

/// Names without a schema are looked for among the temporary ones first. The savepoint ends with the transaction.
const VIEW: &str = "CREATE TEMP VIEW audit_logs AS SELECT * FROM main.audit_logs \
     WHERE tenant_id = (SELECT tenant_id FROM temp.audit_tenant); SAVEPOINT audit_tenant";

/// The parts of the session that a statement may change so that it shows other rows, or outlives the rollback.
#[derive(PartialEq)]
pub(super) struct Session {
    /// The view and the table.
    definitions: String,
    tenant: String,
    databases: String,
    pragmas: String,
}

/// Begins the transaction as the reader of a tenant.
pub(super) fn begin(conn: &mut SqliteConnection, tenant: &str) -> QueryResult<Session> {
    Manager::begin_transaction(conn)?;
    diesel::sql_query("CREATE TEMP TABLE audit_tenant AS SELECT ? AS tenant_id")
        .bind::<Text, _>(tenant)
        .execute(conn)?;
    conn.batch_execute(VIEW)?;
    session(conn)
}

/// Verifies that view, tenant, transaction and session are what they were, and rolls back.
pub(super) fn end(conn: &mut SqliteConnection, before: &Session) -> Result<(), Changed> {
    verify(before, &session(conn)?)?;
    conn.batch_execute("RELEASE audit_tenant; ROLLBACK")?;
    if let TransactionManagerStatus::Valid(status) = Manager::transaction_manager_status_mut(conn) {
        status.change_transaction_depth(TransactionDepthChange::DecreaseDepth)?;
    }
    if Manager::is_broken_transaction_manager(conn) {
        return Err(Changed(NESTED.to_owned()));
    }
    Ok(())
}

fn verify(before: &Session, now: &Session) -> Result<(), Changed> {
    let reason = if now.definitions != before.definitions {
        "the view audit_logs was changed, or the transaction was ended"
    } else if now.tenant != before.tenant {
        "the tenant was changed"
    } else if now.databases != before.databases {
        "a database was attached or detached"
    } else if now.pragmas != before.pragmas {
        "a PRAGMA was changed"
    } else {
        return Ok(());
    };
    Err(Changed(reason.to_owned()))
}

/// Settings of the connection that a rollback does not undo, without those that affect only speed or cannot be
/// changed in a transaction. Each costs 3 µs. The limits of the heap and `temp_store_directory` are settings of
/// the process: they are noticed and remain.
const PRAGMAS: [&str; 25] = [
    "busy_timeout",
    "cache_size",
    "cell_size_check",
    "checkpoint_fullfsync",
    "count_changes",
    "empty_result_callbacks",
    "full_column_names",
    "fullfsync",
    "hard_heap_limit",
    "ignore_check_constraints",
    "journal_size_limit",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "short_column_names",
    "soft_heap_limit",
    "temp_store_directory",
    "trusted_schema",
    "wal_autocheckpoint",
    "writable_schema",
];

fn session(conn: &mut SqliteConnection) -> QueryResult<Session> {
    let (definitions, tenant, databases, like): (String, String, String, String) =
        sql::<(Text, Text, Text, Text)>(
            "SELECT (SELECT coalesce(group_concat(sql), '') FROM temp.sqlite_master \
                 WHERE name IN ('audit_logs', 'audit_tenant')), \
                (SELECT coalesce(group_concat(tenant_id), '') FROM temp.audit_tenant), \
                (SELECT group_concat(name) FROM pragma_database_list), \
                'a' LIKE 'A'",
        )
        .get_result(conn)?;
    // PRAGMA case_sensitive_like cannot be queried.
    let mut pragmas = like;
    for name in PRAGMAS {
        let value: Option<String> = sql::<Text>(&format!("PRAGMA {name}"))
            .get_result(conn)
            .optional()?;
        pragmas.push_str(&value.unwrap_or_default());
        pragmas.push(' ');
    }
    Ok(Session {
        definitions,
        tenant,
        databases,
        pragmas,
    })
}

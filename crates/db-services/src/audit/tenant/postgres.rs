//! The transaction of a tenant's reader on PostgreSQL.

use diesel::QueryResult;
use diesel::connection::{TransactionDepthChange, TransactionManagerStatus};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Bool, Text};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager,
};
use uuid::Uuid;

use super::{Changed, NESTED};
use crate::audit::limits::hex;

/// After a failed statement nothing else is possible. Role and tenant are as they were at the savepoint then.
const RECOVER: &str = "ROLLBACK TO SAVEPOINT audit_tenant";

/// The names of the driver's prepared statements. Those of a pooler have other names, and it may drop them at any time.
macro_rules! driver_statements {
    () => {
        "ARRAY(SELECT name FROM pg_catalog.pg_prepared_statements WHERE name ~ '^s[0-9]+$')"
    };
}

/// Begins the transaction as the reader of a tenant. Returns the name of a prepared statement, which ends with those that
/// diesel has cached: the end fails without it. If SQL in a read ends the transaction behind a pooler, it stays in a session
/// that others use next. Therefore each has a name of its own.
pub(super) async fn begin(conn: &mut AsyncPgConnection, tenant: &str) -> QueryResult<String> {
    let statement = format!("audit_tenant_{}", Uuid::new_v4().simple());
    // One message, which costs one round trip and has no parameters: digits need no quoting. random_page_cost: the planner
    // chooses a pass over the index of the open partition over one over its rows, as on an SSD.
    let digits = hex(tenant.as_bytes());
    let begin = format!(
        "BEGIN READ ONLY; \
         SELECT set_config('audit.tenant_reader', set_config('role', audit_role('reader'), true), true), \
                set_config('audit.tenant_id', convert_from(decode('{digits}', 'hex'), 'UTF8'), true), \
                set_config('audit.tenant_statements', {}::text, true), set_config('random_page_cost', '1.1', true); \
         SAVEPOINT audit_tenant; PREPARE {statement} AS SELECT 1",
        driver_statements!()
    );
    AnsiTransactionManager::begin_transaction_sql(conn, &begin).await?;
    Ok(statement)
}

/// Verifies that role, tenant, transaction and session are what `begin` has set, and rolls back.
pub(super) async fn end(
    conn: &mut AsyncPgConnection,
    tenant: &str,
    statement: &str,
    has_failed: bool,
) -> Result<(), Changed> {
    if has_failed {
        conn.batch_execute(RECOVER).await?;
    }
    let found: Found = Check { tenant, statement }.get_result(conn).await?;
    verify(found)?;
    // Not by diesel, which panics if a nested transaction was cut short at its beginning.
    // The savepoint ends with the transaction; session-level advisory locks would outlive it.
    conn.batch_execute(&format!(
        "RELEASE SAVEPOINT audit_tenant; DEALLOCATE {statement}; \
         SELECT pg_catalog.pg_advisory_unlock_all(); ROLLBACK"
    ))
    .await?;
    if let TransactionManagerStatus::Valid(status) = status(conn) {
        status.change_transaction_depth(TransactionDepthChange::DecreaseDepth)?;
    }
    if AnsiTransactionManager::is_broken_transaction_manager(conn) {
        return Err(Changed(NESTED.to_owned()));
    }
    Ok(())
}

fn status(conn: &mut AsyncPgConnection) -> &mut TransactionManagerStatus {
    AnsiTransactionManager::transaction_manager_status_mut(conn)
}

/// Whether role, tenant, access mode and prepared statements are as they were set: none was added, none is missing.
type Found = (bool, bool, bool, bool, bool);

fn verify((is_reader, is_tenant, is_read_only, has_no_more, has_all): Found) -> Result<(), Changed> {
    let reason = match (is_reader, is_tenant, is_read_only, has_no_more, has_all) {
        (true, true, true, true, true) => return Ok(()),
        (true, true, true, true, false) => {
            "a prepared statement of the connection was dropped with DEALLOCATE"
        }
        (true, true, true, false, _) => "a statement was prepared with PREPARE",
        (true, true, false, ..) => "the transaction is not read-only",
        (true, false, ..) => "the tenant was changed, or the transaction was ended",
        (false, ..) => "the role was changed, or the transaction was ended",
    };
    Err(Changed(reason.to_owned()))
}

/// The query for [`Found`]. diesel caches it, unlike `sql_query`.
struct Check<'a> {
    tenant: &'a str,
    statement: &'a str,
}

impl Query for Check<'_> {
    type SqlType = (Bool, Bool, Bool, Bool, Bool);
}

impl QueryId for Check<'_> {
    type QueryId = Check<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl QueryFragment<Pg> for Check<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT coalesce(current_user = pg_catalog.current_setting('audit.tenant_reader', true), false), \
                    coalesce(pg_catalog.current_setting('audit.tenant_id', true) = ",
        );
        out.push_bind_param::<Text, _>(self.tenant)?;
        out.push_sql(
            ", false), \
             pg_catalog.current_setting('transaction_read_only') = 'on', \
             NOT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements \
                         WHERE from_sql AND prepare_time >= pg_catalog.now() AND name <> ",
        );
        out.push_bind_param::<Text, _>(self.statement)?;
        out.push_sql(concat!(
            "), coalesce(nullif(pg_catalog.current_setting('audit.tenant_statements', true), '')::text[] <@ ",
            driver_statements!(),
            ", false)"
        ));
        Ok(())
    }
}

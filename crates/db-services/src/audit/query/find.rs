//! Looks up an entry by its id.

use uuid::Uuid;

use super::conditions::push_where_id;
use super::page::{Keyed, load};
use super::run::dialect;
use super::sql::{Dialect, Sql};
use super::{AuditQuery, QueryError};
use crate::audit::AuditLog;
use crate::client::Connection;

impl AuditQuery {
    /// Returns the row with this id, if the query has it. The key of the table is the id with `created_at`: rows of clients
    /// that chose their ids may have the same one. The newest is the first.
    ///
    /// The primary key serves it. On PostgreSQL it is looked for in each partition, unless the filter limits the time.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    ///
    /// # Cancel safety
    /// As [`page`](Self::page).
    pub async fn find(&self, conn: &mut Connection, id: Uuid) -> Result<Vec<AuditLog>, QueryError> {
        self.check()?;
        let sql = self.select_id(dialect(conn), id);
        let found = load(conn, sql).await;
        let mut rows: Vec<Keyed> = found.map_err(|failure| self.error(failure))?;
        rows.sort_by_key(|(_, created_at)| std::cmp::Reverse(*created_at));
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    pub(super) fn select_id(&self, dialect: Dialect, id: Uuid) -> Sql {
        let mut sql = self.sql(dialect, "SELECT ");
        sql.push_columns().push(", created_at FROM audit_logs");
        push_where_id(&mut sql, self.filter(), id);
        sql
    }
}

//! The feed returns each committed row once, whatever the order in which transactions begin and commit.

mod identity;
mod large;
mod late;
mod names;
mod restored;
mod servers;
mod time_limit;
mod writers;

use db_services::audit::AuditLog;
use db_services::audit::feed::{Batch, FeedError, Position, next};
use db_services::audit::query::AuditFilter;
use db_services::client::{Connection, Database};

use crate::support::{TestDb, run_sql};

/// A reader that keeps its position as a text, as an application does.
pub struct Reader {
    pub position: String,
    pub filter: AuditFilter,
    pub limit: u32,
}

impl Reader {
    pub fn at(position: &Position) -> Self {
        Self {
            position: position.to_string(),
            filter: AuditFilter::new(),
            limit: 1_000,
        }
    }

    pub fn from_beginning() -> Self {
        Self::at(&Position::beginning())
    }

    pub async fn from_now(conn: &mut Connection) -> Self {
        Self::at(&Position::now(conn).await.unwrap())
    }

    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    pub async fn try_batch(&mut self, conn: &mut Connection) -> Result<Batch, FeedError> {
        let position: Position = self.position.parse().unwrap();
        let batch = next(conn, &position, &self.filter, self.limit).await?;
        assert!(batch.rows.len() <= self.limit as usize);
        self.position = batch.position.to_string();
        Ok(batch)
    }

    /// The rows up to the end of what is visible.
    pub async fn rows(&mut self, conn: &mut Connection) -> Vec<AuditLog> {
        let mut rows = Vec::new();
        loop {
            let batch = self.try_batch(conn).await.unwrap();
            rows.extend(batch.rows);
            if !batch.more {
                return rows;
            }
        }
    }

    /// Their actions.
    pub async fn actions(&mut self, conn: &mut Connection) -> Vec<String> {
        actions(self.rows(conn).await)
    }
}

pub fn actions(rows: Vec<AuditLog>) -> Vec<String> {
    rows.into_iter().map(|row| row.action).collect()
}

/// Runs SQL on a connection that stays as it is: within a transaction.
pub async fn run(conn: &mut Connection, sql: &str) {
    let done = run_sql(conn, sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs SQL that inserts a row of this action.
pub async fn write(conn: &mut Connection, action: &str) {
    run(
        conn,
        &format!("INSERT INTO audit_logs (action) VALUES ('{action}')"),
    )
    .await;
}

/// Inserts a row of this action on a connection of its own.
pub async fn written(db: &TestDb, action: &str) {
    write(&mut db.connection().await, action).await;
}

/// A connection with the rights of a role of the trail.
pub async fn connect_as(db: &TestDb, role: &str) -> Connection {
    let mut conn = Database::from_url(&db.url).unwrap().connection().await.unwrap();
    run(
        &mut conn,
        &format!("SELECT set_config('role', audit_role('{role}'), false)"),
    )
    .await;
    conn
}

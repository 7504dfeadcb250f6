//! A database of a test's own, and a sink that writes to it.

use std::sync::Arc;
use std::time::Duration;

use db_schema::NewAuditLog;
use db_test::Postgres;
use diesel::SqliteConnection;
use diesel::connection::SimpleConnection;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use audit_core::writer::SinkErrorKind;

use super::{Attempt, PostgresSink, Rows, Sink, SinkError, SqliteSink, Written};
use crate::audit::AuditEntry;
use crate::client::{Connection, Database, Kind, open_sqlite};

/// A migrated database.
pub(super) struct TestDatabase {
    pub(super) url: String,
    _postgres: Option<Postgres>,
    _dir: Option<TempDir>,
}

impl TestDatabase {
    pub(super) fn postgres() -> Self {
        let postgres = Postgres::migrated().unwrap();
        Self {
            url: postgres.url().to_owned(),
            _postgres: Some(postgres),
            _dir: None,
        }
    }

    pub(super) async fn both() -> [Self; 2] {
        let dir = TempDir::new().unwrap();
        let url = format!("sqlite://{}", dir.path().join("audit.db").display());
        Database::from_url(&url).unwrap().migrate().await.unwrap();
        [
            Self::postgres(),
            Self {
                url,
                _postgres: None,
                _dir: Some(dir),
            },
        ]
    }

    pub(super) fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    pub(super) fn sqlite(&self) -> SqliteConnection {
        match Database::from_url(&self.url).unwrap().kind() {
            Kind::Sqlite { location, .. } => open_sqlite(location).unwrap(),
            Kind::Postgres { .. } => panic!("not SQLite"),
        }
    }

    pub(super) async fn sql(&self, sql: &str) {
        match self.is_postgres() {
            true => client(&self.url).await.batch_execute(sql).await.unwrap(),
            false => self.sqlite().batch_execute(sql).unwrap(),
        }
    }

    /// Rejects rows for which a condition on `action` holds.
    pub(super) async fn reject(&self, condition: &str) {
        let sql = match self.is_postgres() {
            true => format!("ALTER TABLE audit_logs ADD CONSTRAINT rule CHECK (NOT ({condition}))"),
            false => format!(
                "CREATE TRIGGER rule BEFORE INSERT ON audit_logs WHEN {} BEGIN SELECT RAISE(ABORT, 'rule'); END",
                condition.replace("action", "NEW.action")
            ),
        };
        self.sql(&sql).await;
    }

    pub(super) async fn stored(&self) -> Vec<String> {
        let mut conn: Connection = Database::from_url(&self.url).unwrap().connection().await.unwrap();
        let rows = crate::audit::latest_with_records(&mut conn, 1_000).await.unwrap();
        let mut actions: Vec<_> = rows.into_iter().map(|row| row.action).collect();
        actions.sort();
        actions
    }
}

pub(super) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Either sink.
pub(super) enum TestSink {
    Postgres(Box<PostgresSink>),
    Sqlite(SqliteSink),
}

impl TestSink {
    pub(super) fn to(url: &str) -> Self {
        Self::within(url, Duration::from_secs(60))
    }

    pub(super) fn within(url: &str, limit: Duration) -> Self {
        match Database::from_url(url).unwrap().kind() {
            Kind::Postgres { route, .. } => {
                Self::Postgres(Box::new(PostgresSink::new((**route).clone(), limit)))
            }
            Kind::Sqlite { location, .. } => Self::Sqlite(SqliteSink::start(location.clone()).unwrap()),
        }
    }

    pub(super) async fn write(&mut self, rows: &Rows) -> Result<Written, SinkError> {
        self.attempt(rows, Attempt::First).await
    }

    pub(super) async fn attempt(&mut self, rows: &Rows, attempt: Attempt) -> Result<Written, SinkError> {
        match self {
            Self::Postgres(sink) => sink.write(Arc::clone(rows), attempt).await,
            Self::Sqlite(sink) => sink.write(Arc::clone(rows), attempt).await,
        }
    }

    pub(super) async fn error_kind(&mut self, rows: &Rows) -> SinkErrorKind {
        self.write(rows).await.unwrap_err().kind
    }
}

pub(super) fn rows<const N: usize>(actions: [&str; N]) -> Rows {
    Arc::new(
        actions
            .map(|action| NewAuditLog::from(AuditEntry::new(action)).into())
            .into(),
    )
}

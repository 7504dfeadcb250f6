//! What the application keeps. Each query names the tenant whose rows it may touch.

mod accounts;
mod keys;
mod schema;
mod seed;
mod skills;

use db_services::client::{Connection, Database};
use diesel::{AsChangeset, Insertable, Queryable, Selectable};
use diesel_async::AsyncMigrationHarness;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use serde::Serialize;

use crate::error::AppError;

pub use accounts::MAX_FAILURES;
pub(crate) use accounts::SignIn;
pub use seed::DEMO_USERS;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Runs the same code on a connection to either database.
macro_rules! on {
    ($database:expr, |$conn:ident| $queries:expr) => {
        match $database.connection().await? {
            db_services::client::Connection::Postgres(mut $conn) => $queries,
            db_services::client::Connection::Sqlite(mut $conn) => $queries,
        }
    };
}
use on;

/// Somebody who can sign in.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::users)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) tenant_id: String,
    pub(crate) is_admin: bool,
    pub(crate) password_hash: String,
}

/// A customer, with its settings.
#[derive(Debug, Serialize, Queryable, Selectable)]
#[diesel(table_name = schema::tenants)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) webhook_url: String,
    pub(crate) webhook_secret: String,
}

/// New settings of a tenant. `None` leaves the secret as it is.
#[derive(Debug, AsChangeset)]
#[diesel(table_name = schema::tenants)]
pub(crate) struct NewSettings {
    pub(crate) name: String,
    pub(crate) webhook_url: String,
    pub(crate) webhook_secret: Option<String>,
}

/// A skill of a user, with a level from 1 to 5.
#[derive(Debug, Serialize, Queryable, Selectable, Insertable)]
#[diesel(table_name = schema::skills)]
pub(crate) struct Skill {
    pub(crate) id: String,
    pub(crate) tenant_id: String,
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) level: i32,
}

/// A key for programs, without the key itself.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = schema::api_keys)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) name: String,
}

/// The application's tables in a database. The trail is in the same one.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Creates the tables that are missing, the trail's too, and the demonstration's users in an empty database.
    pub async fn open(database: Database) -> Result<Self, AppError> {
        database.migrate().await?;
        let connection = database.connection().await?;
        // diesel's migrations are synchronous.
        tokio::task::spawn_blocking(move || match connection {
            Connection::Postgres(conn) => run_migrations(AsyncMigrationHarness::new(conn)),
            Connection::Sqlite(conn) => run_migrations(AsyncMigrationHarness::new(conn)),
        })
        .await??;
        let store = Self { database };
        store.seed().await?;
        Ok(store)
    }

    /// The database, for reading the trail.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

fn run_migrations<DB: diesel::backend::Backend>(
    mut harness: impl MigrationHarness<DB>,
) -> Result<(), AppError> {
    harness
        .run_pending_migrations(MIGRATIONS)
        .map_err(AppError::Migrations)?;
    Ok(())
}

//! Databases: a [`Database`] from a URL or from the environment, its connections and migrations.

mod connect;
mod error;
mod migrations;
mod tls;
mod url;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use diesel::SqliteConnection;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

pub(crate) use connect::{Route, connect_as, connect_writer, open_sqlite};
pub use error::DatabaseError;
pub(crate) use error::describe;
pub use migrations::MigrationState;
pub(crate) use tls::{Tls, is_permanent, shown};

/// The most connections one [`Database`] holds open.
const POOL_SIZE: usize = 10;

/// An asynchronous SQLite connection.
pub type AsyncSqliteConnection = SyncConnectionWrapper<SqliteConnection>;

/// A database: a PostgreSQL server or an SQLite file.
///
/// Cheap to clone; clones share one pool of at most ten connections. Nothing is opened before the
/// first use, except that `sqlite::memory:` begins to exist at once and ends with the last clone.
///
/// Neither `Debug` nor `Display` nor any error shows a password.
///
/// ```
/// # fn main() -> Result<(), db_services::client::DatabaseError> {
/// use db_services::client::Database;
///
/// let database = Database::from_url("postgres://app:secret@localhost/shop")?;
/// assert_eq!(database.to_string(), "postgres://***@localhost/shop");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    /// The URL without credentials and options.
    shown: String,
    kind: Kind,
}

pub(crate) enum Kind {
    Postgres {
        route: Box<Route>,
        pool: Pool<AsyncPgConnection>,
    },
    Sqlite {
        location: SqliteLocation,
        pool: Pool<AsyncSqliteConnection>,
    },
}

/// Where an SQLite database lies.
#[derive(Clone, Debug)]
pub(crate) enum SqliteLocation {
    File(PathBuf),
    /// A private shared in-memory database, under this URI.
    Memory(String),
}

/// A connection from a [`Database`]'s pool; goes back when dropped.
#[allow(clippy::large_enum_variant)] // one per use, never in bulk
pub enum Connection {
    /// To PostgreSQL.
    Postgres(Object<AsyncPgConnection>),
    /// To SQLite.
    Sqlite(Object<AsyncSqliteConnection>),
}

impl Database {
    /// Takes the database a URL names: `postgres://user:password@host:port/name`,
    /// `sqlite://path/to/file.db`, or `sqlite::memory:` for one that lives as long as this value.
    ///
    /// A PostgreSQL host that is missing means `localhost`. By a Unix socket, and on a loopback address
    /// whose URL says nothing about TLS, PostgreSQL is reached unencrypted; everywhere else
    /// `verify-full` holds unless `sslmode` says otherwise:
    ///
    /// | `sslmode` | encrypted | the server's certificate |
    /// | --- | --- | --- |
    /// | `disable` | no | |
    /// | `allow`, `prefer` | if the server offers it | as `require` |
    /// | `require` | yes | as `verify-ca` with `sslrootcert`, else not looked at |
    /// | `verify-ca` | yes | is of an authority in `sslrootcert`, which must be given |
    /// | `verify-full` | yes | is, for this host's name, of an authority in `sslrootcert`, else of the system's |
    ///
    /// `sslrootcert`, `sslcert` and `sslkey` name PEM files, read at each connection; a key that
    /// others may read is refused. `sslrootcert=system` asks for the system's authorities, which
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace. All other options of libpq about TLS are errors.
    ///
    /// # Errors
    /// When the URL cannot be understood, or what it asks of TLS contradicts itself. Nothing is
    /// connected to, no file is read.
    pub fn from_url(url: &str) -> Result<Self, DatabaseError> {
        let target = url::parse(url)?;
        let (shown, kind) = match target {
            url::Target::Postgres { shown, route } => {
                let pool = connect::postgres_pool((*route).clone(), &shown, POOL_SIZE)?;
                (shown, Kind::Postgres { route, pool })
            }
            url::Target::SqliteFile(path) => {
                let shown = format!("sqlite://{}", path.display());
                // Where it is now: the working directory may change before the first use.
                let location = SqliteLocation::File(std::path::absolute(&path).unwrap_or(path));
                let pool = connect::sqlite_pool(location.clone(), None, POOL_SIZE)?;
                (shown, Kind::Sqlite { location, pool })
            }
            url::Target::SqliteMemory => {
                let location = SqliteLocation::Memory(format!(
                    "file:/audit-{}?vfs=memdb",
                    uuid::Uuid::now_v7().simple()
                ));
                // The database ends with its last connection: the pool's manager holds this one.
                let anchor = connect::open_sqlite(&location).map_err(|source| DatabaseError::Connect {
                    database: "sqlite::memory:".into(),
                    source,
                })?;
                let pool = connect::sqlite_pool(location.clone(), Some(Mutex::new(anchor)), POOL_SIZE)?;
                ("sqlite::memory:".to_owned(), Kind::Sqlite { location, pool })
            }
        };
        Ok(Self {
            inner: Arc::new(Inner { shown, kind }),
        })
    }

    /// Takes the database that `AUDIT_DATABASE_URL` names, else `DATABASE_URL`; none if neither is
    /// set. An empty value counts as not set.
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url), and when the value is no Unicode.
    pub fn from_env() -> Result<Option<Self>, DatabaseError> {
        for name in ["AUDIT_DATABASE_URL", "DATABASE_URL"] {
            match std::env::var(name) {
                Ok(url) if !url.is_empty() => return Self::from_url(&url).map(Some),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(DatabaseError::Url(format!("{name} is not valid Unicode")));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Takes a connection from the pool, opening one if none is idle and fewer than ten are open.
    ///
    /// # Errors
    /// When the database cannot be reached or no connection comes free, each within 5 seconds.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn connection(&self) -> Result<Connection, DatabaseError> {
        match &self.inner.kind {
            Kind::Postgres { pool, .. } => pool
                .get()
                .await
                .map(Connection::Postgres)
                .map_err(|error| self.pool_error(error)),
            Kind::Sqlite { pool, .. } => pool
                .get()
                .await
                .map(Connection::Sqlite)
                .map_err(|error| self.pool_error(error)),
        }
    }

    /// Opens a connection to PostgreSQL beside the pool, on the current tokio runtime, with nothing set
    /// on it; none for SQLite. For what diesel does not give: the SQLSTATE of a refusal, and statements
    /// that no pooler in between has to remember (`simple_query`).
    ///
    /// # Errors
    /// When the database cannot be reached within 5 seconds.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn postgres_client(&self) -> Result<Option<tokio_postgres::Client>, DatabaseError> {
        let Kind::Postgres { route, .. } = &self.inner.kind else {
            return Ok(None);
        };
        let database = self.to_string();
        let name = route
            .config
            .get_application_name()
            .unwrap_or(url::APPLICATION_NAME);
        let connecting = connect::connect_as(route, name);
        match tokio::time::timeout(connect::POOL_TIMEOUT, connecting).await {
            Ok(Ok(client)) => Ok(Some(client)),
            Ok(Err(error)) => {
                let source = diesel::ConnectionError::CouldntSetupConfiguration(connect::driver(&error));
                Err(DatabaseError::Connect { database, source })
            }
            Err(_) => Err(DatabaseError::Busy { database }),
        }
    }

    /// Returns the path of an SQLite file; none for any other database.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &self.inner.kind {
            Kind::Sqlite {
                location: SqliteLocation::File(path),
                ..
            } => Some(path),
            _ => None,
        }
    }

    /// Names the database for the files of a spool: every host with its address and port, and the name, or the
    /// absolute path. Two values that reach different databases have different ones; user, password and other
    /// options do not count.
    pub(crate) fn spool_target(&self) -> String {
        match &self.inner.kind {
            Kind::Postgres { route, .. } => url::target(&route.config),
            Kind::Sqlite {
                location: SqliteLocation::File(path),
                ..
            } => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                format!("sqlite://{}", path.display())
            }
            Kind::Sqlite {
                location: SqliteLocation::Memory(_),
                ..
            } => "sqlite::memory:".to_owned(),
        }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.inner.kind
    }

    fn pool_error(&self, error: diesel_async::pooled_connection::deadpool::PoolError) -> DatabaseError {
        use diesel_async::pooled_connection::PoolError as Cause;
        use diesel_async::pooled_connection::deadpool::PoolError;
        let database = self.to_string();
        match error {
            PoolError::Backend(Cause::ConnectionError(source)) => DatabaseError::Connect { database, source },
            PoolError::Timeout(_) => DatabaseError::Busy { database },
            other => DatabaseError::Pool {
                database,
                source: other.into(),
            },
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.shown)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.inner.shown).finish()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres(_) => "Connection::Postgres",
            Self::Sqlite(_) => "Connection::Sqlite",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_names_another_spool_target_in_another_directory() {
        let target = |url| Database::from_url(url).unwrap().spool_target();
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            target("sqlite://audit.db"),
            format!("sqlite://{}/audit.db", here.display())
        );
        assert_eq!(target("sqlite://./audit.db"), target("sqlite://audit.db"));
        assert_eq!(target("sqlite:///var/lib/audit.db"), "sqlite:///var/lib/audit.db");
    }
}

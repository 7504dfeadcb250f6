//! Databases: a [`Database`] from a URL or from the environment, its connections and migrations.

mod connect;
mod connect_error;
mod error;
mod hosts;
mod migrations;
mod sqlite;
#[cfg(test)]
mod test_servers;
mod tls;
mod url;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use diesel::SqliteConnection;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;

pub(crate) use connect::{connect_as, connect_writer, sync_commits};
pub(crate) use connect_error::ConnectError;
pub use error::DatabaseError;
pub(crate) use error::describe;
pub(crate) use hosts::Route;
pub use migrations::MigrationState;
pub(crate) use sqlite::{SqliteLocation, open_sqlite};

/// The most connections one [`Database`] holds open.
const POOL_SIZE: usize = 10;

/// An asynchronous SQLite connection.
///
/// # Cancel safety
/// A future that is dropped while its statement runs waits for the end of the statement. diesel-async does that with
/// `tokio::task::block_in_place`, which panics on a runtime of the current thread
/// ([diesel_async#281](https://github.com/diesel-rs/diesel_async/issues/281)). There, spawn what may be cancelled as a task
/// and drop its handle instead, or use a runtime of several threads. The writers are not concerned: they have a runtime
/// of their own.
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

/// A connection from a [`Database`]'s pool, which it returns to when dropped.
#[allow(clippy::large_enum_variant)] // one per use, never in bulk
pub enum Connection {
    /// To PostgreSQL.
    Postgres(Object<AsyncPgConnection>),
    /// To SQLite.
    Sqlite(Object<AsyncSqliteConnection>),
}

impl Database {
    /// Creates a `Database` from a URL: `postgres://user:password@host:port/name`,
    /// `sqlite://path/to/file.db`, or `sqlite::memory:` for one that lives as long as this value.
    ///
    /// # Encryption
    /// Connections by a Unix socket are not encrypted. If the URL says nothing about TLS and names only
    /// `localhost` (also the default) or loopback addresses, connections are not encrypted either, and an
    /// address of `localhost` that is not a loopback address is refused. Otherwise `verify-full` is used
    /// unless `sslmode` is given:
    ///
    /// | `sslmode` | encrypted | the server's certificate |
    /// | --- | --- | --- |
    /// | `disable` | no | |
    /// | `allow`, `prefer` | if the server offers it | as `require` |
    /// | `require` | yes | as `verify-ca` with `sslrootcert`, otherwise not verified |
    /// | `verify-ca` | yes | is signed by an authority in `sslrootcert`, which is required |
    /// | `verify-full` | yes | is for the host's name, signed by an authority in `sslrootcert`, or without it by one that the system trusts |
    ///
    /// `sslrootcert`, `sslcert` and `sslkey` name PEM files, which are read for each connection; a key that
    /// others may read is refused. `sslrootcert=system` asks for the system's authorities, which
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` replace. All other TLS options of libpq are errors.
    ///
    /// # Several hosts
    /// `host1:port1,host2:port2` names several hosts, and a host's name can have several addresses. They are
    /// tried in this order, or with `load_balance_hosts=random` in a random one, until one of them accepts
    /// the connection. `target_session_attrs=read-write` skips standby servers. The search ends
    /// at a server that refuses the login or does not have the database: a password that one server refuses
    /// is not shown to the next.
    ///
    /// # Time limits
    /// `connect_timeout` is the limit for each address, in seconds; 5 unless it is given and above zero. It
    /// covers TCP, TLS, authentication and `target_session_attrs` together. The look-up of a host's name takes
    /// at most 30 seconds, or this limit if it is longer. An audit writer whose URL names one host and no limit
    /// gives that host its whole `attempt_timeout` after TCP.
    ///
    /// `tcp_user_timeout` (in seconds; libpq has milliseconds) closes a connection whose data the peer does
    /// not acknowledge; 30 unless it is given. `keepalives_idle`, `keepalives_interval` (seconds) and
    /// `keepalives_retries` are 30, 10 and 3 unless they are given.
    ///
    /// # Errors
    /// When the URL cannot be parsed, or its options contradict each other. Nothing is connected to, no file
    /// is read.
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
                let anchor = open_sqlite(&location).map_err(|source| DatabaseError::Connect {
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

    /// Creates a `Database` from the URL in `AUDIT_DATABASE_URL`, or else in `DATABASE_URL`; `None` if
    /// neither is set. An empty value counts as not set.
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url), and when the value is not valid Unicode.
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

    /// Returns this database for reading only.
    ///
    /// An SQLite file is opened without changing it: it is not created, its journal mode stays, statements
    /// that write fail. Beside a database with a write-ahead log SQLite may still create an empty `-wal` and
    /// a `-shm`. A file on read-only media, in a directory that this user may not write to, or of another
    /// user can be read too. There SQLite can use no locks of a file that no process has open, and it is
    /// opened as `immutable`: do not write to it from elsewhere meanwhile, or queries may fail or return
    /// wrong rows. If its `-wal` or `-journal` holds changes that cannot be read there, connecting fails.
    ///
    /// For PostgreSQL and `sqlite::memory:` this is the database as it is: a session's
    /// `default_transaction_read_only` would reach other clients behind a pooler. Use a login that may only
    /// read.
    ///
    /// # Errors
    /// When the pool cannot be created. Nothing is opened.
    pub fn read_only(self) -> Result<Self, DatabaseError> {
        let Kind::Sqlite {
            location: SqliteLocation::File(path),
            ..
        } = self.kind()
        else {
            return Ok(self);
        };
        let location = SqliteLocation::ReadOnly(path.clone());
        let pool = connect::sqlite_pool(location.clone(), None, POOL_SIZE)?;
        let shown = self.inner.shown.clone();
        let kind = Kind::Sqlite { location, pool };
        Ok(Self {
            inner: Arc::new(Inner { shown, kind }),
        })
    }

    /// Takes a connection from the pool, and opens one if none is idle and fewer than ten are open.
    ///
    /// Waits at most 5 seconds for a connection that others use. Opening one to PostgreSQL takes at most
    /// [`connect_timeout`](Self::from_url) for each address, and once more for the settings of the session;
    /// opening an SQLite file takes at most 5 seconds.
    ///
    /// Begin transactions with diesel-async's `transaction`: the pool closes a connection whose transaction was left
    /// open. A transaction that was begun as SQL text goes unnoticed. End it before the connection is dropped, or
    /// the next user's statements become part of it. Settings, locks and temporary tables of a session remain as well.
    ///
    /// # Errors
    /// When the database cannot be reached, with the error of each address, or all connections stay in use.
    ///
    /// # Cancel safety
    /// Dropping the future has no other effect.
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

    /// Opens a connection to PostgreSQL outside the pool, on the current tokio runtime, without changing
    /// settings of its session; `None` for SQLite. It gives access to what diesel does not have: the
    /// SQLSTATE of an error, and statements that a pooler does not have to remember (`simple_query`).
    ///
    /// # Errors
    /// When the database cannot be reached, with the error of each address, each within
    /// [`connect_timeout`](Self::from_url).
    ///
    /// # Cancel safety
    /// Dropping the future has no other effect.
    pub async fn postgres_client(&self) -> Result<Option<tokio_postgres::Client>, DatabaseError> {
        let Kind::Postgres { route, .. } = &self.inner.kind else {
            return Ok(None);
        };
        match connect::connect_driven(route).await {
            Ok(client) => Ok(Some(client)),
            Err(error) => Err(DatabaseError::Connect {
                database: self.to_string(),
                source: connect::diesel_error(error),
            }),
        }
    }

    /// Returns the path of an SQLite file; `None` for any other database.
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &self.inner.kind {
            Kind::Sqlite {
                location: SqliteLocation::File(path) | SqliteLocation::ReadOnly(path),
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
                location: SqliteLocation::File(path) | SqliteLocation::ReadOnly(path),
                ..
            } => spool_name(path),
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

/// Names an SQLite file for the files of a spool. `sqlite://` begins the name of a path in UTF-8 alone.
fn spool_name(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match path.to_str() {
        Some(path) => format!("sqlite://{path}"),
        None => format!("sqlite:{}", crate::files::uri(&path)),
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

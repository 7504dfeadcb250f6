//! Opens connections, and sets what a session needs.

use std::sync::Mutex;
use std::time::Duration;

use deadpool::Runtime;
use diesel::connection::SimpleConnection;
use diesel::{Connection, ConnectionError, ConnectionResult, SqliteConnection};
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection, RecyclingMethod,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use futures_util::FutureExt;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{NoTls, Socket};

use super::{AsyncSqliteConnection, DatabaseError, SqliteLocation, Tls, tls};

/// The longest that waiting for, opening or checking a pooled connection may take.
pub(super) const POOL_TIMEOUT: Duration = Duration::from_secs(5);

/// What SQLite does before it gives up on a lock, and how it survives a power cut: the write-ahead
/// log lets readers and the writer work side by side, and FULL syncs it at each commit.
/// `recursive_triggers` makes REPLACE ask the DELETE trigger too.
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA recursive_triggers = ON;";

/// Leaves stronger settings as they are.
const SYNCED_COMMIT: &str = "SELECT set_config('synchronous_commit', 'local', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

/// How a PostgreSQL server is reached.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(super) config: tokio_postgres::Config,
    /// None: unencrypted.
    pub(super) tls: Option<Tls>,
}

/// Opens a connection to PostgreSQL.
pub(crate) async fn connect_postgres(route: &Route) -> ConnectionResult<AsyncPgConnection> {
    match &route.tls {
        Some(tls) => connect_pooled(&route.config, tls.clone()).await,
        None => connect_pooled(&route.config, NoTls).await,
    }
}

async fn connect_pooled<T>(config: &tokio_postgres::Config, tls: T) -> ConnectionResult<AsyncPgConnection>
where
    T: MakeTlsConnect<Socket, Stream: Send + 'static>,
{
    let (client, connection) = config
        .connect(tls)
        .await
        .map_err(|error| ConnectionError::CouldntSetupConfiguration(driver(&error)))?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// A driver error as diesel's, with its cause and a hint in the text.
pub(super) fn driver(error: &tokio_postgres::Error) -> diesel::result::Error {
    let text = tls::shown(error);
    diesel::result::Error::DatabaseError(
        diesel::result::DatabaseErrorKind::UnableToSendCommand,
        Box::new(text),
    )
}

/// Opens an SQLite database; a file that is not there is created.
pub(crate) fn open_sqlite(location: &SqliteLocation) -> ConnectionResult<SqliteConnection> {
    let name = match location {
        SqliteLocation::Memory(uri) => uri.clone(),
        // "./" keeps SQLite from reading a name like "file:x" as a URI.
        SqliteLocation::File(path) if path.is_relative() => format!("./{}", path.display()),
        SqliteLocation::File(path) => path.display().to_string(),
    };
    let mut connection = SqliteConnection::establish(&name).map_err(|error| match error {
        ConnectionError::BadConnection(detail) => ConnectionError::BadConnection(format!(
            "{detail} (does its directory exist, and may it be written to?)"
        )),
        other => other,
    })?;
    connection
        .batch_execute(SQLITE_SETTINGS)
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Creates a pool of connections to PostgreSQL.
pub(super) fn postgres_pool(
    route: Route,
    shown: &str,
    size: usize,
) -> Result<Pool<AsyncPgConnection>, DatabaseError> {
    pool(shown, size, move || {
        let route = route.clone();
        async move { connect_postgres(&route).await }.boxed()
    })
}

/// Opens a connection of an audit writer: it shows under its own name, and a commit on it means at
/// least a synced local disk, whatever the server's or the user's setting. The driver's task runs on
/// the current runtime until the client is dropped.
pub(crate) async fn connect_writer(route: &Route) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let given = route
        .config
        .get_application_name()
        .filter(|name| *name != super::url::APPLICATION_NAME);
    let client = connect_as(route, given.unwrap_or("audit-writer")).await?;
    client.batch_execute(SYNCED_COMMIT).await?;
    Ok(client)
}

/// Opens a connection that shows under this name. The driver's task runs on the current runtime until
/// the client is dropped.
pub(crate) async fn connect_as(
    route: &Route,
    name: &str,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = route.config.clone();
    config.application_name(name);
    match &route.tls {
        Some(tls) => connect_driven(&config, tls.clone()).await,
        None => connect_driven(&config, NoTls).await,
    }
}

async fn connect_driven<T>(
    config: &tokio_postgres::Config,
    tls: T,
) -> Result<tokio_postgres::Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket, Stream: Send + 'static>,
{
    let (client, connection) = config.connect(tls).await?;
    // Its error is what the client's calls give as well.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Creates the pool of an SQLite database. `anchor` is kept for as long as the pool lives.
pub(super) fn sqlite_pool(
    location: SqliteLocation,
    anchor: Option<Mutex<SqliteConnection>>,
    size: usize,
) -> Result<Pool<AsyncSqliteConnection>, DatabaseError> {
    pool("sqlite", size, move || {
        let _ = &anchor;
        let location = location.clone();
        async move {
            let opened = tokio::task::spawn_blocking(move || open_sqlite(&location)).await;
            opened
                .unwrap_or_else(|error| Err(ConnectionError::BadConnection(error.to_string())))
                .map(SyncConnectionWrapper::new)
        }
        .boxed()
    })
}

fn pool<C>(
    shown: &str,
    size: usize,
    open: impl Fn() -> futures_util::future::BoxFuture<'static, ConnectionResult<C>> + Send + Sync + 'static,
) -> Result<Pool<C>, DatabaseError>
where
    C: PoolableConnection + 'static,
    AsyncDieselConnectionManager<C>:
        deadpool::managed::Manager<Type = C, Error = diesel_async::pooled_connection::PoolError>,
{
    let mut config = ManagerConfig::default();
    config.custom_setup = Box::new(move |_| open());
    // Fast: a test query on every checkout makes a single insert a third slower (599 against 452 µs,
    // docs/decisions/0003-client.md). A connection known to be closed is replaced all the same.
    config.recycling_method = RecyclingMethod::Fast;
    Pool::builder(AsyncDieselConnectionManager::new_with_config(shown, config))
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(POOL_TIMEOUT))
        .create_timeout(Some(POOL_TIMEOUT))
        .recycle_timeout(Some(POOL_TIMEOUT))
        .build()
        .map_err(|error| DatabaseError::Pool {
            database: shown.to_owned(),
            source: error.into(),
        })
}

//! Opens connections, and sets what a session needs.

use std::sync::Mutex;
use std::time::Duration;

use deadpool::Runtime;
use diesel::{ConnectionError, ConnectionResult, SqliteConnection};
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection, RecyclingMethod,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Error, Socket};

use super::hosts::{self, AnyConnected, Route};
use super::sqlite::{SqliteLocation, open_sqlite};
use super::{AsyncSqliteConnection, ConnectError, DatabaseError, describe};

/// The longest wait for a connection that others use, and for a check of one that is idle.
const POOL_TIMEOUT: Duration = Duration::from_secs(5);

/// Leaves stronger settings as they are.
const SYNCED_COMMIT: &str = "SELECT set_config('synchronous_commit', 'local', false) \
     WHERE current_setting('synchronous_commit') = 'off'";

/// Opens a connection to PostgreSQL for diesel. The settings of its session have [`Route::limit`] as well.
async fn connect_postgres(route: &Route) -> ConnectionResult<AsyncPgConnection> {
    let connected = hosts::connect(route).await.map_err(diesel_error)?;
    let set_up = async {
        match connected {
            AnyConnected::Unencrypted((client, connection)) => set_up(client, connection).await,
            AnyConnected::Encrypted((client, connection)) => set_up(client, connection).await,
        }
    };
    timeout(route.limit(), set_up).await.unwrap_or_else(|_| {
        let text = format!(
            "the server accepted the connection and did not answer within {:?}",
            route.limit()
        );
        Err(ConnectionError::BadConnection(text))
    })
}

/// Hands a connection to diesel, which prepares statements for the settings of its session. They are in a transaction,
/// so that a pooler in transaction mode does not run them in another session than the one that has prepared them.
async fn set_up<T>(
    client: Client,
    mut connection: tokio_postgres::Connection<Socket, T>,
) -> ConnectionResult<AsyncPgConnection>
where
    T: TlsStream + Unpin + Send + 'static,
{
    let failed = |error: Error| ConnectionError::BadConnection(describe(&error));
    tokio::select! {
        begun = client.batch_execute("BEGIN") => begun.map_err(failed)?,
        ended = &mut connection => {
            ended.map_err(failed)?;
            return Err(ConnectionError::BadConnection("the server closed the connection".to_owned()));
        }
    }
    let mut diesel = AsyncPgConnection::try_from_client_and_connection(client, connection)
        .await
        .map_err(with_remedy)?;
    diesel
        .batch_execute("COMMIT")
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(diesel)
}

/// The error, and what helps where another program has left a statement in a pooler's session.
fn with_remedy(error: ConnectionError) -> ConnectionError {
    let text = describe(&error);
    if !text.starts_with("prepared statement ") {
        return error;
    }
    ConnectionError::BadConnection(format!(
        "{text} (a pooler between this program and the server loses prepared statements: PgBouncer in transaction \
         mode needs 1.21 or newer with max_prepared_statements > 0; or use session mode, or connect directly)"
    ))
}

pub(super) fn diesel_error(error: ConnectError) -> ConnectionError {
    ConnectionError::BadConnection(error.to_string())
}

/// Creates a pool of connections to PostgreSQL. It has no limit for opening a connection: [`Route::limit`]
/// bounds each step, and any limit for all of them could end before the last host is tried.
pub(super) fn postgres_pool(
    route: Route,
    shown: &str,
    size: usize,
) -> Result<Pool<AsyncPgConnection>, DatabaseError> {
    pool(shown, size, None, move || {
        let route = route.clone();
        async move { connect_postgres(&route).await }.boxed()
    })
}

/// Opens a connection of an audit writer, which has an `application_name` of its own. Each address gets at
/// most `limit`. The driver's task runs on the current runtime until the client is dropped.
pub(crate) async fn connect_writer(route: &Route, limit: Duration) -> Result<Client, ConnectError> {
    let given = route
        .config
        .get_application_name()
        .filter(|name| *name != super::url::APPLICATION_NAME);
    let route = route.named(given.unwrap_or("audit-writer")).limited(limit);
    connect_driven(&route).await
}

/// Makes a commit mean at least a synced local disk, whatever the server's or the user's setting.
pub(crate) async fn sync_commits(client: &Client) -> Result<(), Error> {
    client.batch_execute(SYNCED_COMMIT).await
}

/// Opens a connection with an `application_name`. The driver's task runs on the current runtime until the
/// client is dropped.
pub(crate) async fn connect_as(route: &Route, name: &str) -> Result<Client, ConnectError> {
    connect_driven(&route.named(name)).await
}

/// Opens a connection with the URL's `application_name`. The driver's task runs on the current runtime until
/// the client is dropped.
pub(super) async fn connect_driven(route: &Route) -> Result<Client, ConnectError> {
    // The client's calls return the errors of the connection too.
    Ok(match hosts::connect(route).await? {
        AnyConnected::Unencrypted((client, connection)) => {
            tokio::spawn(async move { drop(connection.await) });
            client
        }
        AnyConnected::Encrypted((client, connection)) => {
            tokio::spawn(async move { drop(connection.await) });
            client
        }
    })
}

/// Creates the pool of an SQLite database. `anchor` is kept for as long as the pool lives.
pub(super) fn sqlite_pool(
    location: SqliteLocation,
    anchor: Option<Mutex<SqliteConnection>>,
    size: usize,
) -> Result<Pool<AsyncSqliteConnection>, DatabaseError> {
    pool("sqlite", size, Some(POOL_TIMEOUT), move || {
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
    create_timeout: Option<Duration>,
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
        .create_timeout(create_timeout)
        .recycle_timeout(Some(POOL_TIMEOUT))
        .build()
        .map_err(|error| DatabaseError::Pool {
            database: shown.to_owned(),
            source: error.into(),
        })
}

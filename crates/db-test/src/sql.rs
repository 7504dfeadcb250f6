//! Connections and statements of the test support itself.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::SetupError;

/// Runs one statement on a new connection.
pub(crate) fn execute(url: &str, sql: String) -> Result<(), SetupError> {
    let url = url.to_owned();
    blocking(async move { run(&connect(&url).await?, &sql).await })
}

/// Runs a future to its end on a separate thread, from inside or outside a runtime.
pub(crate) fn blocking<T: Send + 'static>(
    future: impl Future<Output = Result<T, SetupError>> + Send + 'static,
) -> Result<T, SetupError> {
    let failed = |detail: String| SetupError::Start {
        step: "a thread of the test support",
        detail,
    };
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?
            .block_on(future)
    });
    thread
        .join()
        .unwrap_or_else(|_| Err(failed("it panicked".to_owned())))
}

pub(crate) async fn run(client: &Client, sql: &str) -> Result<(), SetupError> {
    let first_line = sql
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(80)
        .collect::<String>();
    client
        .batch_execute(sql)
        .await
        .map_err(SetupError::server(format!("run `{first_line}`")))
}

/// Connects. Waits while the server is starting.
pub(crate) async fn connect(url: &str) -> Result<Client, SetupError> {
    let begun = Instant::now();
    loop {
        match tokio_postgres::connect(url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return Ok(client);
            }
            Err(error)
                if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW)
                    && begun.elapsed() < Duration::from_secs(60) =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(SetupError::server("accept a connection")(error)),
        }
    }
}

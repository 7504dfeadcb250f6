//! Helpers that the tests of db-test share.

use db_test::Server;
use tokio_postgres::{Client, Error, NoTls};

pub fn server() -> Server {
    Server::start(&[]).unwrap_or_else(|error| panic!("{error}"))
}

/// Connects to a database. The connection ends with the runtime.
pub async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Returns the single text that a query selects.
pub async fn text(client: &Client, sql: &str) -> String {
    client
        .query_one(sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .get(0)
}

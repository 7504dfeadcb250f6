//! How does each test get a database of its own?

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::SetupError;
use crate::cluster::Cluster;

/// A PostgreSQL database for one test, dropped with this value.
#[derive(Debug)]
pub struct Postgres {
    name: String,
    url: String,
}

impl Postgres {
    /// Creates a database with the project's table in it.
    ///
    /// # Errors
    /// When there is no server to be had, with the way out.
    pub fn migrated() -> Result<Self, SetupError> {
        Self::create(Some(template()?))
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// When there is no server to be had, with the way out.
    pub fn empty() -> Result<Self, SetupError> {
        Self::create(None)
    }

    fn create(template: Option<&str>) -> Result<Self, SetupError> {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let from = template.map(|template| format!(" TEMPLATE {template}")).unwrap_or_default();
        execute(&server()?.url("postgres"), format!("CREATE DATABASE {name}{from}"))?;
        Ok(Self { url: server()?.url(&name), name })
    }

    /// The connection URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A server that is gone has taken the database with it.
        let _ = server().and_then(|server| {
            execute(&server.url("postgres"), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name))
        });
    }
}

/// The URL of the server's maintenance database.
///
/// # Errors
/// When there is no server to be had, with the way out.
pub fn server_url() -> Result<String, SetupError> {
    Ok(server()?.url("postgres"))
}

enum Server {
    Private(Cluster),
    /// The URL without its database, and what followed it.
    Named {
        before: String,
        after: String,
    },
}

impl Server {
    fn url(&self, database: &str) -> String {
        match self {
            Self::Private(cluster) => cluster.url(database),
            Self::Named { before, after } => format!("{before}/{database}{after}"),
        }
    }
}

/// The server of this process, started by the first who asks.
fn server() -> Result<&'static Server, SetupError> {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = SERVER.get() {
        return Ok(server);
    }
    let server = match std::env::var("TEST_DATABASE_URL") {
        Ok(url) if !url.is_empty() => named(&url),
        _ => Server::Private(Cluster::start()?),
    };
    Ok(SERVER.get_or_init(|| server))
}

fn named(url: &str) -> Server {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let before = base[authority..].find('/').map_or(base, |slash| &base[..authority + slash]);
    Server::Named {
        before: before.to_owned(),
        after: query.map(|query| format!("?{query}")).unwrap_or_default(),
    }
}

/// The name of the template database, made by the first who asks. It carries a digest of the
/// migrations, so that a named server never serves an old one.
fn template() -> Result<&'static str, SetupError> {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = TEMPLATE.get() {
        return Ok(name);
    }
    let migrations = read_migrations()?;
    let all: Vec<u8> =
        migrations.iter().flat_map(|(version, sql)| [version.as_bytes(), sql.as_bytes()].concat()).collect();
    let name = format!("audit_template_{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, &all).simple());
    let made = name.clone();
    blocking(async move {
        let admin = connect(&server()?.url("postgres")).await?;
        // Other test processes may share the server: one makes the template, under this lock, which
        // ends with the session.
        run(&admin, "SELECT pg_advisory_lock(7312026)").await?;
        let known = admin
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&made])
            .await
            .map_err(SetupError::server("look for the template database"))?;
        if known.is_some() {
            return Ok(());
        }
        let draft = format!("draft_{}", Uuid::now_v7().simple());
        run(&admin, &format!("CREATE DATABASE {draft}")).await?;
        let client = connect(&server()?.url(&draft)).await?;
        run(&client, "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)").await?;
        for (version, sql) in &migrations {
            run(&client, &format!("BEGIN; {sql}; INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}'); COMMIT")).await?;
        }
        drop(client);
        run(&admin, &format!("ALTER DATABASE {draft} RENAME TO {made}")).await
    })?;
    Ok(TEMPLATE.get_or_init(|| name))
}

/// The PostgreSQL migrations in their order: diesel's version and the SQL.
fn read_migrations() -> Result<Vec<(String, String)>, SetupError> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/postgres");
    let failed = |error| SetupError::Migrations(root.clone(), error);
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(&root)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    dirs.sort();
    dirs.iter()
        .map(|dir| {
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            let version = name.split('_').next().unwrap_or_default().replace('-', "");
            Ok((version, std::fs::read_to_string(dir.join("up.sql")).map_err(failed)?))
        })
        .collect()
}

fn execute(url: &str, sql: String) -> Result<(), SetupError> {
    let url = url.to_owned();
    blocking(async move { run(&connect(&url).await?, &sql).await })
}

/// Runs a future to its end on a thread of its own, from inside or outside any runtime.
fn blocking<T: Send + 'static>(
    future: impl Future<Output = Result<T, SetupError>> + Send + 'static,
) -> Result<T, SetupError> {
    let failed = |detail: String| SetupError::Start { step: "a thread of the test support", detail };
    let thread = std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?
            .block_on(future)
    });
    thread.join().unwrap_or_else(|_| Err(failed("it panicked".to_owned())))
}

async fn run(client: &Client, sql: &str) -> Result<(), SetupError> {
    let first_line = sql.lines().next().unwrap_or_default().chars().take(80).collect::<String>();
    client.batch_execute(sql).await.map_err(SetupError::server(format!("run `{first_line}`")))
}

/// Connects, waiting while the server is still starting.
async fn connect(url: &str) -> Result<Client, SetupError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_server_keeps_its_options() {
        let url = |given| named(given).url("mine");
        assert_eq!(
            url("postgres://u:p@h:5433/db?sslmode=disable"),
            "postgres://u:p@h:5433/mine?sslmode=disable"
        );
        assert_eq!(url("postgres://u@h"), "postgres://u@h/mine");
    }
}

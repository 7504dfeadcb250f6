//! A database for each test, on the server that all tests of a process share.

use std::sync::{Mutex, OnceLock, PoisonError};

use uuid::Uuid;

use crate::SetupError;
use crate::cluster::{Cluster, ClusterConfig};
use crate::migrations::Migrations;
use crate::sql::{blocking, connect, execute, run};

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
    /// When no server is available; the message says how to get one.
    pub fn migrated() -> Result<Self, SetupError> {
        Self::create(Some(template()?))
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// When no server is available; the message says how to get one.
    pub fn empty() -> Result<Self, SetupError> {
        Self::create(None)
    }

    fn create(template: Option<&str>) -> Result<Self, SetupError> {
        let name = format!("test_{}", Uuid::now_v7().simple());
        let from = template
            .map(|template| format!(" TEMPLATE {template}"))
            .unwrap_or_default();
        execute(
            &server()?.url("postgres"),
            format!("CREATE DATABASE {name}{from}"),
        )?;
        Ok(Self {
            url: server()?.url(&name),
            name,
        })
    }

    /// The connection URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // If the server has ended, the database is gone too.
        let _ = server().and_then(|server| {
            execute(
                &server.url("postgres"),
                format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            )
        });
    }
}

/// The URL of the server's maintenance database.
///
/// # Errors
/// When no server is available; the message says how to get one.
pub fn server_url() -> Result<String, SetupError> {
    Ok(server()?.url("postgres"))
}

enum SharedServer {
    Private(Cluster),
    /// The parts of the URL before and after the name of the database.
    Named {
        before: String,
        after: String,
    },
}

impl SharedServer {
    fn url(&self, database: &str) -> String {
        match self {
            Self::Private(cluster) => cluster.url("postgres", database),
            Self::Named { before, after } => format!("{before}/{database}{after}"),
        }
    }
}

/// The server of this process, started on first use.
fn server() -> Result<&'static SharedServer, SetupError> {
    static SERVER: OnceLock<SharedServer> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _lock = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = SERVER.get() {
        return Ok(server);
    }
    let server = match std::env::var("TEST_DATABASE_URL") {
        Ok(url) if !url.is_empty() => named(&url),
        _ => SharedServer::Private(Cluster::start(&ClusterConfig::default())?),
    };
    Ok(SERVER.get_or_init(|| server))
}

fn named(url: &str) -> SharedServer {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let before = base[authority..]
        .find('/')
        .map_or(base, |slash| &base[..authority + slash]);
    SharedServer::Named {
        before: before.to_owned(),
        after: query.map(|query| format!("?{query}")).unwrap_or_default(),
    }
}

/// The name of the template database, created on first use. It contains a digest of the migrations, so
/// that a named server never provides an outdated template.
fn template() -> Result<&'static str, SetupError> {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    static CREATING: Mutex<()> = Mutex::new(());
    let _lock = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = TEMPLATE.get() {
        return Ok(name);
    }
    let migrations = Migrations::read()?;
    let name = format!("audit_template_{}", migrations.digest().simple());
    let template = name.clone();
    blocking(async move {
        let admin = connect(&server()?.url("postgres")).await?;
        // Other test processes may share the server. One creates the template under this lock, which the
        // end of the session releases.
        run(&admin, "SELECT pg_advisory_lock(7312026)").await?;
        let existing = admin
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&template])
            .await
            .map_err(SetupError::server("look for the template database"))?;
        if existing.is_some() {
            return Ok(());
        }
        let draft = format!("draft_{}", Uuid::now_v7().simple());
        run(&admin, &format!("CREATE DATABASE {draft}")).await?;
        let client = connect(&server()?.url(&draft)).await?;
        migrations.apply(&client).await?;
        drop(client);
        run(&admin, &format!("ALTER DATABASE {draft} RENAME TO {template}")).await
    })?;
    Ok(TEMPLATE.get_or_init(|| name))
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

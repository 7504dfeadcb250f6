//! A private server for one test, which may stop, crash and fill it.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::SetupError;
use crate::cluster::{Cluster, ClusterConfig};
use crate::migrations::Migrations;
use crate::sql::{blocking, connect, execute};

/// A private PostgreSQL server of one test, which may stop, crash and fill it.
///
/// It takes a second or two to start, where [`Postgres`](crate::Postgres) takes a fraction of one, and is
/// private even if `TEST_DATABASE_URL` names a server. Its socket stays the same, so clients find it again
/// after a restart. It ends, and its data is removed, when this value is dropped or the process ends,
/// even if that is killed.
///
/// The superuser `postgres` needs no password; every other role must give one (SCRAM-SHA-256).
/// Nothing is flushed to the disk (`fsync=off`): data survives a restart of the server, but not a crash
/// of the machine.
///
/// All methods block until they are done, for at most about a minute.
pub struct Server {
    cluster: Cluster,
}

impl Server {
    /// Starts a server with settings of `postgresql.conf`, which override the defaults:
    /// `[("fsync", "on"), ("full_page_writes", "on")]` for a server as in production.
    ///
    /// # Errors
    /// When no server can be started; the message says what helps, or contains the server's log.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, SetupError> {
        let config = ClusterConfig {
            data_in: None,
            settings,
            passwords: true,
            tcp: false,
        };
        Ok(Self {
            cluster: Cluster::start(&config)?,
        })
    }

    /// Starts a server whose data directory is `data` in an existing directory, for example on a small
    /// file system. Its socket and log are in another directory.
    ///
    /// PostgreSQL does not run as root. If the process does, `dir` is given to the user of the server. At
    /// the end `data` is removed, but `dir` is not.
    ///
    /// # Errors
    /// As [`start`](Self::start), and when `data` exists.
    pub fn start_in(dir: impl AsRef<Path>, settings: &[(&str, &str)]) -> Result<Self, SetupError> {
        let config = ClusterConfig {
            data_in: Some(dir.as_ref()),
            settings,
            passwords: true,
            tcp: false,
        };
        Ok(Self {
            cluster: Cluster::start(&config)?,
        })
    }

    /// Starts a server that also listens on a TCP port of 127.0.0.1: [`port`](Self::port).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on_tcp(settings: &[(&str, &str)]) -> Result<Self, SetupError> {
        let config = ClusterConfig {
            data_in: None,
            settings,
            passwords: true,
            tcp: true,
        };
        Ok(Self {
            cluster: Cluster::start(&config)?,
        })
    }

    /// The port in the name of its socket, and its TCP port if it has one. It stays the same after a
    /// restart.
    pub fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// Writes a file to its data directory, readable for its user only: `pg_hba.conf`, `server.crt`,
    /// `server.key`. The server reads it at the next start.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&self, file: &str, content: &str) -> Result<(), SetupError> {
        self.cluster.put(file, content)
    }

    /// The URL of one of its databases for the superuser `postgres`. A database `postgres` exists.
    pub fn url(&self, database: &str) -> String {
        self.cluster.url("postgres", database)
    }

    /// The URL of one of its databases for another role, which the test has created.
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        self.cluster
            .url(&format!("{}:{}", encoded(role), encoded(password)), database)
    }

    /// Creates a database with the project's migrations. Returns its URL for the superuser.
    ///
    /// # Errors
    /// When the server does not run or rejects a statement.
    pub fn migrated(&self) -> Result<String, SetupError> {
        let name = format!("test_{}", Uuid::now_v7().simple());
        execute(&self.url("postgres"), format!("CREATE DATABASE {name}"))?;
        let url = self.url(&name);
        let migrations = Migrations::read()?;
        let to = url.clone();
        blocking(async move { migrations.apply(&connect(&to).await?).await })?;
        Ok(url)
    }

    /// Stops the server immediately, like a crash: connections break, and the next start recovers from the
    /// write-ahead log. Does nothing if it is stopped.
    ///
    /// # Errors
    /// When the supervisor of the server has ended.
    pub fn stop_immediate(&self) -> Result<(), SetupError> {
        self.cluster.stop("QUIT")
    }

    /// Stops the server like an administrator: open transactions are rolled back, connections are closed,
    /// and the data is checkpointed. Does nothing if it is stopped.
    ///
    /// # Errors
    /// When the supervisor of the server has ended.
    pub fn stop_fast(&self) -> Result<(), SetupError> {
        self.cluster.stop("INT")
    }

    /// Starts the server after it was stopped or has ended by itself, for example on a full disk. Does
    /// nothing if it runs. Returns when it accepts connections. After a `kill -9` by another process, call
    /// [`restart_immediate`](Self::restart_immediate).
    ///
    /// # Errors
    /// When it does not start; the message contains its log.
    pub fn start_again(&self) -> Result<(), SetupError> {
        self.cluster.start_again()
    }

    /// Calls [`stop_immediate`](Self::stop_immediate), then [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// As these two.
    pub fn restart_immediate(&self) -> Result<(), SetupError> {
        self.stop_immediate()?;
        self.start_again()
    }
}

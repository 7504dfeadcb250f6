//! How does a test get a server that it may mistreat?

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::SetupError;
use crate::cluster::{Cluster, Plan};
use crate::migrations::Migrations;
use crate::sql::{blocking, connect, execute};

/// A private PostgreSQL of one test's own, to be stopped, crashed and filled up.
///
/// It costs a second or two where [`Postgres`](crate::Postgres) costs a fraction of one, and is
/// private also when `TEST_DATABASE_URL` names a server. Its socket stays the same, so clients find
/// it again after a restart. It ends, and its data is removed, when this value is dropped or the
/// process ends, however that ends.
///
/// The superuser `postgres` needs no password; every other role must give one (SCRAM-SHA-256).
/// Nothing is flushed to the disk (`fsync=off`), which a restart survives: only the machine's own
/// crash would not.
///
/// All methods block until they are done: seconds, at most about a minute.
pub struct Server {
    cluster: Cluster,
}

impl Server {
    /// Starts a server with settings of `postgresql.conf`, which may overrule those chosen here:
    /// `[("fsync", "on"), ("full_page_writes", "on")]` for a server as in production.
    ///
    /// # Errors
    /// When there is none to be had, with the way out; with the server's log, when it does not
    /// accept a setting.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, SetupError> {
        let plan = Plan {
            data_in: None,
            settings,
            passwords: true,
            tcp: false,
        };
        Ok(Self {
            cluster: Cluster::start(&plan)?,
        })
    }

    /// Starts a server whose data directory is made as `data` in an existing directory, for example
    /// on a file system that is soon full. Socket and log lie elsewhere.
    ///
    /// PostgreSQL does not run as root: then `dir` is given to the user that it runs as. In the end
    /// `data` is removed, `dir` is not.
    ///
    /// # Errors
    /// As [`start`](Self::start); also when `data` exists.
    pub fn start_in(dir: impl AsRef<Path>, settings: &[(&str, &str)]) -> Result<Self, SetupError> {
        let plan = Plan {
            data_in: Some(dir.as_ref()),
            settings,
            passwords: true,
            tcp: false,
        };
        Ok(Self {
            cluster: Cluster::start(&plan)?,
        })
    }

    /// Starts a server that listens on a TCP port of 127.0.0.1, too: [`port`](Self::port).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on_tcp(settings: &[(&str, &str)]) -> Result<Self, SetupError> {
        let plan = Plan {
            data_in: None,
            settings,
            passwords: true,
            tcp: true,
        };
        Ok(Self {
            cluster: Cluster::start(&plan)?,
        })
    }

    /// The port that is part of its socket's name, on which it also listens if it was started so.
    /// The same after a restart.
    pub fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// Puts a file into its data directory, for its user only: `pg_hba.conf`, `server.crt`,
    /// `server.key`. It reads them when it starts again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&self, file: &str, content: &str) -> Result<(), SetupError> {
        self.cluster.put(file, content)
    }

    /// The URL of one of its databases, as the superuser `postgres`. There is a database `postgres`.
    pub fn url(&self, database: &str) -> String {
        self.cluster.url("postgres", database)
    }

    /// The URL of one of its databases for another role, which the test has made.
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        self.cluster
            .url(&format!("{}:{}", encoded(role), encoded(password)), database)
    }

    /// Makes a new database with the project's migrations in it; gives its URL, as the superuser.
    ///
    /// # Errors
    /// When the server does not run, or refuses.
    pub fn migrated(&self) -> Result<String, SetupError> {
        let name = format!("test_{}", Uuid::now_v7().simple());
        execute(&self.url("postgres"), format!("CREATE DATABASE {name}"))?;
        let url = self.url(&name);
        let migrations = Migrations::read()?;
        let to = url.clone();
        blocking(async move { migrations.apply(&connect(&to).await?).await })?;
        Ok(url)
    }

    /// Ends the server at once, as a crash would: connections break without a word of farewell, and
    /// the next start recovers from the write-ahead log. Nothing happens to one that is stopped.
    ///
    /// # Errors
    /// When the shell that keeps the server is gone.
    pub fn stop_immediate(&self) -> Result<(), SetupError> {
        self.cluster.stop("QUIT")
    }

    /// Ends the server as an administrator would: open transactions are rolled back, connections
    /// closed, the data is made safe. Nothing happens to one that is stopped.
    ///
    /// # Errors
    /// When the shell that keeps the server is gone.
    pub fn stop_fast(&self) -> Result<(), SetupError> {
        self.cluster.stop("INT")
    }

    /// Starts the server after it was stopped or has ended by itself, as on a full disk; one that
    /// runs goes on. Returns when it accepts connections. After a `kill -9` from elsewhere, call
    /// [`restart_immediate`](Self::restart_immediate).
    ///
    /// # Errors
    /// When it does not come up, with its log.
    pub fn start_again(&self) -> Result<(), SetupError> {
        self.cluster.start_again()
    }

    /// [`stop_immediate`](Self::stop_immediate), then [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// As these.
    pub fn restart_immediate(&self) -> Result<(), SetupError> {
        self.stop_immediate()?;
        self.start_again()
    }
}

//! The server under measurement: configured as in production, with a new database for each sample.

use std::sync::atomic::{AtomicUsize, Ordering};

use db_services::client::Database;
use db_test::Server;
use tokio_postgres::{Client, NoTls};

use crate::Result;
use crate::args::Options;

/// A conventional audit table, into which the baselines write.
pub(crate) const CONVENTIONAL: &str = include_str!("../sql/conventional.sql");

/// The project's columns and indexes in one table, without partitions and triggers.
const BARE: &str = include_str!("../sql/bare.sql");

/// Settings of the private server that override those of `db-test`.
const SETTINGS: [(&str, &str); 3] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
];

/// A role that may only insert. Its password protects nothing: the server is private.
const WRITER: (&str, &str) = ("bench_writer", "bench");

/// A server, with a template database for each kind of table.
pub(crate) struct BenchServer {
    /// `None` if the user named another server.
    private: Option<Server>,
    /// The URL of its maintenance database.
    admin: String,
    /// The prefix of the names of its databases.
    prefix: String,
    created: AtomicUsize,
}

/// Which table a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// The project's own, as the migrations create it.
    Own,
    /// Only its columns and indexes.
    Bare,
    /// [`CONVENTIONAL`].
    Conventional,
}

impl Table {
    const ALL: [Self; 3] = [Self::Own, Self::Bare, Self::Conventional];

    fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Bare => "bare",
            Self::Conventional => "conventional",
        }
    }

    /// The query that counts the rows of callers.
    fn count(self) -> &'static str {
        match self {
            Self::Own | Self::Bare => "SELECT count(*) FROM audit_logs WHERE action NOT LIKE 'audit.%'",
            Self::Conventional => "SELECT count(*) FROM audit_events",
        }
    }
}

/// A database for one sample.
pub(crate) struct BenchDatabase<'a> {
    server: &'a BenchServer,
    table: Table,
    name: String,
    pub(crate) url: String,
}

impl BenchServer {
    /// Starts a server, or connects to the named one, and creates the templates.
    pub(crate) async fn open(options: &Options) -> Result<Self> {
        let private = match (&options.database_url, &options.data_in) {
            (Some(_), _) => None,
            (None, Some(dir)) => Some(Server::start_in(dir, &SETTINGS)?),
            (None, None) => Some(Server::start(&SETTINGS)?),
        };
        let admin = match (&private, &options.database_url) {
            (Some(private), _) => private.url("postgres"),
            (None, Some(url)) => url.clone(),
            (None, None) => return Err("no server".into()),
        };
        let prefix = format!("db_bench_{}", uuid::Uuid::now_v7().simple());
        let server = Self {
            private,
            admin,
            prefix,
            created: AtomicUsize::new(0),
        };
        for table in Table::ALL {
            server.create_template(table).await?;
        }
        Ok(server)
    }

    async fn create_template(&self, table: Table) -> Result<()> {
        let name = format!("{}_{}", self.prefix, table.word());
        let admin = connect(&self.admin).await?;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let url = self.url(&name);
        if table == Table::Conventional {
            connect(&url).await?.batch_execute(CONVENTIONAL).await?;
        } else {
            Database::from_url(&url)?.migrate().await?;
        }
        let client = connect(&url).await?;
        if table == Table::Bare {
            client.batch_execute(BARE).await?;
        }
        if self.private.is_some() && table == Table::Own {
            let (role, password) = WRITER;
            client
                .batch_execute(&format!(
                    "CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT audit_writer TO {role}"
                ))
                .await?;
        }
        Ok(())
    }

    /// Creates a database with an empty table. The checkpoint keeps the dirty pages of one contender from
    /// being written during the turn of another.
    pub(crate) async fn create_database(&self, table: Table) -> Result<BenchDatabase<'_>> {
        let nth = self.created.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{nth}", self.prefix);
        let admin = connect(&self.admin).await?;
        admin
            .batch_execute(&format!(
                "CREATE DATABASE {name} TEMPLATE {}_{}",
                self.prefix,
                table.word()
            ))
            .await?;
        admin.batch_execute("CHECKPOINT").await?;
        Ok(BenchDatabase {
            server: self,
            table,
            url: self.url(&name),
            name,
        })
    }

    /// The server, if it is private.
    pub(crate) fn private(&self) -> Option<&Server> {
        self.private.as_ref()
    }

    /// Drops the templates on a server that is not private.
    pub(crate) async fn close(self) -> Result<()> {
        if self.private.is_none() {
            let admin = connect(&self.admin).await?;
            for table in Table::ALL {
                let name = format!("{}_{}", self.prefix, table.word());
                admin
                    .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                    .await?;
            }
        }
        Ok(())
    }

    fn url(&self, database: &str) -> String {
        match &self.private {
            Some(private) => private.url(database),
            None => with_database(&self.admin, database),
        }
    }
}

impl BenchDatabase<'_> {
    /// The URL of the database for a role that may only insert; the owner's URL on a server that is not
    /// private, where the benchmark creates no roles.
    pub(crate) fn writer_url(&self) -> String {
        let (role, password) = WRITER;
        match self.server.private() {
            Some(private) => private.url_as(role, password, &self.name),
            None => self.url.clone(),
        }
    }

    /// Ends the sample, which is void unless every row is stored, and drops the database.
    pub(crate) async fn verify_and_drop(self, emitted: usize) -> Result<()> {
        let client = connect(&self.url).await?;
        let stored: i64 = client.query_one(self.table.count(), &[]).await?.try_get(0)?;
        drop(client);
        if stored != i64::try_from(emitted)? {
            return Err(format!("void: {emitted} rows were written and {stored} are stored").into());
        }
        let admin = connect(&self.server.admin).await?;
        admin
            .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await?;
        Ok(())
    }
}

/// Connects. The task of the driver ends with the client.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// The URL of another database on the same server.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let end = base[authority..]
        .find('/')
        .map_or(base.len(), |slash| authority + slash);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{database}{query}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_server_keeps_its_options() {
        let url = |url| with_database(url, "mine");
        assert_eq!(
            url("postgres://u:p@h:5433/db?sslmode=disable"),
            "postgres://u:p@h:5433/mine?sslmode=disable"
        );
        assert_eq!(url("postgres://u@h"), "postgres://u@h/mine");
    }
}

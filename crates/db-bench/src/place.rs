//! Where is it measured? Each sample in a fresh database, on a server set up as in production.

use std::sync::atomic::{AtomicUsize, Ordering};

use db_services::client::Database;
use db_test::Server;
use tokio_postgres::{Client, NoTls};

use crate::Fallible;
use crate::args::Options;

/// The table that teams begin with: what the peers write into.
pub(crate) const CONVENTIONAL: &str = include_str!("../sql/conventional.sql");

/// The project's columns and indexes in one table, without partitions and triggers.
const BARE: &str = include_str!("../sql/bare.sql");

/// What a private server is told beyond its defaults, against what `db-test` chooses for tests.
const SETTINGS: [(&str, &str); 3] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
];

/// A role that may do nothing but insert. Its password protects nothing: the server is private.
const WRITER: (&str, &str) = ("bench_writer", "bench");

/// A server, with a template database for each kind of table.
pub(crate) struct Place {
    /// The private one, unless another was named.
    server: Option<Server>,
    /// The URL of its maintenance database.
    admin: String,
    /// Its databases begin with this.
    prefix: String,
    made: AtomicUsize,
}

/// Which table a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// The project's own, as the migrations make it.
    Own,
    /// Its columns and indexes alone.
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

    /// How many of its rows are callers' entries.
    fn count(self) -> &'static str {
        match self {
            Self::Own | Self::Bare => "SELECT count(*) FROM audit_logs WHERE action NOT LIKE 'audit.%'",
            Self::Conventional => "SELECT count(*) FROM audit_events",
        }
    }
}

/// A database for one sample.
pub(crate) struct Fresh<'a> {
    place: &'a Place,
    table: Table,
    name: String,
    pub(crate) url: String,
}

impl Place {
    /// Starts a server, or connects to the named one, and makes the templates.
    pub(crate) async fn open(options: &Options) -> Fallible<Self> {
        let server = match (&options.database_url, &options.data_in) {
            (Some(_), _) => None,
            (None, Some(dir)) => Some(Server::start_in(dir, &SETTINGS)?),
            (None, None) => Some(Server::start(&SETTINGS)?),
        };
        let admin = match (&server, &options.database_url) {
            (Some(server), _) => server.url("postgres"),
            (None, Some(url)) => url.clone(),
            (None, None) => return Err("no server".into()),
        };
        let prefix = format!("db_bench_{}", uuid::Uuid::now_v7().simple());
        let place = Self {
            server,
            admin,
            prefix,
            made: AtomicUsize::new(0),
        };
        for table in Table::ALL {
            place.make_template(table).await?;
        }
        Ok(place)
    }

    async fn make_template(&self, table: Table) -> Fallible<()> {
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
        if self.server.is_some() && table == Table::Own {
            let (role, password) = WRITER;
            client
                .batch_execute(&format!(
                    "CREATE ROLE {role} LOGIN PASSWORD '{password}'; GRANT audit_writer TO {role}"
                ))
                .await?;
        }
        Ok(())
    }

    /// Makes a database with an empty table. The checkpoint before keeps one contender's dirty pages
    /// from being written in another's time.
    pub(crate) async fn fresh(&self, table: Table) -> Fallible<Fresh<'_>> {
        let nth = self.made.fetch_add(1, Ordering::Relaxed);
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
        Ok(Fresh {
            place: self,
            table,
            url: self.url(&name),
            name,
        })
    }

    /// The private server, if it is one.
    pub(crate) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// Drops what a server that is not private would otherwise keep.
    pub(crate) async fn close(self) -> Fallible<()> {
        if self.server.is_none() {
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
        match &self.server {
            Some(server) => server.url(database),
            None => with_database(&self.admin, database),
        }
    }
}

impl Fresh<'_> {
    /// The same database for a role that may only insert; the owner's URL on a server that is not
    /// private, where the benchmark makes no roles.
    pub(crate) fn writer_url(&self) -> String {
        let (role, password) = WRITER;
        match self.place.server() {
            Some(server) => server.url_as(role, password, &self.name),
            None => self.url.clone(),
        }
    }

    /// Ends the sample: void unless every row that was emitted is there. The database is dropped.
    pub(crate) async fn settle(self, emitted: usize) -> Fallible<()> {
        let client = connect(&self.url).await?;
        let stored: i64 = client.query_one(self.table.count(), &[]).await?.try_get(0)?;
        drop(client);
        if stored != i64::try_from(emitted)? {
            return Err(format!("void: {emitted} rows were emitted and {stored} are there").into());
        }
        let admin = connect(&self.place.admin).await?;
        admin
            .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await?;
        Ok(())
    }
}

/// Connects; the driver's task ends with the client.
pub(crate) async fn connect(url: &str) -> Fallible<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// A URL with another database in it.
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

//! Where is the doctor tried? On a server that is as it should be, in a database of each test's own.

use std::sync::OnceLock;

use audit_ops::doctor::{Code, Finding, Options, Severity, examine};
use db_services::client::Database;
use db_test::Server;
use uuid::Uuid;

use crate::attacks::field::connect;

/// Autovacuum changes the statistics of catalogs and locks tables, whenever it runs.
const AUTOVACUUM_OFF: (&str, &str) = ("autovacuum", "off");

/// The server that these tests share. It does not flush to the disk, which they would spend most of
/// their time with, and so has that
/// one fault: [`but_for_the_server`].
fn fast() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    server(&SERVER, &[AUTOVACUUM_OFF])
}

/// As in production.
fn sound() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    server(
        &SERVER,
        &[AUTOVACUUM_OFF, ("fsync", "on"), ("full_page_writes", "on")],
    )
}

/// A server with a database that its plain owner has migrated.
fn server(cell: &'static OnceLock<Server>, settings: &[(&str, &str)]) -> &'static Server {
    cell.get_or_init(|| {
        let server = Server::start(settings).unwrap_or_else(|error| panic!("{error}"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(make_template(&server));
            });
        });
        server
    })
}

async fn make_template(server: &Server) {
    let admin = connect(&server.url("postgres")).await;
    admin
        .batch_execute("CREATE ROLE trail_owner LOGIN CREATEROLE PASSWORD 'pw'")
        .await
        .unwrap();
    admin.batch_execute("CREATE DATABASE good").await.unwrap();
    let admin = connect(&server.url("good")).await;
    // As it is by default since PostgreSQL 15.
    let schema = "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO trail_owner";
    admin.batch_execute(schema).await.unwrap();
    Database::from_url(&server.url_as("trail_owner", "pw", "good"))
        .unwrap()
        .migrate()
        .await
        .unwrap();
}

/// A database with the trail in it, and a login of this test's own.
pub struct Place {
    server: &'static Server,
    name: String,
    /// The application's login.
    pub app: String,
}

impl Place {
    /// With a login that has these of the trail's roles.
    pub async fn with(roles: &[&str]) -> Self {
        Self::on(fast(), roles).await
    }

    /// The same on a server that has no fault at all.
    pub async fn sound(roles: &[&str]) -> Self {
        Self::on(sound(), roles).await
    }

    async fn on(server: &'static Server, roles: &[&str]) -> Self {
        let name = format!("place_{}", Uuid::now_v7().simple());
        let app = format!("app_{}", Uuid::now_v7().simple());
        let place = Self { server, name, app };
        let admin = connect(&server.url("postgres")).await;
        admin
            .batch_execute(&format!("CREATE ROLE {} LOGIN PASSWORD 'pw'", place.app))
            .await
            .unwrap();
        admin
            .batch_execute(&format!("CREATE DATABASE {} TEMPLATE good", place.name))
            .await
            .unwrap();
        for role in roles {
            place.admin(&format!("GRANT audit_{role} TO {}", place.app)).await;
        }
        place
    }

    /// Runs SQL as the superuser; `$app` is the application's login, `$db` the database, `$month` this
    /// month's partition.
    pub async fn admin(&self, sql: &str) {
        let month = format!("audit_logs_{}", chrono::Utc::now().format("%Y_%m"));
        let sql = sql
            .replace("$app", &self.app)
            .replace("$db", &self.name)
            .replace("$month", &month);
        let client = connect(&self.server.url(&self.name)).await;
        client
            .batch_execute(&sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The URL for the superuser, the owner, or any other login.
    pub fn url(&self, login: &str) -> String {
        match login {
            "postgres" => self.server.url(&self.name),
            login => self.server.url_as(login, "pw", &self.name),
        }
    }

    pub fn app_url(&self) -> String {
        self.url(&self.app)
    }

    /// What the doctor finds for the application's login.
    pub async fn findings(&self) -> Vec<Finding> {
        self.findings_of(&self.app, &Options::default()).await
    }

    pub async fn findings_of(&self, login: &str, options: &Options) -> Vec<Finding> {
        findings(&self.url(login), options).await
    }

    /// The single text that a query gives the superuser.
    pub async fn text(&self, sql: &str) -> String {
        let client = connect(&self.url("postgres")).await;
        client
            .query_one(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get(0)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, name) = (self.server.url("postgres"), &self.name);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                // One that stays goes with the server.
                runtime
                    .block_on(async { connect(&url).await.batch_execute(&drop).await })
                    .ok();
            });
        });
    }
}

pub async fn findings(url: &str, options: &Options) -> Vec<Finding> {
    examine(&Database::from_url(url).unwrap(), options)
        .await
        .unwrap()
        .findings
}

/// Without what is wrong with the shared server.
pub fn but_for_the_server(mut faults: Vec<String>) -> Vec<String> {
    faults.retain(|fault| !fault.starts_with("DURABILITY critical"));
    faults
}

/// What is to be mended, as `CODE severity: found`.
pub fn faults(findings: &[Finding]) -> Vec<String> {
    let bad = findings
        .iter()
        .filter(|finding| finding.severity >= Severity::Warning);
    bad.map(|finding| {
        format!(
            "{} {}: {}",
            finding.code.as_str(),
            finding.severity.as_str(),
            finding.found
        )
    })
    .collect()
}

pub fn of(findings: &[Finding], code: Code) -> Vec<Finding> {
    findings
        .iter()
        .filter(|finding| finding.code == code)
        .cloned()
        .collect()
}

/// Options, which other crates cannot write out in full.
pub fn invasive() -> Options {
    let mut options = Options::default();
    options.invasive = true;
    options
}

pub fn tenant(id: &str) -> Options {
    let mut options = Options::default();
    options.tenant = Some(id.to_owned());
    options
}

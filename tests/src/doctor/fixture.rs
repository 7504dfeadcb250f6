//! The fixture of the doctor's tests: a sound server, and a database for each test.

use std::sync::OnceLock;

use audit_ops::doctor::{Code, Finding, Options, Severity, examine};
use db_services::client::Database;
use db_test::Server;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::attacks::fixture::connect;

/// Autovacuum changes the statistics of catalogs and locks tables, whenever it runs.
const AUTOVACUUM_OFF: (&str, &str) = ("autovacuum", "off");
const PREPARED: (&str, &str) = ("max_prepared_transactions", "5");

/// The server that most tests share. It does not flush to the disk, which would take most of their time, so
/// it has this one fault: [`without_server_faults`].
fn fast() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    server(&SERVER, &[AUTOVACUUM_OFF, PREPARED])
}

/// A server for the one test that changes the trail's roles, which belong to the server.
fn private() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    server(&SERVER, &[AUTOVACUUM_OFF])
}

/// A server without any fault, as in production.
fn sound() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    server(
        &SERVER,
        &[AUTOVACUUM_OFF, ("fsync", "on"), ("full_page_writes", "on")],
    )
}

/// Starts a server with a template database that an ordinary owner has migrated.
fn server(cell: &'static OnceLock<Server>, settings: &[(&str, &str)]) -> &'static Server {
    cell.get_or_init(|| {
        let server = Server::start(settings).unwrap_or_else(|error| panic!("{error}"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(create_template(&server));
            });
        });
        server
    })
}

async fn create_template(server: &Server) {
    let admin = connect(&server.url("postgres")).await;
    admin
        .batch_execute("CREATE ROLE trail_owner LOGIN CREATEROLE PASSWORD 'pw'")
        .await
        .unwrap();
    admin.batch_execute("CREATE DATABASE good").await.unwrap();
    let admin = connect(&server.url("good")).await;
    // The default since PostgreSQL 15.
    let schema = "REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO trail_owner";
    admin.batch_execute(schema).await.unwrap();
    Database::from_url(&server.url_as("trail_owner", "pw", "good"))
        .unwrap()
        .migrate()
        .await
        .unwrap();
}

/// A database with the trail, and a login, both of one test.
pub struct DoctorFixture {
    server: &'static Server,
    name: String,
    /// The application's login.
    pub app: String,
}

impl DoctorFixture {
    /// A fixture whose login has these roles of the trail.
    pub async fn with(roles: &[&str]) -> Self {
        Self::on(fast(), roles).await
    }

    /// The same on a server without any fault.
    pub async fn sound(roles: &[&str]) -> Self {
        Self::on(sound(), roles).await
    }

    /// The same on a server that no other test uses.
    pub async fn alone(roles: &[&str]) -> Self {
        Self::on(private(), roles).await
    }

    /// Drops all months but the first six, because most of the doctor's time is spent on partitions.
    pub async fn few_months(self) -> Self {
        self.admin(
            "DO $do$ DECLARE part regclass; BEGIN FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass \
             AND inhrelid <> 'audit_logs_default'::regclass ORDER BY inhrelid::regclass::text OFFSET 6 LOOP EXECUTE format('DROP TABLE %s', part); END LOOP; END $do$",
        )
        .await;
        // This month and the next one have two segments.
        self.admin(
            "SET ROLE trail_owner; SELECT audit_logs_cut(partition, from_time + interval '10 days') FROM audit_logs_partitions() \
             WHERE from_time >= date_trunc('month', now()) AND from_time < now() + interval '1 month'",
        )
        .await;
        self
    }

    async fn on(server: &'static Server, roles: &[&str]) -> Self {
        let name = format!("place_{}", Uuid::now_v7().simple());
        let app = format!("app_{}", Uuid::now_v7().simple());
        let fixture = Self { server, name, app };
        let admin = connect(&server.url("postgres")).await;
        admin
            .batch_execute(&format!("CREATE ROLE {} LOGIN PASSWORD 'pw'", fixture.app))
            .await
            .unwrap();
        admin
            .batch_execute(&format!("CREATE DATABASE {} TEMPLATE good", fixture.name))
            .await
            .unwrap();
        for role in roles {
            fixture
                .admin(&format!("GRANT audit_{role} TO {}", fixture.app))
                .await;
        }
        fixture
    }

    /// Runs SQL as the superuser; `$app` is the application's login, `$db` the database, `$month` this
    /// month's partition.
    pub async fn admin(&self, sql: &str) {
        self.run("", sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Runs a remedy as the superuser, in a session whose settings are not those of the doctor's. Returns the server's
    /// message if it fails.
    pub async fn remedy(&self, sql: &str) -> Result<(), String> {
        self.run("SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'", sql)
            .await
    }

    async fn run(&self, settings: &str, sql: &str) -> Result<(), String> {
        let client = connect(&self.server.url(&self.name)).await;
        client.batch_execute(settings).await.unwrap();
        // A lock that nobody releases must not stop the tests.
        client.batch_execute("SET lock_timeout = '20s'").await.unwrap();
        client
            .batch_execute(&self.fill(sql))
            .await
            .map_err(|error| format!("{error:?}"))
    }

    /// Fills in the names.
    pub fn fill(&self, text: &str) -> String {
        let month = format!("audit_logs_{}", chrono::Utc::now().format("%Y_%m"));
        text.replace("$app", &self.app)
            .replace("$db", &self.name)
            .replace("$month", &month)
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

    /// The doctor's findings for the application's login.
    pub async fn findings(&self) -> Vec<Finding> {
        self.findings_of(&self.app, &Options::default()).await
    }

    pub async fn findings_of(&self, login: &str, options: &Options) -> Vec<Finding> {
        let mut findings = findings(&self.url(login), options).await;
        // Roles belong to the server, and so do the logins of other tests.
        findings.retain(|finding| !finding.found.starts_with("app_") || finding.found.starts_with(&self.app));
        findings
    }

    /// A login of the server that has nothing but CONNECT.
    pub async fn plain(&self) -> String {
        let plain = format!("{}_plain", self.app);
        self.admin(&format!("CREATE ROLE {plain} LOGIN PASSWORD 'pw'"))
            .await;
        plain
    }

    /// A session of a login that has run the SQL.
    pub async fn session(&self, login: &str, sql: &str) -> Client {
        let client = connect(&self.url(login)).await;
        client.batch_execute(&self.fill(sql)).await.unwrap();
        client
    }

    /// Runs a query as the superuser that returns a single text.
    pub async fn text(&self, sql: &str) -> String {
        let client = connect(&self.url("postgres")).await;
        client
            .query_one(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get(0)
    }
}

impl Drop for DoctorFixture {
    fn drop(&mut self) {
        let (url, name) = (self.server.url("postgres"), &self.name);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                let drop = format!("DROP DATABASE {name} WITH (FORCE)");
                // If it fails, the database ends with the server.
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

/// Removes the fault of the shared server.
pub fn without_server_faults(mut faults: Vec<String>) -> Vec<String> {
    faults.retain(|fault| !fault.starts_with("DURABILITY critical"));
    faults
}

/// The findings that need action, as `CODE severity: found`.
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

/// The severity of the worst finding with this code.
pub fn worst(findings: &[Finding], code: Code) -> Severity {
    let severities = of(findings, code).into_iter().map(|finding| finding.severity);
    severities
        .max()
        .unwrap_or_else(|| panic!("{code:?} has no finding"))
}

/// Options with the invasive part. Other crates cannot use a struct expression.
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

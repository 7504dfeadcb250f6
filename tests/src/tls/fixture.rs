//! A PostgreSQL server with TLS, and a certificate authority for it.

use std::path::PathBuf;

use db_services::client::{Connection, Database};
use db_test::Server;
use diesel_async::SimpleAsyncConnection;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// Accepts encrypted and unencrypted connections, with a password.
pub const EITHER: &str = "host all all 127.0.0.1/32 scram-sha-256";

/// Accepts encrypted connections only.
pub const ENCRYPTED: &str = "hostssl all all 127.0.0.1/32 scram-sha-256";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, as PEM.
pub struct Certificate {
    pub pem: String,
    pub key: String,
}

impl Certificate {
    /// A certificate that is signed with its own key, and is not an authority's.
    pub fn self_signed(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate().unwrap();
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    /// An authority with another certificate than usual.
    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Signs a certificate for these hosts; the first is also its common name.
    pub fn sign(&self, names: &[&str]) -> Certificate {
        self.signed(names, |_| {})
    }

    pub fn sign_expired(&self, names: &[&str]) -> Certificate {
        self.signed(names, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// A certificate that might sign others.
    pub fn sign_as_authority(&self, names: &[&str]) -> Certificate {
        self.signed(names, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)
        })
    }

    fn signed(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, &names[0]);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate {
            pem: certificate,
            key: key.serialize_pem(),
        }
    }
}

/// A server on a TCP port with a role `app`, whose password is `hush`, and its database `shop`.
pub struct TlsServer {
    postgres: Server,
    admin: Database,
    /// The directory of the client's files.
    dir: TempDir,
}

impl TlsServer {
    pub async fn plain() -> Self {
        let server = Server::start_on_tcp(&[]).unwrap_or_else(|error| panic!("{error}"));
        let admin = Database::from_url(&server.url("postgres")).unwrap();
        let server = Self {
            postgres: server,
            admin,
            dir: tempfile::tempdir().unwrap(),
        };
        server
            .sql("CREATE ROLE app LOGIN CREATEROLE PASSWORD 'hush'")
            .await;
        server.sql("CREATE DATABASE shop OWNER app").await;
        server
    }

    /// A server with a certificate, and with lines of `pg_hba.conf` for TCP connections.
    pub async fn encrypted(certificate: &Certificate, rules: &str) -> Self {
        let server = Self::plain().await;
        server.sql("ALTER SYSTEM SET ssl = on").await;
        server.present(certificate, rules);
        server
    }

    /// Restarts the server with another certificate.
    pub fn present(&self, certificate: &Certificate, rules: &str) {
        self.postgres.stop_fast().unwrap();
        self.postgres.put("server.crt", &certificate.pem).unwrap();
        self.postgres.put("server.key", &certificate.key).unwrap();
        self.postgres
            .put("pg_hba.conf", &format!("local all postgres trust\n{rules}\n"))
            .unwrap();
        self.postgres.start_again().unwrap();
    }

    /// Trusts client certificates of an authority from the next [`present`](Self::present) on.
    pub async fn trust(&self, authority: &Authority) {
        self.postgres.put("clients.crt", &authority.pem).unwrap();
        self.sql("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'").await;
    }

    pub fn stop(&self) {
        self.postgres.stop_fast().unwrap();
    }

    /// The URL for `app`, with a host name that does not need to resolve.
    pub fn url(&self, host: &str, options: &str) -> String {
        format!(
            "postgres://app:hush@{host}:{}/shop?hostaddr=127.0.0.1&{options}",
            self.postgres.port()
        )
    }

    /// Writes a file for the client, with a mode. Returns its path.
    pub fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Connects. Returns whether the connection is encrypted, or the error, which must not contain the
    /// password.
    pub async fn reach(&self, host: &str, options: &str) -> Result<bool, String> {
        let database = Database::from_url(&self.url(host, options)).unwrap();
        match database.connection().await {
            Ok(mut connection) => Ok(is_encrypted(&mut connection).await),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    !format!("{text} {error:?} {database:?}").contains("hush"),
                    "{text}"
                );
                Err(text)
            }
        }
    }

    /// Connects, which must fail, and returns the error.
    pub async fn refusal(&self, host: &str, options: &str) -> String {
        match self.reach(host, options).await {
            Ok(encrypted) => panic!("{options} reached {host}, encrypted: {encrypted}"),
            Err(text) => text,
        }
    }

    pub async fn sql(&self, sql: &str) {
        match self.admin.connection().await.unwrap() {
            Connection::Postgres(mut conn) => conn.batch_execute(sql).await.unwrap(),
            Connection::Sqlite(_) => unreachable!(),
        }
    }

    /// Runs a query as the superuser that returns a single text.
    pub async fn text(&self, sql: &str) -> String {
        text(&mut self.admin.connection().await.unwrap(), sql).await
    }
}

async fn is_encrypted(connection: &mut Connection) -> bool {
    text(
        connection,
        "SELECT ssl::text AS value FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    )
    .await
        == "true"
}

/// Returns the single text that a query selects as `value`.
pub async fn text(connection: &mut Connection, sql: &str) -> String {
    use diesel::QueryableByName;
    use diesel_async::RunQueryDsl;

    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        value: String,
    }
    match connection {
        Connection::Postgres(conn) => {
            let row: Row = diesel::sql_query(sql).get_result(conn).await.unwrap();
            row.value
        }
        Connection::Sqlite(_) => unreachable!(),
    }
}

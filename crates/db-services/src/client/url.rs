//! What does a connection URL ask for, and may it be had without TLS?

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::DatabaseError;

/// What a URL names.
pub(super) enum Target {
    Postgres { shown: String, config: Box<Config> },
    SqliteFile(PathBuf),
    SqliteMemory,
}

/// The longest a connection attempt may take, unless the URL's `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The name under which connections show in `pg_stat_activity`, unless the URL gives one.
pub(super) const APPLICATION_NAME: &str = "db-services";

/// libpq options that only make sense with TLS.
const TLS_OPTIONS: [&str; 7] =
    ["sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir", "sslpassword", "sslnegotiation"];

pub(super) fn parse(url: &str) -> Result<Target, DatabaseError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return postgres(url);
    }
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Err(DatabaseError::Url(
            "not a database URL: expected postgres://…, sqlite://path or sqlite::memory:".to_owned(),
        ));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    match path {
        ":memory:" => Ok(Target::SqliteMemory),
        "" => Err(DatabaseError::Url("the SQLite URL names no file: expected sqlite://path".to_owned())),
        _ if path.contains('?') || path.starts_with("file:") => Err(DatabaseError::Url(format!(
            "sqlite://{path}: options are not supported; expected sqlite://path, the path as it is"
        ))),
        _ if path.contains('\0') => Err(DatabaseError::Url("the SQLite path contains a NUL".to_owned())),
        _ => Ok(Target::SqliteFile(PathBuf::from(path))),
    }
}

fn postgres(url: &str) -> Result<Target, DatabaseError> {
    let shown = without_secrets(url);
    let plain_wanted = plain_wanted(url, &shown)?;
    let mut config: Config = without_sslmode(url).parse().map_err(|_| {
        // The parser's message can quote a piece of a password that was not percent-encoded.
        DatabaseError::Url(
            "cannot read the PostgreSQL URL: expected postgres://user:password@host:port/database; characters \
             such as @ : / ? # in the password must be percent-encoded"
                .to_owned(),
        )
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host("localhost");
    }
    if !plain_wanted && !stays_on_this_machine(&config) {
        return Err(DatabaseError::Tls {
            database: shown,
            reason: "another machine would be reached unencrypted",
        });
    }
    config.ssl_mode(SslMode::Disable);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION_NAME);
    }
    // A peer that vanished without a word is noticed within about a minute, not two hours.
    config
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(10))
        .keepalives_retries(3);
    Ok(Target::Postgres { shown, config: Box::new(config) })
}

/// The URL without user, password and options. Everything before the *last* `@` goes, wherever it
/// stands: a password may hold unencoded `@`, `/` and `?`.
fn without_secrets(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (credentials, place) = rest.rsplit_once('@').map_or(("", rest), |(_, place)| ("***@", place));
    let place = place.split(['?', '#']).next().unwrap_or_default();
    format!("postgres://{credentials}{place}")
}

fn options(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').filter_map(|option| option.split_once('='))
}

/// True if `sslmode=disable` asks for plain connections.
fn plain_wanted(url: &str, shown: &str) -> Result<bool, DatabaseError> {
    let tls = |reason| Err(DatabaseError::Tls { database: shown.to_owned(), reason });
    let mut plain = false;
    for (name, value) in options(url) {
        match (name, value) {
            ("sslmode", "disable") => plain = true,
            ("sslmode", "allow" | "prefer") => {}
            ("sslmode", "require") => return tls("sslmode=require asks for TLS"),
            ("sslmode", "verify-ca") => return tls("sslmode=verify-ca asks for TLS"),
            ("sslmode", "verify-full") => return tls("sslmode=verify-full asks for TLS"),
            ("sslmode", _) => {
                return Err(DatabaseError::Url(format!(
                    "{shown}: unknown sslmode; expected disable, allow, prefer, require, verify-ca or verify-full"
                )));
            }
            (name, _) if TLS_OPTIONS.contains(&name) => return tls("its options ask for TLS"),
            _ => {}
        }
    }
    Ok(plain)
}

/// tokio-postgres does not know every sslmode; ours is decided already.
fn without_sslmode(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else { return url.to_owned() };
    let kept: Vec<_> = query.split('&').filter(|option| !option.starts_with("sslmode=")).collect();
    if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
}

fn stays_on_this_machine(config: &Config) -> bool {
    if !config.get_hostaddrs().is_empty() {
        return config.get_hostaddrs().iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        match parse(url) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{url} was accepted"),
        }
    }

    #[test]
    fn this_machine_needs_no_tls() {
        for url in [
            "postgres://u:p@localhost/db",
            "postgresql://u@127.0.0.1:5433/db",
            "postgres://u@[::1]/db?sslmode=prefer",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/db",
            "postgres:///db",
            "postgres://u@db.example/db?sslmode=disable",
            "postgres://u@name/db?hostaddr=127.0.0.1",
        ] {
            assert!(matches!(parse(url), Ok(Target::Postgres { .. })), "{url}");
        }
    }

    #[test]
    fn nothing_is_sent_in_the_clear_unasked() {
        for url in [
            "postgres://u:hush@db.example/db",
            "postgres://u:hush@10.0.0.1/db?sslmode=prefer",
            "postgres://u:hush@localhost/db?sslmode=require",
            "postgres://u:hush@localhost/db?sslmode=verify-full",
            "postgres://u:hush@localhost,db.example/db",
            "postgres://u:hush@localhost/db?hostaddr=10.0.0.1",
            "postgres://u:hush@localhost/db?sslrootcert=ca.pem",
        ] {
            let error = error(url);
            assert!(error.contains("TLS") && !error.contains("hush"), "{url}: {error}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown() {
        for url in [
            "postgres://u:hush@hush@db.example/db",
            "postgres://u:hush/hush@db.example/db",
            "postgres://u:hush?hush@db.example/db",
            "postgres://u:hush#hush@db.example:port/db",
            "postgres://db.example/db?user=u&password=hush",
            "postgres://u:p@localhost/db?sslmode=hush",
            "postgres://u:p@localhost:99999/db?password=hush",
            "mysql://u:hush@db.example/db",
            "u:hush@db.example",
        ] {
            let error = error(url);
            assert!(!error.contains("hush"), "{url}: {error}");
        }
    }

    #[test]
    fn sqlite_urls() {
        let path = |url| match parse(url) {
            Ok(Target::SqliteFile(path)) => path.display().to_string(),
            _ => panic!("{url} names no file"),
        };
        assert_eq!(path("sqlite://audit.db"), "audit.db");
        assert_eq!(path("sqlite:///var/lib/audit.db"), "/var/lib/audit.db");
        assert_eq!(path("sqlite:audit.db"), "audit.db");
        assert!(matches!(parse("sqlite::memory:"), Ok(Target::SqliteMemory)));
        assert!(matches!(parse("sqlite://:memory:"), Ok(Target::SqliteMemory)));
        assert!(error("sqlite://").contains("names no file"));
        assert!(error("sqlite://audit.db?mode=rwc").contains("options are not supported"));
    }
}

//! Parses connection URLs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::DatabaseError;
use super::hosts::{self, CONNECT_TIMEOUT, Route, Server};
use super::tls::{Options, Reach};

/// The database that a URL names.
pub(super) enum Target {
    Postgres { shown: String, route: Box<Route> },
    SqliteFile(PathBuf),
    SqliteMemory,
}

/// The name under which connections show in `pg_stat_activity`, unless the URL gives one.
pub(super) const APPLICATION_NAME: &str = "db-services";

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
        "" => Err(DatabaseError::Url(
            "the SQLite URL names no file: expected sqlite://path".to_owned(),
        )),
        _ if path.contains('?') || path.starts_with("file:") => Err(DatabaseError::Url(format!(
            "sqlite://{path}: options are not supported; expected sqlite://path, the path as it is"
        ))),
        _ if path.contains('\0') => Err(DatabaseError::Url("the SQLite path contains a NUL".to_owned())),
        _ => Ok(Target::SqliteFile(PathBuf::from(path))),
    }
}

fn postgres(url: &str) -> Result<Target, DatabaseError> {
    let parts = Parts::of(url)?;
    let refused = |reason| DatabaseError::Tls {
        database: parts.shown_before_use(),
        reason,
    };
    let query = parts.options()?;
    let mut options = Options::default();
    let mut others = Vec::new();
    for option in &query {
        if !options.take(&option.name, option.value).map_err(refused)? {
            others.push(option);
        }
    }
    let mut config = driver_config(parts.base, &others)?;
    // The driver has read the name of a database with an `@`, but a password with `/` looks the same.
    if parts.base.matches('@').count() > 1 {
        return Err(unreadable());
    }
    let shown = parts.shown();
    let refused = |reason| DatabaseError::Tls {
        database: shown.clone(),
        reason,
    };
    name_hosts(&mut config);
    check_hosts(&config)?;
    let reach = reach(&config);
    let encryption = options.decide(reach).map_err(refused)?;
    if encryption.mode() == SslMode::Require && config.get_hosts().iter().any(is_socket) {
        return Err(refused(
            "connections by a Unix socket cannot be encrypted, so the URL cannot name one beside other hosts",
        ));
    }
    if let (Reach::Network, Some(weakness)) = (reach, encryption.weakness()) {
        log::warn!(target: crate::LOG_TARGET, database = shown.as_str(); "{shown}: {weakness}; sslmode=verify-full is safe");
    }
    config.ssl_mode(encryption.mode());
    // Zero is no limit in libpq, and the default here.
    let given_limit = config.get_connect_timeout().copied();
    set_defaults(&mut config, |name| {
        others.iter().any(|option| option.name == name)
    });
    Ok(Target::Postgres {
        shown,
        route: Box::new(Route {
            config,
            encryption,
            given_limit,
        }),
    })
}

/// Parses what the options about TLS leave of a URL.
fn driver_config(base: &str, options: &[&UrlOption<'_>]) -> Result<Config, DatabaseError> {
    let others: Vec<String> = options
        .iter()
        .map(|option| match option.name.as_str() {
            // The driver takes a list of hosts for the name of one.
            "host" => {
                let hosts = option.value.replace("%2C", ",").replace("%2c", ",");
                format!("host={}", hosts.replace(',', "&host="))
            }
            _ => option.text.to_owned(),
        })
        .collect();
    let query = if others.is_empty() { "" } else { "?" };
    // The driver takes the first @ of a URL for the end of the password.
    let query = format!("{query}{}", others.join("&").replace('@', "%40"));
    format!("{base}{query}").parse().map_err(|_| unreadable())
}

/// Not the parser's message, which can quote a piece of a password that was not percent-encoded.
fn unreadable() -> DatabaseError {
    DatabaseError::Url(
        "cannot read the PostgreSQL URL: expected postgres://user:password@host:port/database; characters such as \
         @ : / ? # in the user, the password and the database must be percent-encoded, and options must be known"
            .to_owned(),
    )
}

/// A PostgreSQL URL in its parts.
struct Parts<'a> {
    /// All before the query.
    base: &'a str,
    /// False if it is sure that there are no user and password.
    has_credentials: bool,
    query: &'a str,
}

/// An option of a URL's query.
struct UrlOption<'a> {
    /// Decoded.
    name: String,
    /// As the URL has it.
    value: &'a str,
    /// Both, as the URL has them.
    text: &'a str,
}

impl<'a> Parts<'a> {
    /// Divides a URL as tokio-postgres does: credentials end at the first `@`, and the query begins at the
    /// first `?` after them. But a URL that begins with hosts has no credentials, whatever follows: an `@`
    /// there belongs to an option. In the name of the database it is refused, because a password with `/`
    /// looks the same.
    fn of(url: &'a str) -> Result<Self, DatabaseError> {
        let start = url.find("://").map_or(0, |at| at + 3);
        let authority = &url[start..url[start..].find(['/', '?']).map_or(url.len(), |at| start + at)];
        let has_credentials = url.contains('@') && !are_hosts(authority);
        let after = match has_credentials {
            true => url.find('@').unwrap_or_default(),
            false => start,
        };
        let (base, query) = match url[after..].find('?') {
            Some(at) => (&url[..after + at], &url[after + at + 1..]),
            None => (url, ""),
        };
        if !has_credentials && base.contains('@') {
            return Err(unreadable());
        }
        Ok(Self {
            base,
            has_credentials,
            query,
        })
    }

    fn options(&self) -> Result<Vec<UrlOption<'a>>, DatabaseError> {
        let options = self.query.split('&').filter(|text| !text.is_empty());
        options
            .map(|text| {
                let (name, value) = text.split_once('=').ok_or_else(unreadable)?;
                let name = percent_decode_str(name).decode_utf8().map_err(|_| unreadable())?;
                Ok(UrlOption {
                    name: name.into_owned(),
                    value,
                    text,
                })
            })
            .collect()
    }

    /// The URL without user, password and options: what is after the last `@` before the query. A password may hold
    /// `@` and `/` that are not encoded.
    fn shown(&self) -> String {
        let place = match self.base.rsplit_once('@') {
            Some((_, place)) => format!("***@{place}"),
            None => self
                .base
                .split_once("://")
                .map_or(self.base, |(_, place)| place)
                .to_owned(),
        };
        format!("postgres://{}", place.split('#').next().unwrap_or_default())
    }

    /// The same before the driver has accepted the URL. Until then the `?` before an `@` may belong to a password, and
    /// what is before it would be a piece of the password.
    fn shown_before_use(&self) -> String {
        match self.has_credentials && self.query.contains('@') {
            true => "postgres://***".to_owned(),
            false => self.shown(),
        }
    }
}

/// True for a list of hosts, each with a number as its port or without a port.
fn are_hosts(authority: &str) -> bool {
    !authority.contains('@')
        && authority.split(',').all(|host| {
            let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
            match after_address.split_once(':') {
                Some((_, port)) => port.bytes().all(|byte| byte.is_ascii_digit()),
                None => true,
            }
        })
}

/// Refuses numbers of hosts that do not match, and what cannot be a host's name: it may be a piece of a
/// password, which must not be sent to a name server.
fn check_hosts(config: &Config) -> Result<(), DatabaseError> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    if hosts
        .iter()
        .any(|host| matches!(host, Host::Tcp(name) if name.contains('@')))
    {
        return Err(unreadable());
    }
    if !addresses.is_empty() && addresses.len() != hosts.len()
        || ports.len() > 1 && ports.len() != hosts.len()
    {
        return Err(DatabaseError::Url(format!(
            "the PostgreSQL URL names {} hosts, {} addresses (hostaddr) and {} ports; it must name one port for all \
             hosts, or an address and a port for each",
            hosts.len(),
            addresses.len(),
            ports.len()
        )));
    }
    Ok(())
}

/// No host means this machine. An address without a name is its own name, for the certificate.
fn name_hosts(config: &mut Config) {
    if !config.get_hosts().is_empty() {
        return;
    }
    let addresses = config.get_hostaddrs().to_vec();
    if addresses.is_empty() {
        config.host("localhost");
    }
    for address in addresses {
        config.host(address.to_string());
    }
}

/// Sets what the URL leaves open.
fn set_defaults(config: &mut Config, is_given: impl Fn(&str) -> bool) {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION_NAME);
    }
    // A peer that vanished without a word is noticed within about a minute, not two hours; within half a
    // minute if data is on the way to it.
    if !is_given("keepalives_idle") {
        config.keepalives_idle(Duration::from_secs(30));
    }
    if !is_given("keepalives_interval") {
        config.keepalives_interval(Duration::from_secs(10));
    }
    if !is_given("keepalives_retries") {
        config.keepalives_retries(3);
    }
    if !is_given("tcp_user_timeout") {
        config.tcp_user_timeout(Duration::from_secs(30));
    }
}

/// The hosts, their addresses and ports, and the name of a database.
pub(super) fn target(config: &Config) -> String {
    let place = |server: Server| {
        let name = match server.host {
            Host::Tcp(name) => name,
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let address = server
            .address
            .map_or_else(String::new, |address| format!("[{address}]"));
        format!("{name}{address}:{}", server.port)
    };
    let hosts: Vec<String> = hosts::servers(config).into_iter().map(place).collect();
    let name = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{}/{name}", hosts.join(","))
}

fn reach(config: &Config) -> Reach {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let near = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    let all_near = match addresses {
        [] => hosts.iter().all(near),
        _ => addresses.iter().all(IpAddr::is_loopback),
    };
    match all_near {
        true if addresses.is_empty() && hosts.iter().all(is_socket) => Reach::Socket,
        true => Reach::Loopback,
        false => Reach::Network,
    }
}

fn is_socket(host: &Host) -> bool {
    !matches!(host, Host::Tcp(_))
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;

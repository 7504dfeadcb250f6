//! Connects to the first server of a URL that can be used: host by host, and address by address.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};

use super::connect_error::{ConnectError, Failure};
use super::tls::{Encryption, Tls};

/// The longest that connecting to one address may take, unless the URL has a `connect_timeout`.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest look-up of a host's name. A resolver asks its second name server after five seconds (resolv.conf(5)).
const LOOK_UP_LIMIT: Duration = Duration::from_secs(30);

/// How a PostgreSQL database is reached.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Names all hosts. Has a `connect_timeout` and an `application_name`.
    pub(super) config: Config,
    pub(super) encryption: Encryption,
    /// The longest that connecting to one address may take; none if the URL does not say.
    pub(super) given_limit: Option<Duration>,
}

/// A host of a URL. Shown as `name (address) port 5432`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: Host,
    /// The address to connect to; none for a Unix socket, and until the host's name is resolved.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

impl Route {
    /// The route under another `application_name`.
    pub(super) fn named(&self, name: &str) -> Self {
        let mut route = self.clone();
        route.config.application_name(name);
        route
    }

    /// The longest that connecting to one address may take.
    pub(super) fn limit(&self) -> Duration {
        self.given_limit.unwrap_or(CONNECT_TIMEOUT)
    }

    /// The route for an attempt that may take this long. Without another host to try, and unless the URL says
    /// otherwise, a server that is slow to log in gets all of it.
    pub(super) fn limited(self, attempt: Duration) -> Self {
        let limit = match self.given_limit {
            None if self.config.get_hosts().len() < 2 => attempt,
            _ => self.limit().min(attempt),
        };
        Self {
            given_limit: Some(limit),
            ..self
        }
    }
}

/// A client and the connection that it uses.
pub(super) type Connected<T> = (Client, Connection<Socket, <T as MakeTlsConnect<Socket>>::Stream>);

/// A connection, encrypted or not.
#[allow(clippy::large_enum_variant)] // one per connection, never in bulk
pub(super) enum AnyConnected {
    Unencrypted(Connected<NoTls>),
    Encrypted(Connected<Tls>),
}

/// Connects to the first server that accepts the connection. Each address gets [`Route::limit`] for TCP,
/// TLS, authentication and `target_session_attrs` together. The look-up of each host's name gets that or
/// [`LOOK_UP_LIMIT`], whichever is longer. A server that refuses the login or does not have the database ends the
/// search: a password that one server refuses is not shown to the next.
pub(super) async fn connect(route: &Route) -> Result<AnyConnected, ConnectError> {
    match &route.encryption {
        Encryption::Tls { tls, .. } => connect_with(route, tls).await.map(AnyConnected::Encrypted),
        _ => connect_with(route, &NoTls).await.map(AnyConnected::Unencrypted),
    }
}

async fn connect_with<T>(route: &Route, tls: &T) -> Result<Connected<T>, ConnectError>
where
    T: MakeTlsConnect<Socket> + Clone,
{
    let order = route.config.get_load_balance_hosts();
    let mut errors = ConnectError::default();
    for server in ordered(servers(&route.config), order) {
        let resolved = match server.resolve(route.limit().max(LOOK_UP_LIMIT)).await {
            Ok(resolved) => resolved,
            Err(failure) => {
                errors.push(&server, failure);
                continue;
            }
        };
        for server in ordered(resolved, order) {
            match connect_to(route, &server, tls.clone()).await {
                Ok(connected) => return Ok(connected),
                Err(failure) => {
                    let is_final = failure.is_final();
                    errors.push(&server, failure);
                    if is_final {
                        return Err(errors);
                    }
                }
            }
        }
    }
    Err(errors)
}

async fn connect_to<T>(route: &Route, server: &Server, tls: T) -> Result<Connected<T>, Failure>
where
    T: MakeTlsConnect<Socket>,
{
    let is_remote = server.address.is_some_and(|ip| !ip.to_canonical().is_loopback());
    if is_remote && route.encryption == Encryption::OnlyLoopback {
        return Err(Failure::NotLoopback);
    }
    let config = for_server(&route.config, server);
    match timeout(route.limit(), config.connect(tls)).await {
        Ok(connected) => connected.map_err(Failure::Driver),
        Err(_) => Err(Failure::TimedOut(route.limit())),
    }
}

/// The hosts of a configuration.
pub(super) fn servers(config: &Config) -> Vec<Server> {
    let (addresses, ports) = (config.get_hostaddrs(), config.get_ports());
    let hosts = config.get_hosts().iter().enumerate();
    hosts
        .map(|(index, host)| Server {
            host: host.clone(),
            address: addresses.get(index).copied(),
            // One port is for all hosts.
            port: ports.get(index).or(ports.first()).copied().unwrap_or(5432),
        })
        .collect()
}

/// The order in which servers are tried.
fn ordered(mut servers: Vec<Server>, order: LoadBalanceHosts) -> Vec<Server> {
    if order == LoadBalanceHosts::Random {
        // Each `RandomState` has other keys.
        servers.sort_by_cached_key(|_| RandomState::new().build_hasher().finish());
    }
    servers
}

impl Server {
    /// This server at each of its addresses.
    async fn resolve(&self, limit: Duration) -> Result<Vec<Self>, Failure> {
        let (Host::Tcp(name), None) = (&self.host, self.address) else {
            return Ok(vec![self.clone()]);
        };
        let found = match timeout(limit, tokio::net::lookup_host((name.as_str(), self.port))).await {
            Ok(found) => found.map_err(Failure::Unresolved)?,
            Err(_) => return Err(Failure::LookUpTimedOut(limit)),
        };
        let resolved: Vec<Self> = found
            .map(|found| Self {
                address: Some(found.ip()),
                ..self.clone()
            })
            .collect();
        match resolved.is_empty() {
            true => Err(Failure::Unresolved(std::io::ErrorKind::NotFound.into())),
            false => Ok(resolved),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.address) {
            (Host::Tcp(name), Some(address)) if *name != address.to_string() => {
                write!(f, "{name} ({address})")?;
            }
            (Host::Tcp(name), _) => f.write_str(name)?,
            #[cfg(unix)]
            (Host::Unix(path), _) => write!(f, "{}", path.display())?,
        }
        write!(f, " port {}", self.port)
    }
}

/// A configuration for one server. Hosts cannot be removed from a `Config`, so the settings are copied.
fn for_server(all: &Config, server: &Server) -> Config {
    let mut config = Config::new();
    match &server.host {
        Host::Tcp(name) => config.host(name),
        #[cfg(unix)]
        Host::Unix(path) => config.host_path(path),
    };
    if let Some(address) = server.address {
        config.hostaddr(address);
    }
    config
        .port(server.port)
        .ssl_mode(all.get_ssl_mode())
        .keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .target_session_attrs(all.get_target_session_attrs())
        .channel_binding(all.get_channel_binding())
        .load_balance_hosts(all.get_load_balance_hosts());
    copy_optional(all, &mut config);
    config
}

fn copy_optional(from: &Config, to: &mut Config) {
    if let Some(user) = from.get_user() {
        to.user(user);
    }
    if let Some(password) = from.get_password() {
        to.password(password);
    }
    if let Some(name) = from.get_dbname() {
        to.dbname(name);
    }
    if let Some(options) = from.get_options() {
        to.options(options);
    }
    if let Some(name) = from.get_application_name() {
        to.application_name(name);
    }
    if let Some(limit) = from.get_connect_timeout() {
        to.connect_timeout(*limit);
    }
    if let Some(limit) = from.get_tcp_user_timeout() {
        to.tcp_user_timeout(*limit);
    }
    if let Some(pause) = from.get_keepalives_interval() {
        to.keepalives_interval(pause);
    }
    if let Some(count) = from.get_keepalives_retries() {
        to.keepalives_retries(count);
    }
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;

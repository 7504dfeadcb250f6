//! Parses connection URLs.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::{Options, Reach};
use super::{DatabaseError, Route};

/// What a URL names.
pub(super) enum Target {
    Postgres { shown: String, route: Box<Route> },
    SqliteFile(PathBuf),
    SqliteMemory,
}

/// The longest a connection attempt may take, unless the URL's `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    let shown = without_secrets(url);
    let refused = |reason| DatabaseError::Tls {
        database: shown.clone(),
        reason,
    };
    let (options, rest) = Options::take_from(url).map_err(refused)?;
    let mut config: Config = rest.parse().map_err(|_| {
        // The parser's message can quote a piece of a password that was not percent-encoded.
        DatabaseError::Url(
            "cannot read the PostgreSQL URL: expected postgres://user:password@host:port/database; characters \
             such as @ : / ? # in the password must be percent-encoded"
                .to_owned(),
        )
    })?;
    name_hosts(&mut config);
    let reach = reach(&config);
    let encryption = options.decide(reach).map_err(refused)?;
    if encryption.mode == SslMode::Require && config.get_hosts().iter().any(is_socket) {
        return Err(refused(
            "a Unix socket cannot be encrypted, and so not stand beside other hosts",
        ));
    }
    if let (Reach::Network, Some(weakness)) = (reach, encryption.weakness()) {
        log::warn!(target: crate::LOG_TARGET, database = shown.as_str(); "{shown}: {weakness}; sslmode=verify-full is safe");
    }
    config.ssl_mode(encryption.mode);
    set_defaults(&mut config);
    Ok(Target::Postgres {
        shown,
        route: Box::new(Route {
            config,
            tls: encryption.tls,
        }),
    })
}

/// No host is this machine; an address without a name is its own name, for its certificate.
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

fn set_defaults(config: &mut Config) {
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
}

/// The URL without user, password and options. Everything before the *last* `@` goes, wherever it
/// stands: a password may hold unencoded `@`, `/` and `?`.
fn without_secrets(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (credentials, place) = rest
        .rsplit_once('@')
        .map_or(("", rest), |(_, place)| ("***@", place));
    let place = place.split(['?', '#']).next().unwrap_or_default();
    format!("postgres://{credentials}{place}")
}

/// The hosts, their addresses and ports, and the name of a database.
pub(super) fn target(config: &Config) -> String {
    let (addresses, ports) = (config.get_hostaddrs(), config.get_ports());
    let place = |(index, host): (usize, &Host)| {
        let name = match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let address = addresses
            .get(index)
            .map_or_else(String::new, |address| format!("[{address}]"));
        // One port is for all hosts.
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        format!("{name}{address}:{port}")
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(place).collect();
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
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        match parse(url) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{url} was accepted"),
        }
    }

    /// The driver's mode, and what is trusted.
    fn encryption(url: &str) -> (SslMode, String) {
        match parse(url) {
            Ok(Target::Postgres { route, .. }) => (
                route.config.get_ssl_mode(),
                route.tls.map_or_else(String::new, |tls| format!("{tls:?}")),
            ),
            Ok(_) => panic!("{url} is no PostgreSQL"),
            Err(error) => panic!("{url}: {error}"),
        }
    }

    #[test]
    fn plain_only_on_this_machine_or_when_told() {
        for url in [
            "postgres://u:p@localhost/db",
            "postgresql://u@127.0.0.1:5433/db",
            "postgres://u@[::1]/db",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/db",
            "postgres:///db",
            "postgres://u@name/db?hostaddr=127.0.0.1",
            "postgres://u@db.example/db?sslmode=disable",
            "postgres://u@db.example/db?sslmode=disable&sslrootcert=ca.pem",
            // PostgreSQL has no TLS on Unix sockets.
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/db?sslmode=verify-full&sslrootcert=ca.pem",
        ] {
            assert_eq!(encryption(url), (SslMode::Disable, String::new()), "{url}");
        }
    }

    #[test]
    fn all_else_is_verified_unless_told_otherwise() {
        let (require, prefer) = (SslMode::Require, SslMode::Prefer);
        for (url, mode, trust) in [
            ("postgres://u@db.example/db", require, "Name(None)"),
            ("postgres://u@10.0.0.1/db", require, "Name(None)"),
            ("postgres://u@localhost,db.example/db", require, "Name(None)"),
            (
                "postgres://u@localhost/db?hostaddr=10.0.0.1",
                require,
                "Name(None)",
            ),
            (
                "postgres://u@localhost/db?sslmode=verify-full",
                require,
                "Name(None)",
            ),
            (
                "postgres://u@localhost/db?sslrootcert=system",
                require,
                "Name(None)",
            ),
            (
                "postgres://u@localhost/db?sslrootcert=ca%20%40.pem",
                require,
                "Name(Some(\"ca @.pem\"))",
            ),
            (
                "postgres://u@h/db?sslmode=verify-full&sslrootcert=ca.pem",
                require,
                "Name(Some(\"ca.pem\"))",
            ),
            (
                "postgres://u@h/db?sslmode=verify-ca&sslrootcert=ca.pem",
                require,
                "Authority(\"ca.pem\")",
            ),
            (
                "postgres://u@h/db?sslmode=require&sslrootcert=ca.pem",
                require,
                "Authority(\"ca.pem\")",
            ),
            (
                "postgres://u@h/db?sslmode=prefer&sslrootcert=ca.pem",
                prefer,
                "Authority(\"ca.pem\")",
            ),
            ("postgres://u@h/db?sslmode=require", require, "Anyone"),
            ("postgres://u@h/db?sslmode=prefer", prefer, "Anyone"),
            ("postgres://u@localhost/db?sslmode=allow", prefer, "Anyone"),
            // The driver takes what stands before the first @ for the user and the password.
            ("postgres://u:a?sslmode=disable&b@h/db", require, "Name(None)"),
        ] {
            let (driven, tls) = encryption(url);
            assert_eq!(driven, mode, "{url}");
            assert!(tls.contains(&format!("trust: {trust}")), "{url}: {tls}");
        }
        let (_, tls) = encryption("postgres://u@localhost/db?sslcert=me.crt&sslkey=me.key");
        assert!(
            tls.contains("Name(None)") && tls.contains("me.crt") && tls.contains("me.key"),
            "{tls}"
        );
    }

    #[test]
    fn contradictory_options_are_rejected() {
        for (options, said) in [
            ("sslmode=verify-ca", "needs sslrootcert=FILE"),
            ("sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
            ("sslmode=prefer&sslrootcert=system", "needs sslmode=verify-full"),
            ("sslmode=require&sslcert=me.crt", "need each other"),
            ("sslkey=me.key", "need each other"),
            ("sslrootcert=", "must name a file"),
            ("sslmode=hush", "unknown sslmode"),
            ("sslmode=disable&sslmode=verify-full", "given twice"),
            ("sslrootcert=a&sslrootcert=b", "given twice"),
            ("sslcrl=crl.pem", "supported"),
            ("sslnegotiation=direct", "supported"),
            ("ssl_min_protocol_version=TLSv1.3", "supported"),
        ] {
            let error = error(&format!("postgres://u:hush@localhost/db?{options}"));
            assert!(
                error.contains(said) && !error.contains("hush"),
                "{options}: {error}"
            );
        }
        let mixed = error("postgres://u:hush@%2Frun,db.example/db");
        assert!(mixed.contains("Unix socket"), "{mixed}");
    }

    #[test]
    fn an_address_alone_is_its_own_name() {
        let Ok(Target::Postgres { route, .. }) = parse("postgres:///db?hostaddr=10.0.0.1") else {
            panic!("not understood")
        };
        assert_eq!(route.config.get_hosts(), [Host::Tcp("10.0.0.1".to_owned())]);
    }

    #[test]
    fn the_target_of_a_spool_is_host_port_and_name_wherever_they_are_given() {
        let target = |url| match parse(url) {
            Ok(Target::Postgres { route, .. }) => target(&route.config),
            _ => panic!("{url} is not understood"),
        };
        let same = "postgres://a.example:5433/shop";
        for url in [
            "postgres://u:p@a.example:5433/shop",
            "postgres://other@a.example:5433/shop?sslmode=require&application_name=x",
            "postgres:///shop?host=a.example&port=5433",
            "postgres://a.example:5433/?dbname=shop&user=u&password=hush",
        ] {
            assert_eq!(target(url), same, "{url}");
        }
        for (url, other) in [
            (
                "postgres:///shop?host=b.example&port=5433",
                "postgres://b.example:5433/shop",
            ),
            ("postgres://a.example/shop", "postgres://a.example:5432/shop"),
            (
                "postgres://a.example:5433/?dbname=crm",
                "postgres://a.example:5433/crm",
            ),
            ("postgres://me@a.example:5433", "postgres://a.example:5433/me"),
            (
                "postgres://a.example:5433/shop?hostaddr=10.0.0.7",
                "postgres://a.example[10.0.0.7]:5433/shop",
            ),
            (
                "postgres://a.example:1,b.example:2/shop",
                "postgres://a.example:1,b.example:2/shop",
            ),
            (
                "postgres://b.example:2,a.example:1/shop",
                "postgres://b.example:2,a.example:1/shop",
            ),
            (
                "postgres:///shop?host=/run/postgresql",
                "postgres:///run/postgresql:5432/shop",
            ),
        ] {
            assert_eq!(target(url), other, "{url}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown() {
        for url in [
            "postgres://u:hush@hush@db.example:port/db",
            "postgres://u:hush/hush@db.example:port/db",
            "postgres://u:hush?hush@db.example:port/db",
            "postgres://u:hush#hush@db.example:port/db",
            "postgres://db.example:port/db?user=u&password=hush",
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

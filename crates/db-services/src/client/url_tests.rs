//! URLs: what is accepted, what is refused, and that no password is shown.

use super::super::tls::Encryption;
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
            match route.encryption {
                Encryption::Tls { tls, .. } => format!("{tls:?}"),
                Encryption::Never | Encryption::OnlyLoopback => String::new(),
            },
        ),
        Ok(_) => panic!("{url} is not PostgreSQL"),
        Err(error) => panic!("{url}: {error}"),
    }
}

#[test]
fn unencrypted_only_on_this_machine_or_with_sslmode_disable() {
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
fn everything_else_is_verified_unless_sslmode_says_otherwise() {
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
        // Names may be percent-encoded.
        ("%73sl%6Dode=hush", "unknown sslmode"),
        ("sslmode=disable&%73slmode=verify-full", "given twice"),
        ("%73slcrl=crl.pem", "supported"),
        ("ssl%6eegotiation=direct", "supported"),
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

fn config(url: &str) -> Config {
    match parse(url) {
        Ok(Target::Postgres { route, .. }) => route.config,
        Ok(_) => panic!("{url} is not PostgreSQL"),
        Err(error) => panic!("{url}: {error}"),
    }
}

/// The driver takes the first `@` of a URL for the end of the password, wherever it is.
#[test]
fn an_at_sign_in_an_option_does_not_make_the_host_a_user() {
    for url in [
        "postgres://db.example/db?application_name=a@b&sslmode=require",
        "postgres://db.example?dbname=db&application_name=a@b&sslmode=require",
        "postgres://db.example:5433/db?application_name=a%40b&sslmode=require",
        "postgres://[::1]:5433,db.example/db?application_name=a@b&sslmode=require",
        "postgres:///db?host=db.example&application_name=a@b&sslmode=require",
        "postgres://u@db.example/db?application_name=a@b&sslmode=require",
    ] {
        let config = config(url);
        assert!(
            config.get_hosts().contains(&Host::Tcp("db.example".to_owned())),
            "{url}"
        );
        assert_eq!(config.get_application_name(), Some("a@b"), "{url}");
        assert_eq!(config.get_dbname(), Some("db"), "{url}");
        assert_eq!(encryption(url).0, SslMode::Require, "{url}");
        assert!(encryption(url).1.contains("Anyone"), "sslmode counts: {url}");
    }
    let password = config("postgres://db.example/db?user=u&password=p@hush");
    assert_eq!(password.get_password(), Some(&b"p@hush"[..]));
}

/// It would be sent to a name server.
#[test]
fn a_piece_of_a_password_is_not_taken_for_a_host() {
    for url in [
        "postgres://u:pa@hush@db.example/db",
        "postgres://u:12/3@hush/db",
        "postgres://u:pa%2@hush@db.example/db",
        "postgres://db.example/db@hush",
        "postgres://u@db.example/db?host=a@hush",
        "postgres://u@a%40hush/db",
    ] {
        let error = error(url);
        assert!(
            error.contains("percent-encoded") && !error.contains("hush"),
            "{url}: {error}"
        );
    }
    // A port that is no number shows that it is a password.
    let config = config("postgres://u:pa/ss?word@db.example/db");
    assert_eq!(config.get_password(), Some(&b"pa/ss?word"[..]));
    assert_eq!(config.get_hosts(), [Host::Tcp("db.example".to_owned())]);
}

#[test]
fn a_url_is_shown_with_its_host() {
    for (url, expected) in [
        (
            "postgres://u:hush@db.example/db?x=y",
            "postgres://***@db.example/db",
        ),
        (
            "postgres://db.example/db?application_name=a@b",
            "postgres://db.example/db",
        ),
        (
            "postgres://u:pa@hush@db.example/db",
            "postgres://***@db.example/db",
        ),
        ("postgres:///db?password=hush", "postgres:///db"),
        (
            "postgres://u:hush@db.example/db?application_name=x@y",
            "postgres://***@db.example/db",
        ),
        (
            "postgres://u:hush@db.example?dbname=db&options=-c%20a=@b@c",
            "postgres://***@db.example",
        ),
    ] {
        assert_eq!(Parts::of(url).unwrap().shown(), expected, "{url}");
    }
    let database = crate::client::Database::from_url("postgres://u:hush@db.example/db?application_name=x@y");
    assert_eq!(database.unwrap().to_string(), "postgres://***@db.example/db");
}

/// Until the driver has read it, the `?` may belong to the password.
#[test]
fn an_option_is_not_shown_as_the_database_and_no_password_as_the_host() {
    for options in ["sslmode=hush&application_name=x@y", "sslmode=a@hush/db"] {
        let error = error(&format!("postgres://u:p@hush?{options}"));
        assert!(error.starts_with("postgres://***: unknown sslmode"), "{error}");
        assert!(!error.contains("hush") && !error.contains("@y"), "{error}");
    }
    let error = error("postgres://u:p@db.example/db?sslmode=verify-ca&application_name=x@y");
    assert!(error.starts_with("postgres://***@db.example/db: "), "{error}");
    // With `%40` it is the name of a database.
    assert!(self::error("postgres://u:p@hush/db@hush").contains("percent-encoded"));
    assert_eq!(config("postgres://u:p@h/db%40x").get_dbname(), Some("db@x"));
}

#[test]
fn hosts_addresses_and_ports_must_match() {
    for url in [
        "postgres://a,b/db?port=1",
        "postgres://a/db?hostaddr=10.0.0.1,10.0.0.2",
        "postgres:///db?host=a,b&port=1,2,3",
    ] {
        let error = error(url);
        assert!(
            error.contains("ports") && error.contains("hosts"),
            "{url}: {error}"
        );
    }
    for url in [
        "postgres:///db?host=a,b&port=1",
        "postgres:///db?host=a,b&port=1,2",
        "postgres://a:1,b/db",
    ] {
        config(url);
    }
}

#[test]
fn limits_of_the_url_are_kept_and_others_have_defaults() {
    let limits = |options: &str| {
        let config = config(&format!("postgres://u@db.example/db?{options}"));
        let seconds = |limit: &Duration| limit.as_secs();
        (
            config.get_connect_timeout().map(seconds),
            config.get_tcp_user_timeout().map(seconds),
            config.get_keepalives_idle().as_secs(),
            config.get_keepalives_interval().map(|pause| pause.as_secs()),
            config.get_keepalives_retries(),
            config.get_keepalives(),
        )
    };
    assert_eq!(limits(""), (Some(5), Some(30), 30, Some(10), Some(3), true));
    let given =
        "connect_timeout=1&tcp_user_timeout=2&keepalives_idle=3&keepalives_interval=4&keepalives_retries=5";
    assert_eq!(limits(given), (Some(1), Some(2), 3, Some(4), Some(5), true));
    assert_eq!(
        limits("keepalives=0&%6beepalives_idle=7"),
        (Some(5), Some(30), 7, Some(10), Some(3), false)
    );
    // Zero: the system's.
    assert_eq!(limits("tcp_user_timeout=0").1, None);
    assert_eq!(limits("connect_timeout=0").0, Some(5));
    for url in [
        "postgres://u@db.example/db?connect_timeout=0",
        "postgres://u@db.example/db",
    ] {
        match parse(url) {
            Ok(Target::Postgres { route, .. }) => assert_eq!(route.limit(), Duration::from_secs(5)),
            _ => panic!("{url}"),
        }
    }
}

//! TLS: connections are encrypted as configured, and the server's identity is verified.

mod certificates;
pub mod fixture;

use db_services::audit::{AuditEntry, Delivery};
use db_services::client::Database;
use fixture::{Authority, Certificate, EITHER, ENCRYPTED, TlsServer};
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, date_time_ymd};

use crate::process::{app, lines};
use crate::support::writer_to;

/// An authority, its certificate for `db.test` and 127.0.0.1, and an unrelated authority.
fn authorities() -> (Authority, Certificate, Authority) {
    let authority = Authority::new("authority");
    let certificate = authority.sign(&["db.test", "127.0.0.1"]);
    (authority, certificate, Authority::new("stranger"))
}

#[tokio::test]
async fn each_sslmode_accepts_and_rejects_what_libpq_does() {
    let (authority, certificate, stranger) = authorities();
    let server = TlsServer::encrypted(&certificate, EITHER).await;
    let ca = format!(
        "sslrootcert={}",
        server.file("ca.pem", &authority.pem, 0o644).display()
    );
    let other = format!(
        "sslrootcert={}",
        server.file("other.pem", &stranger.pem, 0o644).display()
    );

    for (host, options, encrypted) in [
        ("db.test", String::new(), false),
        ("db.test", "sslmode=disable".to_owned(), false),
        ("wrong.test", "sslmode=allow".to_owned(), true),
        ("wrong.test", "sslmode=prefer".to_owned(), true),
        ("wrong.test", "sslmode=require".to_owned(), true),
        ("wrong.test", format!("sslmode=require&{ca}"), true),
        ("wrong.test", format!("sslmode=verify-ca&{ca}"), true),
        ("db.test", format!("sslmode=verify-full&{ca}"), true),
        ("127.0.0.1", format!("sslmode=verify-full&{ca}"), true),
        ("db.test", ca.clone(), true),
    ] {
        assert_eq!(
            server.reach(host, &options).await,
            Ok(encrypted),
            "{host} {options}"
        );
    }

    for (host, options, expected) in [
        (
            "wrong.test",
            format!("sslmode=verify-full&{ca}"),
            "subjectAltName",
        ),
        ("wrong.test", ca.clone(), "subjectAltName"),
        ("localhost", format!("sslmode=verify-full&{ca}"), "subjectAltName"),
        (
            "db.test",
            format!("sslmode=verify-full&{other}"),
            "in sslrootcert",
        ),
        ("db.test", format!("sslmode=verify-ca&{other}"), "in sslrootcert"),
        ("db.test", format!("sslmode=require&{other}"), "in sslrootcert"),
        // The server accepts unencrypted connections, but a wrong certificate must not lead to one.
        ("db.test", format!("sslmode=prefer&{other}"), "in sslrootcert"),
        // The authorities of the system.
        ("db.test", "sslmode=verify-full".to_owned(), "sslrootcert"),
        ("db.test", "sslrootcert=system".to_owned(), "sslrootcert"),
    ] {
        let refusal = server.refusal(host, &options).await;
        assert!(refusal.contains(expected), "{host} {options}: {refusal}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_accepted_only_where_tls_is_optional() {
    let (server, authority) = (TlsServer::plain().await, Authority::new("authority"));
    let ca = format!(
        "sslrootcert={}",
        server.file("ca.pem", &authority.pem, 0o644).display()
    );
    assert_eq!(
        server.reach("db.test", "sslmode=prefer").await,
        Ok(false),
        "the server is reachable"
    );
    assert_eq!(
        server.reach("db.test", &format!("sslmode=prefer&{ca}")).await,
        Ok(false)
    );
    for options in [
        "sslmode=require",
        "sslmode=verify-full",
        &format!("sslmode=require&{ca}"),
        &format!("sslmode=verify-ca&{ca}"),
        &ca,
    ] {
        let refusal = server.refusal("db.test", options).await;
        assert!(
            refusal.contains("does not support TLS") && refusal.contains("ssl = on"),
            "{refusal}"
        );
        assert!(
            !refusal.contains("sslmode=disable"),
            "an attacker in between can cause this: {refusal}"
        );
    }
}

#[tokio::test]
async fn a_client_presents_its_certificate_on_request() {
    let (authority, certificate, stranger) = authorities();
    let server = TlsServer::plain().await;
    server.sql("ALTER SYSTEM SET ssl = on").await;
    server.trust(&authority).await;
    server.present(&certificate, &format!("{ENCRYPTED} clientcert=verify-full"));
    let ca = format!(
        "sslrootcert={}",
        server.file("ca.pem", &authority.pem, 0o644).display()
    );
    let shown = |name: &str, shown: &Certificate| {
        let certificate = server.file(&format!("{name}.crt"), &shown.pem, 0o644);
        let key = server.file(&format!("{name}.key"), &shown.key, 0o600);
        format!("{ca}&sslcert={}&sslkey={}", certificate.display(), key.display())
    };
    let mine = shown("app", &authority.sign(&["app"]));
    assert_eq!(server.reach("db.test", &mine).await, Ok(true));

    let refusal = server.refusal("db.test", &ca).await;
    assert!(refusal.contains("client certificate"), "{refusal}");
    let refusal = server
        .refusal("db.test", &shown("eve", &authority.sign(&["eve"])))
        .await;
    assert!(refusal.contains("authentication failed"), "{refusal}");
    // Either the server's alert or the end of the connection is seen first.
    server
        .refusal("db.test", &shown("forged", &stranger.sign(&["app"])))
        .await;

    // The file is read for each connection, so a renewed certificate is used immediately.
    let database =
        Database::from_url(&server.url("db.test", &shown("late", &authority.sign(&["eve"])))).unwrap();
    assert!(database.connection().await.is_err());
    shown("late", &authority.sign(&["app"]));
    assert!(database.connection().await.is_ok());
}

#[tokio::test]
async fn errors_name_the_file_that_cannot_be_used() {
    let (authority, certificate, stranger) = authorities();
    let server = TlsServer::encrypted(&certificate, ENCRYPTED).await;
    let own = authority.sign(&["app"]);
    let path = |name: &str, content: &str, mode| server.file(name, content, mode).display().to_string();
    let (ca, crt) = (
        path("ca.pem", &authority.pem, 0o644),
        path("app.crt", &own.pem, 0o600),
    );
    let reach = async |ca: &str, crt: &str, key: &str| {
        server
            .reach("db.test", &format!("sslrootcert={ca}&sslcert={crt}&sslkey={key}"))
            .await
    };
    let good = path("good.key", &own.key, 0o600);
    assert_eq!(reach(&ca, &crt, &good).await, Ok(true));

    let foreign = path("foreign.key", &stranger.sign(&["app"]).key, 0o600);
    let garbage = path("garbage.key", "-----BEGIN hush", 0o600);
    for (key, expected) in [
        (path("world.key", &own.key, 0o644), "chmod 600"),
        (path("writable.key", &own.key, 0o620), "chmod 600"),
        (foreign, "do not go together"),
        (garbage.clone(), "has a BEGIN line"),
        (crt.clone(), "no private key"),
        (
            path("cut.key", own.key.split("-----END").next().unwrap(), 0o600),
            "has no END line",
        ),
        (
            path("not64.key", &own.key.replacen('M', "#", 1), 0o600),
            "is not valid base64",
        ),
        (crt.clone() + ".absent", "cannot be read"),
        ("/".to_owned(), "regular file"),
    ] {
        let refusal = reach(&ca, &crt, &key).await.unwrap_err();
        assert!(refusal.contains(expected) && refusal.contains(&key), "{refusal}");
    }
    // As libpq: a group may read what root owns.
    let shared = reach(&ca, &crt, &path("shared.key", &own.key, 0o640)).await;
    assert_eq!(shared.is_ok(), is_root(&server), "{shared:?}");

    let broken = authority.pem.replacen('M', "#", 1);
    let second = path("second.pem", &format!("{}{broken}", authority.pem), 0o644);
    let cut = path("cut.pem", authority.pem.split("-----END").next().unwrap(), 0o644);
    let hyphens = path(
        "hyphens.pem",
        &authority.pem.replacen("CERTIFICATE-----", "CERTIFICATE---", 1),
        0o644,
    );
    let no_x509 = path(
        "nox509.pem",
        "-----BEGIN CERTIFICATE-----\naHVzaA==\n-----END CERTIFICATE-----\n",
        0o644,
    );
    for (ca, crt, expected) in [
        (second, crt.clone(), "PEM block 2 is not valid base64"),
        (cut, crt.clone(), "PEM block 1 has no END line"),
        (hyphens, crt.clone(), "PEM block 1 has a BEGIN line"),
        (no_x509, crt.clone(), "no X.509 certificate"),
        (format!("{ca}.absent"), crt.clone(), "sslrootcert"),
        (garbage.clone(), crt.clone(), "sslrootcert"),
        (ca.clone(), garbage.clone(), "sslcert"),
    ] {
        let refusal = reach(&ca, &crt, &good).await.unwrap_err();
        assert!(refusal.contains(expected), "{refusal}");
    }
}

fn is_root(server: &TlsServer) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(server.file("mine", "", 0o600)).unwrap().uid() == 0
}

#[tokio::test]
async fn a_password_is_bound_to_the_servers_certificate() {
    let (_, certificate, _) = authorities();
    let server = TlsServer::encrypted(&certificate, EITHER).await;
    assert_eq!(
        server
            .reach("db.test", "sslmode=require&channel_binding=require")
            .await,
        Ok(true)
    );
    assert_eq!(
        server.reach("db.test", "sslmode=disable").await,
        Ok(false),
        "it also accepts unencrypted connections"
    );
    let refusal = server
        .refusal("db.test", "sslmode=disable&channel_binding=require")
        .await;
    assert!(refusal.contains("channel binding"), "{refusal}");
}

#[tokio::test]
async fn migrations_and_writers_are_encrypted_too() {
    let (authority, certificate, _) = authorities();
    let server = TlsServer::encrypted(&certificate, ENCRYPTED).await;
    let ca = format!(
        "sslrootcert={}",
        server.file("ca.pem", &authority.pem, 0o644).display()
    );
    let refusal = server.refusal("db.test", "sslmode=disable").await;
    assert!(refusal.contains("no encryption"), "{refusal}");

    let wrong = Database::from_url(&server.url("wrong.test", &ca)).unwrap();
    let refused = wrong.migrate().await.unwrap_err();
    assert!(refused.to_string().contains("subjectAltName"), "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("hush"), "{refused}");

    let database = Database::from_url(&server.url("db.test", &ca)).unwrap();
    assert!(!database.migrate().await.unwrap().is_empty());
    let (writer, _guard) = writer_to(database.clone()).start().unwrap();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    let seen = "SELECT string_agg(ssl::text, ' ') AS value FROM pg_stat_ssl \
                JOIN pg_stat_activity USING (pid) WHERE application_name = 'audit-writer'";
    assert_eq!(server.text(seen).await, "true");
}

/// The application's environment, with the certificate authorities of its system.
fn with<'a>(url: &'a str, authorities: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("DATABASE_URL", url),
        ("SSL_CERT_FILE", authorities),
        ("SSL_CERT_DIR", ""),
    ]
}

/// The line that the writer logs about a database that accepts no entries, and whether it reports a
/// misconfiguration.
fn complaint(url: &str, authorities: &str) -> (bool, String) {
    let output = app("await-a-moment", &with(url, authorities));
    let logged = lines(&output.stderr);
    let text = logged
        .iter()
        .find(|line| line.contains("entries wait"))
        .unwrap_or_else(|| panic!("{logged:?}"));
    assert!(!format!("{output:?}").contains("hush"), "{output:?}");
    (text.contains("is misconfigured"), text.clone())
}

#[tokio::test]
async fn the_writer_distinguishes_misconfigured_tls_from_an_outage() {
    let (authority, certificate, stranger) = authorities();
    let server = TlsServer::encrypted(&certificate, ENCRYPTED).await;
    let ca = server.file("ca.pem", &authority.pem, 0o644).display().to_string();
    let other = server
        .file("other.pem", &stranger.pem, 0o644)
        .display()
        .to_string();

    // The environment may name the authorities of the system.
    let url = server.url("db.test", "sslmode=verify-full");
    Database::from_url(&server.url("db.test", "sslmode=require"))
        .unwrap()
        .migrate()
        .await
        .unwrap();
    let output = app("await", &with(&url, &ca));
    assert_eq!(lines(&output.stdout)[1], "committed", "{output:?}");

    for (url, expected) in [
        (url.clone(), "sslrootcert"),
        (
            server.url("wrong.test", &format!("sslrootcert={ca}")),
            "subjectAltName",
        ),
        (
            server.url("db.test", &format!("sslrootcert={ca}.absent")),
            "cannot be read",
        ),
    ] {
        let (is_misconfigured, text) = complaint(&url, &other);
        assert!(is_misconfigured && text.contains(expected), "{text}");
    }
    let none = server.file("none.pem", "", 0o644).display().to_string();
    let (is_misconfigured, text) = complaint(&url, &none);
    assert!(is_misconfigured && text.contains("ca-certificates"), "{text}");
    let plain = TlsServer::plain().await;
    let (is_misconfigured, text) = complaint(&plain.url("db.test", "sslmode=require"), &ca);
    assert!(is_misconfigured && text.contains("ssl = on"), "{text}");
    let without = plain.url("db.test", "").replace(":hush", "");
    let (is_misconfigured, text) = complaint(&without, &ca);
    assert!(is_misconfigured && text.contains("password missing"), "{text}");

    server.stop();
    let (is_misconfigured, text) = complaint(&url, &ca);
    assert!(!is_misconfigured, "{text}");
}

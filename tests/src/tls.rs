//! Is the database reached encrypted, and is nobody else taken for it?

pub mod site;

use db_services::audit::{AuditEntry, Delivery};
use db_services::client::Database;
use site::{Authority, EITHER, ENCRYPTED, Signed, Site};

use crate::process::{app, lines};
use crate::support::writer_to;

/// An authority, its certificate for `db.test` and 127.0.0.1, and another authority.
fn authorities() -> (Authority, Signed, Authority) {
    let authority = Authority::new("authority");
    let signed = authority.sign(&["db.test", "127.0.0.1"]);
    (authority, signed, Authority::new("stranger"))
}

#[tokio::test]
async fn each_mode_takes_what_it_should() {
    let (authority, signed, stranger) = authorities();
    let site = Site::encrypted(&signed, EITHER).await;
    let ca = format!(
        "sslrootcert={}",
        site.file("ca.pem", &authority.pem, 0o644).display()
    );
    let other = format!(
        "sslrootcert={}",
        site.file("other.pem", &stranger.pem, 0o644).display()
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
            site.reach(host, &options).await,
            Ok(encrypted),
            "{host} {options}"
        );
    }

    for (host, options, said) in [
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
        // The server would take it unencrypted; that is no way out of a wrong certificate.
        ("db.test", format!("sslmode=prefer&{other}"), "in sslrootcert"),
        // The system's authorities.
        ("db.test", "sslmode=verify-full".to_owned(), "sslrootcert"),
        ("db.test", "sslrootcert=system".to_owned(), "sslrootcert"),
    ] {
        let refusal = site.refusal(host, &options).await;
        assert!(refusal.contains(said), "{host} {options}: {refusal}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_unless_preferred_only() {
    let (site, authority) = (Site::plain().await, Authority::new("authority"));
    let ca = format!(
        "sslrootcert={}",
        site.file("ca.pem", &authority.pem, 0o644).display()
    );
    assert_eq!(
        site.reach("db.test", "sslmode=prefer").await,
        Ok(false),
        "it can be reached"
    );
    assert_eq!(
        site.reach("db.test", &format!("sslmode=prefer&{ca}")).await,
        Ok(false)
    );
    for options in [
        "sslmode=require",
        "sslmode=verify-full",
        &format!("sslmode=require&{ca}"),
        &format!("sslmode=verify-ca&{ca}"),
        &ca,
    ] {
        let refusal = site.refusal("db.test", options).await;
        assert!(
            refusal.contains("does not support TLS") && refusal.contains("ssl = on"),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn a_certificate_counts_only_while_it_is_valid() {
    let authority = Authority::new("authority");
    let site = Site::encrypted(&authority.sign_expired(&["db.test"]), EITHER).await;
    let ca = format!(
        "sslrootcert={}",
        site.file("ca.pem", &authority.pem, 0o644).display()
    );
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let refusal = site.refusal("db.test", &format!("sslmode={mode}&{ca}")).await;
        assert!(
            refusal.contains("expired") && refusal.contains("renew"),
            "{mode}: {refusal}"
        );
    }
    assert_eq!(
        site.reach("db.test", "sslmode=require").await,
        Ok(true),
        "it was reached all along"
    );
    site.present(&authority.sign(&["db.test"]), EITHER);
    assert_eq!(site.reach("db.test", &ca).await, Ok(true));
}

#[tokio::test]
async fn an_authority_does_not_serve_as_server() {
    let authority = Authority::new("authority");
    let signed = authority.sign_as_authority(&["db.test"]);
    let site = Site::encrypted(&signed, EITHER).await;
    let ca = format!(
        "sslrootcert={}",
        site.file("ca.pem", &authority.pem, 0o644).display()
    );
    let refusal = site.refusal("db.test", &ca).await;
    assert!(refusal.contains("CA:FALSE"), "{refusal}");
    assert_eq!(
        site.reach("db.test", "sslmode=require").await,
        Ok(true),
        "it was reached all along"
    );
}

#[tokio::test]
async fn a_client_shows_its_certificate_when_asked() {
    let (authority, signed, stranger) = authorities();
    let site = Site::plain().await;
    site.sql("ALTER SYSTEM SET ssl = on").await;
    site.trust(&authority).await;
    site.present(&signed, &format!("{ENCRYPTED} clientcert=verify-full"));
    let ca = format!(
        "sslrootcert={}",
        site.file("ca.pem", &authority.pem, 0o644).display()
    );
    let shown = |name: &str, signed: &Signed| {
        let certificate = site.file(&format!("{name}.crt"), &signed.certificate, 0o644);
        let key = site.file(&format!("{name}.key"), &signed.key, 0o600);
        format!("{ca}&sslcert={}&sslkey={}", certificate.display(), key.display())
    };
    let mine = shown("app", &authority.sign(&["app"]));
    assert_eq!(site.reach("db.test", &mine).await, Ok(true));

    let refusal = site.refusal("db.test", &ca).await;
    assert!(refusal.contains("client certificate"), "{refusal}");
    let refusal = site
        .refusal("db.test", &shown("eve", &authority.sign(&["eve"])))
        .await;
    assert!(refusal.contains("authentication failed"), "{refusal}");
    // Which of two things is seen first, the server's alert or the end of the connection, is open.
    site.refusal("db.test", &shown("forged", &stranger.sign(&["app"])))
        .await;

    // The file is read for each connection: a renewed one counts at once.
    let database =
        Database::from_url(&site.url("db.test", &shown("late", &authority.sign(&["eve"])))).unwrap();
    assert!(database.connection().await.is_err());
    shown("late", &authority.sign(&["app"]));
    assert!(database.connection().await.is_ok());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let (authority, signed, stranger) = authorities();
    let site = Site::encrypted(&signed, ENCRYPTED).await;
    let own = authority.sign(&["app"]);
    let path = |name: &str, content: &str, mode| site.file(name, content, mode).display().to_string();
    let (ca, crt) = (
        path("ca.pem", &authority.pem, 0o644),
        path("app.crt", &own.certificate, 0o644),
    );
    let reach = async |ca: &str, crt: &str, key: &str| {
        site.reach("db.test", &format!("sslrootcert={ca}&sslcert={crt}&sslkey={key}"))
            .await
    };
    let good = path("good.key", &own.key, 0o600);
    assert_eq!(reach(&ca, &crt, &good).await, Ok(true));

    let foreign = path("foreign.key", &stranger.sign(&["app"]).key, 0o600);
    let garbage = path("garbage.key", "-----BEGIN hush", 0o600);
    for (key, said) in [
        (path("world.key", &own.key, 0o644), "chmod 600"),
        (path("writable.key", &own.key, 0o620), "chmod 600"),
        (foreign, "do not go together"),
        (garbage.clone(), "no private key"),
        (crt.clone() + ".absent", "cannot be read"),
        ("/".to_owned(), "regular file"),
    ] {
        let refusal = reach(&ca, &crt, &key).await.unwrap_err();
        assert!(refusal.contains(said) && refusal.contains(&key), "{refusal}");
    }
    // As libpq: a group may read what root owns.
    let shared = reach(&ca, &crt, &path("shared.key", &own.key, 0o640)).await;
    assert_eq!(shared.is_ok(), is_root(&site), "{shared:?}");

    for (ca, crt, said) in [
        (format!("{ca}.absent"), crt.clone(), "sslrootcert"),
        (garbage.clone(), crt.clone(), "sslrootcert"),
        (ca.clone(), garbage.clone(), "sslcert"),
    ] {
        let refusal = reach(&ca, &crt, &good).await.unwrap_err();
        assert!(refusal.contains(said), "{refusal}");
    }
}

fn is_root(site: &Site) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(site.file("mine", "", 0o600)).unwrap().uid() == 0
}

#[tokio::test]
async fn a_password_is_bound_to_the_servers_certificate() {
    let (_, signed, _) = authorities();
    let site = Site::encrypted(&signed, EITHER).await;
    assert_eq!(
        site.reach("db.test", "sslmode=require&channel_binding=require")
            .await,
        Ok(true)
    );
    assert_eq!(
        site.reach("db.test", "sslmode=disable").await,
        Ok(false),
        "it takes others as well"
    );
    let refusal = site
        .refusal("db.test", "sslmode=disable&channel_binding=require")
        .await;
    assert!(refusal.contains("channel binding"), "{refusal}");
}

#[tokio::test]
async fn migrations_and_writers_are_encrypted_too() {
    let (authority, signed, _) = authorities();
    let site = Site::encrypted(&signed, ENCRYPTED).await;
    let ca = format!(
        "sslrootcert={}",
        site.file("ca.pem", &authority.pem, 0o644).display()
    );
    let refusal = site.refusal("db.test", "sslmode=disable").await;
    assert!(refusal.contains("no encryption"), "{refusal}");

    let wrong = Database::from_url(&site.url("wrong.test", &ca)).unwrap();
    let refused = wrong.migrate().await.unwrap_err();
    assert!(refused.to_string().contains("subjectAltName"), "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("hush"), "{refused}");

    let database = Database::from_url(&site.url("db.test", &ca)).unwrap();
    assert!(!database.migrate().await.unwrap().is_empty());
    let (writer, _guard) = writer_to(database.clone()).start().unwrap();
    assert_eq!(writer.write(AuditEntry::new("x")).await, Delivery::Committed);
    let seen = "SELECT string_agg(ssl::text, ' ') AS value FROM pg_stat_ssl \
                JOIN pg_stat_activity USING (pid) WHERE application_name = 'audit-writer'";
    assert_eq!(site.text(seen).await, "true");
}

/// The application's environment, with the certificate authorities of its system.
fn with<'a>(url: &'a str, authorities: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("DATABASE_URL", url),
        ("SSL_CERT_FILE", authorities),
        ("SSL_CERT_DIR", ""),
    ]
}

/// What the writer logs about a database that takes nothing, and whether somebody must mend it.
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
async fn the_writer_tells_what_must_be_mended_from_what_will_pass() {
    let (authority, signed, stranger) = authorities();
    let site = Site::encrypted(&signed, ENCRYPTED).await;
    let ca = site.file("ca.pem", &authority.pem, 0o644).display().to_string();
    let other = site.file("other.pem", &stranger.pem, 0o644).display().to_string();

    // The system's authorities are those of the environment, if it names any.
    let url = site.url("db.test", "sslmode=verify-full");
    Database::from_url(&site.url("db.test", "sslmode=require"))
        .unwrap()
        .migrate()
        .await
        .unwrap();
    let output = app("await", &with(&url, &ca));
    assert_eq!(lines(&output.stdout)[1], "committed", "{output:?}");

    for (url, said) in [
        (url.clone(), "sslrootcert"),
        (
            site.url("wrong.test", &format!("sslrootcert={ca}")),
            "subjectAltName",
        ),
        (
            site.url("db.test", &format!("sslrootcert={ca}.absent")),
            "cannot be read",
        ),
    ] {
        let (must_be_mended, text) = complaint(&url, &other);
        assert!(must_be_mended && text.contains(said), "{text}");
    }
    let none = site.file("none.pem", "", 0o644).display().to_string();
    let (must_be_mended, text) = complaint(&url, &none);
    assert!(must_be_mended && text.contains("ca-certificates"), "{text}");
    let plain = Site::plain().await;
    let (must_be_mended, text) = complaint(&plain.url("db.test", "sslmode=require"), &ca);
    assert!(must_be_mended && text.contains("ssl = on"), "{text}");
    let without = plain.url("db.test", "").replace(":hush", "");
    let (must_be_mended, text) = complaint(&without, &ca);
    assert!(must_be_mended && text.contains("password missing"), "{text}");

    site.stop();
    let (must_be_mended, text) = complaint(&url, &ca);
    assert!(!must_be_mended, "{text}");
}

//! Which certificates are accepted: expired ones, those of authorities, and those with algorithms that are not supported.

use super::*;

#[tokio::test]
async fn an_expired_certificate_is_rejected() {
    let authority = Authority::new("authority");
    let server = TlsServer::encrypted(&authority.sign_expired(&["db.test"]), EITHER).await;
    let ca = format!(
        "sslrootcert={}",
        server.file("ca.pem", &authority.pem, 0o644).display()
    );
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let refusal = server.refusal("db.test", &format!("sslmode={mode}&{ca}")).await;
        assert!(
            refusal.contains("expired") && refusal.contains("renew"),
            "{mode}: {refusal}"
        );
    }
    assert_eq!(
        server.reach("db.test", "sslmode=require").await,
        Ok(true),
        "the server is reachable"
    );
    server.present(&authority.sign(&["db.test"]), EITHER);
    assert_eq!(server.reach("db.test", &ca).await, Ok(true));
}

#[tokio::test]
async fn a_certificate_of_an_authority_is_rejected_as_a_server_certificate() {
    let authority = Authority::new("authority");
    let certificate = authority.sign_as_authority(&["db.test"]);
    let server = TlsServer::encrypted(&certificate, EITHER).await;
    let ca = format!(
        "sslrootcert={}",
        server.file("ca.pem", &authority.pem, 0o644).display()
    );
    let refusal = server.refusal("db.test", &ca).await;
    assert!(refusal.contains("CA:FALSE"), "{refusal}");
    assert_eq!(
        server.reach("db.test", "sslmode=require").await,
        Ok(true),
        "the server is reachable"
    );
}

/// libpq (OpenSSL) refuses them as well.
#[tokio::test]
async fn a_certificate_in_sslrootcert_that_may_not_sign_others_is_rejected() {
    let server = TlsServer::encrypted(&Authority::new("first").sign(&["db.test"]), EITHER).await;
    let good = Authority::with("good", |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let expired = Authority::with("expired", |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let future = Authority::with("future", |params| params.not_before = date_time_ymd(2200, 1, 1));
    let no_authority = Authority::with("no authority", |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_extension = Authority::with("no extension", |params| params.is_ca = IsCa::NoCa);
    let no_signing = Authority::with("no signing", |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let clients_only = Authority::with("clients only", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    for (authority, expected) in [
        (&good, None),
        (&expired, Some("has expired")),
        (&future, Some("is not valid yet")),
        (&no_authority, Some("CA:TRUE")),
        (&no_extension, Some("CA:TRUE")),
        (&no_signing, Some("keyCertSign")),
        (&clients_only, Some("serverAuth")),
    ] {
        server.present(&authority.sign(&["db.test"]), EITHER);
        // The others in the file make no difference.
        let ca = server.file(
            "ca.pem",
            &format!("{}{}", Authority::new("stranger").pem, authority.pem),
            0o644,
        );
        for mode in ["require", "verify-ca", "verify-full"] {
            let options = format!("sslmode={mode}&sslrootcert={}", ca.display());
            match (server.reach("db.test", &options).await, expected) {
                (reached, None) => assert_eq!(reached, Ok(true), "{mode}"),
                (Ok(_), Some(expected)) => panic!("{mode}: accepted in spite of {expected}"),
                (Err(refusal), Some(expected)) => assert!(
                    refusal.contains(expected) && refusal.contains("certificate 2 in sslrootcert="),
                    "{mode}: {refusal}"
                ),
            }
        }
    }
}

/// As its own root it signs no other certificate.
#[tokio::test]
async fn a_self_signed_certificate_is_accepted_as_its_own_root() {
    let certificate = Certificate::self_signed(&["db.test"]);
    let server = TlsServer::encrypted(&certificate, EITHER).await;
    let ca = server
        .file("ca.pem", &certificate.pem, 0o644)
        .display()
        .to_string();
    let options = format!("sslmode=verify-full&sslrootcert={ca}");
    assert_eq!(server.reach("db.test", &options).await, Ok(true));
    let refusal = server.refusal("wrong.test", &options).await;
    assert!(refusal.contains("subjectAltName"), "{refusal}");
    server.present(&Certificate::self_signed(&["db.test"]), EITHER);
    let refusal = server.refusal("db.test", &options).await;
    assert!(refusal.contains("in sslrootcert"), "{refusal}");
}

#[tokio::test]
async fn algorithms_that_are_not_supported_are_named() {
    let server = TlsServer::plain().await;
    server.sql("ALTER SYSTEM SET ssl = on").await;
    // Of `openssl req -x509`, for a hundred years: rcgen with ring cannot create them.
    for file in [include_str!("p521.pem"), include_str!("sha512.pem")] {
        let (pem, key) = file.split_once("-----BEGIN PRIVATE").unwrap();
        let certificate = Certificate {
            pem: pem.to_owned(),
            key: format!("-----BEGIN PRIVATE{key}"),
        };
        server.present(&certificate, EITHER);
        let ca = server
            .file("ca.pem", &certificate.pem, 0o644)
            .display()
            .to_string();
        let refusal = server.refusal("db.test", &format!("sslrootcert={ca}")).await;
        assert!(
            refusal.contains("P-521 and ECDSA with SHA-512 are not supported"),
            "{refusal}"
        );
    }
}

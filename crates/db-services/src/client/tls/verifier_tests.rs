//! A server must hold the key of its certificate, even if the certificate itself is not verified.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::super::{Tls, Trust};

/// Shows a certificate, and signs with a key that may be another's.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn server(
    certificate: &str,
    key: &rcgen::KeyPair,
    version: &'static SupportedProtocolVersion,
) -> ServerConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key)))));
    ServerConnection::new(Arc::new(config)).unwrap()
}

/// Carries bytes to and fro until both are done, or one refuses.
fn shake_hands(mut client: ClientConnection, mut server: ServerConnection) -> Result<(), rustls::Error> {
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut io::Cursor::new(&wire)).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut io::Cursor::new(&wire)).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let (own, foreign) = (
        rcgen::KeyPair::generate().unwrap(),
        rcgen::KeyPair::generate().unwrap(),
    );
    let params = rcgen::CertificateParams::new(["db.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&own).unwrap().pem();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, &certificate).unwrap();

    for trust in [
        Trust::Anyone,
        Trust::Authority(file.clone()),
        Trust::Name(Some(file)),
    ] {
        let tls = Tls {
            trust,
            identity: None,
        };
        for version in [&TLS12, &TLS13] {
            let with = |key| {
                let config = Arc::new(tls.client_config().unwrap());
                let client = ClientConnection::new(config, "db.test".try_into().unwrap()).unwrap();
                shake_hands(client, server(&certificate, key, version))
            };
            assert_eq!(with(&own), Ok(()), "{tls:?} {version:?}");
            let refused = rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
            assert_eq!(with(&foreign), Err(refused), "{tls:?} {version:?}");
        }
    }
}

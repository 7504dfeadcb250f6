//! Verifies a server's certificate against the file in `sslrootcert`, or not at all.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::anchors::Anchors;

/// What a server's certificate must be. The server must always prove that it has the certificate's key:
/// channel binding rests on that.
#[derive(Debug)]
pub(super) enum Requirement {
    /// Any certificate.
    Any,
    /// Signed by one of these authorities, for any name.
    Authority(Anchors),
    /// Signed by one of these authorities, for the host's name.
    AuthorityAndName(Anchors),
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) requirement: Requirement,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.algorithms.all;
        match &self.requirement {
            Requirement::Any => {}
            Requirement::Authority(anchors) => {
                anchors.verify(certificate, intermediates, now, algorithms)?;
            }
            Requirement::AuthorityAndName(anchors) => {
                anchors.verify(certificate, intermediates, now, algorithms)?;
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;

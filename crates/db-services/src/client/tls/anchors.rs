//! The certificates in `sslrootcert`, and which of them may sign a server's certificate.

use std::path::{Path, PathBuf};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use x509_cert::certificate::{TbsCertificate, Version};
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5280::ID_KP_SERVER_AUTH;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

/// The certificates of a file. webpki looks at the name, the key and the name constraints of a trust anchor
/// alone; this module checks the rest that OpenSSL checks: its validity period, and that it may sign
/// certificates of servers.
#[derive(Debug)]
pub(super) struct Anchors {
    file: PathBuf,
    anchors: Vec<Anchor>,
}

#[derive(Debug)]
struct Anchor {
    certificate: CertificateDer<'static>,
    /// Seconds since 1970, both included.
    valid: (u64, u64),
    /// Why it may not sign certificates of servers.
    fault: Option<&'static str>,
}

/// A certificate in `sslrootcert` that signed the server's and may not.
#[derive(Debug, thiserror::Error)]
#[error("the server's certificate is signed by certificate {number} in sslrootcert={}, which {fault}", .file.display())]
pub(super) struct UnusableAnchor {
    file: PathBuf,
    /// Counted from 1.
    number: usize,
    fault: &'static str,
}

impl Anchors {
    pub(super) fn new(file: &Path, certificates: Vec<CertificateDer<'static>>) -> Self {
        Self {
            file: file.to_owned(),
            anchors: certificates.into_iter().map(Anchor::new).collect(),
        }
    }

    /// Verifies that a certificate is signed, perhaps through others, by one of these that may do so; or
    /// that it is one of these.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let signed_by = |anchors: &[&Anchor]| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(anchors.iter().map(|anchor| anchor.certificate.clone()));
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)
        };
        let may_sign = |anchor: &&Anchor| anchor.certificate == *certificate || anchor.fault(now).is_none();
        let anchors: Vec<&Anchor> = self.anchors.iter().filter(may_sign).collect();
        let refused = match signed_by(&anchors) {
            Err(error @ Error::InvalidCertificate(CertificateError::UnknownIssuer)) => error,
            verified => return verified,
        };
        // Is it one that may not sign? Then the fault is not the server's.
        for (index, anchor) in self.anchors.iter().enumerate() {
            if let Some(fault) = anchor.fault(now)
                && signed_by(&[anchor]).is_ok()
            {
                return Err(UnusableAnchor {
                    file: self.file.clone(),
                    number: index + 1,
                    fault,
                }
                .into());
            }
        }
        Err(refused)
    }
}

impl From<UnusableAnchor> for Error {
    fn from(unusable: UnusableAnchor) -> Self {
        let other = OtherError(std::sync::Arc::new(unusable));
        CertificateError::Other(other).into()
    }
}

impl Anchor {
    fn new(certificate: CertificateDer<'static>) -> Self {
        let (valid, fault) = match x509_cert::Certificate::from_der(&certificate) {
            Ok(parsed) => {
                let validity = parsed.tbs_certificate.validity;
                let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
                (
                    (seconds(validity.not_before), seconds(validity.not_after)),
                    fault(&parsed.tbs_certificate),
                )
            }
            Err(_) => ((0, u64::MAX), Some("cannot be parsed")),
        };
        Self {
            certificate,
            valid,
            fault,
        }
    }

    /// Why it may not sign certificates of servers now.
    fn fault(&self, now: UnixTime) -> Option<&'static str> {
        let (now, (from, to)) = (now.as_secs(), self.valid);
        match () {
            () if now < from => Some("is not valid yet"),
            () if now > to => Some("has expired"),
            () => self.fault,
        }
    }
}

/// Why a certificate may not sign certificates of servers: the rules of OpenSSL's `X509_check_purpose`.
fn fault(certificate: &TbsCertificate) -> Option<&'static str> {
    let unreadable = "has an extension that cannot be parsed";
    let (constraints, usage, purposes) = match (
        certificate.get::<BasicConstraints>(),
        certificate.get::<KeyUsage>(),
        certificate.get::<ExtendedKeyUsage>(),
    ) {
        (Ok(constraints), Ok(usage), Ok(purposes)) => (constraints, usage, purposes),
        _ => return Some(unreadable),
    };
    if usage.as_ref().is_some_and(|(_, usage)| !usage.key_cert_sign()) {
        return Some("may not sign certificates (keyUsage without keyCertSign)");
    }
    if purposes.is_some_and(|(_, purposes)| !purposes.0.contains(&ID_KP_SERVER_AUTH)) {
        return Some("may not sign certificates of servers (extendedKeyUsage without serverAuth)");
    }
    let is_authority = match constraints {
        Some((_, constraints)) => constraints.ca,
        // From before version 3 there are authorities without the extension.
        None => usage.is_some() || is_version_1_root(certificate),
    };
    (!is_authority).then_some("is not an authority's (basicConstraints without CA:TRUE)")
}

fn is_version_1_root(certificate: &TbsCertificate) -> bool {
    certificate.version == Version::V1 && certificate.issuer == certificate.subject
}

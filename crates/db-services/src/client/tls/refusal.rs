//! Classifies connection errors that have no SQLSTATE, and adds a hint.

use std::error::Error as _;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio_postgres::Error;

use super::Unusable;
use super::anchors::UnusableAnchor;
use crate::client::describe;

/// True if an attempt to connect failed, without a SQLSTATE, for a reason that does not pass by itself: a
/// certificate, a file, a server without TLS, a missing password. All else is the transport's, and
/// the driver shows it as an I/O error or as one without a cause.
pub(in crate::client) fn is_permanent(error: &Error) -> bool {
    match tls_error(error) {
        Some(
            TlsError::InappropriateMessage { .. }
            | TlsError::InappropriateHandshakeMessage { .. }
            | TlsError::InvalidMessage(_)
            | TlsError::DecryptError
            | TlsError::PeerMisbehaved(_)
            | TlsError::PeerSentOversizedRecord
            | TlsError::AlertReceived(AlertDescription::InternalError | AlertDescription::UserCanceled),
        ) => false,
        Some(_) => true,
        None => error.source().is_some_and(|cause| match cause.downcast_ref() {
            Some(Unusable::Unreadable(_)) => false,
            Some(Unusable::Wrong(_)) => true,
            None => !cause.is::<io::Error>(),
        }),
    }
}

/// The text of an error, with what to do about it where that is known.
pub(in crate::client) fn shown(error: &Error) -> String {
    let text = match tls_error(error) {
        // rustls shows errors of other crates in the form of their source code.
        Some(TlsError::InvalidCertificate(CertificateError::Other(other))) => other.0.to_string(),
        _ => describe(error),
    };
    match hint(error) {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}

/// What to do about an error. No hint weakens the verification: an attacker in between can cause any of
/// these errors.
fn hint(error: &Error) -> Option<&'static str> {
    match tls_error(error) {
        Some(TlsError::InvalidCertificate(error)) => certificate(error),
        Some(TlsError::AlertReceived(AlertDescription::HandshakeFailure)) => Some(ALGORITHMS),
        Some(TlsError::AlertReceived(_)) => Some(
            "the server broke off: check the certificate in sslcert, and that the server trusts its authority",
        ),
        Some(TlsError::PeerIncompatible(_)) => Some("the server must offer TLS 1.2 or 1.3"),
        Some(_) => None,
        // The driver's own words: no other trait tells a server without TLS.
        None => error
            .source()
            .filter(|cause| cause.to_string() == "server does not support TLS")
            .map(|_| "set ssl = on on the server"),
    }
}

const ALGORITHMS: &str = "the server's certificate must have an RSA key of 2048 to 8192 bits, an ECDSA key on \
     P-256 or P-384 signed with SHA-256 or SHA-384, or an Ed25519 key; P-521 and ECDSA with SHA-512 are not supported";

fn certificate(error: &CertificateError) -> Option<&'static str> {
    use CertificateError as E;
    Some(match error {
        E::Expired | E::ExpiredContext { .. } => "renew the server's certificate, or correct this clock",
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: correct the clocks"
        }
        E::UnknownIssuer => {
            "name the file of the authority that signed the server's certificate in sslrootcert"
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "connect by a name in the certificate's subjectAltName, where the common name does not count"
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => ALGORITHMS,
        E::Other(other) if other.0.is::<UnusableAnchor>() => {
            "name the file of an authority's valid certificate in sslrootcert"
        }
        E::BadEncoding | E::Other(_) => {
            "the server needs an X.509 certificate of version 3 that is not itself an authority's (CA:FALSE)"
        }
        _ => return None,
    })
}

/// The error of rustls: it is inside of an I/O error, which does not show it as its source.
fn tls_error(error: &Error) -> Option<&TlsError> {
    error
        .source()?
        .downcast_ref::<io::Error>()?
        .get_ref()?
        .downcast_ref()
}

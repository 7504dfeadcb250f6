//! Classifies connection failures that have no SQLSTATE, and adds a hint.

use std::error::Error as _;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio_postgres::Error;

/// True if an attempt to connect failed, without a SQLSTATE, for a reason that will not pass: a
/// certificate, a file, a server without TLS, a missing password. All else is the transport's, and
/// the driver shows it as an I/O error or as one without a cause.
pub(crate) fn needs_mending(error: &Error) -> bool {
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
        None => error.source().is_some_and(|cause| !cause.is::<io::Error>()),
    }
}

/// What to do about it, where that is known.
pub(crate) fn way_out(error: &Error) -> Option<&'static str> {
    match tls_error(error) {
        Some(TlsError::InvalidCertificate(error)) => certificate(error),
        Some(TlsError::AlertReceived(_)) => Some(
            "the server broke off: check the certificate in sslcert, and that the server trusts its authority",
        ),
        Some(TlsError::PeerIncompatible(_)) => Some("the server must offer TLS 1.2 or 1.3"),
        Some(_) => None,
        // The driver's own words: no other trait tells a server without TLS.
        None => error.source().filter(|cause| cause.to_string() == "server does not support TLS").map(
            |_| "set ssl = on there; or, if the network may be trusted, sslmode=disable in the database URL",
        ),
    }
}

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
            "connect by a name in the certificate's subjectAltName, where the common name does not \
             count; or use sslmode=verify-ca if its authority signs trusted servers only"
        }
        E::BadEncoding | E::Other(_) => {
            "the server needs an X.509 certificate of version 3 that is not itself an authority's (CA:FALSE)"
        }
        _ => return None,
    })
}

/// What rustls said: it stands inside of an I/O error, which does not show it as its source.
fn tls_error(error: &Error) -> Option<&TlsError> {
    error
        .source()?
        .downcast_ref::<io::Error>()?
        .get_ref()?
        .downcast_ref()
}

//! Reads certificate and key files, and checks the permissions of the key.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Unusable;

/// Reads all certificates of a PEM file.
pub(super) fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Err(pem::Error::Io(error)) => Err(unusable(option, path, &format!("cannot be read: {error}"))),
        _ => Err(unusable(option, path, "holds no certificate in PEM form")),
    }
}

/// Reads the certificates of the authorities to trust.
pub(super) fn authorities(path: &Path) -> Result<Arc<RootCertStore>, Unusable> {
    let roots = store(certificates("sslrootcert", path)?);
    roots.ok_or_else(|| unusable("sslrootcert", path, "holds no certificate that can be understood"))
}

/// Returns the authorities that the operating system trusts, or those that the environment's
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Read once: there are some three hundred files.
pub(super) fn system_authorities() -> Result<Arc<RootCertStore>, Unusable> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = SYSTEM.get() {
        return Ok(Arc::clone(roots));
    }
    let roots = store(rustls_native_certs::load_native_certs().certs).ok_or_else(|| {
        Unusable(
            "this system names no certificate authorities: install ca-certificates, or name the file of the \
             server's authority in sslrootcert"
                .to_owned(),
        )
    })?;
    Ok(Arc::clone(SYSTEM.get_or_init(|| roots)))
}

fn store(certificates: Vec<CertificateDer<'static>>) -> Option<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    // One of hundreds that cannot be understood is not trusted; the others still are.
    roots.add_parsable_certificates(certificates);
    (!roots.is_empty()).then(|| Arc::new(roots))
}

/// Reads the client's private key, if nobody else may.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let failed = |error: std::io::Error| unusable("sslkey", path, &format!("cannot be read: {error}"));
    let mut file = File::open(path).map_err(failed)?;
    // Of the file that is open, not of the path: that may lead elsewhere by now.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unusable("sslkey", path, "is not a regular file"));
    }
    if !is_private(&metadata) {
        return Err(unusable(
            "sslkey",
            path,
            "may be used by others; take their rights away (chmod 600, or 640 if root owns it)",
        ));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(failed)?;
    // Not the parser's message: it may quote the key.
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| {
        unusable(
            "sslkey",
            path,
            "holds no private key in PEM form that is not encrypted",
        )
    })
}

/// True if only its owner may use a file, or if root owns it and a group may read it: libpq's rule.
#[cfg(unix)]
fn is_private(metadata: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    metadata.mode() & forbidden == 0
}

/// Elsewhere a mode does not tell who may use a file.
#[cfg(not(unix))]
fn is_private(_: &Metadata) -> bool {
    true
}

fn unusable(option: &str, path: &Path, what: &str) -> Unusable {
    Unusable(format!("{option}={} {what}", path.display()))
}

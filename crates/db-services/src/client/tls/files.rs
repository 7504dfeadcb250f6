//! Reads certificate and key files, and checks the permissions of the key.

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_native_certs::ErrorKind;

use super::Unusable;
use super::anchors::Anchors;
use crate::files::is_transient;

/// Reads all certificates of a PEM file.
pub(super) fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let text = std::fs::read(path).map_err(|error| unreadable(option, path, &error))?;
    let mut certificates = Vec::new();
    for (index, block) in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text).enumerate() {
        match block {
            Ok((SectionKind::Certificate, der)) => certificates.push(CertificateDer::from(der)),
            Ok(_) => {}
            Err(error) => {
                let what = format!("is broken: PEM block {} {}", index + 1, defect(&error));
                return Err(unusable(option, path, &what));
            }
        }
    }
    match certificates.is_empty() {
        true => Err(unusable(option, path, "holds no certificate in PEM form")),
        false => Ok(certificates),
    }
}

/// What is wrong with a block. Not the parser's message: it may quote a key.
fn defect(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "has no END line",
        PemError::IllegalSectionStart { .. } => "has a BEGIN line that does not end with five hyphens",
        PemError::Base64Decode(_) => "is not valid base64",
        _ => "cannot be read",
    }
}

/// Reads the certificates of the authorities to trust.
pub(super) fn authorities(path: &Path) -> Result<Anchors, Unusable> {
    let certificates = certificates("sslrootcert", path)?;
    match store(certificates.clone()) {
        Some(_) => Ok(Anchors::new(path, certificates)),
        None => Err(unusable("sslrootcert", path, "holds no X.509 certificate")),
    }
}

/// Returns the authorities that the operating system trusts, or those that the environment's
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Read once: there are some three hundred files. A list that is incomplete, since
/// the process could open no more files, is not kept: a server whose authority is missing would be refused until a restart.
pub(super) fn system_authorities() -> Result<Arc<RootCertStore>, Unusable> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = SYSTEM.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.iter().find(|error| passes(error)) {
        let text = format!("the system's certificate authorities cannot be read: {error}");
        return Err(Unusable::Unreadable(text));
    }
    let roots = store(found.certs).ok_or_else(|| {
        Unusable::Wrong(
            "this system names no certificate authorities: install ca-certificates, or name the file of the \
             server's authority in sslrootcert"
                .to_owned(),
        )
    })?;
    Ok(Arc::clone(SYSTEM.get_or_init(|| Arc::new(roots))))
}

/// True if the next attempt may read what this one could not.
fn passes(error: &rustls_native_certs::Error) -> bool {
    matches!(&error.kind, ErrorKind::Io { inner, .. } if is_transient(inner))
}

fn store(certificates: Vec<CertificateDer<'static>>) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // One of hundreds that cannot be parsed is not trusted; the others still are.
    roots.add_parsable_certificates(certificates);
    (!roots.is_empty()).then_some(roots)
}

/// Reads the client's private key, if nobody else may.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    let failed = |error: std::io::Error| unreadable("sslkey", path, &error);
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
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let what = match error {
            PemError::NoItemsFound => "holds no private key in PEM form that is not encrypted".to_owned(),
            error => format!("is broken: a PEM block {}", defect(&error)),
        };
        unusable("sslkey", path, &what)
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
    Unusable::Wrong(format!("{option}={} {what}", path.display()))
}

fn unreadable(option: &str, path: &Path, error: &std::io::Error) -> Unusable {
    let text = format!("{option}={} cannot be read: {error}", path.display());
    match is_transient(error) {
        true => Unusable::Unreadable(text),
        false => Unusable::Wrong(text),
    }
}

#[cfg(all(test, unix))]
#[path = "files_tests.rs"]
mod tests;

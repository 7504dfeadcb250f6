//! Encryption of connections to PostgreSQL, and the trust in their certificates.

mod anchors;
mod files;
mod options;
mod refusal;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder};
use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

pub(super) use options::{Options, Reach};
pub(super) use refusal::{is_permanent, shown};
use verifier::{Requirement, Verifier};

/// How connections are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Not at all: the URL says so, or all hosts are Unix sockets.
    Never,
    /// Not at all, and only addresses of this machine are connected to: the URL says nothing.
    OnlyLoopback,
    /// With TLS; with [`SslMode::Prefer`], only if the server offers it.
    Tls { mode: SslMode, tls: Tls },
}

/// The TLS connector for the options of a URL. It reads its files for each connection, as libpq does: a
/// renewed certificate counts without a restart, and a file may be created later than the program starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    trust: Trust,
    identity: Option<Identity>,
}

/// The servers whose certificate is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trust {
    /// Any: this protects against passive listeners, not against an attacker in between.
    Anyone,
    /// Those with a certificate of an authority in this file, for any name.
    Authority(PathBuf),
    /// Those with a certificate for the host's name, of an authority in this file, else of one that
    /// the system trusts.
    Name(Option<PathBuf>),
}

/// Files with the client's own certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why TLS cannot be set up on this side: a file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// An operator must correct something.
    #[error("{0}")]
    Wrong(String),
    /// It cannot be read now: the process has too many open files, or the disk fails.
    #[error("{0}")]
    Unreadable(String),
}

impl Tls {
    fn client_config(&self) -> Result<ClientConfig, Unusable> {
        // Named, not installed as the process's default: that choice is the application's.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = self.verifying(provider)?;
        let Some(Identity { certificate, key }) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = files::certificates("sslcert", certificate)?;
        builder
            .with_client_auth_cert(chain, files::private_key(key)?)
            .map_err(|error| {
                Unusable::Wrong(format!(
                    "the certificate in sslcert={} and the key in sslkey={} do not go together: {error}",
                    certificate.display(),
                    key.display()
                ))
            })
    }

    fn verifying(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Unusable> {
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::Wrong(error.to_string()))?;
        let requirement = match &self.trust {
            Trust::Name(None) => return Ok(builder.with_root_certificates(files::system_authorities()?)),
            Trust::Name(Some(file)) => Requirement::AuthorityAndName(files::authorities(file)?),
            Trust::Authority(file) => Requirement::Authority(files::authorities(file)?),
            Trust::Anyone => Requirement::Any,
        };
        let verifier = Verifier {
            requirement,
            algorithms,
        };
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = Unusable;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Unusable> {
        let mut connector = MakeRustlsConnect::new(self.client_config()?);
        MakeTlsConnect::<Socket>::make_tls_connect(&mut connector, host).map_err(|never| match never {})
    }
}

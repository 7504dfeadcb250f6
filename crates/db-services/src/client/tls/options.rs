//! The TLS parameters of a URL.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::SslMode;

use super::{Encryption, Identity, Tls, Trust};

/// libpq's options about TLS that are not supported. None may be ignored: each asks for more security.
const UNSUPPORTED: [&str; 9] = [
    "requiressl",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
];

/// The TLS options of a URL, which tokio-postgres knows in part only.
#[derive(Debug, Default)]
pub(in crate::client) struct Options {
    mode: Option<Mode>,
    root: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// How far away the hosts of a URL are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client) enum Reach {
    /// All behind Unix sockets.
    Socket,
    /// All on this machine, some by TCP.
    Loopback,
    /// Some on other machines.
    Network,
}

impl Options {
    /// Takes an option of a URL if it is about TLS; true if it is. The name is decoded, the value is not.
    pub(in crate::client) fn take(&mut self, name: &str, value: &str) -> Result<bool, &'static str> {
        let place = match name {
            "sslmode" => {
                let mode = Mode::named(value)?;
                return if self.mode.replace(mode).is_some() {
                    Err("sslmode is given twice")
                } else {
                    Ok(true)
                };
            }
            "sslrootcert" => &mut self.root,
            "sslcert" => &mut self.certificate,
            "sslkey" => &mut self.key,
            _ if UNSUPPORTED.contains(&name) => {
                return Err(
                    "of libpq's TLS options only sslmode, sslrootcert, sslcert and sslkey are supported",
                );
            }
            _ => return Ok(false),
        };
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| "the name of a file is not valid UTF-8")?;
        if value.is_empty() {
            return Err("sslrootcert, sslcert and sslkey must name a file");
        }
        match place.replace(value.into_owned()) {
            Some(_) => Err("sslrootcert, sslcert or sslkey is given twice"),
            None => Ok(true),
        }
    }

    /// Decides how connections are encrypted.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub(in crate::client) fn decide(self, reach: Reach) -> Result<Encryption, &'static str> {
        let identity = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some(Identity {
                certificate: certificate.into(),
                key: key.into(),
            }),
            (None, None) => None,
            _ => return Err("sslcert and sslkey need each other"),
        };
        let asked = self.root.is_some() || identity.is_some();
        let mode = match self.mode {
            // PostgreSQL has no TLS on Unix sockets; libpq ignores the options as well.
            _ if reach == Reach::Socket => return Ok(Encryption::Never),
            Some(mode) => mode,
            None if asked || reach == Reach::Network => Mode::VerifyFull,
            None => return Ok(Encryption::OnlyLoopback),
        };
        let system = self.root.as_deref() == Some("system");
        if system && !matches!(mode, Mode::VerifyFull | Mode::Disable) {
            return Err(
                "anybody can have a certificate of an authority that the system trusts: \
                        sslrootcert=system needs sslmode=verify-full",
            );
        }
        let root = self.root.filter(|_| !system).map(PathBuf::from);
        let trust = match (mode, root) {
            (Mode::Disable, _) => return Ok(Encryption::Never),
            (Mode::VerifyFull, root) => Trust::Name(root),
            (_, Some(file)) => Trust::Authority(file),
            (Mode::VerifyCa, None) => return Err("sslmode=verify-ca needs sslrootcert=FILE"),
            (Mode::Prefer | Mode::Require, None) => Trust::Anyone,
        };
        let mode = if mode == Mode::Prefer {
            SslMode::Prefer
        } else {
            SslMode::Require
        };
        Ok(Encryption::Tls {
            mode,
            tls: Tls { trust, identity },
        })
    }
}

impl Mode {
    /// Not with the value in the message: it may be a piece of a password.
    fn named(value: &str) -> Result<Self, &'static str> {
        Ok(match value {
            "disable" => Self::Disable,
            // `allow` accepts either as well, and encrypted first is never worse.
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(
                    "unknown sslmode; expected disable, allow, prefer, require, verify-ca or verify-full",
                );
            }
        })
    }
}

impl Encryption {
    /// The driver's mode.
    pub(in crate::client) fn mode(&self) -> SslMode {
        match self {
            Self::Never | Self::OnlyLoopback => SslMode::Disable,
            Self::Tls { mode, .. } => *mode,
        }
    }

    /// What an attacker could do to encrypted connections to other machines.
    pub(in crate::client) fn weakness(&self) -> Option<&'static str> {
        match self {
            Self::Tls {
                mode: SslMode::Prefer,
                ..
            } => Some("with sslmode=prefer, an attacker in between can switch encryption off"),
            Self::Tls { tls, .. } if tls.trust == Trust::Anyone => {
                Some("with sslmode=require and no sslrootcert, any certificate is accepted")
            }
            _ => None,
        }
    }
}

//! The TLS parameters of a URL.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::SslMode;

use super::{Identity, Tls, Trust};

/// libpq's options about TLS that are not supported. None may be overlooked: each asks for more care.
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

/// How connections are to be made.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client) struct Encryption {
    pub(in crate::client) mode: SslMode,
    /// None for [`SslMode::Disable`].
    pub(in crate::client) tls: Option<Tls>,
}

impl Options {
    /// Takes the TLS options out of a URL, and returns the URL without them. The query begins where
    /// tokio-postgres sees it begin: at the first `?` after the first `@`.
    pub(in crate::client) fn take_from(url: &str) -> Result<(Self, String), &'static str> {
        let credentials = url.find('@').unwrap_or(0);
        let Some(question) = url[credentials..].find('?').map(|at| credentials + at) else {
            return Ok((Self::default(), url.to_owned()));
        };
        let (base, query) = (&url[..question], &url[question + 1..]);
        let mut options = Self::default();
        let mut others = Vec::new();
        for option in query.split('&') {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if !options.take(name, value)? {
                others.push(option);
            }
        }
        let rest = if others.is_empty() {
            String::new()
        } else {
            format!("?{}", others.join("&"))
        };
        Ok((options, format!("{base}{rest}")))
    }

    /// True if the option is one about TLS.
    fn take(&mut self, name: &str, value: &str) -> Result<bool, &'static str> {
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
            .map_err(|_| "a file's name is no UTF-8")?;
        if value.is_empty() {
            return Err("sslrootcert, sslcert and sslkey must name a file");
        }
        match place.replace(value.into_owned()) {
            Some(_) => Err("sslrootcert, sslcert or sslkey is given twice"),
            None => Ok(true),
        }
    }

    /// Decides how connections are made, or what speaks against it.
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
            // PostgreSQL has no TLS on Unix sockets; libpq overlooks the options as well.
            _ if reach == Reach::Socket => Mode::Disable,
            Some(mode) => mode,
            None if asked || reach == Reach::Network => Mode::VerifyFull,
            None => Mode::Disable,
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
            (Mode::Disable, _) => {
                return Ok(Encryption {
                    mode: SslMode::Disable,
                    tls: None,
                });
            }
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
        Ok(Encryption {
            mode,
            tls: Some(Tls { trust, identity }),
        })
    }
}

impl Mode {
    /// Not with the value in the message: it may be a piece of a password.
    fn named(value: &str) -> Result<Self, &'static str> {
        Ok(match value {
            "disable" => Self::Disable,
            // With `allow` one takes either as well. Encrypted first cannot be worse.
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
    /// What a listener could do about connections to other machines, where it can do anything.
    pub(in crate::client) fn weakness(&self) -> Option<&'static str> {
        match (self.mode, &self.tls) {
            (SslMode::Prefer, _) => Some("sslmode=prefer lets whoever sits in between switch encryption off"),
            (
                _,
                Some(Tls {
                    trust: Trust::Anyone, ..
                }),
            ) => Some("sslmode=require without sslrootcert does not look whose certificate it is"),
            _ => None,
        }
    }
}

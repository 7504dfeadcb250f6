//! Why no server of a URL could be connected to.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::hosts::Server;
use super::tls;

/// The error of each address that was tried, in the order of the attempts. Shows all of them, and no
/// password.
#[derive(Debug, Default)]
pub(crate) struct ConnectError(Vec<(String, Failure)>);

/// Why one address could not be connected to.
#[derive(Debug)]
pub(super) enum Failure {
    /// The driver's error: of the transport, of TLS, or the server's answer.
    Driver(Error),
    /// The host's name has no address.
    Unresolved(io::Error),
    LookUpTimedOut(Duration),
    TimedOut(Duration),
    /// The host was taken for this machine, and its address is that of another one.
    NotLoopback,
}

impl ConnectError {
    pub(super) fn push(&mut self, server: &Server, failure: Failure) {
        self.0.push((server.to_string(), failure));
    }

    /// The SQLSTATE of the server that answered last: it says more than a server that did not answer.
    pub(crate) fn code(&self) -> Option<&SqlState> {
        self.0.iter().rev().find_map(|(_, failure)| failure.code())
    }

    /// True if, without a SQLSTATE, an operator must correct something on one of the servers or here. A
    /// server that is merely not reachable does not hide that.
    pub(crate) fn is_permanent(&self) -> bool {
        self.0.iter().any(|(_, failure)| failure.is_permanent())
    }
}

impl Failure {
    /// True if the servers that follow are not tried: this one refused the login (class 28), or does not have the
    /// database (3D) or a right in it (42). Other errors are of this server alone. libpq tries others only after 57P03.
    pub(super) fn is_final(&self) -> bool {
        let classes = ["28", "3D", "42"];
        self.code()
            .is_some_and(|code| classes.iter().any(|class| code.code().starts_with(class)))
    }

    fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Driver(error) => error.code(),
            _ => None,
        }
    }

    fn is_permanent(&self) -> bool {
        match self {
            Self::Driver(error) => error.code().is_none() && tls::is_permanent(error),
            Self::NotLoopback => true,
            Self::Unresolved(_) | Self::LookUpTimedOut(_) | Self::TimedOut(_) => false,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => f.write_str("the URL names no host"),
            [(_, failure)] => write!(f, "{failure}"),
            failures => {
                let each: Vec<String> = failures
                    .iter()
                    .map(|(server, failure)| format!("{server}: {failure}"))
                    .collect();
                f.write_str(&each.join("; "))
            }
        }
    }
}

impl std::error::Error for ConnectError {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => match error.as_db_error() {
                Some(server) => f.write_str(server.message()),
                None => f.write_str(&tls::shown(error)),
            },
            Self::Unresolved(error) => write!(f, "the host's name cannot be resolved: {error}"),
            Self::LookUpTimedOut(limit) => {
                write!(f, "the host's name was not resolved within {limit:?}")
            }
            Self::TimedOut(limit) => write!(
                f,
                "connecting, with TLS and authentication, took longer than {limit:?}"
            ),
            Self::NotLoopback => f.write_str(
                "this address belongs to another machine, and the connection would not be encrypted (add \
                 sslmode=verify-full to the database URL, or correct the resolution of the name)",
            ),
        }
    }
}

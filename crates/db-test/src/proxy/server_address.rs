//! The address of the server of a URL, and the URL through the proxy.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::SetupError;

/// The address of a server.
#[derive(Clone, Debug)]
pub(super) enum ServerAddress {
    Unix(PathBuf),
    Tcp(String, u16),
}

/// A connection to a server.
pub(super) trait ServerStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> ServerStream for S {}

impl ServerAddress {
    /// The address of the first host in the URL.
    pub(super) fn of(url: &str) -> Result<Self, SetupError> {
        // Not the parser's error, which may quote a password.
        let unclear =
            || SetupError::proxy("reading the server's URL")(std::io::ErrorKind::InvalidInput.into());
        let config: Config = url.parse().map_err(|_| unclear())?;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        Ok(match config.get_hosts().first().ok_or_else(unclear)? {
            Host::Unix(dir) => Self::Unix(dir.join(format!(".s.PGSQL.{port}"))),
            Host::Tcp(name) => Self::Tcp(name.clone(), port),
        })
    }

    pub(super) async fn connect(&self) -> std::io::Result<Box<dyn ServerStream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(name, port) => {
                let server = TcpStream::connect((name.as_str(), *port)).await?;
                server.set_nodelay(true)?;
                Box::new(server)
            }
        })
    }
}

/// The URL with the host and port of the proxy.
pub(super) fn through_proxy(url: &str, address: SocketAddr) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let user = authority
        .rsplit_once('@')
        .map(|(user, _)| format!("{user}@"))
        .unwrap_or_default();
    format!("{scheme}://{user}{address}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_and_port_of_the_url_change() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        for (url, expected) in [
            (
                "postgres://postgres@%2Ftmp%2Fa/shop",
                "postgres://postgres@127.0.0.1:4711/shop",
            ),
            (
                "postgres://u:p%40@db:1/x?sslmode=disable",
                "postgres://u:p%40@127.0.0.1:4711/x?sslmode=disable",
            ),
            ("postgresql://db", "postgresql://127.0.0.1:4711"),
        ] {
            assert_eq!(through_proxy(url, address), expected);
        }
    }

    #[test]
    fn unix_sockets_and_tcp_ports_are_found() {
        let found = |url| format!("{:?}", ServerAddress::of(url).unwrap());
        assert_eq!(
            found("postgres://u@%2Ftmp%2Fa/x"),
            r#"Unix("/tmp/a/.s.PGSQL.5432")"#
        );
        assert_eq!(found("postgres://u@db:5433/x"), r#"Tcp("db", 5433)"#);
        let error = ServerAddress::of("postgres://u:hush@[").unwrap_err().to_string();
        assert!(error.contains("URL") && !error.contains("hush"), "{error}");
    }
}

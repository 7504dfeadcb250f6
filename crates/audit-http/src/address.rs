//! The client's address, across proxies that are trusted.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use crate::forwarded::{address, forwarded, pop_element};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of the proxies in front of a service, and the header in which they name the client.
///
/// The list in the header is walked from the right, as the proxies have appended to it, while the address is that of a
/// trusted proxy. The first one that is not is the client's. An element that is no address (`unknown`, `_hidden`, a
/// name) ends the walk: the client's address is then that of the last proxy. Elements further left are never read:
/// the client has sent them. The same holds if the peer itself is not trusted.
///
/// One header counts: a proxy that sets the one passes on the other as the client has sent it. Several lines of it are
/// one list. An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) counts as IPv4.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: Header,
}

#[derive(Clone, Copy, Debug)]
enum Header {
    XForwardedFor,
    Forwarded,
}

/// The text is neither an address nor a network in CIDR notation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an address nor a network: write 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32")]
pub struct NotANetwork(String);

impl TrustedProxies {
    /// Trusts proxies in these networks, which append the address of their peer to `X-Forwarded-For`.
    ///
    /// # Errors
    /// When a text is neither an address nor a network.
    pub fn x_forwarded_for<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, NotANetwork> {
        Self::new(networks, Header::XForwardedFor)
    }

    /// Trusts proxies in these networks, which append the address of their peer to `Forwarded` (RFC 7239).
    ///
    /// # Errors
    /// When a text is neither an address nor a network.
    pub fn forwarded<N: AsRef<str>>(networks: impl IntoIterator<Item = N>) -> Result<Self, NotANetwork> {
        Self::new(networks, Header::Forwarded)
    }

    fn new<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
        header: Header,
    ) -> Result<Self, NotANetwork> {
        let networks = networks
            .into_iter()
            .map(|network| parse_network(network.as_ref()));
        Ok(Self {
            networks: networks.collect::<Result<_, _>>()?,
            header,
        })
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client's address.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            Header::XForwardedFor => (X_FORWARDED_FOR, address),
            Header::Forwarded => (FORWARDED, forwarded),
        };
        let mut client = peer;
        for line in headers.get_all(name).iter().rev() {
            // Bytes that are no UTF-8 make their own element unreadable, and no other one.
            let line = String::from_utf8_lossy(line.as_bytes());
            let mut list = &*line;
            while self.trusts(client) {
                let Some(element) = pop_element(&mut list, b',') else {
                    break;
                };
                let Some(hop) = read(element) else { return client };
                client = hop;
            }
        }
        client
    }
}

fn parse_network(text: &str) -> Result<IpNet, NotANetwork> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let network = text.parse().ok().or_else(address);
    network.map(canonical).ok_or_else(|| NotANetwork(text.to_owned()))
}

/// An IPv4 network that is written as IPv6 (`::ffff:10.0.0.0/104`) as IPv4, since the addresses are compared as that.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let address = mapped.addr().to_ipv4_mapped();
    let length = mapped.prefix_len().checked_sub(96);
    let network = address
        .zip(length)
        .and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    network.map_or(IpNet::V6(mapped), IpNet::V4)
}

//! The client's address, across trusted and untrusted proxies.

use std::net::{IpAddr, Ipv4Addr};

use audit_http::{AuditLayer, TrustedProxies};
use http::HeaderValue;
use proptest::prelude::*;

use crate::app::{entries, router, signed_out};

const XFF: &str = "x-forwarded-for";

async fn address(layer: AuditLayer, peer: &str, headers: &[(&str, &str)]) -> String {
    let entry = signed_out(layer, peer, headers).await;
    entry.ip_address.unwrap().addr().to_string()
}

fn x_forwarded_for() -> AuditLayer {
    let proxies = TrustedProxies::x_forwarded_for(["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.250"]);
    AuditLayer::new().trust(proxies.unwrap())
}

fn forwarded() -> AuditLayer {
    AuditLayer::new().trust(TrustedProxies::forwarded(["10.0.0.0/8", "2001:db8:ffff::/48"]).unwrap())
}

#[tokio::test]
async fn nobody_is_trusted_by_default() {
    let headers = [(XFF, "198.51.100.1"), ("forwarded", "for=198.51.100.1")];
    assert_eq!(address(AuditLayer::new(), "10.0.0.1", &headers).await, "10.0.0.1");
}

#[tokio::test]
async fn a_network_of_ipv4_that_is_written_as_ipv6_is_trusted() {
    let headers = [(XFF, "203.0.113.7")];
    for network in ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "::ffff:10.0.0.1/128"] {
        let layer = AuditLayer::new().trust(TrustedProxies::x_forwarded_for([network]).unwrap());
        for peer in ["10.0.0.1", "[::ffff:10.0.0.1]"] {
            assert_eq!(
                address(layer.clone(), peer, &headers).await,
                "203.0.113.7",
                "{network}"
            );
        }
        assert_eq!(
            address(layer, "192.0.2.1", &headers).await,
            "192.0.2.1",
            "{network}"
        );
    }
}

#[tokio::test]
async fn the_list_is_walked_from_the_right_to_the_first_untrusted_hop() {
    let cases: [(&str, &[&str], &str); 22] = [
        // A peer that is not trusted is the client, whatever it sends.
        ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
        ("203.0.113.9", &["198.51.100.1, 10.0.0.1"], "203.0.113.9"),
        // One proxy, and what a client has sent before it.
        ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", &["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", &["10.9.9.9, 203.0.113.7"], "203.0.113.7"),
        ("192.0.2.250", &["203.0.113.7"], "203.0.113.7"),
        // Several, in one line or in several.
        ("10.0.0.1", &["203.0.113.7, 10.0.0.3, 10.0.0.2"], "203.0.113.7"),
        (
            "10.0.0.1",
            &["198.51.100.1", "203.0.113.7, 10.0.0.3", "10.0.0.2"],
            "203.0.113.7",
        ),
        // All of them trusted, none, and an empty list.
        ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &[""], "10.0.0.1"),
        // A hop that is no address ends the walk.
        ("10.0.0.1", &["203.0.113.7, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["203.0.113.7, , 10.0.0.2"], "10.0.0.2"),
        // … and the lines before are the client's own.
        ("10.0.0.1", &["198.51.100.1", "unknown"], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.1", "unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["203.0.113.7, proxy.example, 10.0.0.2"], "10.0.0.2"),
        // IPv6 and ports.
        ("[2001:db8:ffff::1]", &["2001:db8::7"], "2001:db8::7"),
        ("[2001:db8:ffff::1]", &["[2001:db8::7]"], "2001:db8::7"),
        (
            "[2001:db8:ffff::1]",
            &["[2001:db8::7]:443, [2001:db8:ffff::2]:1"],
            "2001:db8::7",
        ),
        ("10.0.0.1", &["203.0.113.7:5151, 10.0.0.2:80"], "203.0.113.7"),
        // IPv4 written as IPv6.
        ("[::ffff:10.0.0.1]", &["::ffff:203.0.113.7"], "203.0.113.7"),
        ("[::ffff:203.0.113.9]", &["198.51.100.1"], "203.0.113.9"),
    ];
    for (peer, lines, expected) in cases {
        let headers: Vec<_> = lines.iter().map(|line| (XFF, *line)).collect();
        assert_eq!(
            address(x_forwarded_for(), peer, &headers).await,
            expected,
            "{peer} {lines:?}"
        );
    }
}

#[tokio::test]
async fn forwarded_is_walked_in_the_same_way() {
    let cases: [(&[&str], &str); 9] = [
        (&["for=203.0.113.7"], "203.0.113.7"),
        (
            &["for=127.0.0.1;by=10.0.0.9, For=\"203.0.113.7:5151\";proto=https"],
            "203.0.113.7",
        ),
        (&["for=\"[2001:db8::7]:443\"", "for=10.0.0.2"], "2001:db8::7"),
        (&["for=\"a, for=10.0.0.9\", for=203.0.113.7"], "203.0.113.7"),
        // A quote that a client left open hides nothing that a proxy appended.
        (&["for=\", for=203.0.113.7"], "203.0.113.7"),
        (&["for=203.0.113.7, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
        (&["for=203.0.113.7, for=unknown"], "10.0.0.1"),
        (&["for=203.0.113.7, proto=https"], "10.0.0.1"),
        (&["for=2001:db8::7, for=10.0.0.2;for=10.0.0.3"], "10.0.0.1"),
    ];
    for (lines, expected) in cases {
        let headers: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
        assert_eq!(
            address(forwarded(), "10.0.0.1", &headers).await,
            expected,
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn only_the_header_that_was_named_counts() {
    let headers = [(XFF, "198.51.100.1"), ("forwarded", "for=203.0.113.7")];
    assert_eq!(address(forwarded(), "10.0.0.1", &headers).await, "203.0.113.7");
    assert_eq!(
        address(x_forwarded_for(), "10.0.0.1", &headers).await,
        "198.51.100.1"
    );
}

#[tokio::test]
async fn bytes_that_are_no_text_hide_no_hop_to_their_right() {
    let hop = |line: &[u8]| {
        let mut request = crate::app::request("/sign-out", "10.0.0.1", &[]);
        let line = HeaderValue::from_bytes(line).unwrap();
        request.headers_mut().insert(XFF, line);
        async {
            let rows = entries(router().layer(x_forwarded_for()), request).await;
            rows[0].ip_address.unwrap().addr()
        }
    };
    assert_eq!(hop(b"\xff, 203.0.113.7").await, IpAddr::from([203, 0, 113, 7]));
    assert_eq!(
        hop(b"198.51.100.1, \xff, 10.0.0.2").await,
        IpAddr::from([10, 0, 0, 2])
    );
    assert_eq!(
        hop(b"198.51.100.1, 10.0.0.3\xff").await,
        IpAddr::from([10, 0, 0, 1])
    );
}

#[test]
fn a_network_that_is_none_is_named() {
    let error = TrustedProxies::forwarded(["10.0.0.0/8", "10.0.0/33"]).unwrap_err();
    assert!(error.to_string().contains("10.0.0/33"), "{error}");
}

proptest! {
    /// Whatever a client sends, in however many lines: its address is what the trusted proxy appended.
    #[test]
    fn what_an_untrusted_client_sends_is_never_believed(
        lines in prop::collection::vec("([ -~]|[\"\\\\,;= ]|for=10\\.0\\.0\\.1|10\\.0\\.0\\.1){0,12}", 0..4),
        client in any::<[u8; 4]>().prop_map(Ipv4Addr::from).prop_filter("untrusted", |ip| ip.octets()[0] != 10),
        appends_to_line in any::<bool>(),
        quoted in any::<bool>(),
    ) {
        let element = if quoted { format!("for=\"{client}\"") } else { format!("for={client}") };
        let append = |lines: &[String], element: &str| {
            let mut lines = lines.to_vec();
            match lines.last_mut() {
                Some(last) if appends_to_line => *last = format!("{last}, {element}"),
                _ => lines.push(element.to_owned()),
            }
            lines
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (layer, name, lines) in [
            (forwarded(), "forwarded", append(&lines, &element)),
            (x_forwarded_for(), XFF, append(&lines, &client.to_string())),
        ] {
            let headers: Vec<_> = lines.iter().map(|line| (name, &**line)).collect();
            let found: IpAddr = runtime.block_on(address(layer, "10.0.0.1", &headers)).parse().unwrap();
            prop_assert_eq!(found, IpAddr::from(client), "{:?}", lines);
        }
    }
}

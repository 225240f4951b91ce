//! Where a request comes from, when it has come through proxies.
//!
//! A proxy that is trusted says by `X-Forwarded-For` or `Forwarded` (RFC 7239) who was at its other side. Everybody can
//! write these headers, and proxies append to what is there; so only what trusted ones have written counts: from the
//! right, hop by hop, up to the first address that is no trusted proxy. What stands further left is hearsay.
//!
//! It decides about an address and nothing else: `X-Forwarded-Host` and its like are never read, here or elsewhere.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use axum::http::{HeaderMap, HeaderName, header};

use crate::{config::Network, proxy_protocol::Arrival};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Finds out where requests come from, and says once what is odd about it.
pub(crate) struct Callers {
    trusted: Vec<Network>,
    told: [AtomicBool; 3],
}

/// Who asks, and what is odd about what is said of him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caller {
    address: SocketAddr,
    odd: Option<Odd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    /// Somebody who is no trusted proxy speaks for another.
    Untrusted,
    /// The two headers name different addresses: one of them a proxy wrote, the other its client, and nothing tells
    /// which.
    Contradiction,
    /// A trusted proxy that only passes bytes on does not know for whom; so the header is whoever's.
    Unnamed,
}

/// What a proxy says of its other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    Address(SocketAddr),
    /// It keeps it to itself (`unknown`, `_hidden`), or what it says is no address.
    Hidden,
}

impl Callers {
    pub(crate) fn new(trusted: Vec<Network>) -> Self {
        Self { trusted, told: Default::default() }
    }

    /// Whether this is a proxy that is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The client's address, for limits, logs and audit. The port is 0 where no proxy told it.
    pub(crate) fn address(&self, arrival: Arrival, headers: &HeaderMap) -> SocketAddr {
        let Caller { address, odd } = caller(arrival, headers, &self.trusted);
        let peer = arrival.address;
        match odd {
            Some(Odd::Untrusted) if self.is_first(Odd::Untrusted) => tracing::warn!(
                %peer,
                "a forwarded header comes from an address that is not among [server] trusted_proxies, and is ignored; if \
                 it is your proxy, add it there (this is said once)"
            ),
            Some(Odd::Contradiction) if self.is_first(Odd::Contradiction) => tracing::warn!(
                %peer,
                "X-Forwarded-For and Forwarded name different clients, so the proxy's own address is taken; let the proxy \
                 remove the one that it does not write (this is said once)"
            ),
            Some(Odd::Unnamed) if self.is_first(Odd::Unnamed) => tracing::warn!(
                %peer,
                "a forwarded header comes by a proxy whose PROXY header names nobody (UNKNOWN, LOCAL), and is ignored; let \
                 the proxy name its clients (this is said once)"
            ),
            Some(_) | None => {}
        }
        address
    }

    fn is_first(&self, odd: Odd) -> bool {
        !self.told[odd as usize].swap(true, Ordering::Relaxed)
    }
}

fn caller(arrival: Arrival, headers: &HeaderMap, trusted: &[Network]) -> Caller {
    let peer = canonical(arrival.address);
    let is_trusted = |address: SocketAddr| trusted.iter().any(|network| network.contains(address.ip()));
    let said = [(X_FORWARDED_FOR, x_forwarded_for as fn(&str) -> Vec<Hop>), (header::FORWARDED, forwarded)];
    let said = said.map(|(name, read)| hops(headers, name, read));
    if said.iter().all(Option::is_none) {
        return Caller { address: peer, odd: None };
    }
    if !is_trusted(peer) {
        return Caller { address: peer, odd: Some(Odd::Untrusted) };
    }
    if !arrival.may_forward {
        return Caller { address: peer, odd: Some(Odd::Unnamed) };
    }
    let found = said.map(|hops| {
        hops.map(|hops| {
            let mut nearest = peer;
            for hop in hops.into_iter().rev() {
                match hop {
                    Hop::Address(address) => nearest = address,
                    // Whoever told us of the nearest one knows no more.
                    Hop::Hidden => break,
                }
                if !is_trusted(nearest) {
                    break;
                }
            }
            nearest
        })
    });
    match found {
        [Some(one), Some(other)] if one.ip() != other.ip() => Caller { address: peer, odd: Some(Odd::Contradiction) },
        [Some(address), _] | [None, Some(address)] => Caller { address, odd: None },
        [None, None] => Caller { address: peer, odd: None },
    }
}

/// All hops of a header, from left to right; `None` when it is not there. Each line is read by itself, so that nothing
/// that a client wrote into its line reaches into that of a proxy.
fn hops(headers: &HeaderMap, name: HeaderName, read: fn(&str) -> Vec<Hop>) -> Option<Vec<Hop>> {
    let mut lines = headers.get_all(name).iter().peekable();
    lines.peek()?;
    Some(lines.flat_map(|line| line.to_str().map_or_else(|_| vec![Hop::Hidden], read)).collect())
}

fn x_forwarded_for(line: &str) -> Vec<Hop> {
    line.split(',').map(|entry| node(entry.trim())).collect()
}

/// RFC 7239 § 4: elements with commas between, pairs with semicolons between. What is not so hides its hop.
fn forwarded(line: &str) -> Vec<Hop> {
    split(line, ',').into_iter().map(|element| element.and_then(of_element).unwrap_or(Hop::Hidden)).collect()
}

fn of_element(element: &str) -> Option<Hop> {
    let mut found = None;
    for pair in split(element, ';') {
        let (name, value) = pair?.trim().split_once('=')?;
        let value = unquoted(value)?;
        // § 4: each parameter once.
        if name.eq_ignore_ascii_case("for") && found.replace(node(&value)).is_some() {
            return None;
        }
    }
    found
}

/// The parts between separators that do not stand in quotes. The last is `None` where a quote has no end: then nobody can
/// say what it is.
fn split(text: &str, separator: char) -> Vec<Option<&str>> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(Some(&text[from..at]));
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push((!quoted).then_some(&text[from..]));
    parts
}

/// A value of RFC 9110 § 5.6: a token, taken generously, or a whole quoted string.
fn unquoted(value: &str) -> Option<String> {
    let Some(inside) = value.strip_prefix('"') else {
        let plain = !value.is_empty() && !value.contains(|c: char| c == '"' || c == '=' || c.is_whitespace());
        return plain.then(|| value.to_owned());
    };
    let (mut text, mut chars) = (String::new(), inside.strip_suffix('"')?.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next()?),
            '"' => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

/// An address with or without a port. IPv6 has brackets where it has a port, and may have them where it has none. RFC
/// 7239 lets ports be hidden, too (`:_name`).
fn node(text: &str) -> Hop {
    let without_hidden_port = text.rsplit_once(":_").map_or(text, |(node, _)| node);
    let inside = without_hidden_port.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let bare = inside.unwrap_or(without_hidden_port).parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    let address = bare.or_else(|_| without_hidden_port.parse::<SocketAddr>());
    address.map_or(Hop::Hidden, |address| Hop::Address(canonical(address)))
}

/// IPv4 in the clothes of IPv6 is IPv4: one client has one address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1:4000";

    fn ask(peer: &str, headers: &[(HeaderName, &str)]) -> Caller {
        ask_by(Arrival { address: peer.parse().unwrap(), may_forward: true }, headers)
    }

    fn ask_by(arrival: Arrival, headers: &[(HeaderName, &str)]) -> Caller {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "2001:db8:aaaa::/48", "::1"].map(|network| network.parse().unwrap()).to_vec();
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        caller(arrival, &headers, &trusted)
    }

    fn address(headers: &[(HeaderName, &str)]) -> String {
        ask(PEER, headers).address.to_string()
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_no_trusted_proxy() {
        for (header, expected) in [
            ("203.0.113.9", "203.0.113.9:0"),
            // Spoofed by the client, left of what the proxy saw.
            ("1.1.1.1, 203.0.113.9", "203.0.113.9:0"),
            ("10.9.9.9, 203.0.113.9", "203.0.113.9:0"),
            ("127.0.0.1, ::1, 203.0.113.9", "203.0.113.9:0"),
            ("garbage, 203.0.113.9", "203.0.113.9:0"),
            // Through two of ours.
            ("203.0.113.9, 10.0.0.7", "203.0.113.9:0"),
            ("203.0.113.9, 2001:db8:aaaa::7, 10.0.0.7", "203.0.113.9:0"),
            ("203.0.113.9, ::ffff:10.0.0.7", "203.0.113.9:0"),
            // All of them ours: the farthest one asks itself.
            ("10.0.0.8, 10.0.0.7", "10.0.0.8:0"),
            // With ports, and in all the ways that IPv6 is written.
            ("203.0.113.9:51234", "203.0.113.9:51234"),
            ("2001:db8::9", "[2001:db8::9]:0"),
            ("[2001:db8::9]", "[2001:db8::9]:0"),
            ("[2001:db8::9]:51234", "[2001:db8::9]:51234"),
            ("::ffff:203.0.113.9", "203.0.113.9:0"),
            ("[::ffff:203.0.113.9]:51234", "203.0.113.9:51234"),
            ("\t203.0.113.9 ", "203.0.113.9:0"),
            // What a trusted one says and is no address: it is as far as is known.
            ("203.0.113.9, unknown", PEER),
            ("203.0.113.9, unknown, 10.0.0.7", "10.0.0.7:0"),
            ("203.0.113.9,", PEER),
            ("", PEER),
            (",,,", PEER),
            ("203.0.113.9.1", PEER),
            ("203.0.113.9:99999", PEER),
            ("fe80::1%eth0", PEER),
            ("\"203.0.113.9\"", PEER),
            ("http://203.0.113.9", PEER),
        ] {
            assert_eq!(address(&[(X_FORWARDED_FOR, header)]), expected, "{header}");
        }
        let lines = [(X_FORWARDED_FOR, "1.1.1.1"), (X_FORWARDED_FOR, "203.0.113.9"), (X_FORWARDED_FOR, "10.0.0.7")];
        assert_eq!(address(&lines), "203.0.113.9:0", "lines are as one list");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        for (header, expected) in [
            ("for=203.0.113.9", "203.0.113.9:0"),
            ("For=\"203.0.113.9:51234\"", "203.0.113.9:51234"),
            ("for=203.0.113.9:51234", "203.0.113.9:51234"),
            ("for=\"[2001:db8:cafe::17]:4711\"", "[2001:db8:cafe::17]:4711"),
            ("FOR=\"[2001:db8::9]\"", "[2001:db8::9]:0"),
            ("for=\"[::ffff:203.0.113.9]\"", "203.0.113.9:0"),
            ("for=203.0.113.9;proto=http;by=203.0.113.43", "203.0.113.9:0"),
            ("proto=https;host=\"a,b;for=1.1.1.1\";for=203.0.113.9", "203.0.113.9:0"),
            ("for=1.1.1.1, for=203.0.113.9", "203.0.113.9:0"),
            ("for=203.0.113.9, for=\"[2001:db8:aaaa::7]\", for=10.0.0.7;proto=http", "203.0.113.9:0"),
            ("for=\"203.0.113.9:_hidden\"", "203.0.113.9:0"),
            ("for=\"203.0.\\113.9\"", "203.0.113.9:0"),
            ("for=203.0.113.9 ; proto=http", "203.0.113.9:0"),
            // Kept to itself, or nothing that can be read.
            ("for=203.0.113.9, for=unknown", PEER),
            ("for=203.0.113.9, for=_gazonk", PEER),
            ("for=203.0.113.9, for=\"_gazonk:_x\"", PEER),
            ("for=203.0.113.9, by=10.0.0.1", PEER),
            ("for=203.0.113.9, for=10.0.0.7, for=unknown, for=10.0.0.8", "10.0.0.8:0"),
            ("for=203.0.113.9;for=1.1.1.1", PEER),
            ("for", PEER),
            ("203.0.113.9", PEER),
            ("for=2001:db8::9;", PEER),
            ("", PEER),
            // A quote that the client left open, and what a proxy appended behind it.
            ("for=\"1.1.1.1, for=203.0.113.9", PEER),
            ("for=1.1.1.1;x=\", for=\"[2001:db8::9]\"", PEER),
            ("for=1.1.1.1;x=\"\\", PEER),
            ("for=\"203.0.113.9\"x", PEER),
        ] {
            assert_eq!(address(&[(header::FORWARDED, header)]), expected, "{header}");
        }
        let lines = [(header::FORWARDED, "for=\"1.1.1.1"), (header::FORWARDED, "for=203.0.113.9")];
        assert_eq!(address(&lines), "203.0.113.9:0", "an open quote reaches to the end of its line");
    }

    #[test]
    fn whoever_is_no_trusted_proxy_speaks_for_itself() {
        for peer in ["203.0.113.9:4000", "[2001:db8::9]:4000", "127.0.0.1:4000"] {
            for header in [(X_FORWARDED_FOR, "1.1.1.1"), (header::FORWARDED, "for=1.1.1.1")] {
                let expected = Caller { address: peer.parse().unwrap(), odd: Some(Odd::Untrusted) };
                assert_eq!(ask(peer, &[header]), expected);
            }
            assert_eq!(ask(peer, &[]).odd, None);
        }
        let mapped = ask("[::ffff:10.0.0.1]:4000", &[(X_FORWARDED_FOR, "203.0.113.9")]);
        assert_eq!(mapped.address.to_string(), "203.0.113.9:0");
        assert_eq!(ask("[::ffff:203.0.113.9]:4000", &[]).address.to_string(), "203.0.113.9:4000");
    }

    #[test]
    fn regression_what_comes_by_a_proxy_that_names_nobody_is_not_believed() {
        let arrival = Arrival { address: PEER.parse().unwrap(), may_forward: false };
        for header in [(X_FORWARDED_FOR, "203.0.113.9"), (header::FORWARDED, "for=203.0.113.9")] {
            let expected = Caller { address: arrival.address, odd: Some(Odd::Unnamed) };
            assert_eq!(ask_by(arrival, &[header]), expected);
        }
        assert_eq!(ask_by(arrival, &[]).odd, None);
    }

    #[test]
    fn of_two_headers_that_disagree_neither_is_believed() {
        let both = |one, other| ask(PEER, &[(X_FORWARDED_FOR, one), (header::FORWARDED, other)]);
        let agree = both("203.0.113.9:1", "for=203.0.113.9");
        assert_eq!((agree.address.to_string().as_str(), agree.odd), ("203.0.113.9:1", None));
        for spoofed in ["for=1.1.1.1", "for=10.0.0.9", "x", "for=unknown"] {
            let doubtful = both("203.0.113.9", spoofed);
            assert_eq!((doubtful.address.to_string().as_str(), doubtful.odd), (PEER, Some(Odd::Contradiction)));
        }
    }

    #[test]
    fn other_headers_say_nothing() {
        for name in ["x-forwarded-host", "x-real-ip", "via", "x-forwarded-proto"] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(ask(PEER, &[(name, "203.0.113.9")]), Caller { address: PEER.parse().unwrap(), odd: None });
        }
    }

    #[test]
    fn what_is_odd_is_said_once() {
        let callers = Callers::new(Vec::new());
        for odd in [Odd::Untrusted, Odd::Contradiction, Odd::Unnamed] {
            assert!(callers.is_first(odd) && !callers.is_first(odd), "{odd:?}");
        }
    }
}

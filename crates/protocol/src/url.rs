//! The little that the protocol needs to know of a URL: whether two are the same endpoint, and whether the way there is
//! one that an eavesdropper cannot sit on.

use std::fmt;

use crate::limits::MAX_URL;

/// The URL of an endpoint in normal form: `ws` or `wss`, lower-case host, no default port, no user, query or fragment.
///
/// Only what a browser's URL parser gives is taken; this is a check, not a parser of everything that may be written.
#[derive(Clone, PartialEq, Eq)]
pub struct DialUrl {
    text: String,
    host: std::ops::Range<usize>,
}

/// The text is not a URL of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// It begins neither with `ws://` or `wss://` nor with `http://` or `https://`.
    Scheme,
    /// It has no host, or one with characters that no host has.
    Host,
    /// Its port is not a number up to 65,535.
    Port,
    /// It carries a user name, query or fragment. A secret in a URL ends up in logs.
    Extra,
    /// Its normal form is longer than 2,048 bytes, or it has characters that must be escaped.
    Text,
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Scheme => "the URL must begin with ws:// or wss://",
            Self::Host => "the URL has no valid host",
            Self::Port => "the URL's port is not valid",
            Self::Extra => "the URL must not have a user name, query or fragment",
            Self::Text => "the URL is too long or has characters that must be escaped",
        })
    }
}

impl std::error::Error for InvalidUrl {}

impl DialUrl {
    /// Takes an absolute URL; `http` and `https` stand for `ws` and `wss`.
    ///
    /// # Errors
    /// Which part does not belong.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        if text.len() > MAX_URL || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(InvalidUrl::Text);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Scheme)?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => ("ws", 80),
            "wss" | "https" => ("wss", 443),
            _ => return Err(InvalidUrl::Scheme),
        };
        if rest.contains(['@', '?', '#']) {
            return Err(InvalidUrl::Extra);
        }
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        // An IPv6 address has colons of its own, in brackets.
        let port_at = authority.rfind(':').filter(|colon| authority.rfind(']').is_none_or(|end| end < *colon));
        let (host, port) = match port_at {
            Some(colon) => {
                let digits = &authority[colon + 1..];
                // Rust takes a sign before a number; a URL does not.
                let port = digits.parse::<u16>().ok().filter(|_| !digits.starts_with('+')).ok_or(InvalidUrl::Port)?;
                (&authority[..colon], port)
            }
            None => (authority, default_port),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let valid = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
            None => !host.is_empty() && host.bytes().all(plain),
        };
        if !valid {
            return Err(InvalidUrl::Host);
        }
        let mut normal = format!("{scheme}://{}", host.to_ascii_lowercase());
        let host = scheme.len() + 3..normal.len();
        if port != default_port {
            normal.push_str(&format!(":{port}"));
        }
        normal.push_str(path);
        if normal.len() > MAX_URL {
            return Err(InvalidUrl::Text);
        }
        Ok(Self { text: normal, host })
    }

    /// The URL in normal form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether TLS protects the way.
    pub fn is_secure(&self) -> bool {
        self.text.starts_with("wss:")
    }

    /// The host, IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.text[self.host.clone()]
    }

    /// Whether the way stays on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(self.host())
    }

    /// The host and port part, as a `Host` header has it.
    pub fn authority(&self) -> &str {
        let from = self.host.start;
        let length = self.text[from..].find('/').unwrap_or(self.text.len() - from);
        &self.text[from..from + length]
    }

    /// The same place for a plain GET.
    pub fn http(&self) -> String {
        format!("http{}", &self.text[2..])
    }
}

/// Whether a host name or address, IPv6 in brackets, means this machine.
pub fn is_loopback_host(host: &str) -> bool {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

impl fmt::Debug for DialUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(formatter)
    }
}

impl fmt::Display for DialUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> Result<String, InvalidUrl> {
        DialUrl::parse(text).map(|url| url.text)
    }

    #[test]
    fn the_same_endpoint_has_one_form() {
        for text in ["wss://App.Example.com/moorline", "https://app.example.com:443/moorline"] {
            assert_eq!(normal(text).as_deref(), Ok("wss://app.example.com/moorline"));
        }
        assert_eq!(normal("ws://[::1]:2667/m").as_deref(), Ok("ws://[::1]:2667/m"));
        assert_eq!(normal("ws://localhost").as_deref(), Ok("ws://localhost/"));
        let again = normal("http://h:8080/a").and_then(|text| normal(&text));
        assert_eq!(again.as_deref(), Ok("ws://h:8080/a"));
    }

    #[test]
    fn what_does_not_belong_is_named() {
        assert_eq!(normal("/moorline"), Err(InvalidUrl::Scheme));
        assert_eq!(normal("ftp://x/"), Err(InvalidUrl::Scheme));
        assert_eq!(normal("ws:///x"), Err(InvalidUrl::Host));
        assert_eq!(normal("ws://a:99999/"), Err(InvalidUrl::Port));
        assert_eq!(normal("ws://a:/"), Err(InvalidUrl::Port));
        assert_eq!(normal("ws://a:+80/"), Err(InvalidUrl::Port));
        for host in ["a:b", "[::1", "::1]", "[localhost]", "127.0.0.1]", "[[::1]]", "[]"] {
            assert_eq!(normal(&format!("ws://{host}:80/")), Err(InvalidUrl::Host), "{host}");
        }
        assert_eq!(normal("ws://u:p@a/"), Err(InvalidUrl::Extra));
        assert_eq!(normal("ws://a/m?token=x"), Err(InvalidUrl::Extra));
        assert_eq!(normal("ws://a/ x"), Err(InvalidUrl::Text));
    }

    #[test]
    fn loopback_is_known_by_name_and_address() {
        for host in ["localhost", "app.localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "example.com", "0.0.0.0"] {
            assert!(!is_loopback_host(host), "{host}");
        }
        let url = DialUrl::parse("ws://LOCALHOST:2667/moorline");
        assert_eq!(url.as_ref().map(DialUrl::authority), Ok("localhost:2667"));
        assert!(url.is_ok_and(|url| url.is_loopback() && url.http() == "http://localhost:2667/moorline"));
    }
}

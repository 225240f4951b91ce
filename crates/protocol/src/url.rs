//! The little that the protocol needs to know of a URL: whether two are the same endpoint, and whether the way there is
//! one that an eavesdropper cannot sit on.

use std::fmt;

use crate::{limits::MAX_URL, text};

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

impl InvalidUrl {
    /// What is wrong, in a sentence.
    pub fn message(self) -> &'static str {
        match self {
            Self::Scheme => "the URL must begin with ws:// or wss://",
            Self::Host => "the URL has no valid host",
            Self::Port => "the URL's port is not valid",
            Self::Extra => "the URL must not have a user name, query or fragment",
            Self::Text => "the URL is too long or has characters that must be escaped",
        }
    }
}

impl fmt::Display for InvalidUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
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
        let (scheme, rest) = split(text, b':').ok_or(InvalidUrl::Scheme)?;
        let rest = rest.strip_prefix("//").ok_or(InvalidUrl::Scheme)?;
        let is = |name: &str| scheme.eq_ignore_ascii_case(name);
        let (scheme, default_port) = match (is("ws") || is("http"), is("wss") || is("https")) {
            (true, _) => ("ws://", 80),
            (_, true) => ("wss://", 443),
            (false, false) => return Err(InvalidUrl::Scheme),
        };
        if rest.bytes().any(|byte| matches!(byte, b'@' | b'?' | b'#')) {
            return Err(InvalidUrl::Extra);
        }
        let (authority, path) = split(rest, b'/').unwrap_or((rest, ""));
        // An IPv6 address has colons of its own, in brackets.
        let colon = authority.bytes().rposition(|byte| byte == b':');
        let (host, port) = match colon.and_then(|colon| split_at(authority, colon)) {
            Some((host, digits)) if !digits.ends_with("]") => {
                (host, text::decimal(digits.as_bytes(), u16::MAX).ok_or(InvalidUrl::Port)?)
            }
            _ => (authority, default_port),
        };
        if !is_host(host) {
            return Err(InvalidUrl::Host);
        }
        let mut normal = String::with_capacity(text.len() + 1);
        normal.push_str(scheme);
        let from = normal.len();
        normal.push_str(host);
        normal.make_ascii_lowercase();
        let host = from..normal.len();
        if port != default_port {
            normal.push(':');
            text::push_decimal(&mut normal, port);
        }
        normal.push('/');
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
        // The range was measured on this very text.
        self.text.get(self.host.clone()).unwrap_or_default()
    }

    /// Whether the way stays on this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback_host(self.host())
    }

    /// The host and port part, as a `Host` header has it.
    pub fn authority(&self) -> &str {
        let rest = self.text.get(self.host.start..).unwrap_or_default();
        split(rest, b'/').map_or(rest, |(authority, _)| authority)
    }

    /// The same place for a plain GET.
    pub fn http(&self) -> String {
        ["http", self.text.strip_prefix("ws").unwrap_or_default()].concat()
    }
}

/// The text before and after the first such byte, which is ASCII.
// By bytes here and below: searching for characters is kilobytes in a page.
fn split(text: &str, byte: u8) -> Option<(&str, &str)> {
    split_at(text, text.bytes().position(|found| found == byte)?)
}

/// The text before and after the ASCII character at `place`.
fn split_at(text: &str, place: usize) -> Option<(&str, &str)> {
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// Whether it looks like a host. That it is one, whoever resolves it will find out.
fn is_host(host: &str) -> bool {
    match host.strip_prefix("[") {
        Some(rest) => rest.strip_suffix("]").is_some_and(|address| {
            address.bytes().any(|byte| byte == b':')
                && address.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }),
        None => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(fits)
        }
    }
}

/// Whether a host name or address, IPv6 in brackets, means this machine. Other ways to write `::1` do not count.
// By hand, because the standard library's parser of addresses is kilobytes in a page.
pub fn is_loopback_host(host: &str) -> bool {
    let is_byte = |part: &[u8]| part.len() <= 3 && text::decimal(part, 255).is_some();
    let is_loopback_v4 = || {
        let mut parts = host.as_bytes().split(|byte| *byte == b'.');
        parts.next() == Some(b"127") && parts.clone().count() == 3 && parts.all(is_byte)
    };
    host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || is_loopback_v4()
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
        let near = ["127.0.0.1.example.com", "127.0.0", "127.0.0.256", "127.0.0.", "127.0.0.+1", "[::2]", "::1", ""];
        for host in ["localhost.example.com", "10.0.0.1", "example.com", "0.0.0.0"].into_iter().chain(near) {
            assert!(!is_loopback_host(host), "{host}");
        }
        let url = DialUrl::parse("ws://LOCALHOST:2667/moorline");
        assert_eq!(url.as_ref().map(DialUrl::authority), Ok("localhost:2667"));
        assert!(url.is_ok_and(|url| url.is_loopback() && url.http() == "http://localhost:2667/moorline"));
    }
}

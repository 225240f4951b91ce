//! The origin of a page, as a browser's `Origin` header gives it (RFC 6454).

use std::fmt;

/// An origin in normal form: `scheme://host`, lower case, with the port only where it is not the scheme's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebOrigin(String);

/// Why a text is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidOrigin {
    /// It does not begin with a scheme.
    Scheme,
    /// It is the URL of a WebSocket.
    WebSocket,
    /// It has no host, or one with characters that no host has.
    Host,
    /// Its port is not a number up to 65,535.
    Port,
    /// It goes on behind the host.
    Path,
    /// It is `null`, which every sandboxed frame and local file sends.
    Null,
    /// It is a pattern.
    Pattern,
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Scheme => "an origin begins with its scheme, as https://app.example.com",
            Self::WebSocket => "an origin is that of the page: write https:// or http://",
            Self::Host => "the origin has no valid host; names beyond ASCII are written as xn--…",
            Self::Port => "the origin's port is not valid",
            Self::Path => "an origin ends with host and port; leave out what follows",
            Self::Null => "null is what every sandboxed frame sends; it cannot be allowed",
            Self::Pattern => "patterns are not supported; name each origin",
        })
    }
}

impl std::error::Error for InvalidOrigin {}

impl WebOrigin {
    /// Takes an origin and brings it to normal form.
    ///
    /// # Errors
    /// What does not belong.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let text = text.trim().to_ascii_lowercase();
        if text == "null" {
            return Err(InvalidOrigin::Null);
        }
        if text.contains('*') {
            return Err(InvalidOrigin::Pattern);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin::Scheme)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(plain) {
            return Err(InvalidOrigin::Scheme);
        }
        let default_port = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            "ws" | "wss" => return Err(InvalidOrigin::WebSocket),
            _ => None,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(InvalidOrigin::Path);
        }
        // An IPv6 address has colons of its own, in brackets.
        let colon = authority.rfind(':').filter(|colon| authority.rfind(']').is_none_or(|end| end < *colon));
        let (host, port) = match colon {
            Some(colon) => (&authority[..colon], Some(port(&authority[colon + 1..])?)),
            None => (authority, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
        };
        if !valid {
            return Err(InvalidOrigin::Host);
        }
        Ok(Self(match port.filter(|port| Some(*port) != default_port) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }

    /// The origin in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn port(digits: &str) -> Result<u16, InvalidOrigin> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain).ok_or(InvalidOrigin::Port)
}

impl fmt::Debug for WebOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::str::FromStr for WebOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        Self::parse(text)
    }
}

impl PartialEq<str> for WebOrigin {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_origin_has_one_form() {
        for (text, normal) in [
            ("HTTPS://App.Example.com:443/", "https://app.example.com"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(WebOrigin::parse(text).as_ref().map(WebOrigin::as_str), Ok(normal), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for (text, error) in [
            ("null", InvalidOrigin::Null),
            ("*", InvalidOrigin::Pattern),
            ("https://*.example.com", InvalidOrigin::Pattern),
            ("app.example.com", InvalidOrigin::Scheme),
            ("wss://app.example.com", InvalidOrigin::WebSocket),
            ("https://app.example.com/chat", InvalidOrigin::Path),
            ("https://user@app.example.com", InvalidOrigin::Host),
            ("https://", InvalidOrigin::Host),
            ("https://bücher.example", InvalidOrigin::Host),
            ("https://a:99999", InvalidOrigin::Port),
            ("https://a:+1", InvalidOrigin::Port),
            ("https://a:", InvalidOrigin::Port),
        ] {
            assert_eq!(WebOrigin::parse(text), Err(error), "{text}");
        }
    }
}

//! Who may talk to this server at all, judged by the head of the HTTP request: open mode, Host, Origin.
//!
//! The rules are in `docs/PROTOCOL.md` § Before the socket. Identity and scopes are not judged here.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use moorline_protocol::{
    code::Code,
    url::{DialUrl, is_loopback_host},
};

use crate::config::{Config, WebOrigin};

/// The rules of one server.
pub(crate) struct Access {
    /// Nobody configured who may come in: this machine only.
    open: bool,
    loopback_listener: bool,
    public_urls: Vec<DialUrl>,
    allowed_origins: Vec<WebOrigin>,
}

/// What would let others than this machine into an open server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenTo {
    /// The listener's address is not loopback.
    Listener(SocketAddr),
    /// There are public addresses.
    PublicUrls,
    /// There are proxies, who come for others.
    Proxies,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Open mode, and the Host is not this machine: a page that had its name rebound, or a missing configuration.
    HostInOpenMode,
    /// Open mode, and the request came through a proxy, so perhaps from anywhere.
    ProxyInOpenMode,
    /// The Host is none of the public addresses.
    Host,
    /// The Origin is not allowed.
    Origin,
}

impl Denied {
    pub(crate) fn code(self) -> Code {
        match self {
            Self::HostInOpenMode | Self::ProxyInOpenMode | Self::Host => Code::HOST_REFUSED,
            Self::Origin => Code::ORIGIN_REFUSED,
        }
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::HostInOpenMode => {
                "An open server answers this machine only. Connect to localhost, or set [server] public_urls and say who \
                 may come in, for example [auth] anonymous = true."
            }
            Self::ProxyInOpenMode => {
                "An open server answers no proxy. Set [server] public_urls and say who may come in, for example \
                 [auth] anonymous = true."
            }
            Self::Host => "Add the address that clients use to [server] public_urls, or let the proxy pass on Host.",
            Self::Origin => "Add the page's origin to [server] allowed_origins, or its address to public_urls.",
        }
    }
}

impl Access {
    /// The rules that follow from the configuration and the address that is really listened on. `asks` says whether
    /// there is a way to sign in: then the server is open to nobody.
    pub(crate) fn new(config: &Config, listening: SocketAddr, asks: bool) -> Result<Self, OpenTo> {
        let open = !config.auth.anonymous && !asks;
        let loopback_listener = listening.ip().is_loopback();
        let because = if !config.server.public_urls.is_empty() {
            Some(OpenTo::PublicUrls)
        } else if !config.server.trusted_proxies.is_empty() || config.server.proxy_protocol {
            Some(OpenTo::Proxies)
        } else if loopback_listener {
            None
        } else {
            Some(OpenTo::Listener(listening))
        };
        if let (true, Some(because)) = (open, because) {
            return Err(because);
        }
        Ok(Self {
            open,
            loopback_listener,
            public_urls: config.server.public_urls.clone(),
            allowed_origins: config.server.allowed_origins.clone(),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The origins that are named, for the banner.
    pub(crate) fn origins(&self) -> Vec<String> {
        let mut origins: Vec<String> = self.public_urls.iter().map(origin_of).collect();
        origins.extend(self.allowed_origins.iter().map(ToString::to_string));
        if self.loopback_listener && self.public_urls.is_empty() {
            origins.push("any page of this machine".to_owned());
        }
        origins
    }

    /// Every request: is it meant for this server?
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let host = text(headers, header::HOST).unwrap_or_default();
        if self.open {
            let forwarded = headers.keys().any(|name| {
                *name == header::FORWARDED || *name == header::VIA || name.as_str().starts_with("x-forwarded-")
            });
            let host = endpoint("ws", host).filter(DialUrl::is_loopback);
            return match (host, forwarded) {
                (None, _) => Err(Denied::HostInOpenMode),
                (Some(_), true) => Err(Denied::ProxyInOpenMode),
                (Some(_), false) => Ok(()),
            };
        }
        let known = self.public_urls.is_empty() || self.public_urls.iter().any(|url| is_host_of(host, url));
        if known { Ok(()) } else { Err(Denied::Host) }
    }

    /// A socket, or the question whether one would be let in: may a page of this origin have it?
    pub(crate) fn check_origin(&self, headers: &HeaderMap, origin: Option<&str>) -> Result<(), Denied> {
        let Some(origin) = origin else { return Ok(()) };
        // Apps in a shell of their own have schemes of their own, so this comes before anything is taken for a URL.
        if WebOrigin::parse(origin).is_ok_and(|origin| self.allowed_origins.contains(&origin)) {
            return Ok(());
        }
        let origin = DialUrl::parse(origin).map_err(|_| Denied::Origin)?;
        let own = text(headers, header::HOST).is_some_and(|host| is_host_of(host, &origin));
        let public = self.public_urls.iter().any(|url| url.authority() == origin.authority());
        let local = self.loopback_listener && self.public_urls.is_empty() && is_loopback_host(origin.host());
        if own || public || local { Ok(()) } else { Err(Denied::Origin) }
    }
}

/// A header as text; `None` when it is absent or not text.
pub(crate) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn endpoint(scheme: &str, host: &str) -> Option<DialUrl> {
    DialUrl::parse(&format!("{scheme}://{host}/")).ok()
}

/// Whether a Host header names the host and port of `url`, given the default port of its scheme.
fn is_host_of(host: &str, url: &DialUrl) -> bool {
    let scheme = if url.is_secure() { "wss" } else { "ws" };
    endpoint(scheme, host).is_some_and(|host| host.authority() == url.authority())
}

fn origin_of(url: &DialUrl) -> String {
    format!("{}://{}", if url.is_secure() { "https" } else { "http" }, url.authority())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(listening: &str, change: impl FnOnce(&mut Config)) -> Result<Access, OpenTo> {
        let mut config = Config::default();
        change(&mut config);
        Access::new(&config, listening.parse().unwrap(), false)
    }

    fn urls(urls: &[&str]) -> Vec<DialUrl> {
        urls.iter().map(|url| DialUrl::parse(url).unwrap()).collect()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    }

    fn host(host: &str) -> HeaderMap {
        headers(&[("host", host)])
    }

    #[test]
    fn open_mode_needs_a_loopback_listener_and_no_public_urls() {
        assert!(access("127.0.0.1:2667", |_| {}).is_ok());
        assert!(matches!(access("0.0.0.0:2667", |_| {}), Err(OpenTo::Listener(_))));
        let public = |config: &mut Config| config.server.public_urls = urls(&["wss://a.example/m"]);
        assert!(matches!(access("127.0.0.1:2667", public), Err(OpenTo::PublicUrls)));
        let proxied = |config: &mut Config| config.server.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        assert!(matches!(access("127.0.0.1:2667", proxied), Err(OpenTo::Proxies)));
        let anonymous = |config: &mut Config| config.auth.anonymous = true;
        assert!(access("0.0.0.0:2667", anonymous).is_ok());
    }

    #[test]
    fn open_mode_refuses_a_rebound_name_and_every_proxy() {
        let open = access("127.0.0.1:2667", |_| {}).unwrap();
        for fine in ["localhost:2667", "127.0.0.1:2667", "[::1]:2667", "app.localhost"] {
            assert_eq!(open.check_host(&host(fine)), Ok(()), "{fine}");
        }
        for bad in ["evil.example:2667", "", "localhost.evil.example", "127.0.0.1.evil.example", "user@localhost"] {
            assert_eq!(open.check_host(&host(bad)), Err(Denied::HostInOpenMode), "{bad}");
        }
        assert_eq!(open.check_host(&HeaderMap::new()), Err(Denied::HostInOpenMode));
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto"] {
            let headers = headers(&[("host", "localhost"), (name, "x")]);
            assert_eq!(open.check_host(&headers), Err(Denied::ProxyInOpenMode), "{name}");
        }
    }

    #[test]
    fn public_urls_name_the_host_whatever_the_default_port() {
        let access = access("127.0.0.1:2667", |config| {
            config.auth.anonymous = true;
            config.server.public_urls = urls(&["wss://app.example.com/moorline"]);
        })
        .unwrap();
        assert_eq!(access.check_host(&host("App.example.com")), Ok(()));
        assert_eq!(access.check_host(&host("app.example.com:443")), Ok(()));
        assert_eq!(access.check_host(&host("app.example.com:80")), Err(Denied::Host));
        assert_eq!(access.check_host(&host("127.0.0.1:2667")), Err(Denied::Host));
        // Whatever a proxy, or whoever says that he is one, says of it.
        let claimed = headers(&[("host", "evil.example"), ("x-forwarded-host", "app.example.com")]);
        assert_eq!(access.check_host(&claimed), Err(Denied::Host));
    }

    #[test]
    fn origins_are_absent_own_public_allowed_or_local() {
        let open = access("127.0.0.1:2667", |_| {}).unwrap();
        let here = host("localhost:2667");
        assert_eq!(open.check_origin(&here, None), Ok(()));
        assert_eq!(open.check_origin(&here, Some("http://localhost:2667")), Ok(()));
        assert_eq!(open.check_origin(&here, Some("http://127.0.0.1:5173")), Ok(()), "Vite's own server");
        for bad in ["null", "https://evil.example", "file://", "http://localhost.evil.example"] {
            assert_eq!(open.check_origin(&here, Some(bad)), Err(Denied::Origin), "{bad}");
        }

        let public = access("127.0.0.1:2667", |config| {
            config.auth.anonymous = true;
            config.server.public_urls = urls(&["wss://app.example.com/moorline"]);
            let origins = ["https://other.example", "capacitor://localhost"];
            config.server.allowed_origins = origins.map(|origin| origin.parse().unwrap()).to_vec();
        })
        .unwrap();
        let app = host("app.example.com");
        assert_eq!(public.check_origin(&app, Some("https://app.example.com")), Ok(()));
        assert_eq!(public.check_origin(&app, Some("https://other.example")), Ok(()));
        assert_eq!(public.check_origin(&app, Some("capacitor://localhost")), Ok(()));
        assert_eq!(public.check_origin(&app, Some("http://other.example")), Err(Denied::Origin));
        assert_eq!(public.check_origin(&app, Some("http://localhost:3000")), Err(Denied::Origin));
    }
}

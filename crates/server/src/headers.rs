//! What browsers are told with every answer: how to treat pages of this host.
//!
//! Nothing here protects a socket: that is for the handshake. It is for pages, which the same server may serve.

use axum::http::{HeaderName, HeaderValue, header};

use crate::{config::Config, error::Error};

/// What is sent, and what an operator should know of what is not.
pub(crate) struct Headers {
    pub(crate) sent: Vec<(HeaderName, HeaderValue)>,
    pub(crate) warning: Option<String>,
}

/// The headers that follow from the configuration.
pub(crate) fn of(config: &Config, ends_tls: bool) -> Result<Headers, Error> {
    let section = &config.headers;
    // RFC 6797 § 7.2: not over plain HTTP. What a proxy ends is TLS for the browser.
    let secure = ends_tls || config.server.public_urls.iter().any(|url| url.is_secure());
    let hsts = section.strict_transport_security.as_ref();
    let warning = (hsts.is_some() && !secure).then(|| {
        "[headers] strict_transport_security is not sent: this server has no TLS and no public URL that is wss:"
            .to_owned()
    });
    let texts: [(HeaderName, &'static str, _); 5] = [
        (header::STRICT_TRANSPORT_SECURITY, "strict_transport_security", hsts.filter(|_| secure)),
        (header::CONTENT_SECURITY_POLICY, "content_security_policy", section.content_security_policy.as_ref()),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "cross_origin_opener_policy",
            section.cross_origin_opener_policy.as_ref(),
        ),
        (
            HeaderName::from_static("cross-origin-embedder-policy"),
            "cross_origin_embedder_policy",
            section.cross_origin_embedder_policy.as_ref(),
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "cross_origin_resource_policy",
            section.cross_origin_resource_policy.as_ref(),
        ),
    ];
    let mut sent = vec![(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))];
    for (name, setting, text) in texts {
        if let Some(text) = text {
            sent.push((name, HeaderValue::from_str(text).map_err(|_| Error::Header(setting))?));
        }
    }
    Ok(Headers { sent, warning })
}

#[cfg(test)]
mod tests {
    use moorline_protocol::url::DialUrl;

    use super::*;

    fn names(config: &Config, ends_tls: bool) -> Vec<String> {
        of(config, ends_tls).unwrap().sent.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn strict_transport_security_is_for_https_alone() {
        let mut config = Config::default();
        assert_eq!(names(&config, true), ["x-content-type-options"]);
        config.headers.strict_transport_security = Some("max-age=60".to_owned());
        assert_eq!(names(&config, false), ["x-content-type-options"]);
        assert!(of(&config, false).unwrap().warning.is_some());
        assert!(names(&config, true).contains(&"strict-transport-security".to_owned()));
        config.server.public_urls = vec![DialUrl::parse("wss://a.example/m").unwrap()];
        assert!(names(&config, false).contains(&"strict-transport-security".to_owned()));
        assert!(of(&config, false).unwrap().warning.is_none());
    }

    #[test]
    fn a_text_of_the_program_that_is_no_header_is_named() {
        let mut config = Config::default();
        config.headers.content_security_policy = Some("a\nb".to_owned());
        let error = of(&config, false).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("content_security_policy"), "{error}");
    }
}

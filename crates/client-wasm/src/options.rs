//! `CoreOptions`: read, checked, and made into the endpoint's configuration.
//!
//! The shell has resolved the URL and put in every default; here is checked what only the protocol can judge.

use std::time::Duration;

use moorline_protocol::{
    backoff::BackoffConfig,
    client::ClientConfig,
    code::Code,
    key::{InvalidKey, InvalidSharedKey},
    record::Suite,
    url::DialUrl,
};
use wasm_bindgen::JsValue;

use crate::object::{field, texts};

/// `CoreOptions` of `npm/src/boundary.ts`.
pub(crate) struct Options {
    url: String,
    encryption: String,
    server_keys: Vec<String>,
    allow_insecure_discovery: bool,
    /// Empty for none.
    shared_key: String,
    asks_for_credentials: bool,
    connect_timeout: Duration,
    call_timeout: Duration,
    reconnect: bool,
    reconnect_base: Duration,
    reconnect_max: Duration,
    client_version: String,
}

/// Which option is wrong, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Invalid {
    fn new(code: Code, message: &str) -> Self {
        Self { code, message: message.to_owned() }
    }
}

/// Reads field after field and remembers the first that is wrong, so that there is one way out and not one for each.
struct Fields<'a> {
    options: &'a JsValue,
    wrong: Option<&'static str>,
}

impl Fields<'_> {
    fn read<T: Default>(&mut self, name: &'static str, read: impl FnOnce(&JsValue) -> Option<T>) -> T {
        read(&field(self.options, name)).unwrap_or_else(|| {
            self.wrong.get_or_insert(name);
            T::default()
        })
    }

    fn text(&mut self, name: &'static str) -> String {
        self.read(name, JsValue::as_string)
    }

    fn flag(&mut self, name: &'static str) -> bool {
        self.read(name, JsValue::as_bool)
    }

    fn time(&mut self, name: &'static str) -> Duration {
        Duration::from_millis(self.read(name, JsValue::as_f64) as u64)
    }
}

impl Options {
    /// Reads what the shell passes.
    ///
    /// # Errors
    /// When a field is missing or of another type.
    pub(crate) fn read(options: &JsValue) -> Result<Self, Invalid> {
        let mut fields = Fields { options, wrong: None };
        let read = Self {
            url: fields.text("url"),
            encryption: fields.text("encryption"),
            server_keys: fields.read("serverKeys", texts),
            allow_insecure_discovery: fields.flag("allowInsecureDiscovery"),
            shared_key: fields.text("sharedKey"),
            asks_for_credentials: fields.flag("asksForCredentials"),
            connect_timeout: fields.time("connectTimeoutMs"),
            call_timeout: fields.time("callTimeoutMs"),
            reconnect: fields.flag("reconnect"),
            reconnect_base: fields.time("reconnectBaseMs"),
            reconnect_max: fields.time("reconnectMaxMs"),
            client_version: fields.text("clientVersion"),
        };
        match fields.wrong {
            None => Ok(read),
            Some(name) => {
                let message = ["the option ", name, " is missing or of another type"].concat();
                Err(Invalid { code: Code::INVALID_OPTION, message })
            }
        }
    }

    /// How long a call waits that does not say.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// The endpoint's configuration.
    ///
    /// # Errors
    /// When an option is wrong or does not go together with another.
    pub(crate) fn config(self) -> Result<ClientConfig, Invalid> {
        let url = DialUrl::parse(&self.url).map_err(|error| Invalid::new(Code::INVALID_URL, error.message()))?;
        let mut config = ClientConfig::new(url);
        config.suite = Suite::from_name(&self.encryption);
        if config.suite.is_none() && self.encryption != "off" {
            return Err(Invalid::new(Code::INVALID_OPTION, "the option encryption names no known suite"));
        }
        let invalid_key = |error: InvalidKey| Invalid::new(Code::INVALID_SERVER_KEY, error.message());
        for key in &self.server_keys {
            config.server_keys.push(key.parse().map_err(invalid_key)?);
        }
        if config.suite.is_none() && !config.server_keys.is_empty() {
            let message = "the option serverKey protects nothing while encryption is \"off\"";
            return Err(Invalid::new(Code::INVALID_OPTION, message));
        }
        if !self.shared_key.is_empty() {
            if config.suite.is_none() {
                let message = "the option sharedKey protects nothing while encryption is \"off\"";
                return Err(Invalid::new(Code::INVALID_OPTION, message));
            }
            let invalid = |error: InvalidSharedKey| Invalid::new(Code::INVALID_SHARED_KEY, error.message());
            config.shared_key = Some(self.shared_key.parse().map_err(invalid)?);
        }
        config.asks_for_credentials = self.asks_for_credentials;
        config.allow_insecure_discovery = self.allow_insecure_discovery;
        config.connect_timeout = self.connect_timeout;
        config.backoff = self.reconnect.then(|| BackoffConfig {
            base: self.reconnect_base,
            cap: self.reconnect_max,
            ..BackoffConfig::default()
        });
        config.version = self.client_version;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            url: "wss://app.example.com/moorline".into(),
            encryption: "chacha20-poly1305".into(),
            server_keys: Vec::new(),
            allow_insecure_discovery: false,
            shared_key: String::new(),
            asks_for_credentials: false,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(4),
            reconnect: true,
            reconnect_base: Duration::from_millis(5),
            reconnect_max: Duration::from_millis(6),
            client_version: "test/1".into(),
        }
    }

    fn code(options: Options) -> Option<Code> {
        options.config().err().map(|invalid| invalid.code)
    }

    #[test]
    fn options_arrive_in_the_configuration() {
        let config = options().config().unwrap();
        assert_eq!(config.suite, Some(Suite::ChaCha20Poly1305));
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        assert_eq!(config.backoff.map(|backoff| backoff.base), Some(Duration::from_millis(5)));
        assert_eq!(config.backoff.map(|backoff| backoff.cap), Some(Duration::from_millis(6)));
        assert!(Options { reconnect: false, ..options() }.config().unwrap().backoff.is_none());
        assert!(Options { encryption: "off".into(), ..options() }.config().unwrap().suite.is_none());
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        assert_eq!(code(Options { url: "/moorline".into(), ..options() }), Some(Code::INVALID_URL));
        assert_eq!(code(Options { encryption: "rot13".into(), ..options() }), Some(Code::INVALID_OPTION));
        let keys = vec!["mlpub_short".to_owned()];
        assert_eq!(code(Options { server_keys: keys, ..options() }), Some(Code::INVALID_SERVER_KEY));
    }

    #[test]
    fn a_shared_key_is_read_and_protects_nothing_without_encryption() {
        use moorline_protocol::key::{SharedKey, SharedKeyId};
        let key = SharedKey::new(SharedKeyId([1; 4]), [2; 32]);
        let with = |shared_key: &str| Options { shared_key: shared_key.into(), ..options() };
        assert_eq!(with(&key.text()).config().unwrap().shared_key, Some(key.clone()));
        assert_eq!(code(with("hunter2")), Some(Code::INVALID_SHARED_KEY));
        assert_eq!(code(Options { encryption: "off".into(), ..with(&key.text()) }), Some(Code::INVALID_OPTION));
    }

    #[test]
    fn a_pin_without_encryption_is_refused_because_it_would_protect_nothing() {
        let key = moorline_protocol::key::StaticKey::from_private([3; 32]).public().to_string();
        let options = Options { encryption: "off".into(), server_keys: vec![key], ..options() };
        assert_eq!(code(options), Some(Code::INVALID_OPTION));
    }
}

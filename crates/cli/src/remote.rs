//! What `watch` and `publish` have in common: which server, as whom, and what a person reads when it does not work.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use moorline_client::{
    Client, ClientBuilder, Error,
    protocol::{client::Status, code::Code, record::Suite},
};
use moorline_server::{
    Config,
    control::{self, Request},
    identity,
};
use tokio::{runtime, time::timeout};

use crate::args::Remote;

/// What stands for a flag that was not given. An empty variable is none.
fn variable(name: &str) -> anyhow::Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => bail!("{name}: the value is not Unicode"),
    }
}

fn given(flag: Option<&String>, name: &str) -> anyhow::Result<Option<String>> {
    flag.map_or_else(|| variable(name), |value| Ok(Some(value.clone())))
}

impl Remote {
    /// A client for the server that is meant. It must be made within a runtime.
    pub(crate) fn connect(&self, config: Option<&Path>) -> anyhow::Result<Client> {
        let keys = given(self.server_key.as_ref(), "MOORLINE_SERVER_KEY")?;
        let mut builder = match given(self.url.as_ref(), "MOORLINE_URL")? {
            Some(url) => Client::builder(&url).with_context(|| format!("the URL {url} does not do"))?,
            None => here(&config.map_or_else(Config::load, Config::load_from)?, keys.is_some())?,
        };
        if self.plain {
            builder = builder.encryption(None);
        }
        for key in keys.iter().flat_map(|keys| keys.split(',')) {
            builder = builder.server_key(key.trim()).context("the server key does not do")?;
        }
        if let Some(file) = self.ca.clone().or(variable("MOORLINE_CA")?.map(Into::into)) {
            let pem = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
            builder = builder.authorities(&pem).with_context(|| format!("{} does not do", file.display()))?;
        }
        if let Some(key) = given(self.shared_key.as_ref(), "MOORLINE_SHARED_KEY")? {
            builder = builder.shared_key(&key).context("the shared key does not do")?;
        }
        if let Some(token) = given(self.token.as_ref(), "MOORLINE_TOKEN")? {
            builder = builder.token(&token);
        }
        Ok(builder.connect()?)
    }

    /// Waits for the first connection, as long as that may help.
    pub(crate) async fn ready(&self, client: &Client) -> anyhow::Result<()> {
        let is_settled = |status: &Status| match status {
            Status::Connected | Status::Closed(_) => true,
            Status::Connecting { error, .. } => error.as_ref().is_some_and(|failure| HOPELESS.contains(&failure.code)),
        };
        let settled = timeout(self.timeout, client.wait_for(is_settled)).await;
        let late = |error: anyhow::Error| match settled {
            Ok(_) => error,
            Err(_) => error.context(format!("not connected {}", within(self.timeout))),
        };
        match client.status() {
            Status::Connected => Ok(()),
            Status::Closed(failure) | Status::Connecting { error: failure @ Some(_), .. } => {
                Err(late(explain(&Error::Closed(failure))))
            }
            Status::Connecting { error: None, .. } => Err(late(anyhow!("the server does not answer"))),
        }
    }
}

/// What stays as it is, however long somebody waits who gave a URL, a key and a token once.
const HOPELESS: [Code; 6] = [
    Code::TOKEN_EXPIRED,
    Code::SERVER_KEY_CHANGED,
    Code::ENCRYPTION_MISMATCH,
    Code::NOT_MOORLINE,
    Code::HOST_REFUSED,
    Code::CERTIFICATE_REFUSED,
];

pub(crate) fn within(time: Duration) -> String {
    format!("within {time:?}")
}

pub(crate) fn runtime() -> anyhow::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// The server of this configuration, which runs on this machine. Its key is pinned, unless another is given.
fn here(config: &Config, has_key: bool) -> anyhow::Result<ClientBuilder> {
    let server = &config.server;
    let running = control::Client::connect(&server.data_dir)
        .and_then(|mut server| server.ask::<control::Status>(&Request::Status))
        .ok();
    let ends_tls = running.as_ref().is_some_and(|status| status.certificate.is_some());
    if ends_tls || config.tls.cert_file.is_some() || config.tls.self_signed {
        bail!(
            "the configured server ends TLS itself: dial the name that its certificate is for, with --url wss://…, and with \
             --ca FILE where only you trust it"
        );
    }
    if server.proxy_protocol {
        bail!(
            "the configured server wants every connection of a proxy to begin with a PROXY header, which this command has \
             not; name another way in with --url"
        );
    }
    let address = address(config, running.as_ref())?;
    let url = match server.public_urls.first() {
        // Who dials another is refused.
        Some(url) => url.to_string(),
        None => format!("ws://{address}{}", server.path),
    };
    let mut builder = Client::builder(&url)?.address(address);
    if !server.encryption {
        return Ok(builder.encryption(None));
    }
    builder = builder.encryption(server.suites.first().copied().or(Some(Suite::Aes256Gcm)));
    if !has_key {
        let (identity, _) = identity::load(config)
            .context("the configured server's key is not there to be pinned; name it with --server-key")?;
        for key in identity.public_keys() {
            builder = builder.server_key(&key.to_string())?;
        }
    }
    Ok(builder)
}

/// Where the configured server is reached from this machine: as it says itself, for a flag may have changed it; otherwise
/// as it is configured.
fn address(config: &Config, running: Option<&control::Status>) -> anyhow::Result<SocketAddr> {
    let told = running.and_then(|status| status.listen.first()?.parse().ok());
    let mut address: SocketAddr = told.unwrap_or(config.server.listen);
    if address.port() == 0 {
        bail!(
            "the configured server takes any free port, and none runs on the data directory {} that could say which; start \
             it, or name a server with --url",
            config.server.data_dir.display()
        );
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Ok(address)
}

/// What a person reads of a failure: its name, what the server says, and what to do about it.
pub(crate) fn explain(error: &Error) -> anyhow::Error {
    let (name, code, message) = match error {
        Error::Closed(Some(failure)) => (failure.name(), failure.code, &failure.message),
        Error::Failed(failure) => match failure.name.is_empty() {
            true => (failure.code.to_string(), failure.code, &failure.message),
            false => (failure.name.clone(), failure.code, &failure.message),
        },
        Error::ChannelClosed(code, message) => (code.to_string(), *code, message),
        other => return anyhow!("{other}"),
    };
    let entry = code.entry().filter(|_| code != Code::APPLICATION);
    let said = match (message.as_str(), entry) {
        ("", Some(entry)) => entry.summary,
        (message, _) => message,
    };
    // It may be an application's text.
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let remedy = entry.map_or("", |entry| entry.remedy);
    anyhow!("{}", format!("{name}: {said} {remedy}").trim_end())
}

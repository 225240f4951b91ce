//! What an operator sees at the start: what listens where, with which key, for whom, and what to look at.

use std::{fmt::Write as _, path::Path};

use moorline_server::{ChannelCounts, Config, Summary, identity::Origin, protocol::key::KeyRole};
use serde_json::json;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the banner tells.
pub(crate) struct Banner<'a> {
    pub(crate) config: &'a Config,
    pub(crate) summary: &'a Summary,
}

impl Banner<'_> {
    /// Lines for a person.
    pub(crate) fn pretty(&self) -> String {
        let summary = self.summary;
        let mut lines = vec![format!("moorline {VERSION}   {}", self.source())];
        let mut line = |name: &str, text: String| lines.push(format!("{name:<9} {text}"));
        line("listen", self.urls(&summary.path).join("   "));
        if let Some(internal) = &summary.internal {
            line("internal", format!("http://{internal} (/metrics, /healthz, /readyz)"));
        }
        if let Some(control) = &summary.control {
            line("control", control.display().to_string());
        }
        if let Some(certificate) = &summary.certificate {
            line("tls", certificate.to_string());
        }
        if let Some(file) = &summary.self_signed {
            line("", self_signed(file));
        }
        if let Some(public) = &self.config.server.public {
            line("pages", format!("{} from {}", self.urls("/").join("   "), public.display()));
        }
        if !summary.public_urls.is_empty() {
            line("public", summary.public_urls.join("   "));
        }
        if let Some(proxies) = self.proxies() {
            line("proxies", proxies);
        }
        for (role, key) in &summary.identity {
            let what = match role {
                KeyRole::Current => self.origin(),
                KeyRole::Next => "next, accepted already".to_owned(),
                KeyRole::Previous => "previous, still accepted".to_owned(),
            };
            line("identity", format!("{key} ({what})"));
        }
        line("trust", self.trust().to_owned());
        line("auth", self.auth().to_owned());
        line("origins", self.origins());
        line("sealed", if summary.encryption { summary.suites.join(", ") } else { "no".to_owned() });
        line("topics", self.topics());
        if let Some(stores) = self.stores() {
            line("stores", stores);
        }
        for warning in &summary.warnings {
            line("warning", warning.clone());
        }
        lines.join("\n") + "\n"
    }

    /// One line of JSON with the same, and with the fields that every log line has.
    pub(crate) fn json(&self) -> String {
        let (config, summary) = (self.config, self.summary);
        let mut timestamp = String::new();
        // Writing to a text does not fail, and an empty time is no reason not to start.
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let banner = json!({
            "timestamp": timestamp,
            "level": "INFO",
            "target": "moorline",
            "message": "listening",
            "version": VERSION,
            "config": { "file": config.source.file, "variables": config.source.variables },
            "listen": self.urls(&summary.path),
            "internal": summary.internal.map(|address| format!("http://{address}")),
            "control": summary.control,
            "tls": summary.certificate.as_ref().map(|certificate| json!({
                "common_name": certificate.common_name,
                "names": certificate.names,
                "not_before": certificate.not_before(),
                "not_after": certificate.not_after(),
                "days_left": certificate.days_left(std::time::SystemTime::now()),
                "sha256": certificate.fingerprint,
                "self_signed": summary.self_signed,
            })),
            "pages": config.server.public,
            "public": summary.public_urls,
            "trusted_proxies": config.server.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "proxy_protocol": config.server.proxy_protocol,
            "identity": summary.identity.iter().map(|(_, key)| key.to_string()).collect::<Vec<_>>(),
            "identity_origin": summary.identity_origin.map(|origin| origin.to_string()),
            "trust": self.trust(),
            "auth": summary.auth,
            "origins": summary.origins,
            "encryption": if summary.encryption { "on" } else { "off" },
            "suites": summary.suites,
            "topics": {
                "declared": summary.declared.topics,
                "with_history": summary.declared.with_history,
                "with_presence": summary.declared.with_presence,
                "undeclared": summary.declared.undeclared,
            },
            "stores": {
                "declared": summary.declared.stores,
                "with_presence": summary.declared.stores_with_presence,
            },
            "channels": summary.channels,
            "warnings": summary.warnings,
        });
        format!("{banner}\n")
    }

    fn source(&self) -> String {
        let source = &self.config.source;
        let mut text = source.file.as_ref().map_or_else(|| "defaults".to_owned(), |file| file.display().to_string());
        match source.variables.len() {
            0 => {}
            1 => text.push_str(" + 1 environment variable"),
            // Writing to a text does not fail.
            many => _ = write!(text, " + {many} environment variables"),
        }
        text
    }

    fn urls(&self, path: &str) -> Vec<String> {
        let scheme = if self.summary.tls { "https" } else { "http" };
        self.summary.listen.iter().map(|address| format!("{scheme}://{address}{path}")).collect()
    }

    /// Who is believed when he speaks for others.
    fn proxies(&self) -> Option<String> {
        let server = &self.config.server;
        let named: Vec<String> = server.trusted_proxies.iter().map(ToString::to_string).collect();
        let how = if server.proxy_protocol { " (PROXY protocol)" } else { "" };
        (!named.is_empty()).then(|| format!("trusted: {}{how}", named.join(", ")))
    }

    fn origin(&self) -> String {
        match self.summary.identity_origin {
            Some(Origin::Created) => format!("made now, kept in {}", self.config.key_file().display()),
            Some(Origin::File) => format!("from {}", self.config.key_file().display()),
            Some(Origin::Environment) => "from the environment".to_owned(),
            Some(Origin::Configuration) => "from the configuration".to_owned(),
            // The library gives none when the program brought the key, and may learn to tell more.
            Some(_) | None => "given".to_owned(),
        }
    }

    fn trust(&self) -> &'static str {
        if self.summary.encryption {
            "pages ask this server for its key, over TLS or on localhost; pin it with VITE_MOORLINE_SERVER_KEY or serverKey"
        } else {
            "none: without encryption only TLS shows pages that this is the server"
        }
    }

    fn auth(&self) -> &str {
        match self.summary.auth.as_str() {
            "open" => "open: everybody on this machine, without signing in",
            "anonymous" => "anonymous: everybody, without signing in",
            other => other,
        }
    }

    fn topics(&self) -> String {
        let ChannelCounts { topics: declared, with_history, with_presence, undeclared, .. } = self.summary.declared;
        let mut text = match declared {
            0 if !undeclared => "none: what is not declared does not exist".to_owned(),
            0 => "none declared".to_owned(),
            count => format!("{count} declared"),
        };
        // Writing to a text does not fail.
        if let Some(file) = self.summary.channels.as_ref().filter(|_| with_history > 0) {
            _ = write!(text, ", {with_history} with history in {}", file.display());
        }
        if with_presence > 0 {
            _ = write!(text, ", {with_presence} with presence");
        }
        if undeclared {
            text.push_str("; any other is made when it is asked for (--dev)");
        }
        text
    }

    fn stores(&self) -> Option<String> {
        let ChannelCounts { stores, stores_with_presence, .. } = self.summary.declared;
        let file = self.summary.channels.as_ref().filter(|_| stores > 0)?;
        Some(format!("{stores} declared in {}, {stores_with_presence} with presence", file.display()))
    }

    fn origins(&self) -> String {
        let named = self.summary.origins.join(", ");
        if named.is_empty() { "only pages of the server's own host".to_owned() } else { named }
    }
}

/// How to get along with a certificate that nobody has signed.
fn self_signed(file: &Path) -> String {
    let file = file.display();
    format!(
        "self-signed: add {file} to what your browser or system trusts (curl --cacert {file}, NODE_EXTRA_CA_CERTS={file}); \
         not for the internet"
    )
}

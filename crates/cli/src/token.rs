//! `moorline token`.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use moorline_server::{
    Config, DataDir,
    control::{self, Client, ControlError, Request},
    protocol::{
        scope::{Scope, Scopes},
        subject::{Subject, Tenant},
    },
    token::{self, Grant, Revocation},
};
use serde_json::{Value, json};
use tokio::runtime;

use crate::args::{GrantFlags, RevokeFlags, TokenCommand};

/// More than the longest token: what is longer is none, and is told so.
const MOST: u64 = 64 * 1024;

pub(crate) fn run(config: Option<&Path>, command: TokenCommand) -> anyhow::Result<()> {
    let load = || Ok::<Config, anyhow::Error>(config.map_or_else(Config::load, Config::load_from)?);
    match command {
        TokenCommand::Issue(flags) => issue(&load()?, flags),
        TokenCommand::Inspect { token } => inspect(&given(token)?),
        TokenCommand::Verify { token, client_key } => verify(&load()?, &given(token)?, client_key),
        TokenCommand::Revoke(flags) => {
            let mut config = load()?;
            if let Some(data_dir) = &flags.data_dir {
                config.server.data_dir.clone_from(data_dir);
            }
            revoke(&config, &flags)
        }
    }
}

/// The token that was named, otherwise standard input: what stands on a command line, every user of the machine can see.
fn given(token: Option<String>) -> anyhow::Result<String> {
    let token = match token.filter(|token| token != "-") {
        Some(token) => token,
        None => {
            if io::stdin().is_terminal() {
                eprintln!("paste the token, and end with Ctrl-D:");
            }
            let mut text = String::new();
            io::stdin().take(MOST).read_to_string(&mut text).context("standard input is no token")?;
            text
        }
    };
    Ok(token.trim().to_owned())
}

/// Prints the token and nothing else, so that a script can take it; what is to be known of it goes to stderr.
fn issue(config: &Config, flags: GrantFlags) -> anyhow::Result<()> {
    let mut grant = Grant::new(config, flags.subject);
    let GrantFlags { scope, tenant, exp, role, meta, client_key, audience, .. } = flags;
    if let Some(scope) = scope {
        let Scopes::Listed(scopes) = Scopes::from_text(&scope).context("--scope does not do")? else {
            bail!("--scope does not do");
        };
        grant.scopes = Some(scopes);
    }
    if let Some(tenant) = tenant {
        grant.tenant = Tenant::new(&tenant).context("--tenant does not do")?;
    }
    (grant.ttl, grant.role, grant.client_key) = (exp, role, client_key);
    if let Some(meta) = meta {
        grant.meta = serde_json::from_str(&meta).context("--meta is no JSON")?;
    }
    if let Some(audience) = audience {
        grant.audience = audience.into();
    }
    let issued = token::issue(config, &grant)?;
    let lasts = issued.expires.saturating_sub(seconds(SystemTime::now()));
    // A second may have gone by.
    let capped =
        if Duration::from_secs(lasts + 5) < grant.ttl { ", as long as [auth.issue] max_ttl lets it" } else { "" };
    eprintln!("valid for {lasts} s{capped}; revoke it with: moorline token revoke --jti {}", issued.id);
    writeln!(io::stdout().lock(), "{}", issued.token)?;
    Ok(())
}

fn inspect(token: &str) -> anyhow::Result<()> {
    let said = token::inspect(token).map_err(|reason| anyhow::anyhow!("this is no token: {reason}"))?;
    eprintln!("not verified: anybody can have written this");
    print(&json!({ "header": said.header, "claims": said.claims }))
}

fn verify(config: &Config, token: &str, client_key: Option<[u8; 32]>) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let verified = runtime.block_on(token::verify(config, token, client_key.as_ref()))?;
    let principal = &verified.principal;
    let scopes = match &principal.scopes {
        Scopes::All => json!("all"),
        Scopes::Unlisted => Value::Null,
        Scopes::Listed(scopes) => scopes.iter().map(Scope::to_string).collect(),
    };
    print(&json!({
        "subject": principal.subject.name(),
        "tenant": principal.subject.tenant().as_str(),
        "role": principal.role,
        "scopes": scopes,
        "meta": principal.meta,
        "jti": verified.id,
        "believedUntil": seconds(verified.expires),
        "claims": verified.claims,
    }))
}

/// Takes back what tokens allow: by the server that runs, which ends who came in by them; else in the data directory,
/// where the next start finds it.
fn revoke(config: &Config, flags: &RevokeFlags) -> anyhow::Result<()> {
    match Client::connect(&config.server.data_dir) {
        Ok(mut server) => {
            let _: Value = server.ask(&Request::TokenRevoke(flags.request()?))?;
            eprintln!("revoked");
        }
        Err(ControlError::NotRunning { .. } | ControlError::NoSockets) => {
            // Nobody may start in between. This also finds a server that takes no commands.
            let _alone = DataDir::open(&config.server.data_dir)?;
            token::revoke(config, &flags.revocation()?)?;
            let file = config.revocations_file();
            eprintln!(
                "revoked in {}; no server answers here that could hear of it before its next start",
                file.display()
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

impl RevokeFlags {
    fn request(&self) -> anyhow::Result<control::Revocation> {
        match (&self.jti, &self.subject) {
            (Some(jti), _) => Ok(control::Revocation::Token { jti: jti.clone() }),
            (None, Some(subject)) => {
                Ok(control::Revocation::Subject { subject: subject.clone(), tenant: self.tenant.clone() })
            }
            // The command line asks for one of them.
            (None, None) => bail!("say which: --jti or --subject"),
        }
    }

    fn revocation(&self) -> anyhow::Result<Revocation> {
        match (&self.jti, &self.subject) {
            (Some(id), _) => Ok(Revocation::Token { id: id.clone(), expires: None }),
            (None, Some(name)) => {
                let tenant = match &self.tenant {
                    Some(tenant) => Tenant::new(tenant).context("--tenant does not do")?,
                    None => Tenant::default(),
                };
                let subject = Subject::new(tenant, name).context("--subject does not do")?;
                Ok(Revocation::Subject { subject, before: SystemTime::now() })
            }
            // The command line asks for one of them.
            (None, None) => bail!("say which: --jti or --subject"),
        }
    }
}

fn print(value: &Value) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{value:#}")?;
    Ok(())
}

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

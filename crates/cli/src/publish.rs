//! `moorline publish`.

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, anyhow, ensure};
use moorline_client::{
    Error,
    protocol::{
        limits::MAX_PAYLOAD,
        payload::{Name, Payload},
        session::CallOptions,
    },
};
use serde::de::IgnoredAny;

use crate::{
    args::PublishFlags,
    message,
    remote::{self, explain},
};

pub(crate) fn run(config: Option<&Path>, flags: PublishFlags) -> anyhow::Result<()> {
    let payload = payload(&flags)?;
    remote::runtime()?.block_on(publish(config, flags, payload))
}

/// The message, before anything is connected to.
fn payload(flags: &PublishFlags) -> anyhow::Result<Payload> {
    let data = match flags.data.as_deref().filter(|data| *data != "-") {
        Some(data) => data.as_bytes().to_vec(),
        None => {
            if io::stdin().is_terminal() {
                eprintln!("type the message, and end with Ctrl-D:");
            }
            let mut data = Vec::new();
            io::stdin().take(MAX_PAYLOAD as u64 + 1).read_to_end(&mut data).context("reading standard input")?;
            data
        }
    };
    ensure!(data.len() <= MAX_PAYLOAD, "a message has at most {MAX_PAYLOAD} bytes");
    if flags.bytes {
        return Ok(Payload::bytes(data));
    }
    let text = std::str::from_utf8(&data).context("the message is not Unicode; publish its bytes with --bytes")?;
    if flags.text {
        // What ends the last line of a file or of an `echo` is not meant.
        let text = if flags.data.is_some() { text } else { text.strip_suffix('\n').unwrap_or(text) };
        return Ok(Payload::json(serde_json::to_vec(text)?));
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(Payload::json(data)),
        Err(error) => Err(anyhow!("the message is no JSON: {error}; for a text that is none there is --text")),
    }
}

async fn publish(config: Option<&Path>, flags: PublishFlags, payload: Payload) -> anyhow::Result<()> {
    let client = flags.remote.connect(config)?;
    flags.remote.ready(&client).await?;
    let mut options = CallOptions::within(flags.remote.timeout);
    // So that it is published once, also where the session is lost before the answer comes.
    options.key = Some(key()?);
    let published = client.publish_raw(&flags.topic, payload, options).await;
    client.close().await;
    let position = published.map_err(|error| match error {
        Error::TimedOut => anyhow!(
            "no answer came {}; the message may have been published all the same",
            remote::within(flags.remote.timeout)
        ),
        error => explain(&error),
    })?;
    writeln!(io::stdout().lock(), "{}", message::position_text(position))?;
    Ok(())
}

fn key() -> anyhow::Result<Name> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| anyhow!("the system gives no random bytes"))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Name::new(&text)?)
}

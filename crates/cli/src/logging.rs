//! Log lines, always on stderr: stdout is for what a script reads.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use anyhow::Context as _;
use moorline_server::config::{LogFormat, LogSection};
use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Whether a person reads: then lines are for people, otherwise they are JSON.
pub(crate) fn is_pretty(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    }
}

/// Starts to write log lines.
pub(crate) fn start(log: &LogSection) -> anyhow::Result<()> {
    let filter: Targets = log.level.as_str().parse().context("[log] level is not understood")?;
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = if is_pretty(log.format) {
        // https://no-color.org: any text but an empty one means no.
        let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        layer.with_ansi(colour).boxed()
    } else {
        layer.json().flatten_event(true).with_span_list(false).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().context("logging runs already")
}

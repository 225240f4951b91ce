//! `moorline serve`.

use std::path::Path;

use anyhow::{Context as _, bail};
use moorline_server::{Config, Server};
use tokio::{runtime, sync::oneshot};

use crate::{
    args::{ServeFlags, Tls},
    banner::Banner,
    logging,
    signals::Signals,
};

/// Runs the server until a signal ends it.
pub(crate) fn run(config: Option<&Path>, flags: ServeFlags) -> anyhow::Result<()> {
    let mut config = config.map_or_else(Config::load, Config::load_from)?;
    let dev = flags.dev;
    flags.apply(&mut config);
    if let Some(public) = config.server.public.as_deref().filter(|public| !public.is_dir()) {
        bail!(
            "the directory of static files {} is not there; build the page first, or correct --public",
            public.display()
        );
    }
    logging::start(&config.log)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(serve(config, dev))
}

impl ServeFlags {
    fn apply(self, config: &mut Config) {
        let Self { listen, data_dir, tls, public, dev: _ } = self;
        config.tls.self_signed |= tls == Some(Tls::SelfSigned);
        let server = &mut config.server;
        server.listen = listen.unwrap_or(server.listen);
        server.public = public.or(server.public.take());
        if let Some(data_dir) = data_dir {
            server.data_dir = data_dir;
        }
    }
}

async fn serve(config: Config, dev: bool) -> anyhow::Result<()> {
    // Before the banner: who reads it may send one at once.
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let builder = Server::builder().config(config.clone()).control();
    let server = if dev { builder.dev() } else { builder }.build().await?;
    let banner = Banner { config: &config, summary: server.summary() };
    eprint!("{}", if logging::is_pretty(config.log.format) { banner.pretty() } else { banner.json() });

    let (close, closing) = oneshot::channel();
    let serving = server.serve(async {
        // The other end goes only with the whole program.
        let _ = closing.await;
    });
    let ending = async {
        signals.next().await;
        tracing::info!(
            "closing: clients are told and have {:?}; a second signal ends at once",
            config.timeouts.shutdown
        );
        let _ = close.send(());
        signals.next().await
    };
    tokio::select! {
        served = serving => served?,
        code = ending => std::process::exit(code),
    }
    tracing::info!("closed");
    Ok(())
}

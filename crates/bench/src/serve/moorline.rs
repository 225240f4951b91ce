//! The server under test: the library as a program embeds it, with the defaults.

use std::{path::Path, time::Duration};

use anyhow::Result;
use moorline_protocol::{
    entropy::Entropy,
    key::{Identity, StaticKey},
};
use moorline_server::prelude::*;

use crate::line::{ECHO, KEPT, PUBLISH, TICK, TOPIC};

/// Messages that the topic keeps which is kept: more than a round publishes, fewer than a run.
const HISTORY: u64 = 10_000;

async fn echo(payload: Bytes) -> Bytes {
    payload
}

async fn publish(peer: Peer, peers: Peers, Json(text): Json<String>) -> Result<(), Fail> {
    peers.broadcast_except(&peer, TICK, &text)?;
    Ok(())
}

/// Starts it, and prints its address and its key.
pub(super) async fn start(encryption: bool, data: Option<&Path>) -> Result<()> {
    let mut config = Config::default();
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.server.encryption = encryption;
    // What is measured is what the server can do, and its one client is one address. What the limits cost stays in.
    let limits = &mut config.limits;
    (limits.connections_per_address, limits.handshakes_per_second, limits.messages_per_second) =
        (1 << 30, 1 << 30, 1 << 30);
    (limits.handshakes_per_second_per_address, limits.bytes_per_second) = (1 << 30, 1 << 30);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut builder = Server::builder();
    if let Some(data) = data {
        config.server.data_dir = data.to_owned();
        builder = builder.topic(KEPT, TopicPolicy::new().history(HISTORY, Duration::from_secs(3_600)));
    }
    let server = builder
        .topic(TOPIC, TopicPolicy::new())
        .config(config)
        .identity(Identity::new(StaticKey::generate(&mut Entropy::new(seed))))
        .handler(ECHO, echo)
        .listener(PUBLISH, publish)
        .build()
        .await?;
    match server.summary().identity.first() {
        Some((_, key)) => println!("{} {key}", server.local_addr()),
        None => println!("{}", server.local_addr()),
    }
    tokio::spawn(server.serve(std::future::pending()));
    Ok(())
}

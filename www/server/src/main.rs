//! The demo: one room with chat, cursors, dice and three roles, and what pages share without it, on a server that embeds
//! `moorline-server`.
//!
//! ```text
//! moorline-demo [DIRECTORY OF THE PAGES]
//! ```
//! Everything else is configured as for `moorline serve`: `moorline.toml`, or `MOORLINE__SERVER__LISTEN` and the like.

mod channels;
mod dice;
mod role;
mod room;

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use moorline_server::prelude::*;
use serde::{Deserialize, Serialize};

use role::Role;
use room::{Member, Message, Point, Room};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let shutdown = shutdown_signal().context("cannot catch signals")?;

    let server = Server::builder()
        .with_state(Demo::open())
        // Whoever shows nothing does not get as far as this: there are no handlers for guests.
        .auth(role::doorman)
        .handler("join", join)
        .handler("turn", turn)
        .handler("roll", roll)
        .listener("cursor", cursor)
        .handler("say", say.scope(role::SPEAK))
        .handler("clear", clear.role(Role::Admin.name()))
        .handler("dismiss", dismiss.role(Role::Admin.name()))
        .on_disconnect(leave)
        .topic(channels::CHAT, channels::chat())
        .topic(channels::PEERS, channels::peers())
        .store(channels::TEXT, channels::text())
        .config(config()?)
        .build()
        .await?;
    println!("The demo is at http://{}. Open it in two windows; Ctrl-C ends it.", server.local_addr());
    Ok(server.serve(shutdown).await?)
}

/// What every handler shares.
#[derive(Clone)]
struct Demo {
    room: Arc<Mutex<Room>>,
    opened: Instant,
    opened_at_ms: u64,
}

impl Demo {
    fn open() -> Self {
        Self { room: Arc::default(), opened: Instant::now(), opened_at_ms: now_ms() }
    }

    /// Handlers tell the others while they hold it, so that everybody hears of changes in the order they were made.
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    you: u64,
    /// Tells one run of the server from the next, in which the numbers begin anew.
    opened_at_ms: u64,
    members: Vec<Member>,
    messages: Vec<Message>,
}

async fn join(State(demo): State<Demo>, peer: Peer, peers: Peers, principal: Principal) -> Result<Json<Joined>, Fail> {
    let mut room = demo.room();
    let me = room.join(peer.id(), principal.subject.name(), Role::of(&principal))?;
    peers.broadcast_except(&peer, "joined", &me)?;
    let Demo { opened_at_ms, .. } = demo;
    Ok(Json(Joined { you: me.id, opened_at_ms, members: room.members(), messages: room.recent() }))
}

/// The caller has become somebody else (`client.authenticate`); here the room hears of it.
async fn turn(State(demo): State<Demo>, peer: Peer, peers: Peers, principal: Principal) -> Result<Json<Member>, Fail> {
    let mut room = demo.room();
    let me = room.turn(peer.id(), principal.subject.name(), Role::of(&principal))?;
    peers.broadcast_except(&peer, "turned", &me)?;
    Ok(Json(me))
}

async fn say(
    State(demo): State<Demo>,
    peer: Peer,
    peers: Peers,
    Json(Text { text }): Json<Text>,
) -> Result<Json<Message>, Fail> {
    let mut room = demo.room();
    let message = room.say(peer.id(), &text, now_ms())?;
    peers.broadcast("said", &message)?;
    Ok(Json(message))
}

/// What an admin did, for those whom it happened to.
#[derive(Serialize)]
struct By {
    by: String,
}

async fn clear(State(demo): State<Demo>, peers: Peers, principal: Principal) -> Result<(), Fail> {
    let mut room = demo.room();
    room.clear();
    Ok(peers.broadcast("cleared", &By { by: principal.subject.name().to_owned() })?)
}

#[derive(Deserialize)]
struct Whom {
    id: u64,
}

/// Ends somebody's session. Their page is told and does not come back by itself; nothing keeps them from coming back.
async fn dismiss(
    State(demo): State<Demo>,
    peers: Peers,
    principal: Principal,
    Json(Whom { id }): Json<Whom>,
) -> Result<(), Fail> {
    let session = demo.room().session(id)?;
    if let Some(peer) = peers.find(session) {
        peer.close(&format!("{} closed your session", principal.subject.name()));
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Roll {
    dice: [u8; 2],
    uptime_ms: u64,
}

#[derive(Serialize)]
struct Rolled {
    name: String,
    dice: [u8; 2],
}

async fn roll(State(demo): State<Demo>, peer: Peer, peers: Peers) -> Result<Json<Roll>, Fail> {
    let dice = [dice::roll()?, dice::roll()?];
    let room = demo.room();
    let name = room.member(peer.id())?.name.clone();
    peers.broadcast_except(&peer, "rolled", &Rolled { name, dice })?;
    Ok(Json(Roll { dice, uptime_ms: millis(demo.opened.elapsed().as_millis()) }))
}

#[derive(Serialize)]
struct Cursor {
    id: u64,
    #[serde(flatten)]
    at: Point,
}

async fn cursor(State(demo): State<Demo>, peer: Peer, peers: Peers, Json(to): Json<Point>) -> Result<(), Fail> {
    if let Some((id, at)) = demo.room().point(peer.id(), to) {
        peers.broadcast_volatile_except(&peer, "cursor", &Cursor { id, at })?;
    }
    Ok(())
}

async fn leave(State(demo): State<Demo>, peer: Peer, peers: Peers) -> Result<(), Fail> {
    let mut room = demo.room();
    if let Some(gone) = room.leave(peer.id()) {
        peers.broadcast("left", &gone)?;
    }
    Ok(())
}

/// The configuration, with the directory of the pages: the argument, otherwise what is configured, otherwise where
/// Vite puts them.
fn config() -> anyhow::Result<Config> {
    let mut config = Config::load()?;
    let built = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("dist");
    let pages = env::args_os().nth(1).map(PathBuf::from).or(config.server.public.take()).unwrap_or_else(built);
    ensure!(
        pages.join("index.html").exists(),
        "{} has no pages: build them by `cargo xtask demo`, or give their directory as the argument",
        pages.display()
    );
    config.server.public = Some(pages);
    Ok(config)
}

/// Ready at SIGTERM or Ctrl-C.
#[cfg(unix)]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ready at Ctrl-C.
#[cfg(not(unix))]
fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

fn now_ms() -> u64 {
    // A clock before 1970 is wrong anyway.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| millis(since.as_millis()))
}

fn millis(millis: u128) -> u64 {
    u64::try_from(millis).unwrap_or(u64::MAX)
}

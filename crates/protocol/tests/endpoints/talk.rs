//! What tests of sessions let their applications say, and how they read what those heard.

use std::time::Duration;

use moorline_protocol::{
    PeerEvent,
    client::{ClientEvent, Status},
    frame::{CallId, ResetReason},
    payload::Payload,
    server::{Ended, ServerEvent},
    session::{Broadcast, CallOptions, Outcome},
};

use crate::pair::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const ACK_AFTER: Duration = Duration::from_millis(500);
pub(crate) const WINDOW: Duration = Duration::from_secs(120);

pub(crate) fn json(text: &str) -> Payload {
    Payload::json(text.to_owned())
}

pub(crate) fn broadcast(text: &str) -> Broadcast {
    Broadcast::new(name("note"), json(text), false).expect("small")
}

pub(crate) fn tell(pair: &mut Pair, text: &str) {
    pair.client.notify(name("note"), json(text), false).expect("room");
}

pub(crate) fn tell_client(pair: &mut Pair, text: &str) {
    pair.server().send(&broadcast(text)).expect("room");
}

pub(crate) fn ask(pair: &mut Pair, text: &str) -> CallId {
    pair.client.call(pair.now, name("ask"), json(text), CallOptions::default()).expect("room")
}

pub(crate) fn ask_client(pair: &mut Pair, text: &str) -> CallId {
    let now = pair.now;
    pair.server().call(now, name("ask"), json(text), CallOptions::default()).expect("room")
}

pub(crate) fn keyed(pair: &mut Pair, text: &str) -> CallId {
    let mut options = CallOptions::default();
    options.key = Some(name(text));
    pair.client.call(pair.now, name("ask"), json(text), options).expect("room")
}

/// What an application heard, as text, in order.
pub(crate) fn texts(heard: Vec<PeerEvent>) -> Vec<String> {
    let of = |payload: &Payload| String::from_utf8_lossy(&payload.bytes).into_owned();
    let texts = heard.iter().map(|event| match event {
        PeerEvent::Message { payload, .. } => of(payload),
        PeerEvent::Call { payload, .. } => format!("{}?", of(payload)),
        PeerEvent::Settled { id, outcome: Outcome::Reply(payload) } => format!("{} = {}", id.0, of(payload)),
        PeerEvent::Settled { id, outcome } => format!("{} {outcome:?}", id.0),
        PeerEvent::Cancelled(id) => format!("cancelled {}", id.0),
        PeerEvent::Confirmed(receipt) => format!("confirmed {}", receipt.0),
        PeerEvent::Item { id, payload } => format!("{}: {}", id.0, of(payload)),
        PeerEvent::Credit(id) => format!("credit {}", id.0),
        PeerEvent::Room => "room".to_owned(),
    });
    texts.collect()
}

pub(crate) fn kinds(heard: &[ClientEvent]) -> Vec<&'static str> {
    let kinds = heard.iter().map(|event| match event {
        ClientEvent::Status(Status::Connecting { .. }) => "connecting",
        ClientEvent::Status(Status::Connected) => "connected",
        ClientEvent::Status(Status::Closed(_)) => "closed",
        ClientEvent::Reset(_) => "reset",
        ClientEvent::Refused(..) => "refused",
        ClientEvent::Session(_) => "session",
        ClientEvent::Authenticated(..) => "authenticated",
        ClientEvent::Warned(..) => "warned",
        ClientEvent::Channel(..) => "channel",
        ClientEvent::Direct(_) => "direct",
        ClientEvent::Peer(PeerEvent::Message { .. }) => "message",
        ClientEvent::Peer(PeerEvent::Settled { .. }) => "settled",
        ClientEvent::Peer(PeerEvent::Cancelled(_)) => "cancelled",
        ClientEvent::Peer(_) => "peer",
    });
    kinds.collect()
}

pub(crate) fn ended(pair: &Pair) -> Vec<(Ended, usize)> {
    let ended = pair.server_heard.iter().filter_map(|event| match event {
        ServerEvent::Ended(ended, undelivered) => Some((*ended, *undelivered)),
        _ => None,
    });
    ended.collect()
}

pub(crate) fn reasons(pair: &Pair) -> Vec<ResetReason> {
    pair.resets().iter().map(|reset| reset.reason).collect()
}

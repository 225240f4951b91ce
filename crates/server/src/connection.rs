//! One socket, from the upgrade to the session that it is for.
//!
//! Who comes in new begins a session, whose task this task becomes. Who comes back hands its socket to the task of the
//! session that it had.

mod greeting;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::SinkExt;
use moorline_protocol::{
    code::Code,
    frame::ResetReason,
    limits::{MAX_RECORD, MAX_RECORD_BEFORE_AUTH},
    server::{Arrival, Rejection, ServerEndpoint, ServerOutput},
    session::Claim,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use self::greeting::greet;
use crate::{
    access::{
        Attempt,
        gate::{Entry, Outside, TurnedAway},
    },
    audit::About,
    limits::TooMuch,
    newcomer::{Io, Newcomer, Place, SessionHandle, owner},
    session,
    shared::Shared,
    websocket::{close, open_websocket, websocket_config},
};

/// Serves an upgraded socket until it is over. `read` is what came behind the head of the request.
pub(crate) async fn serve(socket: Io, read: Bytes, shared: Arc<Shared>, address: SocketAddr, mut place: Place) {
    let websocket = open_websocket(socket, read, MAX_RECORD_BEFORE_AUTH, MAX_RECORD).await;
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        return;
    }
    let endpoint = ServerEndpoint::new(shared.endpoint.clone(), seed, shared.now());
    let greeted = greet(websocket, endpoint, &shared, address).await;
    let Some((websocket, endpoint, arrival)) = greeted else { return };
    let attempt = Attempt::new(address, &arrival, arrival.auth.credentials.clone());
    let entry = match shared.judge(attempt).await {
        Ok(entry) => entry,
        Err(outside) => return refuse(websocket, endpoint, outside.into(), &shared, address).await,
    };
    let claim = claim(&arrival, &entry, &shared);
    // One that takes the place of a connection that still stands, at least here, adds none.
    let over = matches!(&claim, Claim::Resume(handle) if handle.is_connected());
    match shared.limits.hold(&entry.principal.subject, over) {
        Ok(held) => place.of_subject = held,
        Err(too_much) => {
            return refuse(websocket, endpoint, Refused::Limit(too_much, Some(entry)), &shared, address).await;
        }
    }
    // From here on full-sized messages may come. Nothing is lost with the old buffers: a client that is waiting for
    // Welcome has nothing to say, and what this side said before has been flushed, or there would be no HS3.
    let config = websocket_config(MAX_RECORD, 4 * shared.endpoint.limits.max_outgoing_bytes + MAX_RECORD);
    let websocket = WebSocketStream::from_raw_socket(websocket.into_inner(), Role::Server, Some(config)).await;
    admit(claim, Newcomer { websocket, endpoint, arrival, entry, address, place }, shared).await;
}

/// Why somebody who has shaken hands is not let in.
enum Refused {
    Away(TurnedAway),
    /// His address has guessed too often, or he is known and has too much already.
    Limit(TooMuch, Option<Entry>),
}

impl From<Outside> for Refused {
    fn from(outside: Outside) -> Self {
        match outside {
            Outside::TurnedAway(away) => Self::Away(away),
            Outside::TooMuch(too_much) => Self::Limit(too_much, None),
        }
    }
}

/// Does not let the client in, and says why where that may be said.
async fn refuse(
    mut websocket: WebSocketStream<Io>,
    mut endpoint: ServerEndpoint,
    refused: Refused,
    shared: &Shared,
    address: SocketAddr,
) {
    let about = About::address(address);
    match refused {
        Refused::Away(TurnedAway { denial, reason, way, .. }) => {
            let (code, text) = (denial.code, denial.name());
            let rejection = Rejection { name: denial.name, message: denial.message, ..Rejection::of(code) };
            let reference = endpoint.reject(rejection);
            shared.audit.refuse(About { reference, way, ..about }, &text, &reason);
        }
        Refused::Limit(TooMuch { limit, retry_after }, entry) => {
            let reference = endpoint.reject(Rejection { retry_after, ..Rejection::of(Code::RATE_LIMITED) });
            shared.metrics.limit(limit);
            match &entry {
                Some(Entry { principal, way, .. }) => {
                    let subject = Some(&principal.subject);
                    shared.audit.limit(About { reference, subject, way: Some(*way), ..about }, limit);
                }
                None => shared.audit.limit_address(About { reference, ..about }, limit),
            }
        }
    }
    loop {
        match endpoint.poll_output() {
            ServerOutput::Transmit(record) => {
                if websocket.feed(Message::Binary(record)).await.is_err() {
                    return;
                }
            }
            ServerOutput::Event(event) => shared.metrics.greet(&event, Duration::ZERO),
            ServerOutput::CloseSocket(code) => return close(&mut websocket, code).await,
            ServerOutput::Wait(_) => return,
        }
    }
}

/// It is let in; the question is only with which session. A new one is a task of its own: this one, with all that a
/// greeting needed, would stay as long as the session does.
async fn admit(claim: Claim<SessionHandle>, newcomer: Newcomer, shared: Arc<Shared>) {
    match claim {
        Claim::New(reset) => shared.tasks.spawn(session::begin(newcomer, reset, shared.clone())),
        Claim::Resume(handle) => {
            if let Err(newcomer) = handle.adopt(Box::new(newcomer)).await {
                // It ended in this very moment.
                shared.tasks.spawn(session::begin(*newcomer, Some(ResetReason::Unknown), shared.clone()));
            }
        }
    }
}

fn claim(arrival: &Arrival, entry: &Entry, shared: &Shared) -> Claim<SessionHandle> {
    let resume = arrival.auth.resume.as_ref();
    match arrival.proof() {
        Some(proof) => shared.sessions().claim(resume, &owner(proof, entry)),
        // Nothing is shown that a session could be had for.
        None => Claim::New(resume.map(|_| ResetReason::Unknown)),
    }
}

//! One socket, from the upgrade to the session that it is for.
//!
//! Who comes in new begins a session, whose task this task becomes. Who comes back hands its socket to the task of the
//! session that it had.

mod greeting;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::SinkExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use moorline_protocol::{
    code::Code,
    frame::ResetReason,
    limits::{MAX_RECORD, MAX_RECORD_BEFORE_AUTH},
    server::{Arrival, Rejection, ServerEndpoint, ServerOutput},
    session::{Claim, Owner, Proof},
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tokio_util::either::Either;

pub(crate) use self::greeting::{close, input_of, open_websocket, wall_clock};
use self::greeting::{greet, websocket_config};
use crate::{
    access::{
        Attempt,
        gate::{Entry, TurnedAway},
    },
    metrics::Open,
    session,
    shared::Shared,
};

/// What a WebSocket runs over: plain TCP, or what is left of an HTTP connection inside TLS.
pub(crate) type Io = Either<TcpStream, TokioIo<Upgraded>>;

/// A socket whose client has been let in, with everything that belongs to it.
pub(crate) struct Attachment {
    pub(crate) websocket: WebSocketStream<Io>,
    pub(crate) endpoint: ServerEndpoint,
    pub(crate) arrival: Box<Arrival>,
    /// Who it is.
    pub(crate) entry: Entry,
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
}

/// A WebSocket's place among those that a server has room for.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _open: Open,
}

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit, open: Open) -> Self {
        Self { _permit: permit, _open: open }
    }
}

/// Serves an upgraded socket until it is over. `read` is what came behind the head of the request.
pub(crate) async fn serve(socket: Io, read: Bytes, shared: Arc<Shared>, address: SocketAddr, place: Place) {
    let websocket = open_websocket(socket, read, MAX_RECORD_BEFORE_AUTH, MAX_RECORD).await;
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        return;
    }
    let endpoint = ServerEndpoint::new(shared.endpoint.clone(), seed, shared.now());
    let greeted = greet(websocket, endpoint, &shared, address).await;
    let Some((websocket, endpoint, arrival)) = greeted else { return };
    let entry = match decide(&arrival, &shared, address).await {
        Ok(entry) => entry,
        Err(rejection) => return refuse(websocket, endpoint, rejection, &shared, address).await,
    };
    // From here on full-sized messages may come. Nothing is lost with the old buffers: a client that is waiting for
    // Welcome has nothing to say, and what this side said before has been flushed, or there would be no HS3.
    let config = websocket_config(MAX_RECORD, 4 * shared.endpoint.limits.max_outgoing_bytes + MAX_RECORD);
    let websocket = WebSocketStream::from_raw_socket(websocket.into_inner(), Role::Server, Some(config)).await;
    admit(Attachment { websocket, endpoint, arrival, entry, address, place }, shared).await;
}

/// Who it is.
async fn decide(arrival: &Arrival, shared: &Shared, address: SocketAddr) -> Result<Entry, Rejection> {
    let attempt = Attempt::new(address, arrival, arrival.auth.credentials.clone());
    let decided = timeout(shared.config.timeouts.decision, shared.gate.decide(attempt, SystemTime::now())).await;
    let TurnedAway { denial, reason } = match decided {
        Ok(Ok(entry)) => return Ok(entry),
        Ok(Err(refused)) => refused,
        Err(_) => return Err(Rejection::of(Code::SERVER_FULL)),
    };
    tracing::info!(%address, code = %denial.code, reason, "a client is refused");
    Err(Rejection { name: denial.name, message: denial.message, ..Rejection::of(denial.code) })
}

/// Does not let the client in, and says why where that may be said.
async fn refuse(
    mut websocket: WebSocketStream<Io>,
    mut endpoint: ServerEndpoint,
    rejection: Rejection,
    shared: &Shared,
    address: SocketAddr,
) {
    let reference = endpoint.reject(rejection);
    tracing::info!(%address, ?reference, "it is told so");
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
async fn admit(attachment: Attachment, shared: Arc<Shared>) {
    match claim(&attachment, &shared) {
        Claim::New(reset) => shared.tasks.spawn(session::begin(attachment, reset, shared.clone())),
        Claim::Resume(handle) => {
            if let Err(attachment) = handle.adopt(Box::new(attachment)).await {
                // It ended in this very moment.
                shared.tasks.spawn(session::begin(*attachment, Some(ResetReason::Unknown), shared.clone()));
            }
        }
    }
}

fn claim(attachment: &Attachment, shared: &Shared) -> Claim<session::SessionHandle> {
    let Attachment { arrival, entry, .. } = attachment;
    let resume = arrival.auth.resume.as_ref();
    match arrival.proof() {
        Some(proof) => shared.sessions().claim(resume, &owner(proof, entry)),
        // Nothing is shown that a session could be had for.
        None => Claim::New(resume.map(|_| ResetReason::Unknown)),
    }
}

/// Whose session it is that is proven so.
pub(crate) fn owner(proof: Proof, entry: &Entry) -> Owner {
    Owner { proof, subject: entry.principal.subject.clone() }
}

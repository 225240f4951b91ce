//! One socket, from the upgrade to the session that it is for.
//!
//! Who comes in new begins a session, whose task this task becomes. Who comes back hands its socket to the task of the
//! session that it had.

mod greeting;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use moorline_protocol::{
    frame::ResetReason,
    limits::{MAX_RECORD, MAX_RECORD_BEFORE_AUTH},
    server::{Arrival, ServerEndpoint},
    session::{Claim, Owner},
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tokio_util::either::Either;

pub(crate) use self::greeting::{close, input_of, open_websocket, wall_clock};
use self::greeting::{greet, websocket_config};
use crate::{metrics::Open, session, shared::Shared};

/// What a WebSocket runs over: plain TCP, or what is left of an HTTP connection inside TLS.
pub(crate) type Io = Either<TcpStream, TokioIo<Upgraded>>;

/// A socket whose client has been let in, with everything that belongs to it.
pub(crate) struct Attachment {
    pub(crate) websocket: WebSocketStream<Io>,
    pub(crate) endpoint: ServerEndpoint,
    pub(crate) arrival: Arrival,
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

/// Everybody is this until there are ways to be somebody.
const ANONYMOUS: &str = "anonymous";
const DEFAULT_TENANT: &str = "default";

/// Serves an upgraded socket until it is over. `read` is what came behind the head of the request.
pub(crate) async fn serve(socket: Io, read: Bytes, shared: Arc<Shared>, address: SocketAddr, place: Place) {
    let websocket = open_websocket(socket, read, MAX_RECORD_BEFORE_AUTH, MAX_RECORD).await;
    let mut seed = [0; 32];
    if getrandom::fill(&mut seed).is_err() {
        return;
    }
    let endpoint = ServerEndpoint::new(shared.endpoint.clone(), seed, shared.now());
    let Some((websocket, endpoint, arrival)) = greet(websocket, endpoint, &shared, address).await else { return };
    // From here on full-sized messages may come. Nothing is lost with the old buffers: a client that is waiting for
    // Welcome has nothing to say, and what this side said before has been flushed, or there would be no HS3.
    let config = websocket_config(MAX_RECORD, 4 * shared.endpoint.limits.max_outgoing_bytes + MAX_RECORD);
    let websocket = WebSocketStream::from_raw_socket(websocket.into_inner(), Role::Server, Some(config)).await;
    admit(Attachment { websocket, endpoint, arrival, address, place }, shared).await;
}

/// Everybody is let in; the question is only with which session. A new one is a task of its own: this one, with all that
/// a greeting needed, would stay as long as the session does.
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
    let Attachment { arrival, .. } = attachment;
    let resume = arrival.auth.resume.as_ref();
    match arrival.proof() {
        Some(proof) => shared.sessions().claim(resume, &owner(proof)),
        // Nothing is shown that a session could be had for.
        None => Claim::New(resume.map(|_| ResetReason::Unknown)),
    }
}

/// Whose session it is that is proven so.
pub(crate) fn owner(proof: moorline_protocol::session::Proof) -> Owner {
    Owner { proof, tenant: DEFAULT_TENANT.to_owned(), subject: ANONYMOUS.to_owned() }
}

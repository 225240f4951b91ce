//! A client that has been let in, with its socket, and the way to the session that it goes on with.

use std::net::SocketAddr;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use moorline_protocol::{
    server::{Arrival, ServerEndpoint},
    session::{Owner, Proof},
    subject::Subject,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc},
};
use tokio_tungstenite::WebSocketStream;
use tokio_util::either::Either;

use crate::{
    access::gate::Entry,
    limits::{Held, Origin},
    metrics::Open,
    peer::Peer,
};

/// What a WebSocket runs over: plain TCP, or what is left of an HTTP connection inside TLS.
pub(crate) type Io = Either<TcpStream, TokioIo<Upgraded>>;

/// A socket whose client has been let in, with everything that belongs to it.
pub(crate) struct Newcomer {
    pub(crate) websocket: WebSocketStream<Io>,
    pub(crate) endpoint: ServerEndpoint,
    pub(crate) arrival: Box<Arrival>,
    /// Who it is.
    pub(crate) entry: Entry,
    pub(crate) address: SocketAddr,
    pub(crate) place: Place,
}

/// A WebSocket's place among those that a server has room for.
///
/// It is held until the socket is closed.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _open: Open,
    _of_address: Option<Held<Origin>>,
    /// Among the connections of who it is; there once that is known.
    pub(crate) of_subject: Option<Held<Subject>>,
}

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit, open: Open, of_address: Option<Held<Origin>>) -> Self {
        Self { _permit: permit, _open: open, _of_address: of_address, of_subject: None }
    }
}

/// The way to a session's task.
#[derive(Clone)]
pub(crate) struct SessionHandle {
    pub(crate) peer: Peer,
    // In boxes: a channel has room for 32 from the beginning, in every session, and most sessions never adopt one.
    pub(crate) sockets: mpsc::Sender<Box<Newcomer>>,
}

impl SessionHandle {
    /// Whether its client's connection stands, as far as is known here.
    pub(crate) fn is_connected(&self) -> bool {
        self.peer.is_connected()
    }

    /// Hands over a newer socket of the session's client; gives it back when the session is over.
    pub(crate) async fn adopt(&self, newcomer: Box<Newcomer>) -> Result<(), Box<Newcomer>> {
        self.sockets.send(newcomer).await.map_err(|back| back.0)
    }
}

/// Whose session it is that is proven so.
pub(crate) fn owner(proof: Proof, entry: &Entry) -> Owner {
    Owner { proof, subject: entry.principal.subject.clone() }
}

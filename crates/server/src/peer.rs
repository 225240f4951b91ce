//! The other ends: one of them ([`Peer`]) and all of them ([`Peers`]).

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Fuse, FutureExt};
use moorline_protocol::{
    code::Code,
    error::Refused,
    frame::{Failure, SessionId},
    payload::{Name, Payload},
    session::{Broadcast, Outcome},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// How long a client has to answer a call of the server, unless [`Peer::call_within`] says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Commands that may wait for one connection's task. Beyond it volatile messages are dropped and others refused.
pub(crate) const COMMANDS: usize = 1_024;

/// What the connection's task is asked to do.
pub(crate) enum Command {
    Send(Broadcast),
    Call { ticket: u64, name: Name, payload: Payload, timeout: Duration, settled: oneshot::Sender<Outcome> },
    Cancel { ticket: u64 },
}

/// Why a connection is to be closed from this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// One connected client. Cloning is cheap; a `Peer` may be kept after its connection has ended.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    id: SessionId,
    address: SocketAddr,
    commands: mpsc::Sender<Command>,
    /// Taken by whoever closes first.
    closing: Mutex<Option<oneshot::Sender<Closing>>>,
    tickets: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The receiving ends, for the connection's task.
pub(crate) struct Mailbox {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) closing: ClosingWanted,
}

/// Ready when this side wants to close. It stays pending when nobody ever will.
pub(crate) struct ClosingWanted(Fuse<oneshot::Receiver<Closing>>);

impl Future for ClosingWanted {
    type Output = Closing;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Closing> {
        match self.0.poll_unpin(cx) {
            Poll::Ready(Ok(closing)) => Poll::Ready(closing),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Why a message did not go out, or a call brought no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// Nothing was sent.
    Refused(Refused),
    /// The value has no JSON form, or the reply does not have the expected one.
    Json(serde_json::Error),
    /// The client's handler failed.
    Failed(Failure),
    /// No reply in time. The client's handler may have run.
    TimedOut,
    /// The connection ended before the reply came. The client's handler may have run.
    Unknown,
}

impl std::fmt::Display for SendError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(formatter),
            Self::Json(error) => error.fmt(formatter),
            Self::Failed(failure) => write!(formatter, "{failure:?}"),
            Self::TimedOut => formatter.write_str("the client did not answer in time"),
            Self::Unknown => formatter.write_str("the connection ended before the answer came"),
        }
    }
}

impl std::error::Error for SendError {}

impl From<Refused> for SendError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<serde_json::Error> for SendError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

fn message(name: &str, data: &impl Serialize, volatile: bool) -> Result<Broadcast, SendError> {
    let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
    Ok(Broadcast::new(name, Payload::json(serde_json::to_vec(data)?), volatile)?)
}

impl Peer {
    pub(crate) fn new(id: SessionId, address: SocketAddr, metrics: Arc<Metrics>) -> (Self, Mailbox) {
        let (commands, commands_in) = mpsc::channel(COMMANDS);
        let (closing, wanted) = oneshot::channel();
        let (closing, tickets) = (Mutex::new(Some(closing)), AtomicU64::new(0));
        let inner = Inner { id, address, commands, closing, tickets, metrics };
        (Self(Arc::new(inner)), Mailbox { commands: commands_in, closing: ClosingWanted(wanted.fuse()) })
    }

    /// The session's name.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// Where the connection comes from.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Sends a notification; it waits its turn behind what was sent before.
    ///
    /// # Errors
    /// [`SendError::Refused`] when the connection has ended or too much is waiting; [`SendError::Json`].
    pub fn notify(&self, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        Ok(self.send(message(name, data, false)?)?)
    }

    /// Sends a notification that is dropped where the connection cannot take it at once: positions, levels, progress.
    ///
    /// # Errors
    /// [`SendError::Json`], or [`SendError::Refused`] when the name or size is wrong.
    pub fn notify_volatile(&self, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        // Volatile: a full queue or a connection that has ended is no error.
        let _ = self.send(message(name, data, true)?);
        Ok(())
    }

    /// Calls the client's handler and waits up to 10 s for its reply. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Every variant of [`SendError`].
    pub async fn call<T: DeserializeOwned>(&self, name: &str, data: &impl Serialize) -> Result<T, SendError> {
        self.call_within(name, data, CALL_TIMEOUT).await
    }

    /// Calls the client's handler and waits for its reply. Dropping the future cancels the call.
    ///
    /// # Errors
    /// Every variant of [`SendError`].
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        name: &str,
        data: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, SendError> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let payload = Payload::json(serde_json::to_vec(data)?);
        let ticket = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let (settled, outcome) = oneshot::channel();
        self.command(Command::Call { ticket, name, payload, timeout, settled })?;
        let mut guard = CancelOnDrop { peer: self, ticket: Some(ticket) };
        let outcome = outcome.await;
        guard.ticket = None;
        match outcome {
            Ok(Outcome::Reply(payload)) => Ok(serde_json::from_slice(&payload.bytes)?),
            Ok(Outcome::Failed(failure)) => Err(SendError::Failed(failure)),
            Ok(Outcome::TimedOut) => Err(SendError::TimedOut),
            Ok(Outcome::Unknown) => Err(SendError::Unknown),
            // The task is gone, and with it what it had not sent.
            Ok(Outcome::NotSent) | Err(_) => Err(SendError::Refused(Refused::Closed)),
        }
    }

    /// Closes the connection; the client hears `closed_by_server` with this text and does not come back by itself.
    pub fn close(&self, message: &str) {
        self.close_with(Code::CLOSED_BY_SERVER, message);
    }

    pub(crate) fn close_with(&self, code: Code, message: &str) {
        let closing = self.0.closing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closing) = closing {
            // An ended connection needs no closing.
            let _ = closing.send(Closing { code, message: message.to_owned() });
        }
    }

    pub(crate) fn send(&self, message: Broadcast) -> Result<(), Refused> {
        let volatile = message.is_volatile();
        self.command(Command::Send(message)).inspect_err(|refused| {
            if volatile && *refused == Refused::Backpressure {
                self.0.metrics.drop_volatile();
            }
        })
    }

    fn command(&self, command: Command) -> Result<(), Refused> {
        self.0.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Backpressure,
            mpsc::error::TrySendError::Closed(_) => Refused::Closed,
        })
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Peer({})", self.0.id)
    }
}

/// Tells the connection's task that nobody waits for a call any more.
struct CancelOnDrop<'a> {
    peer: &'a Peer,
    /// `None` once the call has settled.
    ticket: Option<u64>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // A full queue or an ended connection: the call then ends by its timeout or with the connection.
            let _ = self.peer.command(Command::Cancel { ticket });
        }
    }
}

/// Everybody who is connected.
#[derive(Clone, Default)]
pub struct Peers(Arc<RwLock<Present>>);

#[derive(Default)]
struct Present {
    by_session: HashMap<SessionId, Peer>,
    /// The server stops: who comes in late hears it at once.
    closing: Option<Code>,
}

impl Peers {
    /// The client of this session, if it is connected.
    pub fn find(&self, id: SessionId) -> Option<Peer> {
        self.present().by_session.get(&id).cloned()
    }

    /// Everybody, in no order.
    pub fn all(&self) -> Vec<Peer> {
        self.present().by_session.values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.present().by_session.len()
    }

    /// Sends a notification to one client.
    ///
    /// # Errors
    /// As [`Peer::notify`]; [`Refused::Closed`] when nobody has this session.
    pub fn send_to(&self, id: SessionId, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.find(id).ok_or(Refused::Closed)?.notify(name, data)
    }

    /// Sends a notification to everybody, encoded once. Who has fallen too far behind to take it is closed with
    /// `slow_consumer` rather than left with a gap.
    ///
    /// # Errors
    /// [`SendError::Json`], or [`SendError::Refused`] when the name or size is wrong.
    pub fn broadcast(&self, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, false)?, None);
        Ok(())
    }

    /// Sends a notification to everybody but one: usually whom it came from.
    ///
    /// # Errors
    /// As [`Self::broadcast`].
    pub fn broadcast_except(&self, except: &Peer, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, false)?, Some(except));
        Ok(())
    }

    /// Sends a notification to everybody, and drops it for whom cannot take it at once.
    ///
    /// # Errors
    /// As [`Self::broadcast`].
    pub fn broadcast_volatile(&self, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, true)?, None);
        Ok(())
    }

    /// Sends a notification to everybody but one, and drops it for whom cannot take it at once.
    ///
    /// # Errors
    /// As [`Self::broadcast`].
    pub fn broadcast_volatile_except(&self, except: &Peer, name: &str, data: &impl Serialize) -> Result<(), SendError> {
        self.send(&message(name, data, true)?, Some(except));
        Ok(())
    }

    fn send(&self, message: &Broadcast, except: Option<&Peer>) {
        let present = self.present();
        let others = |peer: &&Peer| except.is_none_or(|except| except.id() != peer.id());
        for peer in present.by_session.values().filter(others) {
            if peer.send(message.clone()) == Err(Refused::Backpressure) && !message.is_volatile() {
                peer.close_with(Code::SLOW_CONSUMER, "");
            }
        }
    }

    fn present(&self) -> RwLockReadGuard<'_, Present> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, peer: Peer) {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = present.closing {
            peer.close_with(code, "");
        }
        present.by_session.insert(peer.id(), peer);
    }

    pub(crate) fn leave(&self, id: SessionId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).by_session.remove(&id);
    }

    /// Closes everybody, and everybody who still comes.
    pub(crate) fn close_all(&self, code: Code) {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        present.closing = Some(code);
        present.by_session.values().for_each(|peer| peer.close_with(code, ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client whose task takes nothing: its queue of commands is full after [`COMMANDS`] messages.
    fn enter(peers: &Peers, id: u8) -> Mailbox {
        let (peer, mailbox) = Peer::new(SessionId([id; 16]), SocketAddr::from(([127, 0, 0, 1], 1)), Arc::default());
        peers.enter(peer);
        mailbox
    }

    fn is_closing(mailbox: &mut Mailbox) -> bool {
        (&mut mailbox.closing).now_or_never().is_some()
    }

    #[test]
    fn a_volatile_broadcast_reaches_everybody_and_is_dropped_where_there_is_no_room() -> Result<(), SendError> {
        let peers = Peers::default();
        let (mut reading, mut stuck) = (enter(&peers, 1), enter(&peers, 2));
        for _ in 0..2 * COMMANDS {
            peers.broadcast_volatile("cursor", &1)?;
            assert!(reading.commands.try_recv().is_ok());
        }
        assert_eq!(stuck.commands.len(), COMMANDS);
        assert!(!is_closing(&mut reading) && !is_closing(&mut stuck));
        peers.broadcast("news", &1)?;
        assert!(!is_closing(&mut reading) && is_closing(&mut stuck), "only a gap closes");
        Ok(())
    }
}

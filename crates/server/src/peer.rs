//! One of the other ends ([`Peer`]).

mod items;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Fuse, FutureExt};
use moorline_protocol::{
    code::Code,
    error::Refused,
    frame::{Failure, ResetReason, SessionId},
    limits::Limits,
    payload::{Name, Payload},
    session::{Broadcast, CallOptions, Outcome},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::items::Item;
pub use self::items::Items;
use crate::{
    access::{Principal, gate::Entry},
    metrics::Metrics,
};

/// How long a client has to answer a call of the server, unless [`Peer::call_within`] says otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What the session's task is asked to do.
pub(crate) enum Command {
    Send(Broadcast),
    Call {
        ticket: u64,
        name: Name,
        payload: Payload,
        options: CallOptions,
        answer: Asker,
    },
    /// Whoever reads a stream takes more of it.
    Grant {
        ticket: u64,
        more: u64,
    },
    Cancel {
        ticket: u64,
    },
}

/// Who waits for the answer to a call of this side.
pub(crate) enum Asker {
    Once(oneshot::Sender<Outcome>),
    /// Credit bounds the queue.
    Stream(mpsc::UnboundedSender<Item>),
}

impl Asker {
    pub(crate) fn settle(self, outcome: Outcome) {
        // Nobody has to be there any more.
        match self {
            Self::Once(settled) => drop(settled.send(outcome)),
            Self::Stream(items) => drop(items.send(Item::Last(outcome))),
        }
    }
}

/// Why a session is to be ended from this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The client is told, if it is there.
    Told { code: Code, message: String },
    /// What its client came in by is believed no more.
    Revoked,
    /// The client hears of a reset when it comes back.
    Lost(ResetReason),
    /// The server stops. What runs may end, but not for long.
    Drain { after: Duration, retry_after: Duration },
}

/// One client, by its session. Cloning is cheap; a `Peer` may be kept after the session has ended.
///
/// What is sent to a client that is away waits for it, within the limits, and is lost with the session.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    id: SessionId,
    /// That of the newest connection.
    address: Mutex<SocketAddr>,
    is_connected: AtomicBool,
    entry: Mutex<Entry>,
    commands: mpsc::UnboundedSender<Command>,
    room: Room,
    /// Taken by whoever closes first.
    closing: Mutex<Option<oneshot::Sender<Closing>>>,
    tickets: AtomicU64,
    metrics: Arc<Metrics>,
}

/// How much is on its way to a client: what bounds the queue of commands, which has no bound of its own.
#[derive(Default)]
struct Room {
    /// In the queue.
    queued_bytes: AtomicUsize,
    queued: AtomicUsize,
    /// In the session, until the client confirms it.
    kept_bytes: AtomicUsize,
    kept: AtomicUsize,
    max_bytes: usize,
    max_frames: usize,
}

/// What keeping one message costs beside its bytes, about: its place in the queues, and the allocation.
const A_PLACE: usize = 256;

impl Room {
    /// Whether no more than a quarter is taken.
    fn is_mostly_free(&self) -> bool {
        let frames = self.queued.load(Ordering::Relaxed) + self.kept.load(Ordering::Relaxed);
        let bytes = self.queued_bytes.load(Ordering::Relaxed) + self.kept_bytes.load(Ordering::Relaxed);
        bytes + frames * A_PLACE < self.max_bytes / 4 && frames < self.max_frames / 4
    }

    /// Takes place for one message.
    fn enter(&self, bytes: usize) -> Result<(), Refused> {
        let queued_bytes = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let queued = self.queued.fetch_add(1, Ordering::Relaxed);
        let frames = queued + self.kept.load(Ordering::Relaxed);
        let taken = queued_bytes + self.kept_bytes.load(Ordering::Relaxed) + frames * A_PLACE;
        if taken >= self.max_bytes || frames >= self.max_frames {
            self.leave(bytes);
            return Err(Refused::Backpressure);
        }
        Ok(())
    }

    fn leave(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The receiving ends, for the session's task.
pub(crate) struct Mailbox {
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
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

/// A notification, as it goes to one or to many.
pub(crate) fn message(name: &str, data: &impl Serialize, volatile: bool) -> Result<Broadcast, SendError> {
    let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
    Ok(Broadcast::new(name, Payload::json(serde_json::to_vec(data)?), volatile)?)
}

impl Peer {
    #[expect(clippy::disallowed_methods, reason = "Room bounds what is in the queue")]
    pub(crate) fn new(
        id: SessionId,
        address: SocketAddr,
        entry: Entry,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> (Self, Mailbox) {
        let (commands, commands_in) = mpsc::unbounded_channel();
        let (closing, wanted) = oneshot::channel();
        let inner = Inner {
            id,
            address: Mutex::new(address),
            is_connected: AtomicBool::new(true),
            entry: Mutex::new(entry),
            commands,
            room: Room {
                max_bytes: limits.max_outgoing_bytes,
                max_frames: limits.max_outgoing_frames,
                ..Room::default()
            },
            closing: Mutex::new(Some(closing)),
            tickets: AtomicU64::new(0),
            metrics,
        };
        (Self(Arc::new(inner)), Mailbox { commands: commands_in, closing: ClosingWanted(wanted.fuse()) })
    }

    /// The session's name.
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// Where the connection comes from; of a client that is away, the last one.
    pub fn address(&self) -> SocketAddr {
        *self.0.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who it is, by now.
    pub fn principal(&self) -> Arc<Principal> {
        self.entry().principal
    }

    pub(crate) fn entry(&self) -> Entry {
        self.0.entry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client has shown something else for itself.
    pub(crate) fn becomes(&self, entry: Entry) {
        *self.0.entry.lock().unwrap_or_else(PoisonError::into_inner) = entry;
    }

    /// Whether the client has a connection. Without one it is away, and may come back and go on.
    pub fn is_connected(&self) -> bool {
        self.0.is_connected.load(Ordering::Relaxed)
    }

    /// The client came back from `address`, or is away.
    pub(crate) fn moved(&self, address: Option<SocketAddr>) {
        self.0.is_connected.store(address.is_some(), Ordering::Relaxed);
        if let Some(address) = address {
            *self.0.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
        }
    }

    /// A command of this size has left the queue.
    pub(crate) fn taken(&self, bytes: usize) {
        self.0.room.leave(bytes);
    }

    /// The session keeps so many bytes and frames until the client confirms them.
    pub(crate) fn keeps(&self, (bytes, frames): (usize, usize)) {
        self.0.room.kept_bytes.store(bytes, Ordering::Relaxed);
        self.0.room.kept.store(frames, Ordering::Relaxed);
    }

    /// Sends a notification; it waits its turn behind what was sent before, and for a client that is away until it is
    /// back.
    ///
    /// # Errors
    /// [`SendError::Refused`] when the session has ended or too much is waiting; [`SendError::Json`].
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
        let (settled, outcome) = oneshot::channel();
        let ticket = self.ask(name, payload, CallOptions::within(timeout), Asker::Once(settled))?;
        let mut guard = CancelOnDrop { peer: self.clone(), ticket: Some(ticket) };
        let outcome = outcome.await;
        guard.ticket = None;
        match outcome {
            Ok(Outcome::Reply(payload)) => Ok(serde_json::from_slice(&payload.bytes)?),
            Ok(Outcome::Failed(failure)) => Err(SendError::Failed(failure)),
            Ok(Outcome::TimedOut) => Err(SendError::TimedOut),
            Ok(Outcome::Unknown) => Err(SendError::Unknown),
            // The task is gone, and with it what it had not sent; and a stream ends so, but this asks for none.
            Ok(Outcome::End | Outcome::NotSent) | Err(_) => Err(SendError::Refused(Refused::Closed)),
        }
    }

    /// Calls a handler of the client's that answers with a stream, as an async generator on a page does. The client is
    /// never ahead of who reads by more than 16 items.
    ///
    /// # Errors
    /// [`SendError::Refused`], [`SendError::Json`]. What goes wrong later comes from [`Items::next`].
    #[expect(clippy::disallowed_methods, reason = "credit bounds what is in the queue")]
    pub fn stream<T: DeserializeOwned>(&self, name: &str, data: &impl Serialize) -> Result<Items<T>, SendError> {
        let name = Name::new(name).map_err(|_| Refused::InvalidName)?;
        let payload = Payload::json(serde_json::to_vec(data)?);
        let mut options = CallOptions::within(CALL_TIMEOUT);
        options.credit = Some(items::CREDIT);
        let (sender, items) = mpsc::unbounded_channel();
        let ticket = self.ask(name, payload, options, Asker::Stream(sender))?;
        Ok(Items::new(self.clone(), ticket, items))
    }

    fn ask(&self, name: Name, payload: Payload, options: CallOptions, answer: Asker) -> Result<u64, Refused> {
        let ticket = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        self.command(Command::Call { ticket, name, payload, options, answer })?;
        Ok(ticket)
    }

    /// Ends the session; the client hears `closed_by_server` with this text and does not come back by itself.
    pub fn close(&self, message: &str) {
        self.end(Closing::Told { code: Code::CLOSED_BY_SERVER, message: message.to_owned() });
    }

    pub(crate) fn end(&self, why: Closing) {
        let closing = self.0.closing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closing) = closing {
            // An ended session needs no closing.
            let _ = closing.send(why);
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

    /// Sends what another client has for this one. It must not take the room that the server needs for what it says itself,
    /// since a session that has none for that is given up: so others have a quarter.
    pub(crate) fn send_from_another(&self, message: Broadcast) -> Result<(), Refused> {
        if self.0.room.is_mostly_free() { self.send(message) } else { Err(Refused::Backpressure) }
    }

    fn command(&self, command: Command) -> Result<(), Refused> {
        let bytes = command.bytes();
        match command {
            // Giving up makes room, so it needs none, and a stream that is read ends.
            Command::Cancel { .. } | Command::Grant { .. } => {}
            Command::Send(_) | Command::Call { .. } => self.0.room.enter(bytes)?,
        }
        self.0.commands.send(command).map_err(|_| Refused::Closed)
    }
}

impl Command {
    /// What it takes of the room, beside a place.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Send(message) => message.wire_len(),
            Self::Call { payload, .. } => payload.bytes.len(),
            Self::Cancel { .. } | Self::Grant { .. } => 0,
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Peer({})", self.0.id)
    }
}

/// Tells the connection's task that nobody waits for a call any more.
struct CancelOnDrop {
    peer: Peer,
    /// `None` once the call has settled.
    ticket: Option<u64>,
}

impl CancelOnDrop {
    fn tell(&self, command: impl FnOnce(u64) -> Command) {
        if let Some(ticket) = self.ticket {
            // The call of an ended session has ended.
            let _ = self.peer.command(command(ticket));
        }
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.tell(|ticket| Command::Cancel { ticket });
    }
}

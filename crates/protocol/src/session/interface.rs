//! What the application says to a session and hears from it.

use std::time::Duration;

use super::outbox::{MAIN_LANE, Message, Receipt, Role};
use crate::{
    error::Refused,
    frame::{CallId, ClientFrame, Direct, Failure, PeerFrame, ServerFrame, VolatileAppend},
    limits::{MAX_AUTHORED, MAX_PAYLOAD, MAX_VOLATILE, PART},
    payload::{Name, Payload},
};

/// What the other side wants, or how it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// Run the handler of this name and answer once.
    Call {
        /// For the answer.
        id: CallId,
        /// Which handler.
        name: Name,
        /// By which the call is known again when it comes in another session.
        key: Option<Name>,
        /// Whether the caller wants a stream, and how many items of it at first; `None` asks for one reply.
        credit: Option<u64>,
        /// Its argument.
        payload: Payload,
    },
    /// The other side no longer waits for this call, or is gone: stop its handler. An answer is ignored.
    Cancelled(CallId),
    /// The other side takes more items of this stream.
    Credit(CallId),
    /// A notification.
    Message {
        /// Which listeners.
        name: Name,
        /// The message.
        payload: Payload,
        /// Whether it was sent as one that may be dropped.
        volatile: bool,
    },
    /// The other side has got this notification.
    Confirmed(Receipt),
    /// There is room again for what was refused as [`Refused::Backpressure`].
    Room,
    /// An item of a stream that this side asked for.
    Item {
        /// Which call.
        id: CallId,
        /// The item.
        payload: Payload,
    },
    /// A call of this side ended. It comes once for every call that was not cancelled.
    Settled {
        /// Which call.
        id: CallId,
        /// How.
        outcome: Outcome,
    },
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler's result.
    Reply(Payload),
    /// The stream is over.
    End,
    /// The other side's failure.
    Failed(Failure),
    /// The time was over. If the call had been transmitted it may still run.
    TimedOut,
    /// The session was lost after the call had been transmitted: it may have run or not.
    Unknown,
    /// The endpoint was closed before any byte of the call had been transmitted, in this session or an earlier one: it
    /// did not run.
    NotSent,
}

/// How a call is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallOptions {
    /// How long to wait for the answer; for a stream, for its first item. `None` waits as long as it takes.
    pub timeout: Option<Duration>,
    /// Makes it safe to send the call again after a reset: the other side runs it once for each key.
    pub key: Option<Name>,
    /// Asks for a stream, and takes this many items at first.
    pub credit: Option<u64>,
}

impl CallOptions {
    /// A call that waits so long.
    pub fn within(timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..Self::default() }
    }
}

/// A message that the other side may have got or not, when the session was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// Which handler or listeners it was for.
    pub name: Name,
    /// The call it was; `None` for a notification.
    pub call: Option<CallId>,
    /// Where somebody waits for its confirmation.
    pub receipt: Option<Receipt>,
}

/// A notification that is encoded once and sent to many.
#[derive(Clone, Debug)]
pub struct Broadcast {
    pub(super) message: Message,
    pub(super) volatile: bool,
}

impl Broadcast {
    /// Encodes a notification; with `volatile` one that may be dropped.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] above [`MAX_PAYLOAD`], or a volatile one above what fits one frame.
    pub fn new(name: Name, payload: Payload, volatile: bool) -> Result<Self, Refused> {
        let size = payload.bytes.len();
        if size > if volatile { MAX_VOLATILE } else { MAX_PAYLOAD } {
            return Err(Refused::TooLarge);
        }
        let frame = match volatile {
            true => PeerFrame::Volatile { name, payload },
            false => PeerFrame::Notify { name, payload, ask: false },
        };
        let message = Message { role: Role::Notify(None), lane: MAIN_LANE, payload: size, frame: frame.encode() };
        Ok(Self { message, volatile })
    }

    /// Encodes what somebody in a channel has for one client alone.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] above [`MAX_PAYLOAD`].
    pub fn direct(direct: &Direct) -> Result<Self, Refused> {
        // Who wrote it is not the application's.
        let size = direct.content.len().saturating_sub(MAX_AUTHORED);
        if size > MAX_PAYLOAD {
            return Err(Refused::TooLarge);
        }
        let frame = ServerFrame::Direct(direct.clone()).encode();
        Ok(Self {
            message: Message { role: Role::Notify(None), lane: MAIN_LANE, payload: size, frame },
            volatile: false,
        })
    }

    /// Encodes what a client says to whoever is in a channel.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] above [`PART`], so that nothing waits behind it for long.
    pub(crate) fn volatile_append(append: VolatileAppend) -> Result<Self, Refused> {
        let size = append.payload.bytes.len();
        if size > PART {
            return Err(Refused::TooLarge);
        }
        let frame = ClientFrame::Volatile(append).encode();
        Ok(Self {
            message: Message { role: Role::Notify(None), lane: MAIN_LANE, payload: size, frame },
            volatile: true,
        })
    }

    /// Whether it may be dropped.
    pub fn is_volatile(&self) -> bool {
        self.volatile
    }

    /// Bytes of it on the wire, before sealing.
    pub fn wire_len(&self) -> usize {
        self.message.frame.len()
    }
}

/// What became of a message that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It waits its turn.
    Queued,
    /// It was volatile, and there was no room for it.
    Dropped,
}

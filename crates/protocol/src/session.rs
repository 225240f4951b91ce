//! What one side wants from the other, apart from any one connection: frames that wait for a socket, and calls that wait
//! for an answer.
//!
//! On the client it outlives connections: what no socket has taken yet goes out on the next one. Resumption will make it
//! outlive them on the server too.

use std::{collections::VecDeque, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::{
    calls::Asked,
    error::Refused,
    frame::{CallId, Failure, PeerFrame},
    limits::{Limits, MAX_PAYLOAD, MAX_PLAINTEXT},
    payload::{Name, Payload},
    time::Timestamp,
};

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handler's result.
    Reply(Payload),
    /// The other side's failure.
    Failed(Failure),
    /// The time was over. If the call had been transmitted it may still run.
    TimedOut,
    /// The connection ended after the call had been transmitted: it may have run or not.
    Unknown,
    /// The endpoint was closed before any byte of the call had been transmitted: it did not run.
    NotSent,
}

/// What a frame that waits is to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Call(CallId),
    Volatile,
    Other,
}

/// A frame that waits for the socket.
#[derive(Clone, Debug)]
struct Waiting {
    role: Role,
    /// Bytes of the application's in it.
    payload: usize,
    frame: Bytes,
}

/// A notification that is encoded once and sent to many.
#[derive(Clone, Debug)]
pub struct Broadcast(Waiting);

impl Broadcast {
    /// Encodes a notification; with `volatile` one that may be dropped.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] above [`MAX_PAYLOAD`].
    pub fn new(name: Name, payload: Payload, volatile: bool) -> Result<Self, Refused> {
        if payload.bytes.len() > MAX_PAYLOAD {
            return Err(Refused::TooLarge);
        }
        let size = payload.bytes.len();
        let (role, frame) = if volatile {
            (Role::Volatile, PeerFrame::Volatile { name, payload })
        } else {
            (Role::Other, PeerFrame::Notify { name, payload })
        };
        Ok(Self(Waiting { role, payload: size, frame: frame.encode() }))
    }

    /// Whether it may be dropped.
    pub fn is_volatile(&self) -> bool {
        self.0.role == Role::Volatile
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

#[derive(Debug)]
pub(crate) struct Session {
    asked: Asked,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    limits: Limits,
    /// The largest payload that the other side takes.
    max_message: usize,
}

impl Session {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { asked: Asked::default(), waiting: VecDeque::new(), waiting_bytes: 0, max_message: MAX_PAYLOAD, limits }
    }

    /// The other side told its limit. What waits and is above it is taken out, notifications without a word: sending it
    /// would end the connection. Gives the calls among it.
    pub(crate) fn learn_limit(&mut self, max_message: u64) -> Vec<CallId> {
        let most = usize::try_from(max_message).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD);
        self.max_message = most;
        let mut refused = Vec::new();
        self.retain_waiting(|waiting| {
            if let Role::Call(id) = waiting.role
                && waiting.payload > most
            {
                refused.push(id);
            }
            waiting.payload <= most
        });
        refused.retain(|id| self.asked.settle(*id).is_some());
        refused
    }

    fn retain_waiting(&mut self, mut keep: impl FnMut(&Waiting) -> bool) {
        self.waiting.retain(|waiting| {
            let keep = keep(waiting);
            if !keep {
                self.waiting_bytes -= waiting.frame.len();
            }
            keep
        });
    }

    fn check(&self, payload: &Payload) -> Result<(), Refused> {
        if payload.bytes.len() > self.max_message { Err(Refused::TooLarge) } else { Ok(()) }
    }

    fn has_room(&self, frame: usize) -> Result<(), Refused> {
        let room = self.waiting.len() < self.limits.max_outgoing_frames
            && self.waiting_bytes + frame <= self.limits.max_outgoing_bytes;
        if room { Ok(()) } else { Err(Refused::Backpressure) }
    }

    fn enqueue(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.frame.len();
        self.waiting.push_back(waiting);
    }

    pub(crate) fn call(
        &mut self,
        now: Timestamp,
        name: Name,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<CallId, Refused> {
        self.check(&payload)?;
        self.has_room(payload.bytes.len())?;
        let id = self.asked.open(now, timeout);
        let size = payload.bytes.len();
        let frame = PeerFrame::Call { id, name, payload }.encode();
        self.enqueue(Waiting { role: Role::Call(id), payload: size, frame });
        Ok(id)
    }

    /// The caller gave up. Nothing more is ever said of this call.
    pub(crate) fn cancel(&mut self, id: CallId) {
        if let Some(transmitted) = self.asked.settle(id) {
            self.give_up(id, transmitted);
        }
    }

    fn give_up(&mut self, id: CallId, transmitted: bool) {
        if transmitted {
            return self.control(PeerFrame::Cancel(id).encode());
        }
        if let Some(place) = self.waiting.iter().position(|waiting| waiting.role == Role::Call(id))
            && let Some(waiting) = self.waiting.remove(place)
        {
            self.waiting_bytes -= waiting.frame.len();
        }
    }

    pub(crate) fn send(&mut self, broadcast: &Broadcast) -> Result<Sent, Refused> {
        let Broadcast(waiting) = broadcast;
        if waiting.payload > self.max_message {
            return Err(Refused::TooLarge);
        }
        let room = self.has_room(waiting.frame.len());
        if waiting.role == Role::Volatile && (self.is_crowded() || room.is_err()) {
            return Ok(Sent::Dropped);
        }
        room?;
        self.enqueue(waiting.clone());
        Ok(Sent::Queued)
    }

    /// Whether so much waits already that a message for now or never would come late and keep others from their place.
    fn is_crowded(&self) -> bool {
        self.waiting_bytes > self.limits.max_volatile_bytes
            || self.waiting.len() >= self.limits.max_outgoing_frames.div_ceil(2)
    }

    pub(crate) fn notify(&mut self, name: Name, payload: Payload, volatile: bool) -> Result<(), Refused> {
        self.check(&payload)?;
        self.send(&Broadcast::new(name, payload, volatile)?).map(drop)
    }

    /// Queues a frame that must not be refused: answers, which the cap on open calls bounds, and what the protocol says
    /// on its own.
    pub(crate) fn control(&mut self, frame: Bytes) {
        self.enqueue(Waiting { role: Role::Other, payload: 0, frame });
    }

    /// Queues an answer. Too large a one becomes a failure, so that the call still settles.
    pub(crate) fn answer(&mut self, id: CallId, result: Result<Payload, Failure>) -> Result<(), Refused> {
        let too_large = |payload: &Payload| payload.bytes.len() > self.max_message;
        let (frame, refused) = match result {
            Ok(payload) if too_large(&payload) => {
                (PeerFrame::Fail { id, failure: Failure::of(crate::code::Code::TOO_LARGE) }, Err(Refused::TooLarge))
            }
            Ok(payload) => (PeerFrame::Reply { id, payload }, Ok(())),
            Err(mut failure) => {
                failure.data = failure.data.take_if(|data| !too_large(data));
                (PeerFrame::Fail { id, failure }, Ok(()))
            }
        };
        self.control(frame.encode());
        refused
    }

    /// Takes a reply or failure from the other side; `true` when a call was waiting for it.
    pub(crate) fn settle(&mut self, id: CallId) -> bool {
        self.asked.settle(id).is_some()
    }

    /// The next call whose time is over.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Option<CallId> {
        let (id, transmitted) = self.asked.expire(now)?;
        self.give_up(id, transmitted);
        Some(id)
    }

    /// The connection is gone: what it carried has an unknown outcome, what it did not carry waits on, and volatile
    /// messages, which are for now or never, are dropped with whatever the protocol wanted to say on its own.
    pub(crate) fn lose_connection(&mut self) -> Vec<CallId> {
        self.retain_waiting(|waiting| match waiting.role {
            Role::Call(_) => true,
            Role::Volatile => false,
            Role::Other => !is_bound_to_connection(&waiting.frame),
        });
        self.asked.lose_transmitted()
    }

    /// The endpoint is closed for good: every open call with its outcome.
    pub(crate) fn close(&mut self) -> Vec<(CallId, Outcome)> {
        self.waiting.clear();
        self.waiting_bytes = 0;
        let outcome = |transmitted| if transmitted { Outcome::Unknown } else { Outcome::NotSent };
        self.asked.lose_all().into_iter().map(|(id, transmitted)| (id, outcome(transmitted))).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.asked.deadline()
    }

    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether even what is never refused (answers, pongs) has piled up beyond reason: the other side does not read.
    pub(crate) fn is_overfull(&self) -> bool {
        self.waiting_bytes > 2 * self.limits.max_outgoing_bytes
            || self.waiting.len() > 2 * self.limits.max_outgoing_frames
    }

    /// Bytes that wait for the socket.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Moves as many whole frames as fit behind what `record` has already. A record holds at least one.
    pub(crate) fn pack(&mut self, record: &mut BytesMut) {
        let mut room = MAX_PLAINTEXT;
        while let Some(Waiting { role, frame, .. }) = self.waiting.pop_front_if(|waiting| waiting.frame.len() <= room) {
            room -= frame.len();
            self.waiting_bytes -= frame.len();
            record.extend_from_slice(&frame);
            if let Role::Call(id) = role {
                self.asked.transmitted(id);
            }
        }
    }
}

/// Answers and the protocol's own frames mean nothing on another connection.
fn is_bound_to_connection(frame: &Bytes) -> bool {
    frame.first().is_none_or(|kind| *kind != crate::frame::kind::NOTIFY)
}

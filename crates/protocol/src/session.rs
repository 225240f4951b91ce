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

/// A notification that is encoded once and sent to many.
#[derive(Clone, Debug)]
pub struct Broadcast {
    frame: Bytes,
    role: Role,
}

impl Broadcast {
    /// Encodes a notification; with `volatile` one that may be dropped.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] above [`MAX_PAYLOAD`].
    pub fn new(name: Name, payload: Payload, volatile: bool) -> Result<Self, Refused> {
        if payload.bytes.len() > MAX_PAYLOAD {
            return Err(Refused::TooLarge);
        }
        Ok(if volatile {
            Self { frame: PeerFrame::Volatile { name, payload }.encode(), role: Role::Volatile }
        } else {
            Self { frame: PeerFrame::Notify { name, payload }.encode(), role: Role::Other }
        })
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    asked: Asked,
    waiting: VecDeque<(Role, Bytes)>,
    waiting_bytes: usize,
    limits: Limits,
    /// The largest payload that the other side takes.
    max_message: usize,
}

impl Session {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { asked: Asked::default(), waiting: VecDeque::new(), waiting_bytes: 0, max_message: MAX_PAYLOAD, limits }
    }

    /// The other side told its limit.
    pub(crate) fn learn_limit(&mut self, max_message: u64) {
        self.max_message = usize::try_from(max_message).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD);
    }

    fn check(&self, payload: &Payload) -> Result<(), Refused> {
        if payload.bytes.len() > self.max_message { Err(Refused::TooLarge) } else { Ok(()) }
    }

    fn has_room(&self, frame: usize) -> Result<(), Refused> {
        let room = self.waiting.len() < self.limits.max_outgoing_frames
            && self.waiting_bytes + frame <= self.limits.max_outgoing_bytes;
        if room { Ok(()) } else { Err(Refused::Backpressure) }
    }

    fn enqueue(&mut self, role: Role, frame: Bytes) {
        self.waiting_bytes += frame.len();
        self.waiting.push_back((role, frame));
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
        self.enqueue(Role::Call(id), PeerFrame::Call { id, name, payload }.encode());
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
        if let Some(place) = self.waiting.iter().position(|(role, _)| *role == Role::Call(id))
            && let Some((_, frame)) = self.waiting.remove(place)
        {
            self.waiting_bytes -= frame.len();
        }
    }

    pub(crate) fn send(&mut self, broadcast: &Broadcast) -> Result<(), Refused> {
        if broadcast.frame.len() > self.max_message + MAX_PLAINTEXT - MAX_PAYLOAD {
            return Err(Refused::TooLarge);
        }
        if broadcast.role == Role::Volatile && self.waiting_bytes > self.limits.max_volatile_bytes {
            return Ok(());
        }
        self.has_room(broadcast.frame.len())?;
        self.enqueue(broadcast.role, broadcast.frame.clone());
        Ok(())
    }

    pub(crate) fn notify(&mut self, name: Name, payload: Payload, volatile: bool) -> Result<(), Refused> {
        self.check(&payload)?;
        self.send(&Broadcast::new(name, payload, volatile)?)
    }

    /// Queues a frame that must not be refused: answers, which the cap on open calls bounds, and what the protocol says
    /// on its own.
    pub(crate) fn control(&mut self, frame: Bytes) {
        self.enqueue(Role::Other, frame);
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
        self.waiting.retain(|(role, frame)| {
            let keep = *role == Role::Other && !is_bound_to_connection(frame) || matches!(role, Role::Call(_));
            if !keep {
                self.waiting_bytes -= frame.len();
            }
            keep
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
        while let Some((role, frame)) = self.waiting.pop_front_if(|(_, frame)| frame.len() <= room) {
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

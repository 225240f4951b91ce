//! One established connection: records in, events out; frames in, records out.
//!
//! It is the same on both sides. It owns the keys, the heartbeat and the calls to answer; what outlives it is the
//! [`Session`]'s.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    calls::Serving,
    cipher::{Opener, Sealer},
    code::Code,
    error::{Refused, Violation},
    frame::{self, CallId, Failure, PeerFrame, RawFrame},
    heartbeat::{Due, Heartbeat, HeartbeatConfig},
    limits::{Limits, MAX_PLAINTEXT, MAX_RECORD, TAG},
    payload::{Name, Payload},
    record::kind,
    session::{Outcome, Session},
    time::Timestamp,
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
        /// Its argument.
        payload: Payload,
    },
    /// The other side no longer waits for this call, or is gone: stop its handler. An answer is ignored.
    Cancelled(CallId),
    /// A notification.
    Message {
        /// Which listeners.
        name: Name,
        /// The message.
        payload: Payload,
        /// Whether it was sent as one that may be dropped.
        volatile: bool,
    },
    /// A call of this side ended. It comes once for every call that was not cancelled.
    Settled {
        /// Which call.
        id: CallId,
        /// How.
        outcome: Outcome,
    },
}

/// Turns records into plaintext and back.
pub(crate) enum Link {
    Sealed { sealer: Sealer, opener: Opener },
    Plain,
}

impl Link {
    fn kind(&self) -> u8 {
        match self {
            Self::Sealed { .. } => kind::SEALED,
            Self::Plain => kind::PLAIN,
        }
    }

    /// The frames of a record, still in one piece.
    pub(crate) fn open(&mut self, record: Bytes) -> Result<Bytes, Violation> {
        if record.len() > MAX_RECORD {
            return Err(Violation::OversizedRecord);
        }
        if record.first() != Some(&self.kind()) {
            return Err(if record.is_empty() { Violation::EmptyRecord } else { Violation::UnexpectedRecord });
        }
        let plaintext = match self {
            Self::Plain => record.slice(1..),
            Self::Sealed { opener, .. } => {
                // In place when nobody else holds the buffer, which is the rule.
                let mut record = record.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                opener.open(&mut record)?;
                record.freeze()
            }
        };
        if plaintext.is_empty() { Err(Violation::EmptyRecord) } else { Ok(plaintext) }
    }

    fn seal(&mut self, mut record: BytesMut) -> Result<Bytes, Violation> {
        if let Self::Sealed { sealer, .. } = self {
            sealer.seal(&mut record)?;
        }
        Ok(record.freeze())
    }

    /// One record of what waits, or `None` when nothing does.
    pub(crate) fn pack(&mut self, session: &mut Session) -> Result<Option<Bytes>, Violation> {
        if !session.has_waiting() {
            return Ok(None);
        }
        let mut record = BytesMut::with_capacity(1 + session.waiting_bytes().min(MAX_PLAINTEXT) + TAG);
        record.put_u8(self.kind());
        session.pack(&mut record);
        self.seal(record).map(Some)
    }

    /// One record of one frame, past everything that waits.
    pub(crate) fn pack_frame(&mut self, frame: &Bytes) -> Result<Bytes, Violation> {
        let mut record = BytesMut::with_capacity(1 + frame.len() + TAG);
        record.put_u8(self.kind());
        record.extend_from_slice(frame);
        self.seal(record)
    }
}

pub(crate) struct Connection {
    link: Link,
    heartbeat: Heartbeat,
    serving: Serving,
    max_message: usize,
}

impl Connection {
    /// `served` is the newest number that the application knows a call of an earlier connection by; 0 without one.
    pub(crate) fn new(link: Link, heartbeat: HeartbeatConfig, limits: &Limits, served: u64, now: Timestamp) -> Self {
        Self {
            link,
            heartbeat: Heartbeat::new(heartbeat, now),
            serving: Serving::new(limits.max_calls_in_flight, served),
            max_message: limits.max_message,
        }
    }

    /// The newest number that the application knows a call by.
    pub(crate) fn served(&self) -> u64 {
        self.serving.newest()
    }

    /// Takes out every call that waits for an answer of the application's.
    pub(crate) fn abandon(&mut self) -> Vec<CallId> {
        self.serving.abandon()
    }

    /// Opens a record and hands its frames to `handle` one by one.
    pub(crate) fn handle_record(
        &mut self,
        now: Timestamp,
        record: Bytes,
        mut handle: impl FnMut(&mut Self, RawFrame) -> Result<bool, Violation>,
    ) -> Result<(), Violation> {
        let mut plaintext = self.link.open(record)?;
        self.heartbeat.handle_life(now);
        while let Some(raw) = frame::next_frame(&mut plaintext)? {
            if !handle(self, raw)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes a frame that either side may send.
    pub(crate) fn handle_frame(
        &mut self,
        now: Timestamp,
        frame: PeerFrame,
        session: &mut Session,
    ) -> Result<Option<PeerEvent>, Violation> {
        Ok(match frame {
            PeerFrame::Ping(number) => {
                session.control(PeerFrame::Pong(number).encode());
                None
            }
            PeerFrame::Pong(number) => {
                self.heartbeat.handle_pong(number, now);
                None
            }
            PeerFrame::Call { id, name, payload } => {
                self.check(&payload)?;
                let known_as = self.serving.begin(id)?;
                if known_as.is_none() {
                    let failure = Failure::of(Code::TOO_MANY_CALLS);
                    session.control(PeerFrame::Fail { id, failure }.encode());
                }
                known_as.map(|id| PeerEvent::Call { id, name, payload })
            }
            PeerFrame::Reply { id, payload } => {
                self.check(&payload)?;
                session.settle(id).then_some(PeerEvent::Settled { id, outcome: Outcome::Reply(payload) })
            }
            PeerFrame::Fail { id, failure } => {
                failure.data.as_ref().map_or(Ok(()), |data| self.check(data))?;
                session.settle(id).then_some(PeerEvent::Settled { id, outcome: Outcome::Failed(failure) })
            }
            PeerFrame::Cancel(id) => self.serving.cancel(id).map(PeerEvent::Cancelled),
            PeerFrame::Notify { name, payload } => {
                self.check(&payload)?;
                Some(PeerEvent::Message { name, payload, volatile: false })
            }
            PeerFrame::Volatile { name, payload } => {
                self.check(&payload)?;
                Some(PeerEvent::Message { name, payload, volatile: true })
            }
        })
    }

    fn check(&self, payload: &Payload) -> Result<(), Violation> {
        if payload.bytes.len() > self.max_message { Err(Violation::PayloadTooLarge) } else { Ok(()) }
    }

    /// Answers a call of the other side. An answer to a call that is not open any more is dropped.
    pub(crate) fn answer(
        &mut self,
        id: CallId,
        result: Result<Payload, Failure>,
        session: &mut Session,
    ) -> Result<(), Refused> {
        self.serving.answer(id).map_or(Ok(()), |id| session.answer(id, result))
    }

    /// Asks for a sign of life now.
    pub(crate) fn ping(&mut self, now: Timestamp, session: &mut Session) {
        let number = self.heartbeat.ping(now);
        session.control(PeerFrame::Ping(number).encode());
    }

    /// Does what the time asks for; `false` when the other side is dead.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp, session: &mut Session) -> bool {
        match self.heartbeat.handle_timeout(now) {
            Due::Nothing => true,
            Due::Ping(number) => {
                session.control(PeerFrame::Ping(number).encode());
                true
            }
            Due::Dead => false,
        }
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        self.heartbeat.deadline()
    }

    pub(crate) fn rtt(&self) -> Option<std::time::Duration> {
        self.heartbeat.rtt()
    }

    /// The next record for the socket.
    pub(crate) fn poll_record(&mut self, session: &mut Session) -> Result<Option<Bytes>, Violation> {
        self.link.pack(session)
    }

    /// Everything that waits and `last` behind it, whatever the socket says: the connection is about to close.
    pub(crate) fn flush(&mut self, session: &mut Session, last: Bytes) -> Result<Vec<Bytes>, Violation> {
        session.control(last);
        let mut records = Vec::new();
        while let Some(record) = self.link.pack(session)? {
            records.push(record);
        }
        Ok(records)
    }
}

//! What opens and ends a connection: Welcome, Reject, Goaway, and the names in them.
//!
//! Implements `docs/PROTOCOL.md` § Welcome, Reject and Goaway.

use std::{fmt, num::NonZeroU64};

use super::{Admission, Seq, cut, read_code};
use crate::{
    code::Code,
    error::Malformed,
    limits::{MAX_REFUSAL_NAME, MAX_TEXT, MAX_VERSION, Pace, REJECT_BODY},
    subject::SubjectMark,
    text,
    time::UnixMillis,
    wire::{self, Reader, Sink},
};

/// Which run of a server a session belongs to: 8 random bytes, drawn at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub [u8; 8]);

/// What proves in plain mode, where there are no keys, that a session is one's own: 16 random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeSecret(pub [u8; 16]);

impl fmt::Debug for ResumeSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ResumeSecret")
    }
}

/// Why a session could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResetReason {
    /// The client stayed away for longer than the server keeps sessions.
    Expired = 1,
    /// More came for the client than is kept for one that does not read.
    Overflow = 2,
    /// The server has been started anew.
    Restart = 3,
    /// The server does not know the session, or will not say why.
    Unknown = 4,
}

impl ResetReason {
    /// The reason's name, as programs see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::Restart => "restart",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Expired,
            2 => Self::Overflow,
            3 => Self::Restart,
            // A newer server's reason is one that this client does not know.
            _ => Self::Unknown,
        }
    }
}

/// A random number that an operator finds in the log when a user reads it out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ref(pub [u8; 8]);

impl Ref {
    /// It in hexadecimal.
    pub fn text(&self) -> String {
        text::hex(&self.0)
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The name of a session: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    /// It in hexadecimal.
    pub fn text(&self) -> String {
        text::hex(&self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How a session went on, as Welcome tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// The client did not ask for one: the session is new.
    New,
    /// The session goes on; the server has received everything up to this number.
    Resumed(Seq),
    /// The client asked for a session that could not go on: this one is new.
    Reset(ResetReason),
}

/// What a client learns when it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The session's name.
    pub session: SessionId,
    /// The server's clock.
    pub server_time: UnixMillis,
    /// Silence after which the server pings, in milliseconds.
    pub heartbeat_ms: u64,
    /// The largest payload that the server takes, in bytes.
    pub max_message: u64,
    /// Calls that the client may have open at once.
    pub max_calls_in_flight: u64,
    /// The server's name and version.
    pub server_version: String,
    /// Whether the session is the one that the client asked for.
    pub resumption: Resumption,
    /// Which run of the server the session belongs to.
    pub epoch: Epoch,
    /// How long the server keeps the session of a client that is away, in milliseconds.
    pub resume_window_ms: u64,
    /// In plain mode, what the client is to show when it comes back.
    pub secret: Option<ResumeSecret>,
    /// Who the client is here.
    pub admission: Admission,
    /// How much the client may send in a second.
    pub pace: Pace,
}

impl Welcome {
    pub(super) fn write(&self, sink: &mut impl Sink) {
        wire::put_field(sink, 1, &self.session.0);
        wire::put_varint_field(sink, 2, self.server_time.0);
        wire::put_varint_field(sink, 3, self.heartbeat_ms);
        wire::put_varint_field(sink, 4, self.max_message);
        wire::put_varint_field(sink, 5, self.max_calls_in_flight);
        wire::put_field(sink, 6, cut(&self.server_version, MAX_VERSION).as_bytes());
        match self.resumption {
            Resumption::New => {}
            Resumption::Resumed(received) => wire::put_varint_field(sink, 7, received.0),
            Resumption::Reset(reason) => wire::put_varint_field(sink, 8, reason as u64),
        }
        wire::put_field(sink, 9, &self.epoch.0);
        wire::put_varint_field(sink, 10, self.resume_window_ms);
        if let Some(secret) = &self.secret {
            wire::put_field(sink, 11, &secret.0);
        }
        self.admission.write(sink, 12);
        for (tag, most) in [(15, self.pace.messages_per_second), (16, self.pace.bytes_per_second)] {
            if let Some(most) = most {
                wire::put_varint_field(sink, tag, most.get());
            }
        }
        self.admission.write_subject(sink, 17);
    }

    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let (mut session, mut server_time, mut heartbeat_ms, mut max_message) = (None, None, None, None);
        let (mut max_calls_in_flight, mut server_version, mut last) = (None, None, None);
        let (mut resumption, mut epoch, mut resume_window_ms, mut secret) = (Resumption::New, None, None, None);
        let (mut admission, mut pace) = (Admission::default(), Pace::default());
        while let Some((tag, value)) = reader.field(&mut last)? {
            match tag {
                1 => session = Some(SessionId(value.only_array()?)),
                2 => server_time = Some(UnixMillis(value.only_varint()?)),
                3 => heartbeat_ms = Some(value.only_varint()?),
                4 => max_message = Some(value.only_varint()?),
                5 => max_calls_in_flight = Some(value.only_varint()?),
                6 => server_version = Some(value.only_str(MAX_VERSION)?.to_owned()),
                7 => resumption = Resumption::Resumed(Seq(value.only_varint()?)),
                8 if resumption != Resumption::New => return Err(Malformed::UnknownValue),
                8 => resumption = Resumption::Reset(ResetReason::from_number(value.only_varint()?)),
                9 => epoch = Some(Epoch(value.only_array()?)),
                10 => resume_window_ms = Some(value.only_varint()?),
                11 => secret = Some(ResumeSecret(value.only_array()?)),
                15 => pace.messages_per_second = Some(read_most(value)?),
                16 => pace.bytes_per_second = Some(read_most(value)?),
                17 => admission.subject = Some(SubjectMark(value.only_array()?)),
                _ => _ = admission.read_field(tag, 12, value)?,
            }
        }
        let missing = Malformed::FieldMissing;
        Ok(Self {
            session: session.ok_or(missing)?,
            server_time: server_time.ok_or(missing)?,
            heartbeat_ms: heartbeat_ms.ok_or(missing)?,
            max_message: max_message.ok_or(missing)?,
            max_calls_in_flight: max_calls_in_flight.ok_or(missing)?,
            server_version: server_version.ok_or(missing)?,
            resumption,
            epoch: epoch.ok_or(missing)?,
            resume_window_ms: resume_window_ms.ok_or(missing)?,
            secret,
            admission,
            pace,
        })
    }
}

/// A limit. 0 is none: it is told by leaving the field out.
fn read_most(value: Reader<'_>) -> Result<NonZeroU64, Malformed> {
    NonZeroU64::new(value.only_varint()?).ok_or(Malformed::UnknownValue)
}

/// Why the client is not in. Always of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The registry's code, 4000 and above.
    pub code: Code,
    /// For the log.
    pub reference: Ref,
    /// When to try again, in milliseconds; 0 leaves it to the client.
    pub retry_after_ms: u64,
    /// The application's own name for it; empty unless `code` is [`Code::REFUSED`].
    pub name: String,
    /// A text that the user may see.
    pub message: String,
}

impl Reject {
    pub(super) fn write(&self, sink: &mut impl Sink) {
        let mut body = Vec::with_capacity(REJECT_BODY);
        wire::put_varint(&mut body, u64::from(self.code.0));
        body.put(&self.reference.0);
        wire::put_varint(&mut body, self.retry_after_ms);
        wire::put_bytes(&mut body, cut(&self.name, MAX_REFUSAL_NAME).as_bytes());
        wire::put_bytes(&mut body, cut(&self.message, MAX_TEXT).as_bytes());
        body.resize(REJECT_BODY, 0);
        sink.put(&body);
    }

    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let whole = reader.take(REJECT_BODY).map_err(|_| Malformed::BadPadding)?;
        reader.finish().map_err(|_| Malformed::BadPadding)?;
        let mut reader = Reader::new(whole);
        let reject = Self {
            code: read_code(&mut reader)?,
            reference: Ref(reader.array()?),
            retry_after_ms: reader.varint()?,
            name: reader.str(MAX_REFUSAL_NAME)?.to_owned(),
            message: reader.str(MAX_TEXT)?.to_owned(),
        };
        if reader.rest().iter().any(|byte| *byte != 0) {
            return Err(Malformed::BadPadding);
        }
        Ok(reject)
    }
}

/// Why the server closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goaway {
    /// The registry's code, 4000 and above.
    pub code: Code,
    /// For the log.
    pub reference: Ref,
    /// When to try again, in milliseconds; 0 leaves it to the client.
    pub retry_after_ms: u64,
    /// A text that the user may see.
    pub message: String,
}

impl Goaway {
    pub(super) fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, u64::from(self.code.0));
        sink.put(&self.reference.0);
        wire::put_varint(sink, self.retry_after_ms);
        wire::put_bytes(sink, cut(&self.message, MAX_TEXT).as_bytes());
    }

    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let goaway = Self {
            code: read_code(&mut reader)?,
            reference: Ref(reader.array()?),
            retry_after_ms: reader.varint()?,
            message: reader.str(MAX_TEXT)?.to_owned(),
        };
        reader.finish().map(|()| goaway)
    }
}

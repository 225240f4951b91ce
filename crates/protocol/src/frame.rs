//! The inner shape of the wire: frames, several to a record.
//!
//! Implements `docs/PROTOCOL.md` § Frames. A frame is `kind | flags | length | body`; who may send which is in the
//! types: [`ClientFrame`] and [`ServerFrame`] share what both may send as [`PeerFrame`].

use std::fmt;

use bytes::Bytes;

use crate::{
    code::Code,
    error::{Malformed, Violation},
    limits::{MAX_NAME, MAX_PLAINTEXT, MAX_REFUSAL_NAME, MAX_TEXT, MAX_VERSION, REJECT_BODY},
    payload::{Name, Payload},
    text,
    time::UnixMillis,
    wire::{self, Length, Reader, Sink},
};

/// The number table. Numbers are never reused; those in comments are kept for what is to come.
pub(crate) mod kind {
    pub(crate) const WELCOME: u8 = 0x01;
    pub(crate) const REJECT: u8 = 0x02;
    pub(crate) const GOAWAY: u8 = 0x03;
    pub(crate) const BYE: u8 = 0x04;
    pub(crate) const SEQ: u8 = 0x05;
    pub(crate) const ACK: u8 = 0x06;
    pub(crate) const PING: u8 = 0x07;
    pub(crate) const PONG: u8 = 0x08;
    // 0x09 Warn, 0x0a Authenticate, 0x0b Authenticated
    pub(crate) const CALL: u8 = 0x10;
    pub(crate) const REPLY: u8 = 0x11;
    pub(crate) const FAIL: u8 = 0x12;
    pub(crate) const CANCEL: u8 = 0x13;
    pub(crate) const NOTIFY: u8 = 0x14;
    pub(crate) const VOLATILE: u8 = 0x15;
    pub(crate) const ITEM: u8 = 0x16;
    pub(crate) const CREDIT: u8 = 0x17;
    pub(crate) const END: u8 = 0x18;
    pub(crate) const FIRST: u8 = 0x19;
    pub(crate) const MORE: u8 = 0x1a;
    // 0x20 Open, 0x21 Opened, 0x22 Update, 0x23 Advance, 0x24 Members, 0x25 Write, 0x26 Close, 0x27 Closed
}

/// The bits of a frame's second byte.
pub(crate) mod flag {
    /// The sender waits for the acknowledgement: send it at once.
    pub(crate) const ASK: u8 = 0x01;
    /// A Call has an idempotency key.
    pub(crate) const KEYED: u8 = 0x02;
    /// A Call wants a stream, and says how many items it takes.
    pub(crate) const STREAM: u8 = 0x04;
}

/// Whether frames of this kind are numbered, acknowledged and sent again.
fn is_reliable(kind: u8) -> bool {
    matches!(
        kind,
        kind::CALL
            | kind::REPLY
            | kind::FAIL
            | kind::CANCEL
            | kind::NOTIFY
            | kind::ITEM
            | kind::CREDIT
            | kind::END
            | kind::FIRST
            | kind::MORE
    )
}

/// The flags that a kind may have.
fn flags_of(kind: u8) -> u8 {
    match kind {
        kind::CALL => flag::ASK | flag::KEYED | flag::STREAM,
        kind if is_reliable(kind) => flag::ASK,
        _ => 0,
    }
}

/// Whether a message of this kind may come in parts.
fn may_be_in_parts(kind: u8) -> bool {
    matches!(kind, kind::CALL | kind::REPLY | kind::FAIL | kind::NOTIFY | kind::ITEM)
}

/// The number of a reliable frame in one direction of a session: from 1, without gaps. 0 stands for none yet.
///
/// It stays the same when the frame is sent again; the nonce that seals a record is another number altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

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

    fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Expired,
            2 => Self::Overflow,
            3 => Self::Restart,
            // A newer server's reason is one that this client does not know.
            _ => Self::Unknown,
        }
    }
}

/// The number of a call, chosen by the caller: from 1, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

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

/// Why a call failed on the side that was to answer it.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// The registry's code; [`Code::APPLICATION`] when the error is the handler's own.
    pub code: Code,
    /// The application's own name for it, cut at 200 bytes; empty unless `code` is [`Code::APPLICATION`].
    pub name: String,
    /// A text that the other side's user may see, cut at 700 bytes.
    pub message: String,
    /// What the application adds.
    pub data: Option<Payload>,
}

impl Failure {
    /// A failure of the registry's.
    pub fn of(code: Code) -> Self {
        Self { code, name: String::new(), message: String::new(), data: None }
    }

    /// A failure of the registry's with a text of its own.
    pub fn with_message(code: Code, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::of(code) }
    }

    /// The stable name that programs compare: the application's, or the registry's.
    pub fn name(&self) -> String {
        if self.name.is_empty() { self.code.text() } else { self.name.clone() }
    }

    fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, u64::from(self.code.0));
        wire::put_bytes(sink, cut(&self.name, MAX_NAME).as_bytes());
        wire::put_bytes(sink, cut(&self.message, MAX_TEXT).as_bytes());
        if let Some(data) = &self.data {
            data.write(sink);
        }
    }

    fn read(body: &Bytes, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            code: read_code(reader)?,
            name: reader.str(MAX_NAME)?.to_owned(),
            message: reader.str(MAX_TEXT)?.to_owned(),
            data: if reader.is_empty() { None } else { Some(Payload::read(body, reader)?) },
        })
    }
}

impl fmt::Debug for Failure {
    /// Without the data, which is the application's and may be large or private.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.name(), self.message)
    }
}

/// As much of a text as may travel, cut at a character.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

fn read_code(reader: &mut Reader<'_>) -> Result<Code, Malformed> {
    u16::try_from(reader.varint()?).map(Code).map_err(|_| Malformed::IntegerTooLarge)
}

/// What either side may send on an established connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerFrame {
    /// Asks for a Pong with the same number.
    Ping(u64),
    /// Answers a Ping.
    Pong(u64),
    /// The number of this side's next reliable frame, on a connection that resumes a session.
    Seq(Seq),
    /// Every reliable frame up to this one has been handed on.
    Ack(Seq),
    /// Asks the handler of this name for a reply, or for a stream.
    Call {
        /// The caller's number for it.
        id: CallId,
        /// Which handler.
        name: Name,
        /// By which the other side knows the call again when it comes in another session.
        key: Option<Name>,
        /// Items that the caller takes; `None` asks for one reply.
        credit: Option<u64>,
        /// The argument.
        payload: Payload,
    },
    /// The handler's result.
    Reply {
        /// Which call.
        id: CallId,
        /// The result.
        payload: Payload,
    },
    /// The handler's failure.
    Fail {
        /// Which call.
        id: CallId,
        /// What went wrong.
        failure: Failure,
    },
    /// The caller no longer waits.
    Cancel(CallId),
    /// One item of a stream.
    Item {
        /// Which call.
        id: CallId,
        /// The item.
        payload: Payload,
    },
    /// The caller takes more items.
    Credit {
        /// Which call.
        id: CallId,
        /// How many more.
        more: u64,
    },
    /// A stream is over.
    End(CallId),
    /// A message without an answer.
    Notify {
        /// Which listeners.
        name: Name,
        /// The message.
        payload: Payload,
        /// Whether the sender waits for its acknowledgement.
        ask: bool,
    },
    /// A message without an answer that may be dropped.
    Volatile {
        /// Which listeners.
        name: Name,
        /// The message.
        payload: Payload,
    },
}

/// What a client may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// The session ends now, on purpose.
    Bye,
    /// What either side may send.
    Peer(PeerFrame),
}

/// What a server may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame {
    /// The client is in.
    Welcome(Welcome),
    /// The client is not in.
    Reject(Reject),
    /// The server is about to close, and why.
    Goaway(Goaway),
    /// What either side may send.
    Peer(PeerFrame),
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

/// What a client learns when it is in. Fields 12 and above are kept for identity.
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
}

impl Welcome {
    fn write(&self, sink: &mut impl Sink) {
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
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let (mut session, mut server_time, mut heartbeat_ms, mut max_message) = (None, None, None, None);
        let (mut max_calls_in_flight, mut server_version, mut last) = (None, None, None);
        let (mut resumption, mut epoch, mut resume_window_ms, mut secret) = (Resumption::New, None, None, None);
        while let Some((tag, value)) = reader.field(&mut last)? {
            match tag {
                1 => session = Some(SessionId(value.only_array()?)),
                2 => server_time = Some(UnixMillis(value.only_varint()?)),
                3 => heartbeat_ms = Some(value.only_varint()?),
                4 => max_message = Some(value.only_varint()?),
                5 => max_calls_in_flight = Some(value.only_varint()?),
                6 => server_version = Some(value.only_str(MAX_VERSION)?.to_owned()),
                7 => resumption = Resumption::Resumed(Seq(value.only_varint()?)),
                8 => resumption = Resumption::Reset(ResetReason::from_number(value.only_varint()?)),
                9 => epoch = Some(Epoch(value.only_array()?)),
                10 => resume_window_ms = Some(value.only_varint()?),
                11 => secret = Some(ResumeSecret(value.only_array()?)),
                _ => {}
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
        })
    }
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
    fn write(&self, sink: &mut impl Sink) {
        let mut body = Vec::with_capacity(REJECT_BODY);
        wire::put_varint(&mut body, u64::from(self.code.0));
        body.put(&self.reference.0);
        wire::put_varint(&mut body, self.retry_after_ms);
        wire::put_bytes(&mut body, cut(&self.name, MAX_REFUSAL_NAME).as_bytes());
        wire::put_bytes(&mut body, cut(&self.message, MAX_TEXT).as_bytes());
        body.resize(REJECT_BODY, 0);
        sink.put(&body);
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
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
    fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, u64::from(self.code.0));
        sink.put(&self.reference.0);
        wire::put_varint(sink, self.retry_after_ms);
        wire::put_bytes(sink, cut(&self.message, MAX_TEXT).as_bytes());
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let goaway = Self {
            code: read_code(&mut reader)?,
            reference: Ref(reader.array()?),
            retry_after_ms: reader.varint()?,
            message: reader.str(MAX_TEXT)?.to_owned(),
        };
        reader.finish().map(|()| goaway)
    }
}

/// A frame as it came: its number and body, not looked into.
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) body: Bytes,
}

impl RawFrame {
    pub(crate) fn is_reliable(&self) -> bool {
        is_reliable(self.kind)
    }
}

/// The first part of a message that is too large for one frame.
pub(crate) struct FirstPart {
    /// What the parts together are the body of.
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Length of that body.
    pub(crate) total: u64,
    pub(crate) body: Bytes,
}

impl FirstPart {
    pub(crate) fn read(frame: &RawFrame) -> Result<Self, Violation> {
        let mut reader = Reader::new(&frame.body);
        let [kind, flags] = reader.array()?;
        if !may_be_in_parts(kind) || flags & !(flags_of(kind) & !flag::ASK) != 0 {
            return Err(Violation::UnknownFrame);
        }
        let total = reader.varint()?;
        Ok(Self { kind, flags, total, body: frame.body.slice_ref(reader.rest()) })
    }
}

/// The body of a frame of this side's own making.
pub(crate) fn body_of(frame: &Bytes) -> Bytes {
    let mut reader = Reader::new(frame);
    let body = reader.array::<2>().and_then(|_| reader.bytes(frame.len()));
    body.map_or_else(|_| Bytes::new(), |body| frame.slice_ref(body))
}

/// What stands before a part of `frame`, which is `part` bytes long. The first one tells how much there is `in_all`; the
/// last one asks for its acknowledgement if the whole does.
pub(crate) fn part_head(frame: &Bytes, in_all: Option<usize>, part: usize, last: bool) -> Bytes {
    let [whole_kind, whole_flags] = [frame[0], frame[1]];
    let ask = if last { whole_flags & flag::ASK } else { 0 };
    let mut head = Vec::with_capacity(16);
    let mut inner = Vec::with_capacity(8);
    if let Some(total) = in_all {
        inner.extend_from_slice(&[whole_kind, whole_flags & !flag::ASK]);
        wire::put_varint(&mut inner, total as u64);
    }
    head.extend_from_slice(&[if in_all.is_some() { kind::FIRST } else { kind::MORE }, ask]);
    wire::put_varint(&mut head, (inner.len() + part) as u64);
    head.extend_from_slice(&inner);
    Bytes::from(head)
}

/// Takes the next frame off the front of a record's plaintext.
pub(crate) fn next_frame(plaintext: &mut Bytes) -> Result<Option<RawFrame>, Violation> {
    if plaintext.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(plaintext);
    let [kind, flags] = reader.array()?;
    if flags & !flags_of(kind) != 0 {
        return Err(Violation::UnknownFrame);
    }
    let body = reader.bytes(MAX_PLAINTEXT)?;
    let body = plaintext.slice_ref(body);
    let left = plaintext.slice_ref(reader.rest());
    *plaintext = left;
    Ok(Some(RawFrame { kind, flags, body }))
}

fn encode(kind: u8, write: impl Fn(&mut dyn FnMut(&[u8]))) -> Bytes {
    encode_with(kind, 0, write)
}

fn encode_with(kind: u8, flags: u8, write: impl Fn(&mut dyn FnMut(&[u8]))) -> Bytes {
    let mut length = Length::default();
    write(&mut |bytes| length.put(bytes));
    let mut varint = Length::default();
    wire::put_varint(&mut varint, length.0 as u64);
    // Exactly so much, so that the bytes are shared without another allocation.
    let mut frame = Vec::with_capacity(2 + varint.0 + length.0);
    frame.extend_from_slice(&[kind, flags]);
    wire::put_varint(&mut frame, length.0 as u64);
    write(&mut |bytes| frame.extend_from_slice(bytes));
    Bytes::from(frame)
}

impl<F: FnMut(&[u8]) + ?Sized> Sink for &mut F {
    fn put(&mut self, bytes: &[u8]) {
        self(bytes);
    }
}

impl PeerFrame {
    /// The frame's bytes. A broadcast makes them once and hands the same to every connection.
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Seq(seq) => encode(kind::SEQ, |mut sink| wire::put_varint(&mut sink, seq.0)),
            Self::Ack(seq) => encode(kind::ACK, |mut sink| wire::put_varint(&mut sink, seq.0)),
            Self::Item { id, payload } => encode(kind::ITEM, |mut sink| {
                wire::put_varint(&mut sink, id.0);
                payload.write(&mut sink);
            }),
            Self::Credit { id, more } => encode(kind::CREDIT, |mut sink| {
                wire::put_varint(&mut sink, id.0);
                wire::put_varint(&mut sink, *more);
            }),
            Self::End(id) => encode(kind::END, |mut sink| wire::put_varint(&mut sink, id.0)),
            Self::Ping(number) => encode(kind::PING, |mut sink| wire::put_varint(&mut sink, *number)),
            Self::Pong(number) => encode(kind::PONG, |mut sink| wire::put_varint(&mut sink, *number)),
            Self::Call { id, name, key, credit, payload } => {
                let keyed = if key.is_some() { flag::KEYED } else { 0 };
                let stream = if credit.is_some() { flag::STREAM } else { 0 };
                encode_with(kind::CALL, keyed | stream, |mut sink| {
                    wire::put_varint(&mut sink, id.0);
                    name.write(&mut sink);
                    if let Some(key) = key {
                        key.write(&mut sink);
                    }
                    if let Some(credit) = credit {
                        wire::put_varint(&mut sink, *credit);
                    }
                    payload.write(&mut sink);
                })
            }
            Self::Reply { id, payload } => encode(kind::REPLY, |mut sink| {
                wire::put_varint(&mut sink, id.0);
                payload.write(&mut sink);
            }),
            Self::Fail { id, failure } => encode(kind::FAIL, |mut sink| {
                wire::put_varint(&mut sink, id.0);
                failure.write(&mut sink);
            }),
            Self::Cancel(id) => encode(kind::CANCEL, |mut sink| wire::put_varint(&mut sink, id.0)),
            Self::Notify { name, payload, ask } => {
                encode_with(kind::NOTIFY, if *ask { flag::ASK } else { 0 }, |mut sink| {
                    name.write(&mut sink);
                    payload.write(&mut sink);
                })
            }
            Self::Volatile { name, payload } => encode(kind::VOLATILE, |mut sink| {
                name.write(&mut sink);
                payload.write(&mut sink);
            }),
        }
    }

    /// Reads a frame that either side may send; `None` when its number is not one of those.
    fn read(RawFrame { kind, flags, body }: &RawFrame) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(body);
        let has = |flag: u8| flags & flag != 0;
        Ok(Some(match *kind {
            kind::SEQ => Self::Seq(Seq(reader.only_varint()?)),
            kind::ACK => Self::Ack(Seq(reader.only_varint()?)),
            kind::ITEM => Self::Item { id: CallId(reader.varint()?), payload: Payload::read(body, &mut reader)? },
            kind::CREDIT => Self::Credit { id: CallId(reader.varint()?), more: reader.only_varint()? },
            kind::END => Self::End(CallId(reader.only_varint()?)),
            kind::PING => Self::Ping(reader.only_varint()?),
            kind::PONG => Self::Pong(reader.only_varint()?),
            kind::CALL => Self::Call {
                id: CallId(reader.varint()?),
                name: Name::read(body, &mut reader)?,
                key: if has(flag::KEYED) { Some(Name::read(body, &mut reader)?) } else { None },
                credit: if has(flag::STREAM) { Some(reader.varint()?) } else { None },
                payload: Payload::read(body, &mut reader)?,
            },
            kind::REPLY => Self::Reply { id: CallId(reader.varint()?), payload: Payload::read(body, &mut reader)? },
            kind::FAIL => Self::Fail { id: CallId(reader.varint()?), failure: Failure::read(body, &mut reader)? },
            kind::CANCEL => Self::Cancel(CallId(reader.only_varint()?)),
            kind::NOTIFY => Self::Notify {
                name: Name::read(body, &mut reader)?,
                payload: Payload::read(body, &mut reader)?,
                ask: has(flag::ASK),
            },
            kind::VOLATILE => {
                Self::Volatile { name: Name::read(body, &mut reader)?, payload: Payload::read(body, &mut reader)? }
            }
            _ => return Ok(None),
        }))
    }
}

impl ClientFrame {
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Bye => encode(kind::BYE, |_| {}),
            Self::Peer(frame) => frame.encode(),
        }
    }

    pub(crate) fn read(raw: &RawFrame) -> Result<Self, Violation> {
        if let Some(frame) = PeerFrame::read(raw)? {
            return Ok(Self::Peer(frame));
        }
        match raw.kind {
            kind::BYE => Reader::new(&raw.body).finish().map(|()| Self::Bye).map_err(Violation::from),
            _ => Err(Violation::UnknownFrame),
        }
    }
}

impl ServerFrame {
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Welcome(welcome) => encode(kind::WELCOME, |mut sink| welcome.write(&mut sink)),
            Self::Reject(reject) => encode(kind::REJECT, |mut sink| reject.write(&mut sink)),
            Self::Goaway(goaway) => encode(kind::GOAWAY, |mut sink| goaway.write(&mut sink)),
            Self::Peer(frame) => frame.encode(),
        }
    }

    pub(crate) fn read(raw: &RawFrame) -> Result<Self, Violation> {
        if let Some(frame) = PeerFrame::read(raw)? {
            return Ok(Self::Peer(frame));
        }
        let reader = Reader::new(&raw.body);
        Ok(match raw.kind {
            kind::WELCOME => Self::Welcome(Welcome::read(reader)?),
            kind::REJECT => Self::Reject(Reject::read(reader)?),
            kind::GOAWAY => Self::Goaway(Goaway::read(reader)?),
            _ => return Err(Violation::UnknownFrame),
        })
    }
}

#[cfg(test)]
mod tests;

//! The inner shape of the wire: frames, several to a record.
//!
//! Implements `docs/PROTOCOL.md` § Frames. A frame is `kind | flags | length | body`; who may send which is in the
//! types: [`ClientFrame`] and [`ServerFrame`] share what both may send as [`PeerFrame`].

mod admission;
mod channel;
mod greeting;
pub(crate) mod kind;

use std::fmt;

use bytes::Bytes;

pub(crate) use self::kind::flag;
pub use self::{admission::*, channel::*, greeting::*};
use crate::{
    code::Code,
    error::{Malformed, Violation},
    limits::{MAX_NAME, MAX_PLAINTEXT, MAX_TEXT},
    payload::{Name, Payload},
    wire::{self, Length, Reader, Sink},
};

/// The number of a reliable frame in one direction of a session: from 1, without gaps. 0 stands for none yet.
///
/// It stays the same when the frame is sent again; the nonce that seals a record is another number altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The number of a call, chosen by the caller: from 1, ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

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
    /// The client shows something new for itself.
    Authenticate(Authenticate),
    /// The client wants to be told of a channel.
    Open(Open),
    /// The client does not want to be told any more.
    Close(Handle),
    /// The client does not want to be told more of its log for now.
    Hold(Handle),
    /// The client wants something of a channel.
    Request(Request),
    /// The client says something to whoever is in a channel, which may be dropped.
    Volatile(VolatileAppend),
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
    /// Who the client is now, or why it is who it was.
    Authenticated(Authenticated),
    /// What the client ought to know.
    Warn(Warn),
    /// What is told of a channel.
    Channel(ChannelFrame),
    /// Somebody in a channel has something for this client alone.
    Direct(Direct),
    /// What either side may send.
    Peer(PeerFrame),
}

/// A frame as it came: its number and body, not looked into.
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) body: Bytes,
}

impl RawFrame {
    pub(crate) fn is_reliable(&self) -> bool {
        kind::is_reliable(self.kind)
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
        if !kind::may_be_in_parts(kind) || flags & !(kind::flags_of(kind) & !flag::ASK) != 0 {
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
    if flags & !kind::flags_of(kind) != 0 {
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
            Self::Authenticate(shown) => encode(kind::AUTHENTICATE, |mut sink| shown.write(&mut sink)),
            Self::Open(open) => encode_with(kind::OPEN, open.flags(), |mut sink| open.write(&mut sink)),
            Self::Close(handle) => encode(kind::CLOSE, |mut sink| wire::put_varint(&mut sink, handle.0)),
            Self::Hold(handle) => encode(kind::HOLD, |mut sink| wire::put_varint(&mut sink, handle.0)),
            Self::Request(request) => encode_with(kind::REQUEST, request.flags(), |mut sink| request.write(&mut sink)),
            Self::Volatile(append) => encode(kind::VOLATILE_APPEND, |mut sink| append.write(&mut sink)),
            Self::Peer(frame) => frame.encode(),
        }
    }

    pub(crate) fn read(raw: &RawFrame) -> Result<Self, Violation> {
        if let Some(frame) = PeerFrame::read(raw)? {
            return Ok(Self::Peer(frame));
        }
        match raw.kind {
            kind::BYE => Reader::new(&raw.body).finish().map(|()| Self::Bye).map_err(Violation::from),
            kind::AUTHENTICATE => Ok(Self::Authenticate(Authenticate::read(Reader::new(&raw.body))?)),
            kind::OPEN => Ok(Self::Open(Open::read(raw)?)),
            kind::CLOSE => Ok(Self::Close(Handle(Reader::new(&raw.body).only_varint()?))),
            kind::HOLD => Ok(Self::Hold(Handle(Reader::new(&raw.body).only_varint()?))),
            kind::REQUEST => Ok(Self::Request(Request::read(raw)?)),
            kind::VOLATILE_APPEND => Ok(Self::Volatile(VolatileAppend::read(raw)?)),
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
            Self::Authenticated(answer) => encode(kind::AUTHENTICATED, |mut sink| answer.write(&mut sink)),
            Self::Warn(warn) => encode(kind::WARN, |mut sink| warn.write(&mut sink)),
            Self::Channel(frame) => frame.encode(),
            Self::Direct(direct) => encode(kind::DIRECT, |mut sink| direct.write(&mut sink)),
            Self::Peer(frame) => frame.encode(),
        }
    }

    pub(crate) fn read(raw: &RawFrame) -> Result<Self, Violation> {
        if let Some(frame) = PeerFrame::read(raw)? {
            return Ok(Self::Peer(frame));
        }
        if let Some(frame) = ChannelFrame::read(raw)? {
            return Ok(Self::Channel(frame));
        }
        let reader = Reader::new(&raw.body);
        Ok(match raw.kind {
            kind::WELCOME => Self::Welcome(Welcome::read(reader)?),
            kind::REJECT => Self::Reject(Reject::read(reader)?),
            kind::GOAWAY => Self::Goaway(Goaway::read(reader)?),
            kind::AUTHENTICATED => Self::Authenticated(Authenticated::read(reader)?),
            kind::WARN => Self::Warn(Warn::read(reader)?),
            kind::DIRECT => Self::Direct(Direct::read(raw)?),
            _ => return Err(Violation::UnknownFrame),
        })
    }
}

#[cfg(test)]
mod tests;

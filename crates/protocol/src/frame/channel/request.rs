//! What a client wants of a channel, whether it has it open or not, and what is said to one client alone.

use bytes::Bytes;

use super::{read_mark, read_position, write_mark, write_position};
use crate::{
    channel::{Entry, Kind, LogEpoch, MemberId, Position, ValueHash},
    error::Malformed,
    frame::{CallId, RawFrame, flag},
    limits::MAX_PAYLOAD,
    payload::{Name, Payload},
    time::UnixMillis,
    wire::{self, Reader, Sink},
};

/// What a client wants of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Adds an entry at the end. The answer is its position.
    Append,
    /// Hands something to one who is in the channel.
    Send(MemberId),
    /// Says something else for itself to the others.
    Present,
    /// The newest entries that are before a position, or the newest of all. The answer is a [`History`].
    History {
        /// Before which entry.
        before: Option<Position>,
        /// How many, at most.
        count: u64,
    },
    /// Keeps what the entries up to a position come to.
    Snapshot(Position),
    /// Keeps a value beside the log.
    Keep(ValueHash),
    /// A value that is kept beside the log. The answer is the value.
    Value(ValueHash),
}

impl RequestKind {
    fn number(&self) -> u8 {
        match self {
            Self::Append => 1,
            Self::Send(_) => 2,
            Self::Present => 3,
            Self::History { .. } => 4,
            Self::Snapshot(_) => 5,
            Self::Keep(_) => 6,
            Self::Value(_) => 7,
        }
    }

    fn write(&self, sink: &mut impl Sink) {
        match self {
            Self::Append | Self::Present => {}
            Self::Send(member) => sink.put(&member.0),
            Self::History { before, count } => {
                wire::put_varint(sink, *count);
                sink.put(&[u8::from(before.is_some())]);
                if let Some(before) = before {
                    write_position(sink, *before);
                }
            }
            Self::Snapshot(position) => write_position(sink, *position),
            Self::Keep(hash) | Self::Value(hash) => sink.put(&hash.0),
        }
    }

    fn read(number: u8, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match number {
            1 => Self::Append,
            2 => Self::Send(MemberId(reader.array()?)),
            3 => Self::Present,
            4 => {
                let count = reader.varint()?;
                let before = match reader.u8()? {
                    0 => None,
                    1 => Some(read_position(reader)?),
                    _ => return Err(Malformed::UnknownValue),
                };
                Self::History { before, count }
            }
            5 => Self::Snapshot(read_position(reader)?),
            6 => Self::Keep(ValueHash(reader.array()?)),
            7 => Self::Value(ValueHash(reader.array()?)),
            _ => return Err(Malformed::UnknownValue),
        })
    }
}

/// A client wants something of a channel. It settles like a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's number for it, one of its calls' numbers.
    pub id: CallId,
    /// What.
    pub what: RequestKind,
    /// Of which kind the channel is.
    pub kind: Kind,
    /// Which channel.
    pub name: Name,
    /// By which the operation is known again, in another session, too.
    pub key: Option<Name>,
    /// What it says.
    pub payload: Payload,
}

impl Request {
    pub(in crate::frame) fn flags(&self) -> u8 {
        if self.key.is_some() { flag::KEYED } else { 0 }
    }

    pub(in crate::frame) fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, self.id.0);
        sink.put(&[self.what.number(), self.kind as u8]);
        self.name.write(sink);
        if let Some(key) = &self.key {
            key.write(sink);
        }
        self.what.write(sink);
        self.payload.write(sink);
    }

    pub(in crate::frame) fn read(raw: &RawFrame) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&raw.body);
        let id = CallId(reader.varint()?);
        let [what, kind] = reader.array()?;
        let kind = Kind::from_number(kind.into()).ok_or(Malformed::UnknownValue)?;
        let name = Name::read(&raw.body, &mut reader)?;
        let key = if raw.flags & flag::KEYED != 0 { Some(Name::read(&raw.body, &mut reader)?) } else { None };
        let what = RequestKind::read(what, &mut reader)?;
        Ok(Self { id, what, kind, name, key, payload: Payload::read(&raw.body, &mut reader)? })
    }
}

/// A client says something to whoever is in a channel. It is kept nowhere, and may be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolatileAppend {
    /// Of which kind the channel is.
    pub kind: Kind,
    /// Which channel.
    pub name: Name,
    /// What it says.
    pub payload: Payload,
}

impl VolatileAppend {
    pub(in crate::frame) fn write(&self, sink: &mut impl Sink) {
        sink.put(&[self.kind as u8]);
        self.name.write(sink);
        self.payload.write(sink);
    }

    pub(in crate::frame) fn read(raw: &RawFrame) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&raw.body);
        Ok(Self {
            kind: Kind::from_number(reader.u8()?.into()).ok_or(Malformed::UnknownValue)?,
            name: Name::read(&raw.body, &mut reader)?,
            payload: Payload::read(&raw.body, &mut reader)?,
        })
    }
}

/// What somebody in a channel has for this client alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Of which kind the channel is.
    pub kind: Kind,
    /// Which channel.
    pub name: Name,
    /// When it was said.
    pub at: UnixMillis,
    /// Who said what, as [`Authored`](crate::channel::Authored).
    pub content: Bytes,
}

impl Direct {
    pub(in crate::frame) fn write(&self, sink: &mut impl Sink) {
        sink.put(&[self.kind as u8]);
        self.name.write(sink);
        wire::put_varint(sink, self.at.0);
        sink.put(&self.content);
    }

    pub(in crate::frame) fn read(raw: &RawFrame) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&raw.body);
        Ok(Self {
            kind: Kind::from_number(reader.u8()?.into()).ok_or(Malformed::UnknownValue)?,
            name: Name::read(&raw.body, &mut reader)?,
            at: UnixMillis(reader.varint()?),
            content: raw.body.slice_ref(reader.rest()),
        })
    }
}

/// Entries from the past of a channel: the answer to [`RequestKind::History`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Whether there are older ones.
    pub more: bool,
    /// Of which log.
    pub epoch: LogEpoch,
    /// The entries, ascending. What stood before each is not said.
    pub entries: Vec<(Position, UnixMillis, Bytes)>,
}

impl History {
    /// As a server answers.
    pub fn encode<'a>(more: bool, epoch: LogEpoch, entries: impl IntoIterator<Item = &'a Entry>) -> Bytes {
        let mut bytes = vec![u8::from(more)];
        bytes.put(&epoch.0);
        for entry in entries {
            write_mark(&mut bytes, entry.mark);
            wire::put_varint(&mut bytes, entry.at.0);
            wire::put_bytes(&mut bytes, &entry.content);
        }
        bytes.into()
    }

    /// As a client reads it. The contents share its memory.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let more = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed::UnknownValue),
        };
        let epoch = LogEpoch(reader.array()?);
        let mut entries = Vec::new();
        while !reader.is_empty() {
            let position = Position { epoch, mark: read_mark(&mut reader)? };
            let at = UnixMillis(reader.varint()?);
            entries.push((position, at, bytes.slice_ref(reader.bytes(MAX_PAYLOAD)?)));
        }
        Ok(Self { more, epoch, entries })
    }
}

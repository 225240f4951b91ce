//! What is said of channels: opening and closing them on a connection, and what is told of one.
//!
//! Implements `docs/PROTOCOL.md` § Channels. An entry's content is encoded once for everybody: only what stands before it
//! is made for each subscriber.

mod members;
mod request;

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) use self::members::*;
pub use self::request::*;
use super::{RawFrame, cut, flag, kind, read_code};
use crate::{
    channel::{Changes, Entry, Gap, Kind, LogEpoch, Mark, Offset, Opened, Position, Start, Tag},
    code::Code,
    error::{Malformed, Violation},
    limits::{MAX_CHANNEL_DATA, MAX_TEXT, PART},
    payload::{Name, Payload},
    time::UnixMillis,
    wire::{self, Length, Reader, Sink},
};

/// The client's number for one opening of a channel: from 1, ascending, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// A client wants to be told of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Its number for it.
    pub handle: Handle,
    /// Of which kind.
    pub kind: Kind,
    /// Which channel.
    pub name: Name,
    /// Whether its own entries are left out.
    pub quiet: bool,
    /// Whether it wants to know who is in the channel.
    pub members: bool,
    /// Up to where it has seen the channel.
    pub since: Option<Position>,
    /// How many of the newest entries it wants to begin with, where it cannot go on.
    pub history: u64,
    /// Up to where it wants what it has written itself, too: it began with nothing, and has not seen it yet.
    pub past: Offset,
    /// What it says for itself to the others in the channel: with it, it is a member.
    pub data: Option<Payload>,
    /// This takes the place of the one that is open under that handle. Who is a member by both stays one.
    pub instead: Option<Handle>,
}

const SINCE: u64 = 1;
const HISTORY: u64 = 2;
const DATA: u64 = 3;
const PAST: u64 = 4;
const INSTEAD: u64 = 5;

impl Open {
    pub(super) fn flags(&self) -> u8 {
        (if self.quiet { flag::QUIET } else { 0 }) | (if self.members { flag::MEMBERS } else { 0 })
    }

    pub(super) fn write(&self, sink: &mut impl Sink) {
        wire::put_varint(sink, self.handle.0);
        sink.put(&[self.kind as u8]);
        self.name.write(sink);
        if let Some(since) = self.since {
            let mut position = Vec::with_capacity(26);
            write_position(&mut position, since);
            wire::put_field(sink, SINCE, &position);
        }
        if self.history > 0 {
            wire::put_varint_field(sink, HISTORY, self.history);
        }
        super::admission::put_payload(sink, DATA, self.data.as_ref());
        if self.past > Offset(0) {
            wire::put_varint_field(sink, PAST, self.past.0);
        }
        if let Some(instead) = self.instead {
            wire::put_varint_field(sink, INSTEAD, instead.0);
        }
    }

    pub(super) fn read(raw: &RawFrame) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&raw.body);
        let mut open = Self {
            handle: Handle(reader.varint()?),
            kind: Kind::from_number(reader.u8()?.into()).ok_or(Malformed::UnknownValue)?,
            name: Name::read(&raw.body, &mut reader)?,
            quiet: raw.flags & flag::QUIET != 0,
            members: raw.flags & flag::MEMBERS != 0,
            since: None,
            history: 0,
            past: Offset(0),
            data: None,
            instead: None,
        };
        let mut last = None;
        while let Some((tag, mut value)) = reader.field(&mut last)? {
            match tag {
                SINCE => {
                    open.since = Some(read_position(&mut value)?);
                    value.finish()?;
                }
                HISTORY => open.history = value.only_varint()?,
                PAST => open.past = Offset(value.only_varint()?),
                INSTEAD => open.instead = Some(Handle(value.only_varint()?)),
                DATA => {
                    let data = super::admission::read_payload(value)?;
                    if data.bytes.len() > MAX_CHANNEL_DATA {
                        return Err(Malformed::TooLong);
                    }
                    open.data = Some(data);
                }
                _ => {}
            }
        }
        Ok(open)
    }
}

fn write_position(sink: &mut impl Sink, Position { epoch, mark }: Position) {
    sink.put(&epoch.0);
    write_mark(sink, mark);
}

fn read_position(reader: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position { epoch: LogEpoch(reader.array()?), mark: read_mark(reader)? })
}

fn write_mark(sink: &mut impl Sink, Mark { offset, tag }: Mark) {
    wire::put_varint(sink, offset.0);
    sink.put(&tag.0);
}

fn read_mark(reader: &mut Reader<'_>) -> Result<Mark, Malformed> {
    Ok(Mark { offset: Offset(reader.varint()?), tag: Tag(reader.array()?) })
}

impl Position {
    /// Its bytes, as a write is answered with them.
    pub fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(26);
        write_position(&mut bytes, self);
        bytes.into()
    }

    /// The position of these bytes; `None` when they are not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let position = read_position(&mut reader).ok()?;
        reader.finish().ok().map(|()| position)
    }
}

/// What a server tells of a channel that a client has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelFrame {
    /// From here it goes on.
    Opened(Handle, Opened),
    /// Everything up to where it goes on from.
    Snapshot(Handle, UnixMillis, Bytes),
    /// An entry.
    Update(Handle, Entry),
    /// There were entries that are not for this client, up to this one.
    Advance(Handle, Mark),
    /// Something that was said to whoever was there, and is kept nowhere.
    Volatile(Handle, UnixMillis, Bytes),
    /// What changed of who is in it. Its revision stays with the server.
    Members(Handle, Changes),
    /// It does not go on.
    Closed(Handle, Code, String),
}

/// Fields of Opened.
const TAG: u64 = 1;
const WITH_SNAPSHOT: u64 = 2;

fn start_number(start: Start) -> u8 {
    match start {
        Start::New => 0,
        Start::Recovered => 1,
        Start::Gap(Gap::Recreated) => 2,
        Start::Gap(Gap::Diverged) => 3,
        Start::Gap(Gap::Trimmed) => 4,
    }
}

fn start_of(number: u8) -> Result<Start, Malformed> {
    Ok(match number {
        0 => Start::New,
        1 => Start::Recovered,
        2 => Start::Gap(Gap::Recreated),
        3 => Start::Gap(Gap::Diverged),
        4 => Start::Gap(Gap::Trimmed),
        _ => return Err(Malformed::UnknownValue),
    })
}

impl ChannelFrame {
    /// The whole frame, in one piece.
    pub(crate) fn encode(&self) -> Bytes {
        let whole = |kind, head: Vec<u8>, content: &Bytes| {
            super::encode(kind, |mut sink| {
                sink.put(&head);
                sink.put(content);
            })
        };
        match self {
            Self::Opened(handle, told) => opened(*handle, told),
            Self::Snapshot(handle, at, content) => whole(kind::SNAPSHOT, snapshot_head(*handle, *at), content),
            Self::Update(handle, entry) => whole(kind::UPDATE, update_head(*handle, entry), &entry.content),
            Self::Advance(handle, mark) => advance(*handle, *mark),
            Self::Volatile(handle, at, content) => whole(kind::VOLATILE_UPDATE, snapshot_head(*handle, *at), content),
            Self::Members(handle, changes) => members(*handle, changes),
            Self::Closed(handle, code, message) => closed(*handle, *code, message),
        }
    }

    /// Reads a whole frame; `None` when it is none of a channel's.
    pub(crate) fn read(RawFrame { kind, flags, body }: &RawFrame) -> Result<Option<Self>, Malformed> {
        let mut reader = Reader::new(body);
        Ok(Some(match *kind {
            kind::OPENED => {
                let handle = Handle(reader.varint()?);
                let mut opened = Opened {
                    start: start_of(reader.u8()?)?,
                    epoch: LogEpoch(reader.array()?),
                    from: Offset(reader.varint()?),
                    head: Offset(reader.varint()?),
                    tag: None,
                    snapshot: false,
                };
                let mut last = None;
                while let Some((tag, value)) = reader.field(&mut last)? {
                    match tag {
                        TAG => opened.tag = Some(Tag(value.only_array()?)),
                        WITH_SNAPSHOT => {
                            value.finish()?;
                            opened.snapshot = true;
                        }
                        _ => {}
                    }
                }
                Self::Opened(handle, opened)
            }
            kind::SNAPSHOT => {
                let (handle, at) = (Handle(reader.varint()?), UnixMillis(reader.varint()?));
                Self::Snapshot(handle, at, body.slice_ref(reader.rest()))
            }
            kind::UPDATE => {
                let handle = Handle(reader.varint()?);
                let mark = read_mark(&mut reader)?;
                // 0 would be an entry after itself, and more than the offset one before the beginning.
                let prev = match mark.offset.0.checked_sub(reader.varint()?) {
                    Some(prev) if prev < mark.offset.0 => Offset(prev),
                    _ => return Err(Malformed::UnknownValue),
                };
                let at = UnixMillis(reader.varint()?);
                Self::Update(handle, Entry { prev, mark, at, content: body.slice_ref(reader.rest()) })
            }
            kind::ADVANCE => {
                let frame = Self::Advance(Handle(reader.varint()?), read_mark(&mut reader)?);
                reader.finish()?;
                frame
            }
            kind::VOLATILE_UPDATE => {
                let (handle, at) = (Handle(reader.varint()?), UnixMillis(reader.varint()?));
                Self::Volatile(handle, at, body.slice_ref(reader.rest()))
            }
            kind::MEMBERS => Self::Members(Handle(reader.varint()?), read_members(*flags, body, reader)?),
            kind::CLOSED => {
                let (handle, code) = (Handle(reader.varint()?), read_code(&mut reader)?);
                let message = reader.str(MAX_TEXT)?.to_owned();
                reader.finish()?;
                Self::Closed(handle, code, message)
            }
            _ => return Ok(None),
        }))
    }
}

/// One frame, or one part of one: what was made for this subscriber, and the bytes that many share.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) head: Bytes,
    pub(crate) content: Bytes,
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.content.len()
    }

    pub(crate) fn put(&self, record: &mut BytesMut) {
        record.put_slice(&self.head);
        record.put_slice(&self.content);
    }
}

/// A frame of a channel as it goes out in one piece.
pub(crate) fn whole(kind: u8, head: &[u8], content: Bytes) -> Piece {
    let mut bytes = Vec::with_capacity(5 + head.len());
    bytes.extend_from_slice(&[kind, 0]);
    wire::put_varint(&mut bytes, (head.len() + content.len()) as u64);
    bytes.extend_from_slice(head);
    Piece { head: bytes.into(), content }
}

/// A frame of a channel as it goes out: whole where it fits a part, else in parts.
pub(crate) fn pieces(kind: u8, head: &[u8], content: &Bytes) -> impl Iterator<Item = Piece> + use<> {
    let total = head.len() + content.len();
    let large = content.len() > PART;
    let (head, content) = (head.to_vec(), content.clone());
    let mut from = 0;
    std::iter::from_fn(move || {
        if from > 0 && from == content.len() || from == usize::MAX {
            return None;
        }
        let part = content.slice(from..content.len().min(from + PART));
        let mut inner = Vec::with_capacity(head.len() + 12);
        if from == 0 {
            if large {
                inner.push(kind);
                wire::put_varint(&mut inner, total as u64);
            }
            inner.extend_from_slice(&head);
        }
        let outer = match (large, from) {
            (false, _) => kind,
            (true, 0) => kind::CHANNEL_FIRST,
            (true, _) => kind::CHANNEL_MORE,
        };
        from = if part.is_empty() { usize::MAX } else { from + part.len() };
        let mut length = Length::default();
        wire::put_varint(&mut length, (inner.len() + part.len()) as u64);
        let mut bytes = Vec::with_capacity(2 + length.0 + inner.len());
        bytes.extend_from_slice(&[outer, 0]);
        wire::put_varint(&mut bytes, (inner.len() + part.len()) as u64);
        bytes.extend_from_slice(&inner);
        Some(Piece { head: bytes.into(), content: part })
    })
}

/// What stands before the content of an Update.
pub(crate) fn update_head(handle: Handle, entry: &Entry) -> Vec<u8> {
    let mut head = Vec::with_capacity(32);
    wire::put_varint(&mut head, handle.0);
    write_mark(&mut head, entry.mark);
    wire::put_varint(&mut head, entry.mark.offset.0 - entry.prev.0);
    wire::put_varint(&mut head, entry.at.0);
    head
}

/// What stands before the content of a Snapshot, and of what is volatile.
pub(crate) fn snapshot_head(handle: Handle, at: UnixMillis) -> Vec<u8> {
    let mut head = Vec::with_capacity(16);
    wire::put_varint(&mut head, handle.0);
    wire::put_varint(&mut head, at.0);
    head
}

pub(crate) fn opened(handle: Handle, opened: &Opened) -> Bytes {
    super::encode(kind::OPENED, |mut sink| {
        wire::put_varint(&mut sink, handle.0);
        sink.put(&[start_number(opened.start)]);
        sink.put(&opened.epoch.0);
        wire::put_varint(&mut sink, opened.from.0);
        wire::put_varint(&mut sink, opened.head.0);
        if let Some(tag) = &opened.tag {
            wire::put_field(&mut sink, TAG, &tag.0);
        }
        if opened.snapshot {
            wire::put_field(&mut sink, WITH_SNAPSHOT, &[]);
        }
    })
}

pub(crate) fn advance(handle: Handle, mark: Mark) -> Bytes {
    super::encode(kind::ADVANCE, |mut sink| {
        wire::put_varint(&mut sink, handle.0);
        write_mark(&mut sink, mark);
    })
}

pub(crate) fn closed(handle: Handle, code: Code, message: &str) -> Bytes {
    super::encode(kind::CLOSED, |mut sink| {
        wire::put_varint(&mut sink, handle.0);
        wire::put_varint(&mut sink, u64::from(code.0));
        wire::put_bytes(&mut sink, cut(message, MAX_TEXT).as_bytes());
    })
}

/// Puts the parts of a channel's frame together. They belong to their connection, and there is one such frame at a time.
#[derive(Debug, Default)]
pub(crate) struct Assembly(Option<Partial>);

#[derive(Debug)]
struct Partial {
    kind: u8,
    total: usize,
    /// Grows with what comes, never with what is announced.
    body: BytesMut,
}

impl Assembly {
    #[cfg(feature = "testing")]
    pub(crate) fn is_partial(&self) -> bool {
        self.0.is_some()
    }

    /// Takes a frame as it came. Gives the one to handle: itself, or the one of which it is the last part. What is put
    /// together is at most `most` bytes.
    pub(crate) fn take(&mut self, frame: RawFrame, most: usize) -> Result<Option<RawFrame>, Violation> {
        let bytes = match (frame.kind, &self.0) {
            (kind::CHANNEL_FIRST, None) => {
                let mut reader = Reader::new(&frame.body);
                let kind = reader.u8()?;
                if !matches!(kind, kind::UPDATE | kind::SNAPSHOT) {
                    return Err(Violation::UnknownFrame);
                }
                let total = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
                if total > most {
                    return Err(Violation::PayloadTooLarge);
                }
                self.0 = Some(Partial { kind, total, body: BytesMut::new() });
                reader.rest()
            }
            (kind::CHANNEL_MORE, Some(_)) => &frame.body[..],
            (kind::CHANNEL_FIRST | kind::CHANNEL_MORE, _) => return Err(Violation::UnexpectedFrame),
            _ => return Ok(Some(frame)),
        };
        let Some(partial) = &mut self.0 else { return Ok(None) };
        if bytes.is_empty() || bytes.len() > partial.total - partial.body.len() {
            return Err(Malformed::TooLong.into());
        }
        partial.body.put_slice(bytes);
        let whole = self.0.take_if(|partial| partial.body.len() == partial.total);
        Ok(whole.map(|Partial { kind, body, .. }| RawFrame { kind, flags: 0, body: body.freeze() }))
    }
}

#[cfg(test)]
mod tests;

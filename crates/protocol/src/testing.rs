//! What the simulation needs and no program has: feature `testing`, which no shipped crate switches on.
//!
//! [`Suite::Traced`](crate::record::Suite::Traced) stands in the place of a cipher. Its records are as long as sealed
//! ones, but in clear, and in the place of the tag each carries the name of its key and its nonce, so that the one who
//! watches the wire can prove that no pair of the two comes twice. It rekeys as the others do.

use bytes::Bytes;

use crate::{
    error::Malformed,
    frame::{self, RawFrame, flag, kind},
    limits::{MAX_PLAINTEXT, TAG},
    payload::Name,
    wire::Reader,
};

/// A key of the suite that protects nothing.
pub(crate) struct Traced {
    key: [u8; 32],
    id: u64,
}

impl Traced {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        // FNV-1a: enough to tell keys apart.
        let id = key
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |id: u64, byte| (id ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
        Self { key: *key, id }
    }

    /// Leaves the plaintext as it is. Under the nonce that is kept for rekeying it gives the next key instead.
    pub(crate) fn encrypt(&self, nonce: [u8; 12], buffer: &mut [u8]) -> [u8; TAG] {
        if nonce[4..] == [0xff; 8] {
            buffer.copy_from_slice(&self.key);
            if let Some(count) = buffer.last_chunk_mut::<8>() {
                *count = u64::from_be_bytes(*count).wrapping_add(1).to_be_bytes();
            }
        }
        self.tag(nonce)
    }

    pub(crate) fn tag(&self, nonce: [u8; 12]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag[..8].copy_from_slice(&self.id.to_be_bytes());
        tag[8..].copy_from_slice(&nonce[4..]);
        tag
    }
}

/// The name of the key and the nonce of a traced record; `None` for a record of the handshake.
pub fn trace(record: &[u8]) -> Option<(u64, u64)> {
    if record.first() != Some(&crate::record::kind::SEALED) {
        return None;
    }
    let (rest, nonce) = record.split_last_chunk::<8>()?;
    let (_, key) = rest.split_last_chunk::<8>()?;
    Some((u64::from_be_bytes(*key), u64::from_be_bytes(*nonce)))
}

/// Whether it is the record in which a client says who it is, and which session it wants.
pub fn names_session(record: &[u8]) -> bool {
    matches!(record.first(), Some(&(crate::record::kind::CLIENT_FINISH | crate::record::kind::PLAIN_HELLO)))
}

/// A frame as somebody who can read the wire sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A numbered frame that begins a message.
    Reliable {
        /// The name in it, where it is a call or notification.
        name: Option<Name>,
        /// Whether it is the first part of several.
        first_part: bool,
    },
    /// A numbered frame that goes on with a message that is in parts.
    Part,
    /// A message that may be dropped.
    Volatile {
        /// Its name.
        name: Name,
        /// Bytes of its frame.
        len: usize,
    },
    /// The number of the next numbered frame.
    Seq(u64),
    /// What has been handed on.
    Ack(u64),
    /// Welcome.
    Welcome,
    /// Any other, by its number.
    Other(u8),
}

/// The frames of a record that is not sealed, in their order; empty for records of the handshake.
pub fn frames(record: &Bytes, traced: bool) -> Vec<Seen> {
    let end = if traced { record.len().saturating_sub(TAG) } else { record.len() };
    let is_data = matches!(record.first(), Some(&(crate::record::kind::SEALED | crate::record::kind::PLAIN)));
    if !is_data || end <= 1 || end > MAX_PLAINTEXT + 1 {
        return Vec::new();
    }
    let mut plaintext = record.slice(1..end);
    let mut seen = Vec::new();
    while let Ok(Some(raw)) = frame::next_frame(&mut plaintext) {
        seen.push(see(&raw).unwrap_or(Seen::Other(raw.kind)));
    }
    seen
}

fn see(raw: &RawFrame) -> Result<Seen, Malformed> {
    let mut reader = Reader::new(&raw.body);
    let head = match raw.body.len() {
        0..0x80 => 3,
        0x80..0x4000 => 4,
        _ => 5,
    };
    Ok(match raw.kind {
        kind::SEQ => Seen::Seq(reader.varint()?),
        kind::ACK => Seen::Ack(reader.varint()?),
        kind::VOLATILE => Seen::Volatile { name: Name::read(&raw.body, &mut reader)?, len: head + raw.body.len() },
        kind::WELCOME => Seen::Welcome,
        kind::MORE => Seen::Part,
        kind::FIRST => {
            let [whole, _] = reader.array::<2>()?;
            reader.varint()?;
            Seen::Reliable { name: name(whole, &raw.body, &mut reader)?, first_part: true }
        }
        other if raw.is_reliable() => {
            debug_assert!(raw.flags & !(flag::ASK | flag::KEYED | flag::STREAM) == 0);
            Seen::Reliable { name: name(other, &raw.body, &mut reader)?, first_part: false }
        }
        other => Seen::Other(other),
    })
}

fn name(whole: u8, body: &Bytes, reader: &mut Reader<'_>) -> Result<Option<Name>, Malformed> {
    match whole {
        kind::CALL => {
            reader.varint()?;
            Name::read(body, reader).map(Some)
        }
        kind::NOTIFY => Name::read(body, reader).map(Some),
        _ => Ok(None),
    }
}

/// How full the queues of a session are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Bytes that are kept until the other side confirms them.
    pub kept_bytes: usize,
    /// Frames of them, as the cap counts them.
    pub kept_frames: usize,
    /// The protocol's own frames that wait for a record.
    pub control_frames: usize,
    /// Volatile messages that wait for a record.
    pub volatile_frames: usize,
    /// Bytes of them.
    pub volatile_bytes: usize,
    /// Length of the frame that the next record begins with, where that is not a part of a large message.
    pub next_frame: Option<usize>,
    /// Whether anything waits for a record.
    pub has_output: bool,
    /// Whether a large message of the other side has come in part.
    pub partial: bool,
    /// Bytes of that.
    pub partial_bytes: usize,
    /// Calls of this side that have not settled.
    pub asked: usize,
    /// Calls of the other side that are not answered.
    pub serving: usize,
    /// Whether a large entry or snapshot of a channel has come in part.
    pub channel_partial: bool,
    /// What is told of channels and waits for a record, in bytes.
    pub update_bytes: usize,
    /// What waits in the fullest of the channels that are open, entries and bytes.
    pub channel_waiting: (usize, usize),
}

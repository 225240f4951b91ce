//! What the applications of a world say to each other: numbered, and checkable to the last byte.

use std::fmt;

use bytes::Bytes;
use moorline_protocol::payload::{Name, Payload};

use crate::{
    broken::{Broken, hold},
    script::CallPlan,
};

/// Which sequence of messages one belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A client's calls and notifications.
    Up,
    /// A server's calls and notifications in one session.
    Down,
    /// Those to every client.
    Broadcast,
    /// Volatile ones of either.
    Volatile,
    /// Volatile ones to every client.
    VolatileBroadcast,
}

const LANES: [(Lane, &str); 5] =
    [(Lane::Up, "u"), (Lane::Down, "d"), (Lane::Broadcast, "b"), (Lane::Volatile, "v"), (Lane::VolatileBroadcast, "w")];

/// The one name of a message in its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) lane: Lane,
    /// Which client, or which session.
    pub(crate) owner: u64,
    pub(crate) number: u64,
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lane = LANES.iter().find(|(lane, _)| *lane == self.lane).map_or("", |(_, text)| text);
        write!(formatter, "{lane}{}.{}", self.owner, self.number)
    }
}

impl Label {
    pub(crate) fn name(self) -> Name {
        Name::new(&self.to_string()).expect("a label is a name")
    }

    pub(crate) fn read(name: &Name) -> Option<Self> {
        let text = name.as_str();
        let (lane, rest) = text.split_at_checked(1)?;
        let (owner, number) = rest.split_once('.')?;
        let lane = LANES.iter().find(|(_, text)| *text == lane).map(|(lane, _)| *lane)?;
        Some(Self { lane, owner: owner.parse().ok()?, number: number.parse().ok()? })
    }
}

/// What stands at the beginning of every payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) work: u32,
    pub(crate) reply: u32,
    pub(crate) items: u32,
    pub(crate) index: u32,
    pub(crate) fails: bool,
    pub(crate) stubborn: bool,
}

const HEAD: usize = 32;

impl Head {
    pub(crate) fn of(number: u64, plan: &CallPlan) -> Self {
        Self {
            number,
            work: plan.work as u32,
            reply: plan.reply as u32,
            items: plan.stream.map_or(0, |(items, _)| items),
            index: 0,
            fails: plan.fails,
            stubborn: plan.stubborn,
        }
    }

    /// A payload of about this size.
    pub(crate) fn payload(self, size: usize) -> Payload {
        let size = size.max(HEAD);
        let mut bytes = Vec::with_capacity(size + 8);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        for word in [size as u32, self.work, self.reply, self.items, self.index] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&[u8::from(self.fails), u8::from(self.stubborn), 0, 0]);
        let mut word = self.number;
        while bytes.len() < size {
            word = next(word);
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(size);
        Payload::bytes(Bytes::from(bytes))
    }

    /// Reads the head of a content, whatever follows.
    pub(crate) fn peek(content: &[u8]) -> Option<Self> {
        let number = u64::from_le_bytes(*content.first_chunk()?);
        let work = u32::from_le_bytes(*content.get(12..)?.first_chunk()?);
        Some(Self { number, work, ..Self::default() })
    }

    /// Reads a payload and looks at every byte of it.
    pub(crate) fn read(payload: &Payload) -> Result<Self, Broken> {
        let bytes = &payload.bytes;
        hold!(bytes.len() >= HEAD, "S1", "a payload of {} bytes has no head", bytes.len());
        let word =
            |place: usize| u32::from_le_bytes([bytes[place], bytes[place + 1], bytes[place + 2], bytes[place + 3]]);
        let number = u64::from(word(0)) | u64::from(word(4)) << 32;
        hold!(word(8) as usize == bytes.len(), "S1", "message {number} has {} of {} bytes", bytes.len(), word(8));
        let mut expected = number;
        for chunk in bytes[HEAD..].chunks(8) {
            expected = next(expected);
            hold!(*chunk == expected.to_le_bytes()[..chunk.len()], "S1", "message {number} is damaged");
        }
        Ok(Self {
            number,
            work: word(12),
            reply: word(16),
            items: word(20),
            index: word(24),
            fails: bytes[28] != 0,
            stubborn: bytes[29] != 0,
        })
    }
}

fn next(word: u64) -> u64 {
    word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f)
}

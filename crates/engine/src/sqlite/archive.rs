//! One channel outside of a file of channels: its pieces one after the other, and a checksum.
//!
//! Implements `docs/PROTOCOL.md` § Exports. It owns the form, and that what is read fits together; it never believes a
//! length before the bytes are there.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::{fmt, io};

use bytes::Bytes;
use moorline_protocol::{
    channel::{Bounds, ChannelId, Mark, Offset, ValueHash},
    time::UnixMillis,
};

pub use self::reader::Archive;
pub(super) use self::writer::ArchiveWriter;
use super::judge::Fault;
use crate::{OpId, Retention};

/// How every export begins.
const MAGIC: &[u8; 16] = b"moorline export\n";

/// The version that is written, and the newest that is read.
const VERSION: u32 = 1;

/// More than SQLite keeps in one row: what says it is longer is damaged.
const MAX_PIECE: u64 = 1 << 30;

/// What the channel is, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveHeader {
    /// Which channel it was.
    pub channel: ChannelId,
    /// When it was exported.
    pub at: UnixMillis,
    /// Where its log began and ended.
    pub bounds: Bounds,
    /// How much of it is kept.
    pub kept: Retention,
    /// Snapshots in here.
    pub snapshots: u64,
    /// Entries in here.
    pub entries: u64,
    /// Operations in here, which are known again when they come a second time.
    pub operations: u64,
    /// Values in here.
    pub values: u64,
    /// Bytes of content in all of them.
    pub bytes: u64,
}

/// Why a file is no export, or no whole one.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It cannot be read.
    Read(io::Error),
    /// It does not begin as one.
    NotAnExport,
    /// A later version of this program made it.
    Newer {
        /// Its version.
        found: u32,
        /// The newest that this program reads.
        known: u32,
    },
    /// It ends too early.
    CutOff,
    /// A part of it is none, or stands where it cannot.
    Malformed,
    /// There is more behind its end.
    Trailing,
    /// It is not what was written.
    Checksum,
    /// Its parts do not fit together.
    Fault(Fault),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(formatter, "it cannot be read: {error}"),
            Self::NotAnExport => formatter.write_str("it is no export; `moorline store export` makes one"),
            Self::Newer { found, known } => write!(
                formatter,
                "it is an export of version {found}, and this program reads {known} at most: use a newer program"
            ),
            Self::CutOff => formatter.write_str("it is cut off before its end: take another copy, or export again"),
            Self::Malformed | Self::Checksum => {
                formatter.write_str("it is damaged, its checksum is another: take another copy, or export again")
            }
            Self::Trailing => {
                formatter.write_str("something stands behind its end: take another copy, or export again")
            }
            Self::Fault(fault) => {
                write!(formatter, "it is damaged ({fault}): take another copy, or look at the original with verify")
            }
        }
    }
}

impl std::error::Error for ArchiveError {}

impl From<Fault> for ArchiveError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A part of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Snapshot { covers: Mark, at: UnixMillis, content: Bytes },
    Entry { prev: Offset, mark: Mark, at: UnixMillis, content: Bytes },
    Operation { op: OpId, mark: Mark, at: UnixMillis },
    Value { hash: ValueHash, content: Bytes },
}

/// The numbers of the pieces, in the order in which they come.
mod piece {
    pub(super) const CHANNEL: u8 = 1;
    pub(super) const SNAPSHOT: u8 = 2;
    pub(super) const ENTRY: u8 = 3;
    pub(super) const OPERATION: u8 = 4;
    pub(super) const VALUE: u8 = 5;
    pub(super) const END: u8 = 9;
}

//! An export that is written, a piece at a time.

use std::io::{self, Write};

use moorline_protocol::{
    channel::{Mark, Offset, ValueHash},
    time::UnixMillis,
};
use sha2::{Digest, Sha256};

use super::{ArchiveHeader, MAGIC, VERSION, piece};
use crate::OpId;

/// Writes an export.
pub(in super::super) struct ArchiveWriter<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> ArchiveWriter<W> {
    pub(in super::super) fn begin(out: W, header: &ArchiveHeader) -> io::Result<Self> {
        let mut writer = Self { out, hash: Sha256::new() };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_be_bytes())?;
        let ArchiveHeader { channel, at, bounds, kept, snapshots, entries, operations, values, bytes } = header;
        let mut body = vec![channel.kind as u8];
        for text in [channel.tenant.as_str(), channel.name.as_str()] {
            // Neither is so long.
            body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            body.extend(text.as_bytes());
        }
        body.extend(at.0.to_be_bytes());
        body.extend(bounds.epoch.0);
        body.extend(mark_bytes(bounds.trimmed));
        body.extend(mark_bytes(bounds.head));
        let age = u64::try_from(kept.age.as_millis()).unwrap_or(u64::MAX);
        for number in [kept.entries, kept.bytes, age, *snapshots, *entries, *operations, *values, *bytes] {
            body.extend(number.to_be_bytes());
        }
        writer.piece(piece::CHANNEL, &body, b"")?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes)
    }

    fn piece(&mut self, number: u8, head: &[u8], content: &[u8]) -> io::Result<()> {
        self.put(&[number])?;
        self.put(&((head.len() + content.len()) as u64).to_be_bytes())?;
        self.put(head)?;
        self.put(content)
    }

    pub(in super::super) fn snapshot(&mut self, covers: Mark, at: UnixMillis, content: &[u8]) -> io::Result<()> {
        self.piece(piece::SNAPSHOT, &[&mark_bytes(covers)[..], &at.0.to_be_bytes()].concat(), content)
    }

    pub(in super::super) fn entry(
        &mut self,
        prev: Offset,
        mark: Mark,
        at: UnixMillis,
        content: &[u8],
    ) -> io::Result<()> {
        let head = [&prev.0.to_be_bytes()[..], &mark_bytes(mark), &at.0.to_be_bytes()].concat();
        self.piece(piece::ENTRY, &head, content)
    }

    pub(in super::super) fn operation(&mut self, op: OpId, mark: Mark, at: UnixMillis) -> io::Result<()> {
        self.piece(piece::OPERATION, &[&op.0[..], &mark_bytes(mark), &at.0.to_be_bytes()].concat(), b"")
    }

    pub(in super::super) fn value(&mut self, hash: ValueHash, content: &[u8]) -> io::Result<()> {
        self.piece(piece::VALUE, &hash.0, content)
    }

    pub(in super::super) fn end(mut self) -> io::Result<()> {
        let hash: [u8; 32] = self.hash.finalize().into();
        self.out.write_all(&[piece::END])?;
        self.out.write_all(&(hash.len() as u64).to_be_bytes())?;
        self.out.write_all(&hash)?;
        self.out.flush()
    }
}

fn mark_bytes(mark: Mark) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&mark.offset.0.to_be_bytes());
    bytes[8..].copy_from_slice(&mark.tag.0);
    bytes
}

//! An export that is read, a piece at a time. It never believes a length before the bytes are there.

use std::{
    fmt,
    io::{self, Read},
    time::Duration,
};

use bytes::Bytes;
use moorline_protocol::{
    channel::{Bounds, ChannelId, Kind, LogEpoch, Mark, Offset, Tag, ValueHash},
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};
use sha2::{Digest, Sha256};

use super::{
    super::judge::{Fault, Judge, first_fault, judge_value},
    ArchiveError, ArchiveHeader, MAGIC, MAX_PIECE, Piece, VERSION, piece,
};
use crate::{OpId, Retention};

/// An export that is read, a piece at a time. What it says counts when [`Self::check`] or reading to its end found no
/// fault, and not before.
pub struct Archive<R> {
    source: R,
    hash: Sha256,
    header: ArchiveHeader,
    judge: Judge,
    /// The number of the last piece, and how many there were of each.
    last: u8,
    counts: [u64; 6],
    /// The last operation and the last value: both ascend.
    operation: Option<OpId>,
    value: Option<ValueHash>,
    bytes: u64,
}

impl<R> fmt::Debug for Archive<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Archive").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<R: Read> Archive<R> {
    /// Reads its beginning.
    ///
    /// # Errors
    /// When it is no export.
    pub fn open(mut source: R) -> Result<Self, ArchiveError> {
        let mut begin = [0; 20];
        let read = read_up_to(&mut source, &mut begin)?;
        if read < MAGIC.len() || begin[..16] != *MAGIC {
            return Err(if read > 0 && MAGIC.starts_with(&begin[..read]) {
                ArchiveError::CutOff
            } else {
                ArchiveError::NotAnExport
            });
        }
        let [.., a, b, c, d] = begin;
        match u32::from_be_bytes([a, b, c, d]) {
            _ if read < begin.len() => return Err(ArchiveError::CutOff),
            0 => return Err(ArchiveError::Malformed),
            VERSION => {}
            found => return Err(ArchiveError::Newer { found, known: VERSION }),
        }
        let mut hash = Sha256::new_with_prefix(begin);
        let (number, body) = read_piece(&mut source, &mut hash)?;
        if number != piece::CHANNEL {
            return Err(ArchiveError::Malformed);
        }
        let header = header(&mut Parts(&body))?;
        let judge = Judge::new(header.channel.kind, header.bounds);
        Ok(Self { source, hash, header, judge, last: number, counts: [0; 6], operation: None, value: None, bytes: 0 })
    }

    /// What the channel is, and what follows.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// Reads it to its end, and tells `progress` the bytes of content so far.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(mut self, progress: &mut dyn FnMut(u64)) -> Result<ArchiveHeader, ArchiveError> {
        while self.next()?.is_some() {
            progress(self.bytes);
        }
        Ok(self.header)
    }

    /// Bytes of content that were read.
    pub(in super::super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece; `None` at the end, where everything is known to be as it was written.
    pub(in super::super) fn next(&mut self) -> Result<Option<Piece>, ArchiveError> {
        if self.last == piece::END {
            return Ok(None);
        }
        let before = self.hash.clone();
        let (number, body) = read_piece(&mut self.source, &mut self.hash)?;
        if number < self.last || number == piece::CHANNEL {
            return Err(ArchiveError::Malformed);
        }
        self.last = number;
        if let Some(count) = self.counts.get_mut(usize::from(number)) {
            *count += 1;
        }
        let mut parts = Parts(&body);
        let piece = match number {
            piece::SNAPSHOT => {
                let (covers, at) = (parts.mark()?, UnixMillis(parts.number()?));
                self.fit(|judge, tell| judge.snapshot(covers, tell))?;
                Piece::Snapshot { covers, at, content: parts.rest(&body) }
            }
            piece::ENTRY => {
                let (prev, mark, at) = (Offset(parts.number()?), parts.mark()?, UnixMillis(parts.number()?));
                let content = parts.rest(&body);
                self.fit(|judge, tell| judge.entry(prev, mark, content.len() as u64, tell))?;
                Piece::Entry { prev, mark, at, content }
            }
            piece::OPERATION => {
                let (op, mark, at) = (OpId(parts.array()?), parts.mark()?, UnixMillis(parts.number()?));
                parts.finish()?;
                if self.operation.replace(op) >= Some(op) {
                    return Err(ArchiveError::Malformed);
                }
                if mark.offset > self.header.bounds.head.offset {
                    return Err(Fault::Operation(mark.offset).into());
                }
                Piece::Operation { op, mark, at }
            }
            piece::VALUE => {
                let (hash, content) = (ValueHash(parts.array()?), parts.rest(&body));
                if self.value.replace(hash) >= Some(hash) {
                    return Err(ArchiveError::Malformed);
                }
                judge_value(hash, &content)?;
                Piece::Value { hash, content }
            }
            piece::END => {
                self.end(before, &body)?;
                return Ok(None);
            }
            _ => return Err(ArchiveError::Malformed),
        };
        self.bytes += match &piece {
            Piece::Snapshot { content, .. } | Piece::Entry { content, .. } | Piece::Value { content, .. } => {
                content.len() as u64
            }
            Piece::Operation { .. } => 0,
        };
        Ok(Some(piece))
    }

    fn fit(&mut self, judge: impl FnOnce(&mut Judge, &mut dyn FnMut(Fault))) -> Result<(), Fault> {
        first_fault(|tell| judge(&mut self.judge, tell))
    }

    fn end(&mut self, hash: Sha256, written: &[u8]) -> Result<(), ArchiveError> {
        if written != &hash.finalize()[..] {
            return Err(ArchiveError::Checksum);
        }
        if read_up_to(&mut self.source, &mut [0])? != 0 {
            return Err(ArchiveError::Trailing);
        }
        let ArchiveHeader { snapshots, entries, operations, values, bytes, .. } = self.header;
        let [.., found_snapshots, found_entries, found_operations, found_values] = self.counts;
        let found_bytes = self.bytes;
        self.fit(|judge, tell| {
            judge.end(tell);
            Judge::count("snapshots", snapshots, found_snapshots, tell);
            Judge::count("entries", entries, found_entries, tell);
            Judge::count("operations", operations, found_operations, tell);
            Judge::count("values", values, found_values, tell);
            Judge::count("bytes", bytes, found_bytes, tell);
        })?;
        Ok(())
    }
}

fn read_up_to(source: &mut impl Read, into: &mut [u8]) -> Result<usize, ArchiveError> {
    let mut read = 0;
    while let Some(rest) = into.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ArchiveError::Read(error)),
        }
    }
    Ok(read)
}

fn read_piece(source: &mut impl Read, hash: &mut Sha256) -> Result<(u8, Bytes), ArchiveError> {
    let mut head = [0; 9];
    if read_up_to(source, &mut head)? < head.len() {
        return Err(ArchiveError::CutOff);
    }
    let [number, length @ ..] = head;
    let length = u64::from_be_bytes(length);
    if length > MAX_PIECE {
        return Err(ArchiveError::Malformed);
    }
    let mut body = Vec::new();
    source.take(length).read_to_end(&mut body).map_err(ArchiveError::Read)?;
    if (body.len() as u64) < length {
        return Err(ArchiveError::CutOff);
    }
    hash.update(head);
    hash.update(&body);
    Ok((number, body.into()))
}

/// What is left of a piece.
struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or(ArchiveError::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn any(&mut self) -> Result<u64, ArchiveError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A number that SQLite holds.
    fn number(&mut self) -> Result<u64, ArchiveError> {
        self.any().and_then(|number| i64::try_from(number).map_err(|_| ArchiveError::Malformed).map(i64::unsigned_abs))
    }

    fn mark(&mut self) -> Result<Mark, ArchiveError> {
        Ok(Mark { offset: Offset(self.number()?), tag: Tag(self.array()?) })
    }

    fn text(&mut self) -> Result<&str, ArchiveError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (text, rest) = self.0.split_at_checked(length).ok_or(ArchiveError::Malformed)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| ArchiveError::Malformed)
    }

    /// The rest of this body, whose memory it shares.
    fn rest(self, body: &Bytes) -> Bytes {
        body.slice(body.len() - self.0.len()..)
    }

    fn finish(self) -> Result<(), ArchiveError> {
        if self.0.is_empty() { Ok(()) } else { Err(ArchiveError::Malformed) }
    }
}

fn header(parts: &mut Parts<'_>) -> Result<ArchiveHeader, ArchiveError> {
    let [kind] = parts.array()?;
    let kind = Kind::from_number(u64::from(kind)).ok_or(ArchiveError::Malformed)?;
    let tenant = Tenant::new(parts.text()?).map_err(|_| ArchiveError::Malformed)?;
    let name = Name::new(parts.text()?).map_err(|_| ArchiveError::Malformed)?;
    let at = UnixMillis(parts.number()?);
    let epoch = LogEpoch(parts.array()?);
    let bounds = Bounds { epoch, trimmed: parts.mark()?, head: parts.mark()? };
    let (entries, bytes, age) = (parts.any()?, parts.any()?, parts.any()?);
    let age = if age == u64::MAX { Duration::MAX } else { Duration::from_millis(age) };
    let header = ArchiveHeader {
        channel: ChannelId::new(tenant, kind, name),
        at,
        bounds,
        kept: Retention { entries, bytes, age },
        snapshots: parts.number()?,
        entries: parts.number()?,
        operations: parts.number()?,
        values: parts.number()?,
        bytes: parts.number()?,
    };
    Parts(parts.0).finish()?;
    Ok(header)
}

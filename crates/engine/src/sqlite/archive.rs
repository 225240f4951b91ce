//! One channel outside of a file of channels: its pieces one after the other, and a checksum.
//!
//! Implements `docs/PROTOCOL.md` § Exports. It owns the form, and that what is read fits together; it never believes a
//! length before the bytes are there.

use std::{
    fmt,
    io::{self, Read, Write},
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

use super::judge::{Fault, Judge, first_fault, judge_value};
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

/// Writes an export.
pub(super) struct ArchiveWriter<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn begin(out: W, header: &ArchiveHeader) -> io::Result<Self> {
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

    pub(super) fn snapshot(&mut self, covers: Mark, at: UnixMillis, content: &[u8]) -> io::Result<()> {
        self.piece(piece::SNAPSHOT, &[&mark_bytes(covers)[..], &at.0.to_be_bytes()].concat(), content)
    }

    pub(super) fn entry(&mut self, prev: Offset, mark: Mark, at: UnixMillis, content: &[u8]) -> io::Result<()> {
        let head = [&prev.0.to_be_bytes()[..], &mark_bytes(mark), &at.0.to_be_bytes()].concat();
        self.piece(piece::ENTRY, &head, content)
    }

    pub(super) fn operation(&mut self, op: OpId, mark: Mark, at: UnixMillis) -> io::Result<()> {
        self.piece(piece::OPERATION, &[&op.0[..], &mark_bytes(mark), &at.0.to_be_bytes()].concat(), b"")
    }

    pub(super) fn value(&mut self, hash: ValueHash, content: &[u8]) -> io::Result<()> {
        self.piece(piece::VALUE, &hash.0, content)
    }

    pub(super) fn end(mut self) -> io::Result<()> {
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
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece; `None` at the end, where everything is known to be as it was written.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, ArchiveError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(offset: u64) -> Mark {
        Mark { offset: Offset(offset), tag: Tag([offset as u8; 8]) }
    }

    fn archive() -> Vec<u8> {
        archive_of(&[2, 3])
    }

    /// One that says that it has entries 2 and 3.
    fn archive_of(entries: &[u64]) -> Vec<u8> {
        let name = Name::new("../a \"b\" ü").expect("a name");
        let header = ArchiveHeader {
            channel: ChannelId::new(Tenant::default(), Kind::Store, name),
            at: UnixMillis(5),
            bounds: Bounds { epoch: LogEpoch([7; 8]), trimmed: mark(1), head: mark(3) },
            kept: Retention::ALL,
            snapshots: 1,
            entries: 2,
            operations: 1,
            values: 1,
            bytes: 8,
        };
        let mut bytes = Vec::new();
        let mut write = || {
            let mut writer = ArchiveWriter::begin(&mut bytes, &header)?;
            writer.snapshot(mark(1), UnixMillis(1), b"A")?;
            for offset in entries {
                let content = [b'a' + *offset as u8 - 1].repeat(*offset as usize);
                writer.entry(Offset(offset - 1), mark(*offset), UnixMillis(*offset), &content)?;
            }
            writer.operation(OpId([9; 16]), mark(3), UnixMillis(3))?;
            writer.value(ValueHash(Sha256::digest(b"\0v").into()), b"\0v")?;
            writer.end()
        };
        write().expect("memory takes it");
        bytes
    }

    fn check(bytes: &[u8]) -> Result<ArchiveHeader, ArchiveError> {
        Archive::open(bytes)?.check(&mut |_| {})
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = archive();
        let mut archive = Archive::open(&bytes[..]).expect("it is one");
        assert_eq!(archive.header().channel.name.as_str(), "../a \"b\" ü");
        let pieces: Vec<Piece> = std::iter::from_fn(|| archive.next().expect("it is whole")).collect();
        assert_eq!(pieces[0], Piece::Snapshot { covers: mark(1), at: UnixMillis(1), content: "A".into() });
        assert_eq!(
            pieces[2],
            Piece::Entry { prev: Offset(2), mark: mark(3), at: UnixMillis(3), content: "ccc".into() }
        );
        assert_eq!(pieces[3], Piece::Operation { op: OpId([9; 16]), mark: mark(3), at: UnixMillis(3) });
        assert!(matches!(&pieces[4], Piece::Value { content, .. } if content == "\0v"));
        assert_eq!(archive.bytes(), 8);
    }

    /// As PROTOCOL.md § Exports draws it.
    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        let bytes = archive();
        let expected = [
            &b"moorline export\n\0\0\0\x01"[..],
            // The channel: 135 bytes.
            b"\x01\0\0\0\0\0\0\0\x87\x04\0\x07default\0\x0b../a \"b\" \xc3\xbc",
            b"\0\0\0\0\0\0\0\x05\x07\x07\x07\x07\x07\x07\x07\x07",
            b"\0\0\0\0\0\0\0\x01\x01\x01\x01\x01\x01\x01\x01\x01\0\0\0\0\0\0\0\x03\x03\x03\x03\x03\x03\x03\x03\x03",
            &[0xff; 24],
            b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x08",
            // The snapshot.
            b"\x02\0\0\0\0\0\0\0\x19\0\0\0\0\0\0\0\x01\x01\x01\x01\x01\x01\x01\x01\x01\0\0\0\0\0\0\0\x01A",
        ]
        .concat();
        assert_eq!(bytes[..expected.len()], expected);
        let end = [&b"\x09\0\0\0\0\0\0\0\x20"[..], &Sha256::digest(&bytes[..bytes.len() - 41])].concat();
        assert_eq!(bytes[bytes.len() - 41..], end);
    }

    #[test]
    fn whatever_is_cut_off_changed_or_added_is_refused() {
        let bytes = archive();
        for length in 1..bytes.len() {
            let error = check(&bytes[..length]).expect_err("it is not whole");
            assert!(matches!(error, ArchiveError::CutOff), "{length}: {error}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x11;
            assert!(check(&changed).is_err(), "byte {place}");
        }
        assert!(matches!(check(&[&bytes[..], b"x"].concat()), Err(ArchiveError::Trailing)));
        assert!(matches!(check(b""), Err(ArchiveError::NotAnExport)));
        assert!(matches!(check(b"SQLite format 3\0......"), Err(ArchiveError::NotAnExport)));
    }

    /// Its checksum is right, and it is none all the same.
    #[test]
    fn what_was_written_of_a_log_with_a_hole_is_refused() {
        for entries in [&[2][..], &[3], &[], &[3, 2], &[2, 3, 4]] {
            let error = check(&archive_of(entries)).expect_err("something is missing");
            assert!(matches!(error, ArchiveError::Fault(_)), "{entries:?}: {error}");
        }
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut bytes = archive();
        bytes[19] = 2;
        let error = check(&bytes).expect_err("it is later");
        assert!(matches!(error, ArchiveError::Newer { found: 2, known: 1 }));
        assert!(error.to_string().contains("use a newer program"));
    }

    #[test]
    fn a_length_is_not_believed_before_the_bytes_are_there() {
        let mut bytes = archive()[..20].to_vec();
        bytes.extend([1, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff]);
        assert!(matches!(check(&bytes), Err(ArchiveError::CutOff)));
        bytes[21] = 0xff;
        assert!(matches!(check(&bytes), Err(ArchiveError::Malformed)));
    }
}

//! The form of an export, and what is no whole one.

use moorline_protocol::{
    channel::{Kind, LogEpoch, Tag},
    payload::Name,
    subject::Tenant,
};
use sha2::{Digest, Sha256};

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
    assert_eq!(pieces[2], Piece::Entry { prev: Offset(2), mark: mark(3), at: UnixMillis(3), content: "ccc".into() });
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

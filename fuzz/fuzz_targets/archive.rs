//! Any bytes as an export of a channel: as they are, and with the beginning and the checksum that it would have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use moorline_engine::{Archive, ArchiveError};
use sha2::{Digest, Sha256};

fn check(export: &[u8]) -> Result<(), ArchiveError> {
    let mut most = 0;
    Archive::open(export)?.check(&mut |bytes| most = bytes)?;
    assert!(most <= export.len() as u64, "what was read was there");
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let _ = check(bytes);
    let pieces = [&b"moorline export\n\0\0\0\x01"[..], bytes].concat();
    let end = [&b"\x09\0\0\0\0\0\0\0\x20"[..], &Sha256::digest(&pieces)].concat();
    let _ = check(&[pieces, end].concat());
});

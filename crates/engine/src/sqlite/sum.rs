//! What a row says, in eight bytes, so that `verify` and an export notice when it says something else.
//!
//! It is against disks and memory that flip a bit, of which SQLite knows nothing inside of a row, and not against whoever
//! can write to the file. So it is a part of a SHA-256, which is there already.

use moorline_protocol::time::UnixMillis;
use rusqlite::Row;
use sha2::{Digest, Sha256};

/// Of an entry or a snapshot.
pub(super) fn of_content(at: UnixMillis, content: &[u8]) -> i64 {
    of(at.0, content)
}

/// Of a value of the application's.
pub(super) fn of_value(version: u64, value: &[u8]) -> i64 {
    of(version, value)
}

fn of(number: u64, bytes: &[u8]) -> i64 {
    let hash = Sha256::new().chain_update(number.to_be_bytes()).chain_update(bytes).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}

/// Whether a row has this sum. One of before there were sums has none, and nobody knows.
pub(super) fn fits(row: &Row<'_>, column: usize, sum: i64) -> rusqlite::Result<bool> {
    Ok(row.get::<_, Option<i64>>(column)?.is_none_or(|kept| kept == sum))
}

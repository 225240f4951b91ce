//! What a disk may have when the power goes, from the record of what was written and synced.
//!
//! What was synced is there. Of what was written since, any sector may be there or not: a disk and its cache promise no
//! order. So it is for ever with what a sync has failed for: the system takes it for written, and the next sync goes well
//! without it.

use std::{collections::BTreeMap, fs, path::Path};

use moorline_protocol::entropy::Entropy;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One operation, as the shim wrote it down.
pub(crate) struct Operation {
    kind: u8,
    pub(crate) name: String,
    offset: usize,
    bytes: Vec<u8>,
}

/// Reads the shim's record.
pub(crate) fn operations(record: &Path) -> Vec<Operation> {
    let record = fs::read(record).expect("the shim has written");
    let mut rest = &record[..];
    let mut take = |length: usize| {
        let (taken, after) = rest.split_at(length);
        rest = after;
        (taken.to_vec(), after.is_empty())
    };
    let mut found = Vec::new();
    let number = |bytes: Vec<u8>| u64::from_ne_bytes(bytes.try_into().expect("eight bytes")) as usize;
    loop {
        let (head, _) = take(2);
        let (offset, length) = (number(take(8).0), number(take(8).0));
        let (name, ended) = take(usize::from(head[1]));
        let (bytes, ended) = if length > 0 { take(length) } else { (Vec::new(), ended) };
        let name = String::from_utf8(name).expect("a name");
        found.push(Operation { kind: head[0], name, offset, bytes });
        if ended {
            return found;
        }
    }
}

/// What may be there of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unsynced {
    /// Nothing.
    Lost,
    /// Everything.
    Kept,
    /// Any of it.
    Any,
}

/// The files after the first operations of a record.
pub(crate) fn image(operations: &[Operation], unsynced: Unsynced, entropy: &mut Entropy) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::<String, Vec<u8>>::new();
    // The next sync of this file, if it went well.
    let is_synced = |at: usize, name: &str| {
        let mut behind = operations.iter().skip(at).filter(|operation| operation.name == name);
        behind.find_map(|operation| match operation.kind {
            b's' => Some(true),
            b'f' => Some(false),
            _ => None,
        }) == Some(true)
    };
    for (at, operation) in operations.iter().enumerate() {
        // That a file is gone is a matter of its directory.
        let what = if operation.kind == b'u' { "." } else { &*operation.name };
        let is_synced = is_synced(at, what);
        let mut is_there = || match unsynced {
            _ if is_synced => true,
            Unsynced::Lost => false,
            Unsynced::Kept => true,
            Unsynced::Any => entropy.up_to(1) == 0,
        };
        // A file that was made is there: SQLite syncs the directory, which the record does not have.
        let file = files.entry(operation.name.clone()).or_default();
        match operation.kind {
            b'w' => {
                for (part, sector) in operation.bytes.chunks(SECTOR).enumerate() {
                    if is_there() {
                        let from = operation.offset + part * SECTOR;
                        file.resize(file.len().max(from + sector.len()), 0);
                        file[from..from + sector.len()].copy_from_slice(sector);
                    }
                }
            }
            b't' if is_there() => file.resize(operation.offset, 0),
            b'u' if is_there() => {
                files.remove(&operation.name);
            }
            _ => {}
        }
    }
    files.remove(".");
    files
}

/// What the process had said is kept, by the time of these operations: its lines.
pub(crate) fn acknowledged(operations: &[Operation]) -> Vec<String> {
    let written = operations.iter().filter(|operation| operation.name == "acks").flat_map(|ack| ack.bytes.clone());
    let text = String::from_utf8(written.collect()).expect("lines");
    // The last one may be only begun.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

//! What a disk may have when the power goes, from the record of what was written and synced.
//!
//! What was synced is there. Of what was written since, any sector may be there or not: a disk and its cache promise no
//! order.

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

impl Operation {
    pub(crate) fn is_sync(&self) -> bool {
        self.kind == b's'
    }
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
    let synced_at = |name: &str| operations.iter().rposition(|operation| operation.is_sync() && operation.name == name);
    let synced: BTreeMap<&str, usize> =
        operations.iter().filter_map(|operation| Some((&*operation.name, synced_at(&operation.name)?))).collect();
    for (at, operation) in operations.iter().enumerate() {
        // That a file is gone is a matter of its directory.
        let what = if operation.kind == b'u' { "." } else { &*operation.name };
        let is_synced = synced.get(what).is_some_and(|last| at < *last);
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

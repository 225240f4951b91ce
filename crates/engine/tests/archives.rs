//! An export that somebody has changed, on purpose or not: it is taken whole, or refused and nothing is left of it. Never a
//! panic.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;

use bytes::Bytes;
use moorline_engine::{
    Append, Archive, Engine, Most, OpId, Retention, SqliteEngine, SqliteFile, SqliteView, ValueHash,
};
use moorline_protocol::{
    channel::{ChannelId, Kind, Snapshot},
    entropy::Entropy,
    payload::Name,
    subject::Tenant,
    time::UnixMillis,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Exports that are changed.
const CASES: usize = 4_000;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn channel(kind: Kind, name: &str) -> ChannelId {
    ChannelId::new(Tenant::default(), kind, Name::new(name).unwrap())
}

/// Exports with something of everything.
async fn exports(path: &Path) -> Vec<Vec<u8>> {
    let (store, topic, empty) =
        (channel(Kind::Store, "store"), channel(Kind::Topic, "topic"), channel(Kind::Store, "e"));
    let engine = SqliteEngine::open(path, [1; 32]).unwrap();
    let mut at = Vec::new();
    for number in 0..6 {
        let op = Some(OpId([number; 16]));
        let append = Append { op, ..Append::new(Bytes::from(vec![number; 9]), NOW, Retention::ALL) };
        at.push(engine.append(&store, append).await.unwrap().position);
        let retention = Retention { entries: 2, ..Retention::ALL };
        engine.append(&topic, Append::new(Bytes::from(vec![number; 3]), NOW, retention)).await.unwrap();
    }
    for covers in [at[1], at[3]] {
        let snapshot = Snapshot { covers, at: NOW, content: Bytes::from("all of it") };
        engine.keep_snapshot(&store, snapshot, Most::default()).await.unwrap();
    }
    for value in [&b"\0one"[..], b"\0two"] {
        let hash = ValueHash(Sha256::digest(value).into());
        engine.keep_value(&store, hash, Bytes::from(value), Most::default()).await.unwrap();
    }
    engine.bounds(&empty).await.unwrap();
    let view = SqliteView::open(path).unwrap();
    let export = |channel| {
        let mut out = Vec::new();
        view.export(channel, NOW, &mut out, &mut |_, _| {}).unwrap();
        out
    };
    [store, topic, empty].iter().map(export).collect()
}

/// Where the pieces of an export begin, and where it ends.
fn pieces(export: &[u8]) -> Vec<usize> {
    let mut places = vec![20.min(export.len())];
    let mut last = places[0];
    while last < export.len() {
        let length = export[last..].get(1..9).map_or(u64::MAX, |length| u64::from_be_bytes(length.try_into().unwrap()));
        last = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(last + 9).min(export.len());
        places.push(last);
    }
    places
}

/// The same with the checksum that it would have, had it been written so.
fn signed(mut export: Vec<u8>) -> Vec<u8> {
    let end = export.len().saturating_sub(41);
    export.truncate(end);
    let hash = Sha256::digest(&export);
    export.extend([&b"\x09\0\0\0\0\0\0\0\x20"[..], &hash].concat());
    export
}

/// One export, changed in some way: bits, bytes, numbers, pieces.
fn changed(exports: &[Vec<u8>], entropy: &mut Entropy) -> Vec<u8> {
    let up_to = |most: usize, entropy: &mut Entropy| entropy.up_to(most as u64) as usize;
    let mut export = exports[up_to(exports.len() - 1, entropy)].clone();
    for _ in 0..=up_to(2, entropy) {
        let places = pieces(&export);
        let piece = |entropy: &mut Entropy| {
            let number = up_to(places.len() - 2, entropy);
            places[number]..places[number + 1]
        };
        let place = up_to(export.len() - 1, entropy);
        match up_to(7, entropy) {
            0 => export[place] ^= 1 << up_to(7, entropy),
            1 => export[place] = up_to(255, entropy) as u8,
            2 => export.truncate(place.max(1)),
            3 => export.insert(place, up_to(255, entropy) as u8),
            // A number at its borders.
            4 => {
                let number = [0, 1, i64::MAX as u64, 1 << 63, u64::MAX][up_to(4, entropy)].to_be_bytes();
                let end = (place + 8).min(export.len());
                export[place..end].copy_from_slice(&number[..end - place]);
            }
            5 => drop(export.drain(piece(entropy))),
            6 => {
                let again = export[piece(entropy)].to_vec();
                let at = piece(entropy).start;
                export.splice(at..at, again);
            }
            // Of another export.
            _ => {
                let other = &exports[up_to(exports.len() - 1, entropy)];
                let places = pieces(other);
                let number = up_to(places.len() - 2, entropy);
                let at = piece(entropy).start;
                export.splice(at..at, other[places[number]..places[number + 1]].iter().copied());
            }
        }
        if export.len() < 64 {
            break;
        }
    }
    // With a checksum that is wrong everything else would hardly be looked at.
    if up_to(7, entropy) > 0 { signed(export) } else { export }
}

#[tokio::test]
async fn a_changed_export_is_taken_whole_or_leaves_nothing() {
    let [here, there] = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let exports = exports(&here.path().join("channels.sqlite")).await;
    let path = there.path().join("channels.sqlite");
    let mut file = SqliteFile::open(&path, [2; 32]).unwrap();
    let names = |kind| SqliteView::open(&path).unwrap().channels(kind, None, None, 10).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for case in 0..CASES {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&(case as u64).to_be_bytes());
        let export = changed(&exports, &mut Entropy::new(seed));
        let checked = Archive::open(&export[..]).and_then(|archive| archive.check(&mut |_| {}));
        let Ok(archive) = Archive::open(&export[..]) else {
            assert!(checked.is_err(), "case {case}");
            refused += 1;
            continue;
        };
        let target = ChannelId::new(Tenant::default(), archive.header().channel.kind, Name::new("imported").unwrap());
        let imported = file.import(archive, &target, false, &mut |_| {});
        assert_eq!(imported.is_ok(), checked.is_ok(), "case {case}: {imported:?} {checked:?}");
        if imported.is_err() {
            refused += 1;
            continue;
        }
        taken += 1;
        // What is taken is sound, and comes out as it went in.
        let view = SqliteView::open(&path).unwrap();
        view.verify(None, &mut |finding| panic!("case {case}: {finding}")).unwrap();
        let mut again = Vec::new();
        let header = view.export(&target, NOW, &mut again, &mut |_, _| {}).unwrap();
        let before = checked.unwrap();
        assert_eq!(
            (header.bounds.head, header.bounds.trimmed),
            (before.bounds.head, before.bounds.trimmed),
            "case {case}"
        );
        assert_eq!((header.bytes, header.entries), (before.bytes, before.entries), "case {case}");
        Archive::open(&again[..]).unwrap().check(&mut |_| {}).unwrap();
        drop(view);
        assert!(file.remove(&target).unwrap(), "case {case}");
    }
    for kind in [Kind::Topic, Kind::Feed, Kind::State, Kind::Store] {
        assert_eq!(names(kind), [], "nothing is left of what was refused");
    }
    assert!(taken > CASES / 100 && refused > CASES / 2, "{taken} taken, {refused} refused");
}

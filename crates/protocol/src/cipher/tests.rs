use std::collections::BTreeSet;

use snow::TransportState;

use super::*;
use crate::{entropy::Entropy, key::StaticKey, noise::builder};

const EVERY_3: RekeyPolicy = RekeyPolicy { records: 3, bytes: u64::MAX };

fn keys(seed: u8) -> SplitKeys {
    SplitKeys::new(([seed; 32], [seed ^ 0xff; 32]))
}

fn record_of(plaintext: &[u8]) -> BytesMut {
    BytesMut::from(&[&[0x10], plaintext].concat()[..])
}

fn seal(sealer: &mut Sealer, plaintext: &[u8]) -> BytesMut {
    let mut record = record_of(plaintext);
    sealer.seal(&mut record).expect("there are nonces left");
    record
}

/// A handshake of snow's own: its transport on both sides, and the keys that ours would get.
fn snows(suite: Suite) -> (TransportState, TransportState, SplitKeys) {
    let server_key = StaticKey::from_private([2; 32]).public();
    let builder = |seed| builder(suite, &mut Entropy::new([seed; 32]));
    let client = builder(3).and_then(|builder| {
        let builder = builder.local_private_key(&[1; 32])?.remote_public_key(&server_key.0)?;
        Ok(builder.build_initiator()?)
    });
    let server = builder(4).and_then(|builder| Ok(builder.local_private_key(&[2; 32])?.build_responder()?));
    let (mut client, mut server) = (client.expect("an initiator"), server.expect("a responder"));
    for number in 0..3 {
        let (from, to) = if number == 1 { (&mut server, &mut client) } else { (&mut client, &mut server) };
        let (mut message, mut payload) = ([0; 128], [0; 128]);
        let length = from.write_message(&[], &mut message).expect("a message");
        to.read_message(&message[..length], &mut payload).expect("its payload");
    }
    let keys = SplitKeys::new(client.dangerously_get_raw_split());
    (client.into_transport_mode().expect("done"), server.into_transport_mode().expect("done"), keys)
}

#[test]
fn sealed_records_equal_snows_byte_for_byte_both_ways_and_across_rekeys() {
    for suite in Suite::ALL {
        let (mut client, mut server, keys) = snows(suite);
        let (mut client_sealer, mut client_opener) = keys.for_client(suite, EVERY_3);
        let (mut server_sealer, mut server_opener) = keys.for_server(suite, EVERY_3);
        for number in 0..20usize {
            let plaintext = vec![number as u8; number * 37];
            for upward in [true, false] {
                let (sealer, opener, from, to) = if upward {
                    (&mut client_sealer, &mut server_opener, &mut client, &mut server)
                } else {
                    (&mut server_sealer, &mut client_opener, &mut server, &mut client)
                };
                let mut theirs = vec![0; plaintext.len() + TAG];
                from.write_message(&plaintext, &mut theirs).expect("snow seals");
                let mut ours = seal(sealer, &plaintext);
                assert_eq!(ours[1..], theirs, "{suite:?} record {number}");

                let mut opened = vec![0; plaintext.len()];
                to.read_message(&ours[1..], &mut opened).expect("snow opens ours");
                opener.open(&mut ours).expect("we open it");
                assert_eq!((&ours[..], &opened[..]), (&plaintext[..], &plaintext[..]), "{suite:?} record {number}");
                if number % 3 == 2 {
                    from.rekey_outgoing();
                    to.rekey_incoming();
                }
            }
        }
    }
}

#[test]
fn the_key_changes_after_the_record_that_reaches_the_bytes() {
    for suite in Suite::ALL {
        let (mut snow, _, keys) = snows(suite);
        let (mut sealer, _) = keys.for_client(suite, RekeyPolicy { records: u64::MAX, bytes: 10 });
        // 4 and 5 bytes stay below 10; one more reaches it; 25 pass it at once.
        for (length, rekeys) in [(4, false), (5, false), (1, true), (25, true), (9, false), (1, true), (0, false)] {
            let plaintext = vec![7; length];
            let mut theirs = vec![0; length + TAG];
            snow.write_message(&plaintext, &mut theirs).expect("snow seals");
            assert_eq!(seal(&mut sealer, &plaintext)[1..], theirs, "{suite:?}, {length} bytes");
            if rekeys {
                snow.rekey_outgoing();
            }
        }
    }
}

#[test]
fn no_pair_of_key_and_nonce_seals_twice() {
    // Under one key and nonce the same plaintext gives the same record; so records that all differ used pairs that do.
    for suite in Suite::ALL {
        for policy in [EVERY_3, RekeyPolicy { records: 1, bytes: 1 }, RekeyPolicy { records: 1_000, bytes: 500 }] {
            let keys = keys(5);
            let (mut upward, mut downward) = (keys.for_client(suite, policy).0, keys.for_server(suite, policy).0);
            let mut seen = BTreeSet::new();
            for number in 0..500 {
                assert!(seen.insert(seal(&mut upward, &[0; 32]).freeze()), "{suite:?} {policy:?} upward {number}");
                assert!(seen.insert(seal(&mut downward, &[0; 32]).freeze()), "{suite:?} {policy:?} downward {number}");
            }
        }
    }
}

#[test]
fn a_rekey_keeps_the_nonce() {
    let (mut sealer, _) = keys(1).for_client(Suite::Aes256Gcm, EVERY_3);
    for number in 0..10 {
        assert_eq!(sealer.0.nonce, Nonce(number));
        seal(&mut sealer, b"x");
    }
}

#[test]
fn the_nonce_that_rekeys_never_seals() {
    for suite in Suite::ALL {
        let (mut sealer, mut opener) =
            (keys(1).for_client(suite, RekeyPolicy::default()).0, keys(1).for_server(suite, RekeyPolicy::default()).1);
        sealer.0.nonce = Nonce(u64::MAX - 1);
        seal(&mut sealer, b"the last one");
        assert_eq!(sealer.seal(&mut record_of(b"one too many")), Err(Violation::KeysSpent));
        // Nor opens: a record that somebody has sealed under it all the same.
        let mut record = record_of(b"one too many");
        let tag = sealer.0.encrypt(Nonce::REKEY, &mut record[1..]).expect("the cipher takes any nonce");
        record.extend_from_slice(&tag);
        let Some(direction) = &mut opener.0 else { panic!("a fresh opener has its key") };
        direction.nonce = Nonce::REKEY;
        assert_eq!(opener.open(&mut record), Err(Violation::Unopened));
    }
}

/// Opens one good record, then `bad`, then the good record that would be next; the first must open and nothing after.
fn spoils(suite: Suite, case: &str, bad: impl FnOnce(&BytesMut, &BytesMut, &mut Sealer) -> BytesMut) {
    let keys = keys(9);
    let (mut sealer, mut opposite) = (keys.for_client(suite, EVERY_3).0, keys.for_server(suite, EVERY_3).0);
    let (_, mut opener) = keys.for_server(suite, EVERY_3);
    let (first, mut second) = (seal(&mut sealer, b"first"), seal(&mut sealer, b"second"));
    opener.open(&mut first.clone()).expect("the first record opens");
    let mut bad = bad(&first, &second, &mut opposite);
    assert_eq!(opener.open(&mut bad), Err(Violation::Unopened), "{suite:?}: {case} opened");
    assert_eq!(opener.open(&mut second), Err(Violation::Unopened), "{suite:?}: the key outlived {case}");
}

#[test]
fn a_record_that_is_not_the_next_one_destroys_the_key() {
    for suite in Suite::ALL {
        spoils(suite, "a replayed record", |first, _, _| first.clone());
        spoils(suite, "a record of the other direction", |_, _, opposite| seal(opposite, b"second"));
        spoils(suite, "an empty record", |_, _, _| BytesMut::new());
        for length in [1, TAG, 1 + TAG] {
            spoils(suite, "a record cut short", |_, second, _| BytesMut::from(&second[..length]));
        }
        spoils(suite, "an extended record", |_, second, _| BytesMut::from(&[second, &[0][..]].concat()[..]));
        for place in 1..1 + b"second".len() + TAG {
            for bit in 0..8 {
                spoils(suite, "a flipped bit", |_, second, _| {
                    let mut flipped = second.clone();
                    flipped[place] ^= 1 << bit;
                    flipped
                });
            }
        }
    }
}

#[test]
fn a_record_out_of_order_destroys_the_key() {
    for suite in Suite::ALL {
        let keys = keys(9);
        let (mut sealer, mut opener) = (keys.for_client(suite, EVERY_3).0, keys.for_server(suite, EVERY_3).1);
        let (mut first, mut second) = (seal(&mut sealer, b"first"), seal(&mut sealer, b"second"));
        assert_eq!(opener.open(&mut second), Err(Violation::Unopened));
        assert_eq!(opener.open(&mut first), Err(Violation::Unopened));
    }
}

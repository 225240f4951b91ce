//! Who meddles with sealed records ends the connection: 4002, the keys are gone, no application hears of it.

use bytes::Bytes;
use moorline_protocol::{
    code::Code,
    error::Violation,
    limits::RekeyPolicy,
    payload::Payload,
    record::Suite,
    server::{Ended, ServerEvent},
    session::Broadcast,
};

use crate::pair::*;

/// A connected pair and, in each direction, two more records that were sent and held back, so that a test delivers them.
fn held(suite: Suite) -> (Pair, [Bytes; 2], [Bytes; 2]) {
    let mut setup = Setup::suite(suite);
    let rekey = RekeyPolicy { records: 2, bytes: u64::MAX };
    (setup.client.rekey, setup.server.rekey) = (rekey, rekey);
    let mut pair = setup.connect();
    pair.bend = Box::new(|_, _, _| Vec::new());
    let sent_before = (pair.sent(Up).len(), pair.sent(Down).len());
    for text in ["first", "second"] {
        pair.client.notify(name("note"), Payload::json(text), false).expect("room");
        let broadcast = Broadcast::new(name("note"), Payload::json(text), false).expect("small");
        pair.server().send(&broadcast).expect("room");
        pair.run();
    }
    let two = |sent: &[Bytes]| [sent[0].clone(), sent[1].clone()];
    let (up, down) = (two(&pair.sent(Up)[sent_before.0..]), two(&pair.sent(Down)[sent_before.1..]));
    pair.client_heard.clear();
    pair.server_heard.clear();
    (pair, up, down)
}

/// Delivers a record that must not open, and then the ones that would be next.
fn assert_record_refused(
    suite: Suite,
    direction: Direction,
    case: &str,
    make: impl Fn(&[Bytes; 2], &[Bytes; 2]) -> Bytes,
) {
    let (mut pair, up, down) = held(suite);
    let (ours, theirs) = if direction == Up { (&up, &down) } else { (&down, &up) };
    pair.inject(direction, make(ours, theirs));
    // Queued behind it already, as on a real wire: they are the very next ones, and must not count any more.
    pair.inject(direction, ours[0].clone());
    pair.inject(direction, ours[1].clone());
    pair.run();
    let heard = if direction == Up { pair.take_server_peer().len() } else { pair.take_client_peer().len() };
    assert_eq!(heard, 0, "{suite:?} {direction:?} {case}: the application heard something");
    let closed = if direction == Up { &pair.server_closed } else { &pair.client_closed };
    assert_eq!(closed, &[Code::RECORD_REFUSED], "{suite:?} {direction:?} {case}");
}

#[test]
fn the_held_records_open_when_nobody_meddles() {
    for suite in Suite::ALL {
        let (mut pair, up, down) = held(suite);
        for (direction, records) in [(Up, up), (Down, down)] {
            for record in records {
                pair.inject(direction, record);
            }
        }
        pair.run();
        assert_eq!((pair.take_client_peer().len(), pair.take_server_peer().len()), (2, 2));
    }
}

#[test]
fn a_replayed_record_ends_the_connection() {
    for suite in Suite::ALL {
        for direction in [Up, Down] {
            let (mut pair, up, down) = held(suite);
            let first = if direction == Up { &up[0] } else { &down[0] };
            pair.inject(direction, first.clone());
            pair.inject(direction, first.clone());
            pair.run();
            let heard = if direction == Up { pair.take_server_peer().len() } else { pair.take_client_peer().len() };
            assert_eq!(heard, 1, "the record counts once");
            let closed = if direction == Up { &pair.server_closed } else { &pair.client_closed };
            assert_eq!(closed, &[Code::RECORD_REFUSED]);
        }
    }
}

#[test]
fn a_reordered_record_ends_the_connection() {
    for suite in Suite::ALL {
        for direction in [Up, Down] {
            assert_record_refused(suite, direction, "the second before the first", |ours, _| ours[1].clone());
        }
    }
}

#[test]
fn a_reflected_record_ends_the_connection() {
    for suite in Suite::ALL {
        for direction in [Up, Down] {
            assert_record_refused(suite, direction, "the other side's own", |_, theirs| theirs[0].clone());
        }
    }
}

#[test]
fn a_record_of_another_length_ends_the_connection() {
    for suite in Suite::ALL {
        for direction in [Up, Down] {
            let length = held(suite).1[0].len();
            for cut in [1, 2, 16, 17, length - 1] {
                assert_record_refused(suite, direction, "cut short", |ours, _| ours[0].slice(..cut));
            }
            assert_record_refused(suite, direction, "extended", |ours, _| [&ours[0][..], &[0]].concat().into());
            assert_record_refused(suite, direction, "two in one", |ours, _| {
                [&ours[0][..], &ours[1][1..]].concat().into()
            });
        }
    }
}

#[test]
fn every_flipped_byte_of_a_sealed_record_ends_the_connection() {
    for suite in Suite::ALL {
        for direction in [Up, Down] {
            for place in 1..held(suite).1[0].len() {
                assert_record_refused(suite, direction, &format!("byte {place} flipped"), |ours, _| {
                    let mut flipped = ours[0].to_vec();
                    flipped[place] ^= 0x10;
                    flipped.into()
                });
            }
        }
    }
}

#[test]
fn a_record_of_another_connection_ends_the_connection() {
    let (_, up, _) = held(Suite::Aes256Gcm);
    let mut other = Setup { seed: 77, ..Setup::default() }.connect();
    other.inject(Up, up[0].clone());
    other.run();
    assert_eq!(other.server_closed, [Code::RECORD_REFUSED]);
    let last = other.server_heard.last();
    assert_eq!(last, Some(&ServerEvent::Parked(Ended::Violation(Violation::Unopened))));
}

#[test]
fn another_type_byte_is_a_violation_and_the_keys_are_gone_as_well() {
    for kind in [0x01, 0x02, 0x03, 0x04, 0x11, 0xff] {
        let (mut pair, up, _) = held(Suite::Aes256Gcm);
        let mut other = up[0].to_vec();
        other[0] = kind;
        pair.inject(Up, other);
        pair.inject(Up, up[0].clone());
        pair.run();
        assert_eq!(pair.take_server_peer(), []);
        assert_eq!(pair.server_closed, [Code::PROTOCOL_VIOLATION], "type {kind:#x}");
    }
}

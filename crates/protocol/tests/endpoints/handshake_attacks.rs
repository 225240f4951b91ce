//! Who meddles with the handshake gets one answer, and the application never hears of it.

use moorline_protocol::{
    code::Code,
    key::{Identity, IdentityCell, StaticKey},
    record::Suite,
    server::{Encryption, HandshakeFailure, ServerEvent},
};

use crate::pair::*;

/// How many records of the handshake a side sends before it fails. After HS3 has opened there is nothing to meddle with.
#[derive(Clone, Copy, Debug)]
enum Hello {
    Hs1,
    Hs2,
    Hs3,
}

impl Hello {
    const ALL: [Self; 3] = [Self::Hs1, Self::Hs2, Self::Hs3];

    fn place(self) -> (Direction, usize) {
        match self {
            Self::Hs1 => (Up, 0),
            Self::Hs2 => (Down, 0),
            Self::Hs3 => (Up, 1),
        }
    }
}

/// A pair whose handshake record is replaced by what `alter` makes of it.
fn altered(suite: Suite, hello: Hello, alter: impl Fn(&mut Vec<u8>) + 'static) -> Pair {
    let mut pair = Pair::new(Setup::suite(suite));
    pair.bend = Box::new(move |direction, number, record| {
        if (direction, number) != hello.place() {
            return vec![record];
        }
        let mut altered = record.to_vec();
        alter(&mut altered);
        vec![altered.into()]
    });
    pair.client.start(pair.now);
    pair.run();
    pair
}

/// One close with one code, by whoever noticed; no application heard anything; the server sent nothing that tells.
fn assert_refused_alike(pair: &Pair, hello: Hello, case: &str) {
    assert!(!pair.arrived(), "{hello:?} {case}: the application heard of it");
    let by_server = match hello {
        Hello::Hs1 | Hello::Hs3 => true,
        // The client notices; the server hears only that the socket is gone.
        Hello::Hs2 => false,
    };
    let closed = if by_server { &pair.server_closed } else { &pair.client_closed };
    assert_eq!(closed, &[Code::HANDSHAKE_FAILED], "{hello:?} {case}");
    let downward = pair.sent(Down).len();
    assert_eq!(downward, if matches!(hello, Hello::Hs1) { 0 } else { 1 }, "{hello:?} {case}: more was said");
    assert!(!pair.is_connected(), "{hello:?} {case}");
    for event in &pair.server_heard {
        assert!(matches!(event, ServerEvent::HandshakeFailed(_)), "{hello:?} {case}: {event:?}");
    }
}

fn length_of(hello: Hello, suite: Suite) -> usize {
    let pair = Setup::suite(suite).connect();
    let (direction, number) = hello.place();
    pair.sent(direction)[number].len()
}

#[test]
fn every_flipped_byte_of_the_handshake_is_refused_alike() {
    for suite in Suite::ALL {
        for hello in Hello::ALL {
            for place in 0..length_of(hello, suite) {
                for mask in [0x01, 0x80, 0xff] {
                    let pair = altered(suite, hello, move |record| record[place] ^= mask);
                    assert_refused_alike(&pair, hello, &format!("{suite:?} byte {place} ^ {mask:#x}"));
                }
            }
        }
    }
}

#[test]
fn a_handshake_record_of_another_length_is_refused_alike() {
    for hello in Hello::ALL {
        let suite = Suite::Aes256Gcm;
        for length in 0..length_of(hello, suite) {
            let pair = altered(suite, hello, move |record| record.truncate(length));
            assert_refused_alike(&pair, hello, &format!("cut to {length}"));
        }
        for more in [1, 16, 100] {
            let pair = altered(suite, hello, move |record| record.extend(vec![0; more]));
            assert_refused_alike(&pair, hello, &format!("longer by {more}"));
        }
    }
}

#[test]
fn a_handshake_record_above_the_cap_is_refused_alike() {
    for hello in [Hello::Hs1, Hello::Hs3] {
        let pair = altered(Suite::Aes256Gcm, hello, |record| record.resize(8 * 1024 + 1, 0));
        assert_refused_alike(&pair, hello, "above 8 KiB");
    }
}

#[test]
fn a_handshake_record_in_the_place_of_another_is_refused_alike() {
    let recorded = Setup::default().connect();
    let (up, down) = (recorded.sent(Up), recorded.sent(Down));
    for (hello, other) in [
        (Hello::Hs1, up[1].clone()),
        (Hello::Hs1, down[0].clone()),
        (Hello::Hs2, up[0].clone()),
        (Hello::Hs2, up[1].clone()),
        (Hello::Hs2, down[1].clone()),
        (Hello::Hs3, up[0].clone()),
        (Hello::Hs3, down[0].clone()),
        (Hello::Hs3, up[2].clone()),
    ] {
        let case = format!("replaced by {:#x}", other[0]);
        let pair = altered(Suite::Aes256Gcm, hello, move |record| *record = other.to_vec());
        assert_refused_alike(&pair, hello, &case);
    }
}

#[test]
fn a_replayed_conversation_ends_at_hs3() {
    let recorded = Setup::default().connect().sent(Up);
    let mut pair = Pair::new(Setup { seed: 3, ..Setup::default() });
    pair.bend = Box::new(|_, _, _| Vec::new());
    pair.client.start(pair.now);
    pair.run();
    pair.inject(Up, recorded[0].clone());
    pair.run();
    assert!(!pair.arrived(), "HS1 alone reached the application");
    assert_eq!(pair.sent(Down).len(), 1, "anybody may send an HS1, and is answered");
    pair.inject(Up, recorded[1].clone());
    pair.inject(Up, recorded[2].clone());
    pair.run();
    assert_eq!(pair.server_closed, [Code::HANDSHAKE_FAILED]);
    assert_eq!(pair.server_heard, [ServerEvent::HandshakeFailed(HandshakeFailure::ClientFinish)]);
}

#[test]
fn a_client_with_another_pin_is_refused_alike() {
    let mut setup = Setup::default();
    setup.client.server_keys = vec![StaticKey::from_private([8; 32]).public()];
    assert_refused_alike(&setup.start(), Hello::Hs1, "another pin");
}

#[test]
fn a_pin_with_the_same_kid_but_another_key_is_refused_alike() {
    // The kid only chooses among a server's keys. Whoever forges it still has to know the private half.
    let forged = server_key().kid();
    let mut setup = Setup::default();
    setup.client.server_keys = vec![StaticKey::from_private([8; 32]).public()];
    let mut pair = Pair::new(setup);
    pair.bend = Box::new(move |direction, number, record| {
        let mut record = record.to_vec();
        if (direction, number) == (Up, 0) {
            record[4..8].copy_from_slice(&forged);
        }
        vec![record.into()]
    });
    pair.client.start(pair.now);
    pair.run();
    assert_refused_alike(&pair, Hello::Hs1, "a forged kid");
}

#[test]
fn a_suite_that_the_server_does_not_have_is_refused_alike() {
    for (has, asked) in [(Suite::Aes256Gcm, Suite::ChaCha20Poly1305), (Suite::ChaCha20Poly1305, Suite::Aes256Gcm)] {
        let mut setup = Setup::suite(asked);
        let identity = Identity::new(StaticKey::from_private(SERVER_PRIVATE));
        setup.server.encryption = Encryption::On { identity: identity.into(), suites: vec![has] };
        assert_refused_alike(&setup.start(), Hello::Hs1, "another suite");
    }
}

#[test]
fn a_plain_hello_to_a_sealing_server_is_refused_alike() {
    let setup = Setup { server: Setup::default().server, ..Setup::plain() };
    assert_refused_alike(&setup.start(), Hello::Hs1, "a plain hello");
}

#[test]
fn a_sealed_hello_to_a_plain_server_is_refused_alike() {
    let setup = Setup { server: Setup::plain().server, ..Setup::default() };
    assert_refused_alike(&setup.start(), Hello::Hs1, "a sealed hello");
}

#[test]
fn a_text_message_before_hs3_is_refused_alike() {
    let mut pair = Pair::new(Setup::default());
    pair.bend = Box::new(|_, _, _| Vec::new());
    pair.client.start(pair.now);
    pair.run();
    let now = pair.now;
    pair.server().handle_input(now, moorline_protocol::server::ServerInput::Text);
    pair.run();
    assert_refused_alike(&pair, Hello::Hs1, "text");
}

#[test]
fn a_previous_and_a_next_key_of_the_server_are_accepted_beside_the_current_one() {
    for private in [[7; 32], [8; 32], [9; 32]] {
        let keys = [[7; 32], [8; 32], [9; 32]].map(StaticKey::from_private);
        let [current, previous, next] = keys;
        let identity = Identity::new(current).with_previous(previous).with_next(next);
        let mut setup = Setup::default();
        setup.server.encryption = Encryption::On { identity: identity.into(), suites: Suite::ALL.to_vec() };
        setup.client.server_keys = vec![StaticKey::from_private(private).public()];
        setup.connect();
    }
}

/// A rotation lets nobody in who could not come in before, and cuts nobody off who is in the middle of it.
#[test]
fn keys_that_change_are_those_of_handshakes_that_begin_later() {
    let [old, new] = [[7; 32], [8; 32]].map(StaticKey::from_private);
    let cell = IdentityCell::from(Identity::new(old.clone()));
    let pinning = |key: &StaticKey| {
        let mut setup = Setup::default();
        setup.server.encryption = Encryption::On { identity: cell.clone(), suites: Suite::ALL.to_vec() };
        setup.client.server_keys = vec![key.public()];
        Pair::new(setup)
    };

    // Replaced between HS2 and HS3: this one goes on.
    let mut pair = pinning(&old);
    let (other, replaced) = (cell.clone(), new.clone());
    pair.bend = Box::new(move |direction, _, record| {
        if direction == Down {
            other.replace(Identity::new(replaced.clone()));
        }
        vec![record]
    });
    pair.client.start(pair.now);
    pair.run();
    assert!(pair.is_connected());

    // From then on the old key is that of somebody else, and the new one is the server's.
    for (key, connects) in [(&old, false), (&new, true)] {
        let mut late = pinning(key);
        late.client.start(late.now);
        late.run();
        assert_eq!(late.is_connected(), connects);
    }
}

